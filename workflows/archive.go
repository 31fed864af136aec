package workflows

import (
	"slices"

	"go.temporal.io/sdk/workflow"
)

// A Chapter names the kept history of a finished run (design section 4).
type Chapter struct {
	Workflow string `json:"workflow"`
	Run      string `json:"run"`
	Hash     string `json:"hash"`
}

// ArchiveInput asks for the history of a finished run to be kept; Run "" is the
// latest.
type ArchiveInput struct {
	Incident string `json:"incident"`
	Workflow string `json:"workflow"`
	Run      string `json:"run,omitempty"`
}

// ArchiveResult names the chapter. It is empty where the run has not ended yet, or
// is in Temporal no more: then the guard beside the worker keeps it, or the bundle
// says that it is missing.
type ArchiveResult struct {
	Chapter Chapter `json:"chapter"`
}

// changeArchive is the version of runs that have their predecessors and children
// archived. Runs that began before go on without; the guard looks after them.
const changeArchive = "archive-chapters"

// IncidentTypes are the workflow types whose runs are part of an incident: all of
// them are kept before Temporal forgets them, and are in its bundle.
func IncidentTypes() []string {
	return []string{TypeIncident, TypeScope, TypeWave, TypeWatch, TypeRecord, TypeNotices}
}

// archiver keeps what finished before or below a run, so that retention cannot take
// it before the last bundle has it.
type archiver struct {
	incident string
	clk      *clock
	under    int
	chapters *[]Chapter
	// kept is told that there is a new one; nil: nobody asks.
	kept func()
}

// keep has one finished run archived, beside whatever else goes on.
func (a *archiver) keep(ctx workflow.Context, id, run string) {
	if workflow.GetVersion(ctx, changeArchive, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return
	}
	a.under++
	workflow.Go(ctx, func(ctx workflow.Context) {
		defer func() { a.under-- }()
		res, err := engineCall[ArchiveResult](ctx, a.clk, engine, ActivityArchive, "keep the history of a run that has ended", ArchiveInput{Incident: a.incident, Workflow: id, Run: run})
		if err != nil || res.Chapter.Hash == "" {
			return
		}
		a.pin([]Chapter{res.Chapter})
		if a.kept != nil {
			a.kept()
		}
	})
}

// pin adds chapters that are not there yet.
func (a *archiver) pin(chapters []Chapter) {
	for _, c := range chapters {
		if !slices.Contains(*a.chapters, c) {
			*a.chapters = append(*a.chapters, c)
		}
	}
}

// settle gives what is being archived a moment to end, so that the next bundle pins it.
// What takes longer is in a later bundle: sealing, and the reports behind it, do not
// wait for an archive that fails.
func (a *archiver) settle(ctx workflow.Context) error {
	if a.under == 0 {
		return nil
	}
	timer, cancel := workflow.WithCancel(ctx)
	defer cancel()
	_, err := workflow.AwaitWithTimeout(timer, archiveWait, func() bool { return a.under == 0 })
	return err
}

// done waits until nothing is being archived: a run that ended meanwhile would take
// the answer with it.
func (a *archiver) done(ctx workflow.Context) error {
	return workflow.Await(ctx, func() bool { return a.under == 0 })
}
