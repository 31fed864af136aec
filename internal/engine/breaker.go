package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"rekey/activities/batch"
	"rekey/internal/config"
	"rekey/workflows"
)

// A Breaker bounds how many keys contain on report may disable in an hour, per
// source and per account, so that a flood of forged reports is not an off switch.
// What it has let through is in a journal: a restart does not empty it.
type Breaker struct {
	Journals batch.Journals
	Ceiling  config.Breaker
	mu       sync.Mutex
}

type taken struct {
	Incident string    `json:"incident"`
	Source   string    `json:"source"`
	Account  string    `json:"account"`
	At       time.Time `json:"at"`
}

// breakerWindow is the span that the ceilings count in.
const breakerWindow = time.Hour

// Take takes a place for a report, or says why there is none. Asking again for the
// same incident takes no second place.
func (b *Breaker) Take(ctx context.Context, rep workflows.Report, incident string, live int, now time.Time) (bool, string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	j, err := b.Journals.Open(ctx, "breaker")
	if err != nil {
		return false, "", fmt.Errorf("breaker: %w", err)
	}
	defer func() { _ = j.Close() }()
	recs, err := j.Records(ctx)
	if err != nil {
		return false, "", fmt.Errorf("breaker: %w", err)
	}
	account := rep.Key.Provider + "/" + rep.Key.Account
	source, acct := 0, 0
	for _, r := range recs {
		var t taken
		if err := json.Unmarshal(r, &t); err != nil {
			return false, "", fmt.Errorf("breaker: %w", err)
		}
		if t.Incident == incident {
			return true, "this incident has its place", nil
		}
		if now.Sub(t.At) >= breakerWindow {
			continue
		}
		if t.Source == rep.Source {
			source++
		}
		if t.Account == account {
			acct++
		}
	}
	if source >= b.Ceiling.PerSource {
		return false, fmt.Sprintf("%d of %d an hour from source %q are used", source, b.Ceiling.PerSource, rep.Source), nil
	}
	if most := b.Ceiling.PerAccount.Of(live); acct >= most {
		return false, fmt.Sprintf("%d of %d an hour in account %s are used", acct, most, account), nil
	}
	rec, err := json.Marshal(taken{Incident: incident, Source: rep.Source, Account: account, At: now})
	if err != nil {
		return false, "", err
	}
	if err := j.Append(ctx, rec, true); err != nil {
		return false, "", fmt.Errorf("breaker: %w", err)
	}
	return true, fmt.Sprintf("%d of %d from source %q, %d in account %s", source+1, b.Ceiling.PerSource, rep.Source, acct+1, account), nil
}
