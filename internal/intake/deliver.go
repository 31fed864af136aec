package intake

import (
	"context"
	"errors"

	"rekey/workflows"
)

// An Engine is what intake needs of Temporal; [Temporal] is it.
type Engine interface {
	// Claim asks a register, which is started where it does not run.
	Claim(ctx context.Context, register string, c workflows.Claim) (workflows.ClaimResult, error)
	// State tells whether an incident runs, or ran.
	State(ctx context.Context, incident string) (State, error)
	// Signal gives reports to a running incident; ErrNotRunning when it does not run
	// (any more).
	Signal(ctx context.Context, incident string, r []workflows.Report) error
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

// Closed is a run that ended, with the reports that it took, as far as they are known.
type Closed struct{ workflows.Reopened }

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
	_, err = in.mail.post(ctx, &letter{input: workflows.IncidentInput{ID: incident, Settings: settings}, report: r, recent: true})
	return err
}

// maxTurns bounds the race with an incident that closes and opens under our
// hands; each turn is a whole life of it.
const maxTurns = 5

// takenAgain is how many of the last reports of a life are known to the next one.
const takenAgain = 1000

// deliver gives letters to their incident and answers each. known: it ran a moment
// ago, so that it need not be asked for.
//
// A closed incident is reopened with a reference to its last run and bundle, so
// signal and start are two steps: a start that does not know the closed run would
// lose the reference.
func (in *Intake) deliver(ctx context.Context, known bool, letters []*letter) {
	fail := func(err error) {
		for _, l := range letters {
			l.answer(delivered{}, err)
		}
	}
	id := letters[0].input.ID
	for range maxTurns {
		if known {
			switch err := in.Engine.Signal(ctx, id, reportsOf(letters)); {
			case err == nil:
				for _, l := range letters {
					l.answer(delivered{existing: true}, nil)
				}
				return
			case !errors.Is(err, ErrNotRunning):
				fail(engineDown(ctx, err))
				return
			}
		}
		st, err := in.Engine.State(ctx, id)
		if err != nil {
			fail(engineDown(ctx, err))
			return
		}
		if known = st.Running; known {
			continue
		}
		if letters = startable(letters, st.Closed); len(letters) == 0 {
			return
		}
		first := letters[0]
		if st.Closed != nil {
			reopened := st.Closed.Reopened
			reopened.Taken = reopened.Taken.Last(takenAgain)
			first.input.Reopened = &reopened
		}
		if err := in.Engine.Start(ctx, first.input, first.report); err != nil {
			fail(engineDown(ctx, err))
			return
		}
		first.answer(delivered{existing: st.Closed != nil, reopened: st.Closed != nil}, nil)
		if letters = letters[1:]; len(letters) == 0 {
			return
		}
		known = true
	}
	fail(unavailable(nil, "send the report again", "the incident opened and closed several times while the report was delivered"))
}

// startable answers those letters that start nothing: reports that the life before
// has taken, and those of keys whose incident was not asked for this time.
func startable(letters []*letter, closed *Closed) []*letter {
	recent := map[string]bool{}
	for _, l := range letters {
		recent[l.report.Key.FP] = recent[l.report.Key.FP] || l.recent
	}
	var out []*letter
	for _, l := range letters {
		switch {
		case closed != nil && closed.Taken.Has(l.report.ID):
			l.answer(delivered{existing: true}, nil) // sent again after the incident was over
		case !recent[l.report.Key.FP]:
			l.answer(delivered{}, errMoved)
		default:
			out = append(out, l)
		}
	}
	return out
}

func reportsOf(letters []*letter) []workflows.Report {
	out := make([]workflows.Report, len(letters))
	for i, l := range letters {
		out[i] = l.report
	}
	return out
}

func engineDown(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return unavailable(err, "nothing is lost, send it again: is `rekey up` (or the Temporal cluster and `rekey worker`) running? `rekey doctor` looks for the reason", "Temporal did not take the report")
}
