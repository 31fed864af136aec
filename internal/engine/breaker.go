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
// What it has let through is in a journal: a restart does not empty it. Processes
// that share the journals take places one at a time.
type Breaker struct {
	Journals BreakerJournals
	Ceiling  config.Breaker
	mu       sync.Mutex
}

// BreakerJournals are journals that one caller at a time may take, among all
// processes that share them.
type BreakerJournals interface {
	batch.Journals
	Lock(ctx context.Context, name string) (unlock func(), err error)
}

const (
	breakerJournal = "breaker"
	// breakerLock is how long another process may keep the ceilings busy. Beyond
	// it the report asks people: it must not wait for a process that stands still.
	breakerLock = 5 * time.Second
)

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
	limit, cancel := context.WithTimeout(ctx, breakerLock)
	defer cancel()
	unlock, err := b.Journals.Lock(limit, breakerJournal)
	if err != nil {
		if ctx.Err() == nil && limit.Err() != nil {
			return false, "another worker keeps the ceilings busy and does not answer: look for one that stands still", nil
		}
		return false, "", fmt.Errorf("breaker: %w", err)
	}
	defer unlock()
	j, err := b.Journals.Open(ctx, breakerJournal, 0)
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
