package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"rekey/internal/archive"
	"rekey/internal/audit"
	"rekey/internal/audit/report"
	"rekey/internal/canon"
	"rekey/internal/derive"
	"rekey/internal/fsx"
	"rekey/internal/view"
	"rekey/workflows"
)

// Histories reads runs of workflows with decoded payloads, and keeps those that
// have ended; *archive.Archive is it.
type Histories interface {
	Runs(ctx context.Context, incident string, workflowIDs []string, pinned []workflows.Chapter) (runs []derive.Run, gone []string, err error)
	Keep(ctx context.Context, incident, workflow, run string) (workflows.Chapter, error)
	KeepRun(ctx context.Context, incident string, r derive.Run) (workflows.Chapter, error)
}

// BundlePath is where the bundle of an incident is. Each sealing replaces it by
// one that extends it.
func BundlePath(dir, incident string) string { return filepath.Join(dir, incident+".zip") }

// Seal writes the bundle of what happened up to now. Sealing again extends the
// bundle before: its events stay first and in their order.
func (e *Engine) Seal(ctx context.Context, in workflows.SealInput) (workflows.SealResult, error) {
	runs, gone, err := e.Histories.Runs(ctx, in.Incident, in.Workflows, in.Chapters)
	if err != nil {
		return workflows.SealResult{}, err
	}
	// The bundle that is written now is replaced by the next one, which needs these
	// histories again.
	for _, r := range runs {
		var open *archive.StillOpenError
		if _, err := e.Histories.KeepRun(ctx, in.Incident, r); err != nil && !errors.As(err, &open) {
			return workflows.SealResult{}, err
		}
	}
	path := BundlePath(e.Bundles, in.Incident)
	var sealed audit.Sealed
	err = fsx.WriteAtomicFrom(path, func(w io.Writer) (err error) {
		sealed, err = e.bundle(ctx, in, runs, gone, w)
		return err
	})
	if err != nil {
		return workflows.SealResult{}, fmt.Errorf("write bundle: %w", err)
	}
	e.timed(in.View)
	return workflows.SealResult{Path: path, Digest: sealed.Digest, Events: sealed.Size}, nil
}

// timed tells the time to contain; a view without both times has none.
func (e *Engine) timed(v view.Incident) {
	from, err := time.Parse(canon.TimeLayout, v.Times.Reported)
	to, err2 := time.Parse(canon.TimeLayout, v.Times.Contained)
	if e.Contained != nil && err == nil && err2 == nil {
		e.Contained(v.ID+" "+v.ReopenedFrom, to.Sub(from))
	}
}

// Export writes the bundle to w without keeping it.
func (e *Engine) Export(ctx context.Context, in workflows.SealInput, w io.Writer) (audit.Sealed, error) {
	runs, gone, err := e.Histories.Runs(ctx, in.Incident, in.Workflows, in.Chapters)
	if err != nil {
		return audit.Sealed{}, err
	}
	return e.bundle(ctx, in, runs, gone, w)
}

// bundle writes a bundle. Pages of rows go through memory one at a time; events,
// histories and plans are held.
func (e *Engine) bundle(ctx context.Context, in workflows.SealInput, runs []derive.Run, gone []string, w io.Writer) (audit.Sealed, error) {
	last, err := e.last(in.Incident)
	if err != nil {
		return audit.Sealed{}, err
	}
	defer last.close()
	all, err := derive.Events(in.Incident, runs)
	if err != nil {
		return audit.Sealed{}, err
	}
	v, lists := in.View, in.Lists
	read := func(hash string) ([]byte, error) { return e.Blobs.Get(ctx, hash) }
	if in.Extend && last.bundle != nil {
		// The rows of the bundle before are taken from it: the store may have let them go.
		v, read = last.view, last.bundle.Page
		if lists, err = last.bundle.Lists(); err != nil {
			return audit.Sealed{}, err
		}
	}
	content := audit.Content{
		Incident: in.Incident, State: v.State, Final: in.Final, Events: derive.Extend(last.events, all), View: v,
		Approvals: v.Approvals, Evidence: in.Evidence, Previous: last.previous, Outside: outside(gone, len(lists) > 0), Page: read,
	}
	if content.Stored, err = audit.PagesOf(lists, read); err != nil {
		return audit.Sealed{}, err
	}
	if content.Notices, err = e.sentNotices(ctx, v.NoticesSent); err != nil {
		return audit.Sealed{}, err
	}
	for _, p := range in.Plans {
		content.Plans = append(content.Plans, p)
	}
	for _, r := range runs {
		h, err := derive.JSON(r.History)
		if err != nil {
			return audit.Sealed{}, err
		}
		content.Chapters = append(content.Chapters, audit.Chapter{Workflow: r.Workflow, Run: r.ID, History: h})
	}
	mass, err := audit.ReadMass(lists, content.Events, read)
	if err != nil {
		return audit.Sealed{}, err
	}
	var page bytes.Buffer
	if err := report.Render(&page, content.Events, v, report.Options{File: in.Incident + ".zip", Origin: e.Signer.Origin(), Mass: mass}); err != nil {
		return audit.Sealed{}, err
	}
	content.Report = page.Bytes()
	return audit.Write(w, content, e.Signer)
}

// before is the bundle that a new one extends; the zero value is none.
type before struct {
	file     *os.File
	bundle   *audit.Bundle
	events   []audit.Event
	previous *audit.Previous
	view     view.Incident
}

func (b *before) close() {
	if b.file != nil {
		_ = b.file.Close() // it was only read
	}
}

// last opens the bundle that this one extends. The caller closes it.
func (e *Engine) last(incident string) (*before, error) {
	f, err := os.Open(BundlePath(e.Bundles, incident))
	if errors.Is(err, fs.ErrNotExist) {
		return &before{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("bundle before: %w", err)
	}
	b := &before{file: f}
	if err := b.read(); err != nil {
		b.close()
		return nil, fmt.Errorf("bundle before cannot be read: %w: move %s away to seal a new one; it will say that it does not extend it", err, filepath.Base(f.Name()))
	}
	return b, nil
}

func (b *before) read() error {
	info, err := b.file.Stat()
	if err != nil {
		return err
	}
	if b.bundle, err = audit.Open(b.file, info.Size()); err != nil {
		return err
	}
	if b.events, _, err = b.bundle.Events(); err != nil {
		return err
	}
	prev, err := audit.PreviousOf(b.file, info.Size())
	if err != nil {
		return err
	}
	b.previous = &prev
	return json.Unmarshal(b.bundle.View(), &b.view)
}

// outside lists what belongs to an incident and is not in its bundle.
func outside(gone []string, rows bool) []audit.Outside {
	out := []audit.Outside{
		{What: "requests that rekey refused before they reached an incident", Why: "no ledger in this build; they are in the server's log"},
		{What: "journals of passes", Why: "in the blob store under the hashes that call.confirmed events name"},
		{What: "evidence files", Why: "in the blob store under the hashes of evidence.json; they may hold personal data"},
		{What: "what happened after the last event", Why: "sealing is itself an event of the next bundle"},
	}
	if rows {
		out = append(out, audit.Outside{What: "pages of rows between their passes, and what providers said of each row", Why: "in the blob store under the hashes that pass.done and scope.version events name; the rows as they stand are in pages/"})
	}
	if len(gone) > 0 {
		out = append(out, audit.Outside{What: "histories: " + strings.Join(gone, ", "), Why: "Temporal's retention has taken them; their events are in the bundle before"})
	}
	return out
}
