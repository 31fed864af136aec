// Command rekey answers: this key is out; what do we do, in what order, and how do
// we prove it is over?
package main

import (
	"os"

	"rekey/activities/all"
	"rekey/internal/cli"
)

func main() { os.Exit(cli.Main(cli.Engine{Providers: all.Providers()})) }
