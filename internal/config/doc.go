// Package config reads rekey.yaml, REKEY_* variables and flags (contracts
// section 1) into one typed [Config].
//
// Precedence: flag, variable, file, default. The file is checked against one
// tree, [schema]: a key that is not in it is an error with file, line, column
// and the nearest right key; a value from a variable or flag goes through the
// same check as one from the file. A secret is never in the file: keys that ask
// for one are refused without showing the value, and only `*_file` (a path to a
// private file) and `*_env` (the name of a variable) are taken.
//
// To add a key: one line in schema.go, one field in config.go with the same
// mapstructure name, a line in the example. The tests hold the three together.
package config
