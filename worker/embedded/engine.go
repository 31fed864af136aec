package embedded

import (
	"rekey/activities/all"
	"rekey/internal/cli"
	"rekey/worker"
)

// Engine is what the command line can do in this build.
func Engine() cli.Engine {
	return cli.Engine{
		Up:        Up,
		Worker:    worker.Cluster,
		Serve:     worker.Serve,
		Lab:       Lab,
		Plan:      worker.Plan,
		Providers: all.Providers(),
	}
}
