// Package houserules is a test of the tree itself: rules that no compiler and no
// linter knows, each with rows that show what it catches. The import rules are in
// .golangci.yml; what follows through other packages is checked here.
//
// To add a rule: a function from the text of a file (or from a list of names) to
// what is wrong with it, its rows in catch_test.go, and a test in tree_test.go that
// holds the tree to it.
package houserules
