package config

import _ "embed"

//go:embed rekey.example.yaml
var example string

// Example is a commented rekey.yaml with every key. It loads.
func Example() string { return example }
