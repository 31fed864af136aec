package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.temporal.io/sdk/activity"

	"rekey/activities"
	"rekey/activities/batch"
	"rekey/activities/notify"
	channels "rekey/activities/notify/all"
	"rekey/internal/blob"
	"rekey/internal/canon"
	"rekey/internal/estate"
	"rekey/internal/fsx"
	"rekey/internal/httpx"
	"rekey/internal/notice"
	"rekey/workflows"
)

// sendJournals keep what a hand-over intended and what came of it.
type sendJournals interface {
	batch.Journals
	Lock(ctx context.Context, name string) (func(), error)
}

// sendActivity hands one notice to one contact (workflows.ActivitySend). What may
// not happen twice is written down before it happens: a second attempt that finds an
// intent without an outcome does not call an at-most-once channel, it says unclear.
type sendActivity struct {
	contacts func() (*estate.Directory, error)
	blobs    blob.Store
	journals sendJournals
	open     func(channel string) (notify.Descriptor, notify.Sender, error)
	now      func(context.Context) time.Time
	log      *slog.Logger
}

// Kinds of a sendRecord.
const (
	recordIntent  = "intent"  // the channel is about to be called
	recordOutcome = "outcome" // what it gave
)

// sendRecord is one line of a hand-over's journal. It holds no address.
type sendRecord struct {
	Kind   string                `json:"kind"` // recordIntent, recordOutcome
	N      int                   `json:"attempt"`
	At     time.Time             `json:"at"`
	Result *workflows.SendResult `json:"result,omitempty"`
}

// Send is the activity. It returns an error only for what is not the channel's: a
// journal that cannot be read or written before the call. Everything else is in the
// result.
//
// What an earlier attempt wrote is looked at first: a message that is out stays out
// although its contact or the channel has been taken from the files since.
func (s *sendActivity) Send(ctx context.Context, in workflows.SendInput) (workflows.SendResult, error) {
	defer beat(ctx)()
	name := "notify/" + in.ID
	if in.Round > 0 {
		name += fmt.Sprintf("-r%d", in.Round)
	}
	free, err := s.journals.Lock(ctx, strings.ReplaceAll(name, "/", "-"))
	if err != nil {
		return workflows.SendResult{}, fmt.Errorf("journal of notice %s: %w", in.ID, err)
	}
	defer free()
	j, err := s.journals.Open(ctx, name, 0)
	if err != nil {
		return workflows.SendResult{}, fmt.Errorf("journal of notice %s: %w", in.ID, err)
	}
	defer func() { _ = j.Close() }()
	last, err := lastRecord(ctx, j)
	if err != nil {
		return workflows.SendResult{}, fmt.Errorf("journal of notice %s: %w", in.ID, err)
	}
	desc, sender, closed := s.open(in.Contact.Channel)
	// A channel that this build does not know promises nothing.
	again := desc.Delivery == notify.Idempotent || desc.Delivery == notify.Detectable
	intended := last != nil && last.Kind == recordIntent
	switch {
	case last != nil && last.Result != nil && !mayRepeat(*last.Result):
		out := *last.Result
		out.Recovered = true
		return out, nil
	case intended && !again:
		out := workflows.SendResult{Class: activities.ClassUnclear, Detail: "the worker died while it handed the message over: it may have been taken", At: s.now(ctx), Recovered: true}
		s.outcome(ctx, j, in, out)
		return out, nil
	case closed != nil:
		// Of our own configuration, and said by it: no vendor text.
		return s.failed(ctx, &activities.Fault{Class: activities.ClassDenied, Op: "notify:open", Detail: closed.Error()}), nil
	}
	req, fault := s.request(ctx, in)
	if fault != nil {
		return s.failed(ctx, fault), nil
	}
	req.Recheck = intended
	if err := s.note(ctx, j, sendRecord{Kind: recordIntent, N: in.Attempt, At: s.now(ctx)}); err != nil {
		return workflows.SendResult{}, err
	}
	res, err := sender.Send(ctx, req)
	out := workflows.SendResult{Outcome: res.Outcome, Receipt: res.Receipt, At: s.now(ctx), Again: again, Delivered: desc.Delivery == notify.Idempotent}
	if err == nil && !res.Outcome.Reached() {
		err = &activities.Fault{Class: activities.ClassUnclear, Detail: "the channel said neither yes nor no"}
	}
	if err != nil {
		out = s.failed(ctx, activities.AsFault("notify:"+in.Contact.Channel, err))
		out.Again = again
	}
	s.outcome(ctx, j, in, out)
	return out, nil
}

// outcome writes down what came of a hand-over, also where the workflow has given up
// waiting. When it cannot, the answer still goes to the history: an error instead
// would throw away that the message is out. Is that answer lost as well, the next
// attempt finds the intent alone.
func (s *sendActivity) outcome(ctx context.Context, j batch.Journal, in workflows.SendInput, out workflows.SendResult) {
	err := s.note(context.WithoutCancel(ctx), j, sendRecord{Kind: recordOutcome, N: in.Attempt, At: out.At, Result: &out})
	if err != nil && s.log != nil {
		s.log.Warn("the journal of a notice cannot be written: free the disk", "notice", in.ID, "incident", in.Incident, "error", err)
	}
}

// mayRepeat tells whether a written outcome leaves the message unsent, or its
// channel takes a repeat for the same.
func mayRepeat(r workflows.SendResult) bool {
	switch r.Class {
	case activities.ClassTransient, activities.ClassThrottled, activities.ClassDenied:
		return true
	case activities.ClassUnclear:
		return r.Again
	}
	return false
}

func (s *sendActivity) failed(ctx context.Context, f *activities.Fault) workflows.SendResult {
	return workflows.SendResult{Class: f.Class, Detail: f.Detail, AfterMs: f.After.Milliseconds(), Status: f.Status, At: s.now(ctx)}
}

// request finds address and text. The address goes nowhere but to the channel.
func (s *sendActivity) request(ctx context.Context, in workflows.SendInput) (notify.SendRequest, *activities.Fault) {
	f := func(class activities.Class, detail string) (notify.SendRequest, *activities.Fault) {
		return notify.SendRequest{}, &activities.Fault{Class: class, Op: "notify:contact", Detail: detail}
	}
	dir, err := s.contacts()
	if err != nil {
		return f(activities.ClassDenied, "the files of owners and customers cannot be read: `rekey customers check` says why")
	}
	who, _ := dir.Find(in.Audience, in.Ref)
	to := ""
	for _, c := range who.Contacts {
		if c.Order == in.Contact.Order && c.Channel == in.Contact.Channel {
			to = c.Address
		}
	}
	if to == "" {
		return f(activities.ClassInvalid, "the contact is not in the files any more")
	}
	b, err := s.blobs.Get(ctx, in.Text)
	if err != nil {
		return f(activities.ClassDenied, "the message is not in the blob store of this worker: do the hosts share one?")
	}
	var m notice.Message
	if err := json.Unmarshal(b, &m); err != nil {
		return f(activities.ClassInvalid, "the message is of another build")
	}
	data, err := canon.JSON(m.Data)
	if err != nil {
		return f(activities.ClassInvalid, "the message is of another build")
	}
	return notify.SendRequest{Incident: in.Incident, ID: in.ID, Ref: in.Ref, To: to, Subject: m.Subject, Text: m.Text, Data: data, Attempt: in.Attempt}, nil
}

func (s *sendActivity) note(ctx context.Context, j batch.Journal, r sendRecord) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("journal of a notice: %w", err)
	}
	if err := j.Append(ctx, b, true); err != nil {
		return fmt.Errorf("journal of a notice: %w", err)
	}
	return nil
}

func lastRecord(ctx context.Context, j batch.Journal) (*sendRecord, error) {
	recs, err := j.Records(ctx)
	if err != nil || len(recs) == 0 {
		return nil, err
	}
	var r sendRecord
	if err := json.Unmarshal(recs[len(recs)-1], &r); err != nil {
		return nil, errors.New("its last record is of another build")
	}
	return &r, nil
}

// beat heartbeats until the returned function is called: a worker that dies is
// noticed in seconds, whatever a mail server takes.
func beat(ctx context.Context) func() {
	if !activity.IsActivity(ctx) {
		return func() {}
	}
	done, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		t := time.NewTicker(time.Second)
		defer t.Stop()
		for {
			select {
			case <-done:
				return
			case <-t.C:
				activity.RecordHeartbeat(ctx)
			}
		}
	}()
	return func() { close(done); <-gone }
}

// sending makes the activity over this runtime.
func (r *Runtime) sending() *sendActivity {
	return &sendActivity{
		contacts: r.contacts, blobs: r.Blobs, journals: batch.BlobJournals{Journals: r.Blobs}, now: r.Now, log: r.Log,
		open: func(code string) (notify.Descriptor, notify.Sender, error) {
			c, ok := channels.Lookup(code)
			if !ok {
				return notify.Descriptor{}, nil, fmt.Errorf("no channel %q in this build", code)
			}
			a, ok := r.Config.Channel(code)
			if !ok {
				return c.Descriptor, nil, fmt.Errorf("channels.%s is not configured on this worker", code)
			}
			opened, err := c.Open(a, activities.Deps{Secrets: r.Sealed, HTTP: httpx.ForAccount, Now: r.Now, Agent: "rekey/1"})
			if err != nil {
				return c.Descriptor, nil, err
			}
			s, ok := opened.(notify.Sender)
			if !ok {
				return c.Descriptor, nil, fmt.Errorf("channel %s carries no notices", code)
			}
			return c.Descriptor, s, nil
		},
	}
}

// contacts reads who can be told, as the files say now.
func (r *Runtime) contacts() (*estate.Directory, error) {
	return estate.LoadDirectory(r.Config.Estate.Files, r.Config.Customers.Files)
}

// keptContacts are the contacts for plans and messages. The customers files are kept
// as they were then; a disk that is full stops nobody from being told.
func (r *Runtime) keptContacts() (*estate.Directory, error) {
	dir, err := r.contacts()
	if err != nil {
		return nil, err
	}
	if err := r.keep(dir); err != nil {
		r.Log.Warn("the customers files that a plan names could not be kept", "error", err)
	}
	return dir, nil
}

// keepCustomers copies the customers files into DATA/customers, each under its
// digest (contracts section 1): what a plan names can be looked up later.
func (r *Runtime) keepCustomers() error {
	dir, err := r.contacts()
	if err != nil {
		return err
	}
	return r.keep(dir)
}

func (r *Runtime) keep(dir *estate.Directory) error {
	if len(dir.Files) == 0 {
		return nil
	}
	into := filepath.Join(r.Config.Data, "customers")
	if err := fsx.MkdirPrivate(into); err != nil {
		return err
	}
	for digest, b := range dir.Files {
		path := filepath.Join(into, strings.TrimPrefix(digest, "sha256:")+".json")
		if _, err := os.Stat(path); err == nil {
			continue
		}
		if err := fsx.WriteAtomic(path, b); err != nil {
			return fmt.Errorf("keep the customers file: %w", err)
		}
	}
	return nil
}
