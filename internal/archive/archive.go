// Package archive keeps the histories of finished runs in the blob store, because
// Temporal deletes closed runs after the namespace's retention and an incident, or
// the watch on its keys, may last longer.
//
// A chapter is one finished run. Its history is a blob under its hash, so that the
// workflow which had it kept pins it; beside the blobs an index says which chapters
// an incident has:
//
//	chapters/<incident>/<hash of workflow and run>.json
//
// The index is a list of where to look, not evidence: what it names is checked
// against the run it claims to be, and a run that is neither in Temporal nor here
// is told as missing. Keeping the same run again changes nothing, so a successor, a
// parent, the sealing and the guard may all do it at once.
package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.temporal.io/api/serviceerror"

	"rekey/internal/blob"
	"rekey/internal/derive"
	"rekey/internal/secret"
	"rekey/workflows"
)

// A Source reads runs from Temporal; derive.Source is it.
type Source interface {
	Run(ctx context.Context, workflow, run string) (derive.Run, error)
	Ended(ctx context.Context, workflow, run string) error
}

// An Archive is the chapters of one installation.
type Archive struct {
	blobs Store
	from  Source
}

// A Store keeps chapters and their index; workers on several hosts share it.
type Store interface {
	blob.Store
	blob.Names
}

// Chapters is where the index is among the documents of a store.
const Chapters = "chapters"

// New makes an Archive.
func New(blobs Store, from Source) *Archive { return &Archive{blobs: blobs, from: from} }

// A StillOpenError says that a run has not ended.
type StillOpenError struct{ Workflow string }

func (e *StillOpenError) Error() string { return e.Workflow + " has not ended" }

// entry is one line of the index.
type entry struct {
	V        int       `json:"v"`
	Workflow string    `json:"workflow"`
	Run      string    `json:"run"`
	Hash     string    `json:"hash"`
	Closed   time.Time `json:"closed"`
}

// Keep archives a finished run, the latest where run is "". It waits for its end
// until ctx ends, then fails with *StillOpenError; *serviceerror.NotFound where
// Temporal has it no more and it was never kept.
func (a *Archive) Keep(ctx context.Context, incident, workflow, run string) (workflows.Chapter, error) {
	if run != "" {
		if e, err := a.entry(ctx, incident, workflow, run); err == nil {
			if there, err := a.blobs.Has(ctx, e.Hash); err == nil && there {
				return e.chapter(), nil
			}
		}
	}
	if err := a.from.Ended(ctx, workflow, run); err != nil {
		if ctx.Err() != nil {
			return workflows.Chapter{}, &StillOpenError{workflow}
		}
		return workflows.Chapter{}, err
	}
	r, err := a.from.Run(ctx, workflow, run)
	if err != nil {
		return workflows.Chapter{}, err
	}
	return a.KeepRun(ctx, incident, r)
}

// KeepRun archives a run that was read. It fails with *StillOpenError where the run
// has not ended.
func (a *Archive) KeepRun(ctx context.Context, incident string, r derive.Run) (workflows.Chapter, error) {
	closed, ok := r.Ended()
	if !ok {
		return workflows.Chapter{}, &StillOpenError{r.Workflow}
	}
	history, err := derive.JSON(r.History)
	if err != nil {
		return workflows.Chapter{}, err
	}
	hash, err := a.blobs.Put(ctx, history)
	if err != nil {
		return workflows.Chapter{}, fmt.Errorf("keep the history of %s: %w", r.Workflow, err)
	}
	e := entry{V: 1, Workflow: r.Workflow, Run: r.ID, Hash: hash, Closed: closed.UTC()}
	if err := a.write(ctx, incident, e); err != nil {
		return workflows.Chapter{}, fmt.Errorf("keep the history of %s: %w", r.Workflow, err)
	}
	return e.chapter(), nil
}

func (e entry) chapter() workflows.Chapter {
	return workflows.Chapter{Workflow: e.Workflow, Run: e.Run, Hash: e.Hash}
}

// Kept tells whether a run is archived.
func (a *Archive) Kept(ctx context.Context, incident, workflow, run string) bool {
	e, err := a.entry(ctx, incident, workflow, run)
	if err != nil {
		return false
	}
	there, err := a.blobs.Has(ctx, e.Hash)
	return err == nil && there
}

// List gives the chapters of an incident, the oldest first.
func (a *Archive) List(ctx context.Context, incident string) ([]workflows.Chapter, error) {
	if !secret.ValidIncident(incident) {
		return nil, errors.New("archive: not an incident")
	}
	var all []entry
	err := a.blobs.EachName(ctx, Chapters+"/"+incident, func(name string) error {
		e, err := a.read(ctx, name)
		if err == nil { // one damaged entry hides no other; its run is told as missing
			all = append(all, e)
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	slices.SortFunc(all, func(x, y entry) int {
		if c := x.Closed.Compare(y.Closed); c != 0 {
			return c
		}
		return strings.Compare(x.Workflow+x.Run, y.Workflow+y.Run)
	})
	out := make([]workflows.Chapter, 0, len(all))
	for _, e := range all {
		out = append(out, e.chapter())
	}
	return out, nil
}

// Each gives every chapter of every incident. Unlike List it fails on an entry that
// cannot be read.
func (a *Archive) Each(ctx context.Context, f func(workflows.Chapter) error) error {
	return a.blobs.EachName(ctx, Chapters, func(name string) error {
		e, err := a.read(ctx, name)
		if err != nil {
			return err
		}
		return f(e.chapter())
	})
}

// Runs gives all runs of the workflows, and every other run that was kept of the
// incident: from Temporal where it still has them, else from the chapters; the runs
// of a workflow in their order. pinned are chapters that the workflows named by
// hash. A run that is nowhere is named in gone.
func (a *Archive) Runs(ctx context.Context, incident string, ids []string, pinned []workflows.Chapter) (runs []derive.Run, gone []string, err error) {
	kept, err := a.List(ctx, incident)
	if err != nil {
		return nil, nil, err
	}
	// Pinned last: what a history names counts more than the index.
	by := map[string]map[string]string{} // workflow -> run -> hash
	for _, c := range append(kept, pinned...) {
		if by[c.Workflow] == nil {
			by[c.Workflow] = map[string]string{}
			if !slices.Contains(ids, c.Workflow) {
				ids = append(slices.Clip(ids), c.Workflow)
			}
		}
		by[c.Workflow][c.Run] = c.Hash
	}
	for _, id := range ids {
		chain, lost, err := a.chain(ctx, id, by[id])
		if err != nil {
			return nil, nil, err
		}
		runs, gone = append(runs, chain...), append(gone, lost...)
	}
	return runs, gone, nil
}

// chain gives the runs of one workflow, the oldest first.
func (a *Archive) chain(ctx context.Context, id string, kept map[string]string) (chain []derive.Run, gone []string, err error) {
	next := append([]string{""}, slices.Sorted(maps.Keys(kept))...)
	seen := map[string]bool{}
	for len(next) > 0 {
		run := next[0]
		next = next[1:]
		if seen[run] {
			continue
		}
		seen[run] = true
		r, ok, err := a.find(ctx, id, run, kept[run])
		if err != nil {
			return nil, nil, err
		}
		if !ok {
			if run != "" {
				gone = append(gone, id+" run "+run)
			}
			continue
		}
		if run == "" && seen[r.ID] {
			continue
		}
		seen[r.ID] = true
		chain = append(chain, r)
		if before := r.Before(); before != "" {
			next = append(next, before)
		}
	}
	slices.SortStableFunc(chain, func(x, y derive.Run) int {
		return x.History.GetEvents()[0].GetEventTime().AsTime().Compare(y.History.GetEvents()[0].GetEventTime().AsTime())
	})
	return chain, gone, nil
}

// find reads a run from Temporal, else from its chapter; false where it is nowhere.
func (a *Archive) find(ctx context.Context, id, run, hash string) (derive.Run, bool, error) {
	r, err := a.from.Run(ctx, id, run)
	var missing *serviceerror.NotFound
	switch {
	case err == nil:
		return r, true, nil
	case !errors.As(err, &missing):
		return r, false, fmt.Errorf("history of %s: %w", id, err)
	case hash == "":
		return r, false, nil
	}
	b, err := a.blobs.Get(ctx, hash)
	var lost *blob.NotFoundError
	if errors.As(err, &lost) {
		return r, false, nil
	}
	if err != nil {
		return r, false, fmt.Errorf("history of %s: %w", id, err)
	}
	r, err = derive.Parse(id, run, b)
	if err != nil {
		return r, false, err
	}
	return r, true, nil
}

func name(incident, workflow, run string) (string, error) {
	if !secret.ValidIncident(incident) {
		return "", errors.New("archive: not an incident")
	}
	sum := sha256.Sum256([]byte(workflow + "\x00" + run))
	return Chapters + "/" + incident + "/" + hex.EncodeToString(sum[:16]) + ".json", nil
}

func (a *Archive) entry(ctx context.Context, incident, workflow, run string) (entry, error) {
	n, err := name(incident, workflow, run)
	if err != nil {
		return entry{}, err
	}
	e, err := a.read(ctx, n)
	if err == nil && (e.Workflow != workflow || e.Run != run) {
		return entry{}, errors.New("archive: the entry is of another run")
	}
	return e, err
}

func (a *Archive) read(ctx context.Context, name string) (entry, error) {
	b, err := a.blobs.ReadName(ctx, name)
	if err != nil {
		return entry{}, err
	}
	var e entry
	if err := json.Unmarshal(b, &e); err != nil || e.Workflow == "" || e.Run == "" || !blob.ValidHash(e.Hash) {
		return entry{}, errors.New("archive: " + name + " is not an entry")
	}
	return e, nil
}

func (a *Archive) write(ctx context.Context, incident string, e entry) error {
	n, err := name(incident, e.Workflow, e.Run)
	if err != nil {
		return err
	}
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return a.blobs.WriteName(ctx, n, append(b, '\n'))
}
