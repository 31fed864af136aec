package batch

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"rekey/activities"
)

// Kinds of journal records.
const (
	kindIntent     = "intent"     // the call is about to be made
	kindIntents    = "intents"    // calls that may be made again are about to be made: FPs
	kindOutcome    = "outcome"    // what the call gave
	kindReconciled = "reconciled" // what settling a lost create gave
	kindWithdrawn  = "withdrawn"  // the call of the intent before was not made
)

// A record is one line of a pass's journal. It holds no secret.
type record struct {
	Kind string `json:"kind"`
	// Pass is the id of the pass that wrote it: a create without an outcome goes on in
	// the journal of the pass before.
	Pass string    `json:"pass,omitempty"`
	FP   string    `json:"fp,omitempty"`
	N    int       `json:"attempt,omitempty"`
	At   time.Time `json:"at"`
	// FPs are the items of intents.
	FPs []string `json:"fps,omitempty"`
	// Epoch and Deadline are of an intent: which process, and when (by the wall
	// clock) its call cannot be running any more.
	Epoch    string    `json:"epoch,omitempty"`
	Deadline time.Time `json:"deadline,omitzero"`
	// Before are the principal's keys before a create.
	Before  []activities.KeyState `json:"before,omitempty"`
	Attempt *activities.Attempt   `json:"result,omitempty"`
	// Settled: a lost create can have left no key alive any more.
	Settled bool `json:"settled,omitempty"`
}

type journal map[string]history

// history is the records of one item in their order.
type history []record

func (j journal) of(fp string) history { return j[fp] }

func readLog(ctx context.Context, j Journal) (journal, error) {
	recs, err := j.Records(ctx)
	if err != nil {
		return nil, err
	}
	out := journal{}
	for i, b := range recs {
		var r record
		if err := json.Unmarshal(b, &r); err != nil {
			return nil, fmt.Errorf("record %d is not of this build: %w", i, err)
		}
		if r.FP == "" {
			continue
		}
		out[r.FP] = append(out[r.FP], r)
	}
	return out, nil
}

// settled gives the outcome that ends this effect: the call need not be made. An
// answer that hands the matter to a person does not: they may have mended it. What
// stands before a settling is over with it: its key was destroyed.
func (h history) settled() (activities.Attempt, bool) {
	for i := len(h) - 1; i >= 0; i-- {
		a := h[i].Attempt
		if a != nil && !a.Failed() && (a.Outcome.Reached() || a.Outcome == activities.DoneAsync || a.Outcome == activities.Assumed) {
			return *a, true
		}
		if h[i].Kind == kindReconciled && h[i].Settled {
			break
		}
	}
	return activities.Attempt{}, false
}

// of gives what a pass has got for the item, whatever it says.
func (h history) of(pass string) (activities.Attempt, bool) {
	for i := len(h) - 1; i >= 0; i-- {
		if h[i].Pass == pass && h[i].Attempt != nil {
			return *h[i].Attempt, true
		}
	}
	return activities.Attempt{}, false
}

// lostCreate gives the last intent whose call may have had an effect that nobody
// knows: no outcome after it, or an unclear one, and not settled since. Its
// Deadline is zero when the call is known to be over.
func (h history) lostCreate() (record, bool) {
	over, withdrawn := false, 0
	for i := len(h) - 1; i >= 0; i-- {
		switch h[i].Kind {
		case kindWithdrawn:
			withdrawn++
		case kindReconciled:
			if h[i].Settled {
				return record{}, false
			}
		case kindOutcome:
			a := h[i].Attempt
			sure := a != nil && (a.Class == activities.ClassTransient || a.Class == activities.ClassThrottled ||
				a.Class == activities.ClassDenied || a.Class == activities.ClassInvalid || (!a.Failed() && a.Outcome != activities.Unclear))
			if sure {
				return record{}, false
			}
			over = true
		case kindIntent:
			if withdrawn > 0 {
				withdrawn--
				continue
			}
			r := h[i]
			if over {
				r.Deadline = time.Time{}
			}
			return r, true
		}
	}
	return record{}, false
}

func (h history) firstIntent() (record, bool) {
	for _, r := range h {
		if r.Kind == kindIntent {
			return r, true
		}
	}
	return record{}, false
}
