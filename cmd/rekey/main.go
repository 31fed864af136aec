// Command rekey answers: this key is out; what do we do, in what order, and how do
// we prove it is over?
package main

import (
	"os"

	"rekey/internal/cli"
	"rekey/worker/embedded"
)

func main() { os.Exit(cli.Main(embedded.Engine())) }
