// Package gen holds the programs that write the generated pages: one folder each,
// run by `make generate`, which is go generate over the module.
//
// To add one: a folder with a main that takes no flags by default and writes below
// docs/ from the code that the page is about; its rendering in a package page beside
// it, so that a test can compare the committed file with what would be written; and
// the directive that runs it next to that code, or here where the code is the list
// of providers, which must not know who documents it.
package gen

//go:generate go -C ../.. run ./internal/gen/providerdocs
