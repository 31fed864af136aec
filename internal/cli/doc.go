// Package cli is rekey's command line (design section 10). It parses, asks the
// server or a library, and renders; it decides nothing.
//
// Commands on incidents speak to the rekey HTTP API and to nothing else. Commands
// that need the engine (up, worker, serve, drill run, ...) are handed in as an
// [Engine], so that this package and its tests never link the Temporal server; a
// command whose part of the engine is nil does not exist.
//
// Data goes to stdout, text for people to stderr, exit codes are those of
// contracts section 5 and stand in one table (exit.go). With --json an error is
// also written to stdout as {"error":{"code","message","do"}}.
//
// To add a command: one function in the file of its group that returns a
// *cobra.Command with Use, Short, Example and Args, added in root.go or in its
// group; a script below testdata/script that shows what it prints and how it
// fails; then `go generate ./internal/cli` for docs/cli.
package cli

//go:generate go run rekey/internal/gen/clidocs -out ../../docs/cli
