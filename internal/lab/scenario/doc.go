// Package scenario is the language of drills: the YAML files of `apiVersion: rekey/v1,
// kind: Drill` (contracts section 3), their strict loader and the fault catalogue.
//
// A drill is data. It says what the world looks like before the report (estate), what arrives
// (trigger), who answers (people), what goes wrong (faults), what the thief does (attacker) and
// what must be true at the end (expect). Nothing in it is ever ignored: an unknown key, an
// unknown word, a reference to nothing, or a field a fault does not use is an error with line,
// column and the nearest right word.
//
// To add a fault: one entry in the catalogue (faults.go) with the part that acts on it and the
// fields it takes; then the part itself. A part that is not there makes Unsupported refuse the
// drill, so a fault is never silently skipped.
// To add a key to the format: a struct field with a yaml tag in drill.go, and its rule in
// validate.go. The decoder needs no change.
package scenario
