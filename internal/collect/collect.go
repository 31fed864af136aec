// Package collect deletes blobs and journals that nothing names any more: those of
// attempts that died before a history had their results, messages that were written
// anew, journals whose content is a blob.
//
// It is the only code that deletes from a store, and it is built to delete too little.
// What may be deleted is older than the grace, is named by no history that Temporal
// still has, by no archived chapter, no bundle, no journal, and by no blob that is
// itself named; and it was so already in a pass some hours before, which a document in
// the store remembers. Where anything cannot be read nothing is deleted, because what
// it names is not known. Nothing that belongs to an incident is ever deleted, however
// old: what an incident has used, its histories name.
package collect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"regexp"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"rekey/internal/archive"
	"rekey/internal/blob"
	"rekey/workflows"
)

// Options are what a Collector needs.
type Options struct {
	Store     blob.Collectable
	Histories Histories
	// Bundles is the directory of sealed bundles.
	Bundles string
	// Grace is how old something must be. It is longer than any activity runs, so that
	// what was stored by one that is still running stays.
	Grace time.Duration
	// Confirm is how long ago an earlier pass must have found it unnamed; 0: Confirm.
	Confirm time.Duration
	// NewNamespace says that the histories of the namespace before are gone for good.
	NewNamespace bool
	DryRun       bool
	Now          func() time.Time
	Log          *slog.Logger
}

const (
	// Confirm is the default of Options.Confirm: less than a day, so that daily passes
	// confirm each other.
	Confirm = 20 * time.Hour
	// Every is how often a pass is due.
	Every = 24 * time.Hour
	// lockName keeps two collectors apart, lockWait is how long the second asks.
	lockName = "collect"
	lockWait = 5 * time.Second
	// readers is how many blobs are read at once.
	readers = 8
	// Documents in the store.
	markName = "gc/mark"
	lastName = "gc/last"
)

// ErrBusy: another process is collecting.
var ErrBusy = errors.New("another process is collecting: wait until it has finished")

// A NamespaceError says that Temporal's namespace is not the one of the pass before.
type NamespaceError struct{}

func (*NamespaceError) Error() string {
	return "Temporal's namespace is not the one that was collected for before: blobs that only histories of that one name would be deleted. Is the right cluster configured? If the old one is gone for good, run `rekey blobs gc --new-namespace` once"
}

// A Result tells what a pass found and did.
type Result struct {
	At     time.Time `json:"at"`
	TookMs int64     `json:"took_ms"`
	DryRun bool      `json:"dry_run,omitempty"`
	// Blobs and Bytes are all that is stored, Named those that something names.
	Blobs int   `json:"blobs"`
	Bytes int64 `json:"bytes"`
	Named int   `json:"named"`
	// Young are unnamed and within the grace, Waiting unnamed and to be confirmed.
	Young   int `json:"young"`
	Waiting int `json:"waiting"`
	// Removed was deleted; in a dry run it would have been.
	Removed      int   `json:"removed"`
	RemovedBytes int64 `json:"removed_bytes"`
	Journals     int   `json:"journals"`
	// JournalsRemoved are those whose content is a named blob and whose incident is over.
	JournalsRemoved int `json:"journals_removed"`
	Histories       int `json:"histories"`
	Chapters        int `json:"chapters"`
	Bundles         int `json:"bundles"`
	// Failed says why the pass ended before it deleted anything; "" when it did not.
	Failed string `json:"failed,omitempty"`
}

// A Collector makes passes.
type Collector struct{ Options }

// New makes a Collector.
func New(o Options) *Collector {
	if o.Confirm == 0 {
		o.Confirm = Confirm
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Collector{o}
}

// mark is what passes remember: since when each blob was found unnamed.
type mark struct {
	V         int                  `json:"v"`
	Namespace string               `json:"namespace"`
	Since     map[string]time.Time `json:"since"`
}

// Last gives the result of the latest pass, of whichever process; false when there was
// none.
func Last(ctx context.Context, names blob.Names) (Result, bool, error) {
	var r Result
	raw, err := names.ReadName(ctx, lastName)
	if errors.Is(err, fs.ErrNotExist) {
		return r, false, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &r)
	}
	return r, err == nil, err
}

// Collect makes one pass. It fails with ErrBusy, *UnreadableError or *NamespaceError,
// and has then deleted nothing. A crash at any point leaves a store that the next pass
// goes on with.
func (c *Collector) Collect(ctx context.Context) (Result, error) {
	if c.Grace <= blob.Fresh {
		return Result{}, fmt.Errorf("collect: a grace of %s is not longer than %s", c.Grace, blob.Fresh)
	}
	asking, stop := context.WithTimeout(ctx, lockWait)
	held, unlock, err := c.Store.Hold(asking, lockName)
	stop()
	if err != nil {
		if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			return Result{}, ErrBusy
		}
		return Result{}, err
	}
	defer unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(held, cancel)() // a lock that is lost ends the pass
	r := Result{At: c.Now().UTC(), DryRun: c.DryRun}
	err = c.pass(ctx, &r)
	r.TookMs = c.Now().Sub(r.At).Milliseconds()
	if err != nil {
		r.Failed = err.Error()
	}
	if !c.DryRun {
		err = errors.Join(err, c.write(context.WithoutCancel(ctx), lastName, r))
	}
	return r, err
}

func (c *Collector) write(ctx context.Context, name string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.Store.WriteName(ctx, name, append(raw, '\n'))
}

func (c *Collector) pass(ctx context.Context, r *Result) error {
	before, err := c.before(ctx)
	if err != nil {
		return err
	}
	// First what is stored, then who names it: what is stored later is not looked at.
	stored := map[name]facts{}
	err = c.Store.EachBlob(ctx, func(b blob.Stored) error {
		n, ok := parse(b.Hash)
		if !ok {
			return fmt.Errorf("%s is no name of a blob", b.Hash)
		}
		stored[n] = facts{b.Size, b.Age}
		r.Blobs++
		r.Bytes += b.Size
		return nil
	})
	if err != nil {
		return &UnreadableError{What: "the list of blobs", Err: err}
	}
	live, gone, err := c.named(ctx, stored, r)
	if err != nil {
		return err
	}
	now := mark{V: 1, Namespace: before.Namespace, Since: map[string]time.Time{}}
	var dead []string
	for n, b := range stored {
		if live[n] {
			r.Named++
			continue
		}
		if b.age <= c.Grace {
			r.Young++
			continue
		}
		hash := n.String()
		since, was := before.Since[hash]
		if !was {
			since = r.At
		}
		now.Since[hash] = since
		if r.At.Sub(since) < c.Confirm {
			r.Waiting++
			continue
		}
		dead = append(dead, hash)
		if c.DryRun {
			r.Removed++
			r.RemovedBytes += b.size
		}
	}
	slices.Sort(dead)
	if c.DryRun {
		r.JournalsRemoved = len(gone)
		return nil
	}
	// Written before anything goes: what a crash leaves undone the next pass finds here.
	if err := c.write(ctx, markName, now); err != nil {
		return fmt.Errorf("collect: %w", err)
	}
	return c.remove(ctx, r, dead, gone)
}

// facts are of a stored blob.
type facts struct {
	size int64
	age  time.Duration
}

// before reads what the pass before remembered.
func (c *Collector) before(ctx context.Context) (mark, error) {
	id, err := c.Histories.Namespace(ctx)
	if err != nil || id == "" {
		return mark{}, &UnreadableError{What: "Temporal's namespace", Err: err}
	}
	m := mark{Namespace: id}
	raw, err := c.Store.ReadName(ctx, markName)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return m, nil
	case err != nil:
		return m, fmt.Errorf("collect: %w", err)
	}
	if json.Unmarshal(raw, &m) != nil {
		return mark{Namespace: id}, nil // begun anew: everything waits for one more pass
	}
	if m.Namespace != id && !c.NewNamespace {
		return m, &NamespaceError{}
	}
	if m.Namespace != id {
		m = mark{Namespace: id}
	}
	return m, nil
}

func (c *Collector) remove(ctx context.Context, r *Result, dead, gone []string) error {
	removed, err := c.Store.RemoveBlobs(ctx, dead, c.Grace)
	for _, b := range removed {
		r.Removed++
		r.RemovedBytes += b.Size
	}
	if err != nil {
		return fmt.Errorf("collect: %w", err)
	}
	for _, name := range gone {
		did, err := c.Store.RemoveJournal(ctx, name, c.Grace)
		if err != nil {
			return fmt.Errorf("collect: %w", err)
		}
		if did {
			r.JournalsRemoved++
		}
	}
	if err := c.Store.Tidy(ctx, c.Grace); err != nil {
		return fmt.Errorf("collect: %w", err)
	}
	return nil
}

// named gives the blobs of stored that something names, and the journals that may go.
func (c *Collector) named(ctx context.Context, stored map[name]facts, r *Result) (live map[name]bool, gone []string, err error) {
	m := &marking{c: c, stored: stored, live: map[name]bool{}, chapters: map[name]workflows.Chapter{}}
	read, open, err := c.runs(ctx, m.found)
	if err != nil {
		return nil, nil, err
	}
	r.Histories = len(read)
	err = archive.New(c.Store, nil).Each(ctx, func(ch workflows.Chapter) error {
		r.Chapters++
		return m.chapter(ch, read)
	})
	if err != nil {
		return nil, nil, &UnreadableError{What: "the index of chapters", Err: err}
	}
	if r.Bundles, err = bundles(ctx, c.Bundles, m.found); err != nil {
		return nil, nil, err
	}
	var over []ended
	err = c.Store.EachJournal(ctx, func(journal string, age time.Duration) error {
		r.Journals++
		j, err := c.Store.Inspect(ctx, journal)
		if err != nil {
			return err
		}
		if age > c.Grace && isOver(journal, open) {
			over = append(over, ended{journal, j})
			return nil
		}
		m.journal(j)
		return nil
	})
	if err != nil {
		return nil, nil, &UnreadableError{What: "a journal", Err: err}
	}
	if err := m.follow(ctx); err != nil {
		return nil, nil, err
	}
	for _, e := range over {
		// Only where its content is on record: a journal that was never sealed, or whose
		// pass never told, is the only one that knows.
		if m.onRecord(e.Inspected) {
			gone = append(gone, e.name)
			continue
		}
		m.journal(e.Inspected)
	}
	return m.live, gone, m.follow(ctx)
}

// ended is a journal of an incident that is over.
type ended struct {
	name string
	blob.Inspected
}

// marking finds what is live.
type marking struct {
	c        *Collector
	stored   map[name]facts
	live     map[name]bool
	next     []name // live, and not yet scanned
	chapters map[name]workflows.Chapter
}

func (m *marking) found(n name) {
	if _, there := m.stored[n]; there && !m.live[n] {
		m.live[n] = true
		m.next = append(m.next, n)
	}
}

// chapter marks the history of a run. One that is lost names who knows what, unless
// Temporal still has it.
func (m *marking) chapter(ch workflows.Chapter, read map[place]bool) error {
	n, ok := parse(ch.Hash)
	if !ok {
		return fmt.Errorf("%s is no name of a blob", ch.Hash)
	}
	if _, there := m.stored[n]; !there && !read[place{ch.Workflow, ch.Run}] {
		return fmt.Errorf("the history %s of %s run %s is not in the store", ch.Hash, ch.Workflow, ch.Run)
	}
	m.chapters[n] = ch
	m.found(n)
	return nil
}

func (m *marking) journal(j blob.Inspected) {
	scan([]byte(j.Sealed), m.found)
	for _, text := range slices.Concat(j.Records, j.Late) {
		scan(text, m.found)
	}
}

// onRecord tells whether all that a journal holds is a blob that something else names.
func (m *marking) onRecord(j blob.Inspected) bool {
	if len(j.Records)+len(j.Late) == 0 {
		return true
	}
	n, ok := parse(blob.Hash(blob.JoinRecords(j.Records, blob.LateLines(j.Late))))
	return ok && m.live[n]
}

// follow scans live blobs for names of others until there are no more.
func (m *marking) follow(ctx context.Context) error {
	for len(m.next) > 0 {
		todo := m.next
		m.next = nil
		var mu sync.Mutex
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(readers)
		for _, n := range todo {
			g.Go(func() error {
				names, err := m.read(gctx, n)
				mu.Lock()
				defer mu.Unlock()
				for _, n := range names {
					m.found(n)
				}
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	return nil
}

func (m *marking) read(ctx context.Context, n name) (names []name, err error) {
	text, err := m.c.Store.Get(ctx, n.String())
	if err == nil {
		err = content(ctx, text, func(n name) { names = append(names, n) })
	}
	if err == nil {
		return names, nil
	}
	what := "blob " + n.String()
	if ch, ok := m.chapters[n]; ok {
		what += " (the history of " + ch.Workflow + " run " + ch.Run + ")"
	}
	return nil, &UnreadableError{What: what, Err: err}
}

var incidentRE = regexp.MustCompile(`inc-[0-9a-f]{12}`)

// incidents are those that an id or a name is of.
func incidents(id string) []string { return incidentRE.FindAllString(id, -1) }

// isOver tells whether a journal is of incidents alone that have no open run.
func isOver(journal string, open map[string]bool) bool {
	of := incidents(journal)
	return len(of) > 0 && !slices.ContainsFunc(of, func(id string) bool { return open[id] })
}
