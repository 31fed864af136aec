// Package lab is the world a drill happens in: a simulated provider account that speaks the real
// wire protocols (awssim), a clock, legitimate consumers, an attacker, scripted faults, and an
// oracle that knows the truth. It is a process of its own wherever rekey is killed.
//
// Time. The lab owns world time. A virtual clock starts at the scenario's T0 and moves only
// through the control API; moving it runs everything the world does by itself until then, in
// order: consumers' uses, the attacker's attempts and reactions, relaunches of hidden copies.
// With `mode: real` it runs with the wall clock from T0 on.
//
// Files, all below DIR/lab, all 0600:
//
//	salt           random per run; every secret is derived from it and none is stored
//	effects.jsonl  every mutating call with the objects it changed; synced before the answer is sent
//	trail.jsonl    every call, for CloudTrail and the oracle
//	snapshot.json  the account at some effect; what came later is in effects.jsonl
//	world.json     clock, consumers, attacker, faults that have struck
//	control-token  bearer token of the control API
//
// A killed lab resumes from them. The effect log is the lab's own: effects are counted there, not
// in rekey.
//
// To add a thing the world does: a field in world (world.go) with its next time, a case in
// nextEvent and step. To add a fault: its entry in scenario's catalogue and its case in faults.go.
package lab
