package embedded

import (
	"rekey/activities/all"
	"rekey/internal/cli"
	"rekey/internal/drill"
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
		Check:     worker.Check,
		Doctor:    worker.Doctor,
		Promote:   worker.Promote,
		Builds:    worker.Builds,
		Bench:     Bench,
		Drill:     drill.Run,
		Providers: all.Providers(),
	}
}
