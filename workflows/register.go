package workflows

import (
	"errors"
	"fmt"
	"slices"

	"go.temporal.io/sdk/workflow"
)

// RegisterInput is what a register knows.
type RegisterInput struct {
	// Owners is fingerprint -> incident, as builds before [Claims] carried it. It is
	// read and not written.
	Owners map[string]string `json:"owners,omitempty"`
	// Claims are who owns what.
	Claims Claims `json:"claims,omitzero"`
	// Volume is which one this is of the registers of one first byte, from 0. The
	// next is opened when this one is full.
	Volume int `json:"volume,omitempty"`
}

const (
	// registerMost is how many claims one volume takes. Its state is carried when it
	// continues as new, and one payload is at most 2 MB: 40,000 claims of 40,000
	// incidents are 0.9 MB, of ten 0.65 MB (BenchmarkRegister). So the first
	// volumes of all 256 registers hold ten million claims.
	registerMost = 40_000
	// ClaimMost is how many fingerprints one claim may name: 68 bytes each, so that
	// its payload stays far below what Temporal warns of (256 KiB).
	ClaimMost = 1000
)

// Register is the workflow that keeps one incident per key for all fingerprints
// that begin with the same byte. Claims outlive the incident: a later report of
// the key reopens it.
//
// A register that is full stays the home of what it has, and sends what it does not
// have to its next volume. It takes nothing new from then on, so a fingerprint has
// one home for ever: the first volume that was not full when it was first claimed.
func Register(ctx workflow.Context, in RegisterInput) error {
	r := register{claims: in.Claims, volume: in.Volume}
	r.claims.adopt(in.Owners)
	err := workflow.SetUpdateHandlerWithOptions(ctx, UpdateClaim, func(_ workflow.Context, c Claim) (ClaimResult, error) {
		return r.take(c), nil
	}, workflow.UpdateHandlerOptions{
		Description: "whose incident is a key",
		Validator: func(c Claim) error {
			if len(c.FPs) == 0 || c.Incident == "" || slices.Contains(c.FPs, "") {
				return errors.New("a claim names fingerprints and an incident")
			}
			if len(c.FPs) > ClaimMost {
				return fmt.Errorf("a claim names at most %d fingerprints: send the rest in another one", ClaimMost)
			}
			return nil
		},
	})
	if err != nil {
		return err
	}
	// The server suggests it from 1,800 updates on, and refuses the 2,001st.
	if err := workflow.Await(ctx, func() bool { return workflow.GetInfo(ctx).GetContinueAsNewSuggested() }); err != nil {
		return err
	}
	if err := workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) }); err != nil {
		return err
	}
	return workflow.NewContinueAsNewError(ctx, TypeRegister, RegisterInput{Claims: r.claims, Volume: r.volume})
}

type register struct {
	claims Claims
	volume int
}

// take gives every fingerprint an owner: the one it has, else the incident that
// asks. The same claim again changes nothing and gets the same answer.
func (r *register) take(c Claim) ClaimResult {
	out := ClaimResult{Owners: map[string]string{}}
	full := r.claims.Len() >= registerMost
	var fresh []string
	for _, fp := range c.FPs {
		owner, ok := r.claims.Owner(fp)
		switch {
		case ok && c.From != "" && owner == c.From:
			r.claims.move(fp, c.Incident)
			owner = c.Incident
		case ok:
		case full:
			out.Left, out.Next = append(out.Left, fp), r.volume+1
			continue
		default:
			fresh = append(fresh, fp)
			owner = c.Incident
		}
		if !c.Conflicts || owner != c.Incident {
			out.Owners[fp] = owner
		}
	}
	out.New = r.claims.add(fresh, c.Incident)
	return out
}
