// Package engine holds the engine's own activities: what workflows may not do
// themselves because it reads files, rules, the estate or Temporal. They call no
// vendor, except where one says so, and are idempotent: Temporal repeats them.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.temporal.io/api/serviceerror"

	"rekey/activities"
	"rekey/internal/archive"
	"rekey/internal/audit"
	"rekey/internal/blob"
	"rekey/internal/config"
	"rekey/internal/estate"
	"rekey/internal/secret"
	"rekey/workflows"
)

// Options are what the activities need.
type Options struct {
	Config    *config.Config
	Estate    *estate.Estate
	Blobs     blob.Store
	Secrets   secret.Store
	Finger    *secret.Fingerprinter
	Providers []activities.Descriptor
	// Client gives the opened client of an account.
	Client  func(provider, account string) (any, error)
	Breaker *Breaker
	// Rates are the limits of accounts, in calls a second by "provider/account/api", for
	// estimates; what is not named has none.
	Rates map[string]float64
	// Claims asks a register; Report brings a report to an incident.
	Claim     func(ctx context.Context, register string, c workflows.Claim) (workflows.ClaimResult, error)
	Alarm     func(ctx context.Context, in workflows.AlarmInput) error
	Histories Histories
	Signer    *audit.Signer
	// Contacts reads who can be told, as the files say now; nil: nobody.
	Contacts func() (*estate.Directory, error)
	// Bundles is the directory that bundles are written to.
	Bundles string
	// Contained is told how long an incident took from its first report to its
	// containment, at each sealing; id tells the lives of a reopened one apart. nil:
	// nobody asks.
	Contained func(id string, took time.Duration)
	Log       *slog.Logger
}

// An Engine is the activities.
type Engine struct{ Options }

// New makes an Engine.
func New(o Options) *Engine {
	if o.Contacts == nil {
		o.Contacts = contacts
	}
	return &Engine{o}
}

// Activities are the functions by the name they are registered under.
func (e *Engine) Activities() map[string]any {
	return map[string]any{
		workflows.ActivityAdmit:    e.Admit,
		workflows.ActivityPreserve: e.Preserve,
		workflows.ActivityExpand:   e.Expand,
		workflows.ActivityPlan:     e.Plan,
		workflows.ActivityClaim:    e.ClaimKeys,
		workflows.ActivitySeal:     e.Seal,
		workflows.ActivityForget:   e.Forget,
		workflows.ActivityAlarm:    e.RaiseAlarm,
		workflows.ActivityArchive:  e.Archive,

		workflows.ActivityPin:    e.Pin,
		workflows.ActivityList:   e.List,
		workflows.ActivitySort:   e.Sort,
		workflows.ActivityUnfold: e.Unfold,
		workflows.ActivityFind:   e.Find,

		workflows.ActivityPlanPages:  e.PlanPages,
		workflows.ActivityClaimPages: e.ClaimPages,

		workflows.ActivityRender:     e.Render,
		workflows.ActivityNoticeText: e.NoticeText,
	}
}

func (e *Engine) kind(k activities.Key) (activities.KindInfo, bool) {
	for _, d := range e.Providers {
		if d.Code == k.Provider {
			return d.Kind(k.Kind)
		}
	}
	return activities.KindInfo{}, false
}

// Forget destroys the sealed secrets of an incident.
func (e *Engine) Forget(ctx context.Context, in workflows.ForgetInput) (struct{}, error) {
	if err := e.Secrets.Destroy(ctx, in.Incident); err != nil {
		return struct{}{}, fmt.Errorf("destroy sealed secrets: %w", err)
	}
	return struct{}{}, nil
}

// closeWait is how long an archiving waits for a run to end: a wave ends as soon as
// its last message was taken.
const closeWait = 15 * time.Second

// Archive keeps the history of a finished run before retention takes it. A run that
// does not end in time, or is gone already, is an empty answer and no failure: the
// guard comes back to the first, the bundle tells of the second.
func (e *Engine) Archive(ctx context.Context, in workflows.ArchiveInput) (workflows.ArchiveResult, error) {
	wait, cancel := context.WithTimeout(ctx, closeWait)
	defer cancel()
	c, err := e.Histories.Keep(wait, in.Incident, in.Workflow, in.Run)
	var open *archive.StillOpenError
	var gone *serviceerror.NotFound
	if errors.As(err, &open) || errors.As(err, &gone) {
		e.Log.Warn("the history of a run was not archived", "incident", in.Incident, "workflow", in.Workflow, "gone", gone != nil)
		return workflows.ArchiveResult{}, nil
	}
	return workflows.ArchiveResult{Chapter: c}, err
}

// RaiseAlarm reports a dead key that worked to its incident, reopening it where it
// is closed.
func (e *Engine) RaiseAlarm(ctx context.Context, in workflows.AlarmInput) (struct{}, error) {
	return struct{}{}, e.Alarm(ctx, in)
}

// day is used for facts that count days.
const day = 24 * time.Hour
