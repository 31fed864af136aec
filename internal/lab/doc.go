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
//	effects.jsonl   every mutating call with the objects it changed
//	trail.jsonl     every call, for CloudTrail and the oracle
//	snapshot.jsonl  the account at some effect; what came later is in effects.jsonl
//	consumers.jsonl consumers, a line for each change
//	aliases.json    the scenario's names of keys
//	world.json      clock, attacker, faults that have struck
//	control-token   bearer token of the control API
//
// A killed lab resumes from them: both logs are in the kernel's hands before an answer is sent. They
// are on disk a second later, so a power cut takes at most that second, and whole calls from the
// end. The effect log is the lab's own: effects are counted there, not in rekey.
//
// Size. What a call costs does not depend on the size of the estate, and of a call only what finds
// its line again is kept in memory (awssim.Journal); docs/lab.md has the figures.
//
// To add a thing the world does: a field in world (world.go) with its next time, a case in
// nextEvent and step. To add a fault: its entry in scenario's catalogue and its case in faults.go.
package lab
