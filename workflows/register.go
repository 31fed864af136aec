package workflows

import (
	"errors"
	"slices"

	"go.temporal.io/sdk/workflow"
)

// RegisterInput is what a register knows.
type RegisterInput struct {
	// Owners: fingerprint -> incident.
	Owners map[string]string `json:"owners,omitempty"`
}

// Register is the workflow that keeps one incident per key for all fingerprints
// that begin with the same byte. Claims outlive the incident: a later report of
// the key reopens it.
func Register(ctx workflow.Context, in RegisterInput) error {
	if in.Owners == nil {
		in.Owners = map[string]string{}
	}
	err := workflow.SetUpdateHandlerWithOptions(ctx, UpdateClaim, func(_ workflow.Context, c Claim) (ClaimResult, error) {
		return claimAll(in.Owners, c), nil
	}, workflow.UpdateHandlerOptions{
		Description: "whose incident is a key",
		Validator: func(c Claim) error {
			if len(c.FPs) == 0 || c.Incident == "" || slices.Contains(c.FPs, "") {
				return errors.New("a claim names fingerprints and an incident")
			}
			return nil
		},
	})
	if err != nil {
		return err
	}
	if err := workflow.Await(ctx, func() bool { return workflow.GetInfo(ctx).GetContinueAsNewSuggested() }); err != nil {
		return err
	}
	if err := workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) }); err != nil {
		return err
	}
	return workflow.NewContinueAsNewError(ctx, TypeRegister, in)
}

// claimAll gives every fingerprint an owner: the one it has, else the incident
// that asks.
func claimAll(owners map[string]string, c Claim) ClaimResult {
	out := ClaimResult{Owners: map[string]string{}}
	for _, fp := range c.FPs {
		owner, ok := owners[fp]
		if !ok {
			owner = c.Incident
			owners[fp] = owner
		}
		out.Owners[fp] = owner
	}
	return out
}
