package batch

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rekey/activities"
	"rekey/internal/page"
)

// writers is how many blobs one pass reads or writes at once.
const writers = 4

// atOnce does n things, a few at once, and gives the first error.
func atOnce(n int, do func(i int) error) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, n)
	for range min(n, writers) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if errs[i] = do(i); errs[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// result writes the rows and what was done, and says how they stand. Nothing of it is
// lost by an error: the next attempt has the answers from the journal.
func (t *turnover) result(ctx context.Context) (page.PassResult, error) {
	res := page.PassResult{Outcomes: map[string]int{}, Failed: map[string]int{}, Made: int(t.made.Load())}
	for i := range t.got {
		a := &t.got[i]
		switch a.how {
		case stopped, needless:
		case left:
			res.Left++
		default:
			res.Outcomes[string(a.Outcome)]++
			if a.Failed() {
				res.Failed[string(a.Class)]++
			}
			if t.facts.Scope {
				t.found(&res, t.rows[t.todo[i]].Key(), a.Inspect)
			}
		}
	}
	res.More = bounded(&res.Findings) + bounded(&res.Unseen) + bounded(&res.Dark)

	groups := page.Sort(t.rows)
	res.Groups = make([]page.Group, len(groups))
	err := atOnce(len(groups)+1, func(i int) error {
		if i == len(groups) {
			var err error
			res.Journal, err = t.sealed(ctx)
			return err
		}
		g := groups[i]
		ref, err := t.store.Put(ctx, g)
		if err != nil {
			return fmt.Errorf("page of pass %s: %w", t.in.ID, err)
		}
		res.Groups[i] = page.Group{Ref: ref, Provider: t.in.Provider, Account: t.in.Account, Next: g[0].Next, Tally: page.Count(g)}
		return nil
	})
	return res, err
}

// sealed puts what the pass did into the blob store, "" when it did nothing.
func (t *turnover) sealed(ctx context.Context) (string, error) {
	for _, log := range t.effects {
		if log == t.own {
			continue
		}
		// What went on in the journal of another pass is its end, most likely.
		if _, err := log.j.Seal(ctx); err != nil {
			return "", fmt.Errorf("journal %s: %w", log.name.name, err)
		}
	}
	if t.own != nil {
		hash, err := t.own.j.Seal(ctx)
		if err != nil {
			return "", fmt.Errorf("journal of pass %s: %w", t.in.ID, err)
		}
		return hash, nil
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b) // a record a line, as a journal is sealed
	for i := range t.got {
		a := t.got[i].Attempt
		if t.got[i].how != called {
			continue
		}
		a.Inspect, a.Sweep = nil, nil // readings are in the rows as far as they count; their evidence is here
		if err := enc.Encode(record{Kind: kindOutcome, Pass: t.in.ID, FP: a.FP, N: a.N, At: a.At, Attempt: &a}); err != nil {
			return "", fmt.Errorf("journal of pass %s: %w", t.in.ID, err)
		}
	}
	if b.Len() == 0 {
		return "", nil
	}
	hash, err := t.Blobs.Put(ctx, b.Bytes())
	if err != nil {
		return "", fmt.Errorf("journal of pass %s: %w", t.in.ID, err)
	}
	return hash, nil
}

// found adds what a reading of the scope found, each thing once.
func (t *turnover) found(res *page.PassResult, from activities.Key, read *activities.InspectResult) {
	if read == nil {
		return
	}
	for _, f := range read.Findings {
		if !slices.ContainsFunc(res.Findings, func(o page.Found) bool {
			return o.Finding.What == f.What && o.Finding.ID == f.ID && o.Finding.At.Equal(f.At)
		}) {
			res.Findings = append(res.Findings, page.Found{From: from, Finding: f})
		}
	}
	for _, u := range read.Unseen {
		if !slices.Contains(res.Unseen, u) {
			res.Unseen = append(res.Unseen, u)
		}
	}
	for _, w := range read.Dark {
		res.Dark = darken(res.Dark, w)
	}
}

// darken adds a window without logs; those of one source that touch are one.
func darken(all []activities.Window, w activities.Window) []activities.Window {
	var out []activities.Window
	for _, o := range all {
		if o.Source != w.Source || o.To.Before(w.From) || w.To.Before(o.From) {
			out = append(out, o)
			continue
		}
		w.From, w.To = earlier(o.From, w.From), later(o.To, w.To)
	}
	out = append(out, w)
	slices.SortFunc(out, func(a, b activities.Window) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), a.From.Compare(b.From))
	})
	return out
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// bounded cuts a list to page.Most and gives how many were left out.
func bounded[T any](list *[]T) int {
	more := max(0, len(*list)-page.Most)
	*list = (*list)[:len(*list)-more]
	return more
}
