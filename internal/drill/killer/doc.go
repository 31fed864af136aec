// Package killer plays incidents in which rekey is killed with SIGKILL at a moment
// that one number decides, and judges each by the lab's own log.
//
// A seed gives the shape of the incident, the verb, the number of the call, its edge
// and the victim ([Of]). [Play] runs seeds one after another against a lab and a
// `rekey up` in processes of their own; rekey is started again whenever it dies. A data
// directory serves many incidents in a row, each with users and keys of its own, as an
// installation does: what an earlier incident left behind must not disturb a later one.
// After a failure it is kept and left alone, and the next seed begins with a new one.
//
// What must be true at the end is in verdict.go: nothing is lost (every key proven dead
// and deleted, every replacement adopted) and effects are as design section 4 allows
// (one per idempotency key; of creates exactly one survives, and every other one is
// dead and on record).
//
// Results go to a file of lines, one per seed. Seeds that it has are not played again, so
// a run that was stopped goes on; a failed seed is played again with -seeds N:N.
//
// To add a shape: its keys in world.go, how often each verb is called in shapes, and
// what its items end as in verdict.go.
package killer
