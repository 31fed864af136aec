package intake

import (
	"context"
	"errors"
	"slices"

	"rekey/workflows"
)

// An Engine is what intake needs of Temporal; [Temporal] is it.
type Engine interface {
	// Claim asks a register, which is started where it does not run.
	Claim(ctx context.Context, register string, c workflows.Claim) (workflows.ClaimResult, error)
	// State tells whether an incident runs, or ran.
	State(ctx context.Context, incident string) (State, error)
	// Signal gives the report to a running incident; ErrNotRunning when it does
	// not run (any more).
	Signal(ctx context.Context, incident string, r workflows.Report) error
	// Start gives the report to the incident and starts it where it does not run.
	// Where it runs by now, in is ignored.
	Start(ctx context.Context, in workflows.IncidentInput, r workflows.Report) error
}

// ErrNotRunning means that an incident has no open run.
var ErrNotRunning = errors.New("intake: the incident is not running")

// A State of an incident; the zero State: there never was one.
type State struct {
	Running bool
	// Closed is the last run, when it has ended.
	Closed *Closed
}

// Closed is a run that ended.
type Closed struct {
	workflows.Reopened
	// Reports are the ids of the reports it took, as far as they are known.
	Reports []string
}

type delivered struct{ existing, reopened bool }

// Deliver gives an incident a report that rekey itself makes and has signed (a
// dead key was used). Where the incident is over it is reopened, under the
// playbook that takes the report now. Idempotent on the report's id.
func (in *Intake) Deliver(ctx context.Context, incident string, r workflows.Report) error {
	chosen, err := in.choose(&checked{
		who: Caller{Actor: r.Actor, Source: r.Source, SourceKind: r.SourceKind}, id: r.ID, key: r.Key,
		source: r.Source, confidence: r.Confidence, received: r.Received,
	})
	if err != nil {
		return err
	}
	settings, err := in.settings(chosen)
	if err != nil {
		return err
	}
	_, err = in.deliver(ctx, workflows.IncidentInput{ID: incident, Settings: settings}, r)
	return err
}

// maxTurns bounds the race with an incident that closes and opens under our
// hands; each turn is a whole life of it.
const maxTurns = 5

// deliver gives the report to its incident. A closed one is reopened with a
// reference to its last run and bundle, so signal and start are two steps: a
// start that does not know the closed run would lose the reference.
func (in *Intake) deliver(ctx context.Context, input workflows.IncidentInput, r workflows.Report) (delivered, error) {
	for range maxTurns {
		st, err := in.Engine.State(ctx, input.ID)
		if err != nil {
			return delivered{}, engineDown(ctx, err)
		}
		if st.Running {
			err := in.Engine.Signal(ctx, input.ID, r)
			if errors.Is(err, ErrNotRunning) {
				continue
			}
			if err != nil {
				return delivered{}, engineDown(ctx, err)
			}
			return delivered{existing: true}, nil
		}
		input.Reopened = nil
		if st.Closed != nil {
			if slices.Contains(st.Closed.Reports, r.ID) {
				return delivered{existing: true}, nil // sent again after the incident was over
			}
			reopened := st.Closed.Reopened
			input.Reopened = &reopened
		}
		if err := in.Engine.Start(ctx, input, r); err != nil {
			return delivered{}, engineDown(ctx, err)
		}
		return delivered{existing: st.Closed != nil, reopened: st.Closed != nil}, nil
	}
	return delivered{}, unavailable(nil, "send the report again", "the incident opened and closed several times while the report was delivered")
}

func engineDown(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return unavailable(err, "nothing is lost, send it again: is `rekey up` (or the Temporal cluster and `rekey worker`) running? `rekey doctor` looks for the reason", "Temporal did not take the report")
}
