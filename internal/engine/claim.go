package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"rekey/workflows"
)

const (
	// claimChunk is how many fingerprints go to a register in one update. An update
	// costs some milliseconds whatever it holds; this one is 20 kB.
	claimChunk = 300
	// claimsAtOnce is how many registers are asked at the same time: more only wait
	// for the one database behind them.
	claimsAtOnce = 16
)

// ClaimKeys settles with the registers whose each fingerprint is. The answer names
// only those of other incidents.
func (e *Engine) ClaimKeys(ctx context.Context, in workflows.ClaimInput) (workflows.ClaimResult, error) {
	conflicts, err := e.claimMany(ctx, in.Incident, in.FPs)
	return workflows.ClaimResult{Owners: conflicts}, err
}

// claimMany claims any number of fingerprints for an incident and gives the ones
// that other incidents own, with their owners. Empty ones are left out.
//
// It is idempotent: after an error, and after a crash, the same call completes what
// is missing. Each register is asked in one chunk after another and many registers
// at once, so that none sees more than one update of this call at a time.
func (e *Engine) claimMany(ctx context.Context, incident string, fps []string) (conflicts map[string]string, err error) {
	by := map[string][]string{}
	for _, fp := range fps {
		if fp != "" {
			id := workflows.RegisterID(fp)
			by[id] = append(by[id], fp)
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	conflicts = map[string]string{}
	var mu sync.Mutex
	var all sync.WaitGroup
	places := make(chan struct{}, claimsAtOnce)
	for _, id := range slices.Sorted(maps.Keys(by)) {
		places <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		all.Go(func() {
			defer func() { <-places }()
			for chunk := range slices.Chunk(by[id], claimChunk) {
				res, err := e.Claim(ctx, id, workflows.Claim{FPs: chunk, Incident: incident, Conflicts: true})
				if err != nil {
					cancel(fmt.Errorf("claim in %s: %w", id, err))
					return
				}
				mu.Lock()
				for fp, owner := range res.Owners {
					if owner != incident { // a register of a build before names all
						conflicts[fp] = owner
					}
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return conflicts, nil
}
