package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	b, sealed, n, err := e.bundle(ctx, in, runs, gone)
	if err != nil {
		return workflows.SealResult{}, err
	}
	path := BundlePath(e.Bundles, in.Incident)
	if err := fsx.WriteAtomic(path, b); err != nil {
		return workflows.SealResult{}, fmt.Errorf("write bundle: %w", err)
	}
	e.timed(in.View)
	return workflows.SealResult{Path: path, Digest: sealed.Digest, Events: n}, nil
}

// timed tells the time to contain; a view without both times has none.
func (e *Engine) timed(v view.Incident) {
	from, err := time.Parse(canon.TimeLayout, v.Times.Reported)
	to, err2 := time.Parse(canon.TimeLayout, v.Times.Contained)
	if e.Contained != nil && err == nil && err2 == nil {
		e.Contained(v.ID+" "+v.ReopenedFrom, to.Sub(from))
	}
}

// Export makes the bundle without keeping it.
func (e *Engine) Export(ctx context.Context, in workflows.SealInput) ([]byte, audit.Sealed, int64, error) {
	runs, gone, err := e.Histories.Runs(ctx, in.Incident, in.Workflows, in.Chapters)
	if err != nil {
		return nil, audit.Sealed{}, 0, err
	}
	return e.bundle(ctx, in, runs, gone)
}

func (e *Engine) bundle(ctx context.Context, in workflows.SealInput, runs []derive.Run, gone []string) ([]byte, audit.Sealed, int64, error) {
	before, prev, last, err := e.last(in.Incident)
	if err != nil {
		return nil, audit.Sealed{}, 0, err
	}
	all, err := derive.Events(in.Incident, runs)
	if err != nil {
		return nil, audit.Sealed{}, 0, err
	}
	v := in.View
	if in.Extend && last != nil {
		v = *last
	}
	content := audit.Content{
		Incident: in.Incident, State: v.State, Final: in.Final, Events: derive.Extend(before, all), View: v,
		Approvals: v.Approvals, Evidence: in.Evidence, Previous: prev, Outside: outside(gone),
	}
	if content.Notices, err = e.sentNotices(ctx, v.NoticesSent); err != nil {
		return nil, audit.Sealed{}, 0, err
	}
	for _, p := range in.Plans {
		content.Plans = append(content.Plans, p)
	}
	for _, r := range runs {
		h, err := derive.JSON(r.History)
		if err != nil {
			return nil, audit.Sealed{}, 0, err
		}
		content.Chapters = append(content.Chapters, audit.Chapter{Workflow: r.Workflow, Run: r.ID, History: h})
	}
	var page, buf bytes.Buffer
	if err := report.Render(&page, content.Events, v, report.Options{File: in.Incident + ".zip", Origin: e.Signer.Origin()}); err != nil {
		return nil, audit.Sealed{}, 0, err
	}
	content.Report = page.Bytes()
	sealed, err := audit.Write(&buf, content, e.Signer)
	if err != nil {
		return nil, audit.Sealed{}, 0, err
	}
	return buf.Bytes(), sealed, int64(len(content.Events)), nil
}

// last reads the bundle that this one extends.
func (e *Engine) last(incident string) ([]audit.Event, *audit.Previous, *view.Incident, error) {
	b, err := os.ReadFile(BundlePath(e.Bundles, incident))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil, nil
	}
	if err != nil {
		return nil, nil, nil, fmt.Errorf("bundle before: %w", err)
	}
	rd := bytes.NewReader(b)
	old, err := audit.Open(rd, rd.Size())
	if err != nil {
		return nil, nil, nil, fmt.Errorf("bundle before cannot be read: %w: move %s away to seal a new one; it will say that it does not extend it", err, filepath.Base(BundlePath(e.Bundles, incident)))
	}
	events, _, err := old.Events()
	if err != nil {
		return nil, nil, nil, err
	}
	prev, err := audit.PreviousOf(rd, rd.Size())
	if err != nil {
		return nil, nil, nil, err
	}
	var v view.Incident
	if err := json.Unmarshal(old.View(), &v); err != nil {
		return nil, nil, nil, fmt.Errorf("bundle before: %w", err)
	}
	return events, &prev, &v, nil
}

// outside lists what belongs to an incident and is not in its bundle.
func outside(gone []string) []audit.Outside {
	out := []audit.Outside{
		{What: "requests that rekey refused before they reached an incident", Why: "no ledger in this build; they are in the server's log"},
		{What: "journals of passes", Why: "in the blob store under the hashes that call.confirmed events name"},
		{What: "evidence files", Why: "in the blob store under the hashes of evidence.json; they may hold personal data"},
		{What: "what happened after the last event", Why: "sealing is itself an event of the next bundle"},
	}
	if len(gone) > 0 {
		out = append(out, audit.Outside{What: "histories: " + strings.Join(gone, ", "), Why: "Temporal's retention has taken them; their events are in the bundle before"})
	}
	return out
}
