package workflows_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"rekey/activities"
	"rekey/internal/blob"
	"rekey/internal/config"
	"rekey/internal/engine"
	"rekey/internal/estate"
	"rekey/internal/event"
	"rekey/internal/notice"
	"rekey/internal/plan"
	"rekey/internal/statement"
	"rekey/internal/view"
	"rekey/playbooks"
	"rekey/workflows"
)

// mail is the channels of a story: the real rendering over files of contacts, and a
// hand-over that is scripted by contact.
type mail struct {
	dir string
	eng *engine.Engine

	mu sync.Mutex
	// answer gives what an attempt comes to; nil: taken.
	answer func(workflows.SendInput) (workflows.SendResult, error)
	sent   []workflows.SendInput // that reached the recipient
	at     []time.Time
	tries  int
	texts  store
	now    func() time.Time
}

type store struct {
	mu sync.Mutex
	m  map[string][]byte
}

func (s *store) Put(_ context.Context, b []byte) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m[blob.Hash(b)] = b
	return blob.Hash(b), nil
}

func (s *store) Get(_ context.Context, h string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b, ok := s.m[h]; ok {
		return b, nil
	}
	return nil, &blob.NotFoundError{Hash: h}
}

func (s *store) Has(_ context.Context, h string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m[h] != nil, nil
}

const ownersFile = `owners:
  - ref: platform
    contacts:
      - {order: 1, channel: email, address: platform@example.com}
      - {order: 2, channel: email, address: platform-lead@example.com}
`

const customersFile = `[{"ref":"C033","name":"Acme","keys":[],"contract_hours":24,"contacts":[{"order":1,"channel":"webhook","address":"https://hooks.acme.example/rekey"}]}]`

// withMail gives a story channels, and its playbook notices to customers too.
func withMail(answer func(workflows.SendInput) (workflows.SendResult, error)) option {
	return func(w *world) {
		m := &mail{dir: w.t.TempDir(), answer: answer, texts: store{m: map[string][]byte{}}}
		w.mail = m
		owners, customers := filepath.Join(m.dir, "estate.yaml"), filepath.Join(m.dir, "customers.json")
		require.NoError(w.t, os.WriteFile(owners, []byte(ownersFile), 0o600))
		require.NoError(w.t, os.WriteFile(customers, []byte(customersFile), 0o600))
		cfg := &config.Config{}
		cfg.Channels.Email.From = "security@example.com"
		m.eng = engine.New(engine.Options{Config: cfg, Blobs: &m.texts, Contacts: func() (*estate.Directory, error) {
			return estate.LoadDirectory([]string{owners}, []string{customers})
		}})
		w.set.Channels = []string{"email", "webhook"}
		// Keys that are made for customers are ours to cut in these stories.
		w.set.Playbook.Decide = slices.DeleteFunc(slices.Clone(w.set.Playbook.Decide), func(r playbooks.Rule) bool { return r.ID == "not-ours" })
		w.set.Playbook.Notices = append(w.set.Playbook.Notices, playbooks.Notice{
			Audience: playbooks.AudienceCustomer, Template: "customer-key", Channel: []string{"email", "webhook"}, Gate: playbooks.GateWarnBeforeCut, Deadlines: playbooks.DeadlinesContracts,
		})
	}
}

func (m *mail) register(w *world) {
	m.now = func() time.Time { return w.env.Now() }
	w.env.RegisterActivityWithOptions(m.eng.Render, activity.RegisterOptions{Name: workflows.ActivityRender})
	w.env.RegisterActivityWithOptions(m.eng.NoticeText, activity.RegisterOptions{Name: workflows.ActivityNoticeText})
	w.env.RegisterActivityWithOptions(m.send, activity.RegisterOptions{Name: workflows.ActivitySend})
}

func (m *mail) send(_ context.Context, in workflows.SendInput) (workflows.SendResult, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tries++
	out := workflows.SendResult{Outcome: activities.Done, Delivered: in.Contact.Channel == "webhook", Again: in.Contact.Channel == "webhook"}
	if m.answer != nil {
		res, err := m.answer(in)
		if err != nil || res.Class != "" {
			return res, err
		}
	}
	m.sent, m.at = append(m.sent, in), append(m.at, m.now())
	return out, nil
}

// told gives the times at which a recipient was told.
func (m *mail) told(ref string) []time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []time.Time
	for i, s := range m.sent {
		if s.Ref == ref {
			out = append(out, m.at[i])
		}
	}
	return out
}

func (m *mail) text(t *testing.T, hash string) notice.Message {
	t.Helper()
	b, err := m.texts.Get(t.Context(), hash)
	require.NoError(t, err)
	var out notice.Message
	require.NoError(t, json.Unmarshal(b, &out))
	return out
}

func refused(class activities.Class, detail string) workflows.SendResult {
	return workflows.SendResult{Class: class, Detail: detail}
}

// toldOf is the notice of a recipient in a version.
func toldOf(t *testing.T, v view.Incident, ref string, version int) view.Notice {
	t.Helper()
	for _, n := range v.NoticesSent {
		if n.Ref == ref && n.Version == version {
			return n
		}
	}
	t.Fatalf("%s has no notice in version %d: %+v", ref, version, v.NoticesSent)
	return view.Notice{}
}

func TestAnOwnerOfThreeKeysGetsOneMessageBeforeTheCut(t *testing.T) {
	w := newWorld(t, withMail(nil))
	for _, id := range []string{"AKIA-1", "AKIA-2", "AKIA-3"} {
		w.used(id, "billing")
	}
	w.reach["AKIA-1"] = []string{"AKIA-2", "AKIA-3"}
	w.reported(0, "r1", "AKIA-1")
	w.approving("strategy", "irreversible")
	for _, id := range []string{"AKIA-1", "AKIA-2", "AKIA-3"} {
		w.moves(time.Hour, id, "10.0.0.1")
	}
	v := w.run()

	require.Equal(t, "all-clear", v.State)
	require.Len(t, w.mail.sent, 1, "once each")
	require.Equal(t, view.Notices{Sent: 1}, v.Notices)
	n := toldOf(t, v, "platform", 1)
	require.Len(t, n.Items, 3)
	m := w.mail.text(t, n.Text)
	for _, id := range []string{"AKIA-1", "AKIA-2", "AKIA-3"} {
		require.Contains(t, m.Text, id)
		require.Contains(t, m.Text, "NEW-"+id)
		require.True(t, w.provider.when("Disable "+id).After(w.mail.told("platform")[0]), "warned before it is cut")
	}
	require.Empty(t, v.NeedsHuman, "nobody has to send it by hand")
	require.Equal(t, 3, w.count(event.EventGate, "notice sent"))
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		b, err := json.Marshal(e)
		require.NoError(t, err)
		require.NotContains(t, string(b), "@", "an address is in no record")
	}
	last := w.seals[len(w.seals)-1]
	require.Contains(t, last.Workflows, workflows.NoticesID(incidentID, 1))
}

func TestTheGateHoldsWhileMailIsDown(t *testing.T) {
	up := t0.Add(7 * time.Hour)
	var w *world
	w = newWorld(t, withMail(func(workflows.SendInput) (workflows.SendResult, error) {
		if w.env.Now().Before(up) {
			return refused(activities.ClassTransient, "the mail server cannot be reached"), nil
		}
		return workflows.SendResult{}, nil
	}))
	w.used("AKIA-1", "billing")
	w.moves(time.Hour, "AKIA-1", "10.0.0.1") // long on the new key, and still not cut
	w.reported(0, "r1", "AKIA-1")
	w.approving("strategy", "irreversible")
	w.at(6*time.Hour, func() {
		it := of(t, w.show(), "AKIA-1")
		require.Equal(t, "Notice", it.Step)
		require.Contains(t, it.Open.Why, "owner platform queued (the mail server cannot be reached)")
		require.Equal(t, 1, w.show().Notices.Queued)
		require.Len(t, openHumans(w.show()), 1, "a person hears that it takes long")
	})
	v := w.run()
	require.Equal(t, "all-clear", v.State)
	require.Len(t, w.mail.sent, 1)
	cut := w.provider.when("Disable AKIA-1")
	require.True(t, cut.After(up), "not before somebody was told")
	require.Less(t, cut.Sub(up), time.Hour)
	require.Greater(t, w.mail.tries, 6)
	require.Empty(t, openHumans(v))
}

func TestTheCutOffOverridesTheGateOnRecord(t *testing.T) {
	down := func(workflows.SendInput) (workflows.SendResult, error) {
		return refused(activities.ClassTransient, "the mail server cannot be reached"), nil
	}
	tests := map[string]struct {
		play   func(*world)
		after  time.Duration
		before time.Duration
		how    string
	}{
		"the time is over": {func(*world) {}, 72 * time.Hour, 73 * time.Hour, "cut-off reached"},
		"a commander says so": {func(w *world) {
			w.at(5*time.Hour, func() {
				w.update(w.say(statement.Resolve, "alice", func(s *statement.Statement) {
					s.As, s.Items, s.Text = "override-cutoff", []string{"AKIA-1"}, "risk grew"
				}))
			})
		}, 5 * time.Hour, 5*time.Hour + 10*time.Minute, "cut-off override"},
		"abuse promotes it": {func(w *world) {
			w.abused(2*time.Hour, "AKIA-1")
			w.reported(2*time.Hour+time.Minute, "r2", "AKIA-1")
		}, 2 * time.Hour, 2*time.Hour + 30*time.Minute, "promoted to revoke-now"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, withMail(down))
			w.used("AKIA-1", "billing")
			w.reported(0, "r1", "AKIA-1")
			w.approving("strategy", "irreversible")
			tt.play(w)
			w.until(80 * time.Hour)
			v := w.run()
			cut := w.provider.when("Disable AKIA-1").Sub(t0)
			require.GreaterOrEqual(t, cut, tt.after)
			require.Less(t, cut, tt.before)
			require.GreaterOrEqual(t, w.count(event.EventGate, tt.how), 1)
			require.Equal(t, "superseded", toldOf(t, v, "platform", 1).State, "a warning that was not sent warns of nothing any more")
			second := toldOf(t, v, "platform", 2)
			require.Equal(t, "cut", second.Class)
			require.Equal(t, "queued", second.State)
		})
	}
}

func TestAnotherStrategyIsNotDelayedByMailThatIsDown(t *testing.T) {
	w := newWorld(t, withMail(func(workflows.SendInput) (workflows.SendResult, error) {
		return workflows.SendResult{}, temporal.NewTimeoutError(0, errors.New("the worker died"))
	}))
	w.used("AKIA-1")
	w.abused(0, "AKIA-1")
	w.reported(time.Second, "r1", "AKIA-1")
	w.approving("strategy", "irreversible")
	w.until(time.Hour)
	v := w.run()
	require.Equal(t, "revoke-now", of(t, v, "AKIA-1").Strategy)
	require.Less(t, w.provider.when("Disable AKIA-1").Sub(t0), 5*time.Minute)
	require.Equal(t, "cut", toldOf(t, v, "platform", 1).Class)
	require.Equal(t, "queued", toldOf(t, v, "platform", 1).State)
	require.NotEqual(t, "all-clear", v.State, "somebody is still to be told")
}

func TestANoticeBesideTheKillIsNeverBeforeIt(t *testing.T) {
	w := newWorld(t, withMail(nil))
	w.used("AKIA-1")
	w.abused(0, "AKIA-1")
	w.reported(time.Second, "r1", "AKIA-1")
	w.approving("strategy", "irreversible")
	w.resolving(func(s *statement.Statement) { s.As = "waived" })
	v := w.run()
	require.Equal(t, "all-clear", v.State)
	require.Len(t, w.mail.told("platform"), 1)
	kill := w.provider.when("Disable AKIA-1")
	require.False(t, w.mail.told("platform")[0].Before(kill))
	require.Less(t, w.mail.told("platform")[0].Sub(kill), 5*time.Minute, "in the same five minutes")
	require.Contains(t, w.mail.text(t, toldOf(t, v, "platform", 1).Text).Text, "refused since")
}

func TestTheLadderOfContactsEndsAtAPerson(t *testing.T) {
	tests := map[string]struct {
		gone  int // contacts up to this order refuse for good
		state string
		human bool
	}{
		"the first bounces, the second takes it": {1, "sent", false},
		"both bounce":                            {2, "sent", true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, withMail(func(in workflows.SendInput) (workflows.SendResult, error) {
				if in.Contact.Order <= tt.gone {
					return refused(activities.ClassInvalid, "the recipient was refused (5.1.1)"), nil
				}
				return workflows.SendResult{}, nil
			}))
			w.used("AKIA-1", "billing")
			w.moves(3*time.Hour, "AKIA-1", "10.0.0.1")
			w.reported(0, "r1", "AKIA-1")
			w.approving("strategy", "irreversible")
			w.at(2*time.Hour, func() {
				open := openHumans(w.show())
				if !tt.human {
					require.Empty(t, open)
					return
				}
				require.Len(t, open, 1)
				require.Contains(t, open[0].What, "no contact takes it: the recipient was refused (5.1.1)")
				require.Contains(t, open[0].Text, "AKIA-1", "the text is ready")
				require.Equal(t, 1, w.show().Notices.Bounced)
				require.Equal(t, "platform", open[0].Owner)
				require.Equal(t, "Notice", of(t, w.show(), "AKIA-1").Step, "nobody was told: it is not cut")
				w.update(w.say(statement.Resolve, "alice", func(s *statement.Statement) { s.Task = open[0].ID }))
			})
			v := w.run()
			require.Equal(t, "all-clear", v.State)
			n := toldOf(t, v, "platform", 1)
			require.Equal(t, tt.state, n.State)
			require.Equal(t, 2, n.Contact)
			if tt.human {
				require.Empty(t, w.mail.sent)
				require.Contains(t, n.Detail, "by hand, says alice")
			} else {
				require.Len(t, w.mail.sent, 1)
			}
			require.Equal(t, tt.gone, w.mail.tries-len(w.mail.sent), "a contact that refuses for good is not asked again")
		})
	}
}

func TestAnUnclearMailIsNeverSentAgainByItself(t *testing.T) {
	for _, as := range []string{"done", "send-again"} {
		t.Run(as, func(t *testing.T) {
			w := newWorld(t, withMail(func(in workflows.SendInput) (workflows.SendResult, error) {
				if in.Round == 0 {
					return refused(activities.ClassUnclear, "the answer to the mail is lost: it may have been taken"), nil
				}
				return workflows.SendResult{}, nil
			}))
			w.used("AKIA-1", "billing")
			w.moves(time.Hour, "AKIA-1", "10.0.0.1")
			w.reported(0, "r1", "AKIA-1")
			w.approving("strategy", "irreversible")
			w.at(20*time.Hour, func() {
				v := w.show()
				require.Equal(t, 1, w.mail.tries, "twenty hours, and not again")
				require.Equal(t, 1, v.Notices.Unclear)
				require.Equal(t, "Notice", of(t, v, "AKIA-1").Step, "unclear does not open the gate")
				open := openHumans(v)
				require.Len(t, open, 1)
				require.Contains(t, open[0].What, "send-again")
				w.update(w.say(statement.Resolve, "alice", func(s *statement.Statement) { s.Task, s.As = open[0].ID, as }))
			})
			v := w.run()
			require.Equal(t, "all-clear", v.State)
			require.Equal(t, "sent", toldOf(t, v, "platform", 1).State)
			require.GreaterOrEqual(t, w.provider.when("Disable AKIA-1").Sub(t0), 20*time.Hour)
			if as == "send-again" {
				require.Equal(t, 2, w.mail.tries)
				require.Equal(t, 1, w.mail.sent[0].Round, "a journal of its own")
			} else {
				require.Equal(t, 1, w.mail.tries)
			}
		})
	}
}

func TestAWorkerThatDiesIsAskedForTheSameHandOver(t *testing.T) {
	died := 3
	var ids []string
	w := newWorld(t, withMail(func(in workflows.SendInput) (workflows.SendResult, error) {
		ids = append(ids, in.ID)
		if died--; died >= 0 {
			return workflows.SendResult{}, errors.New("the journal could not be written")
		}
		return workflows.SendResult{}, nil
	}))
	w.used("AKIA-1", "billing")
	w.moves(time.Hour, "AKIA-1", "10.0.0.1")
	w.reported(0, "r1", "AKIA-1")
	w.approving("strategy", "irreversible")
	v := w.run()
	require.Equal(t, "all-clear", v.State)
	require.Len(t, w.mail.sent, 1)
	require.Len(t, ids, 4)
	for _, id := range ids {
		require.Equal(t, incidentID+"-n1-1-c1", id, "one id, so one journal and one Message-ID")
	}
}

func TestContractHoursDelayTheCutUntilTheCutOff(t *testing.T) {
	tests := map[string]struct {
		hours  int
		after  time.Duration
		before time.Duration
	}{
		"a day after the notice":               {24, 24 * time.Hour, 25 * time.Hour},
		"longer than the strategy's cut-off":   {500, 72 * time.Hour, 73 * time.Hour},
		"none: as soon as everybody has moved": {0, time.Hour, 3 * time.Hour},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, withMail(nil))
			text := strings.Replace(customersFile, `"contract_hours":24`, fmt.Sprintf(`"contract_hours":%d`, tt.hours), 1)
			require.NoError(t, os.WriteFile(filepath.Join(w.mail.dir, "customers.json"), []byte(text), 0o600))
			w.used("AKIA-1", "billing")
			s := w.estate["AKIA-1"]
			s.Customers = []string{"C033"}
			w.estate["AKIA-1"] = s
			w.moves(time.Hour, "AKIA-1", "10.0.0.1")
			w.reported(0, "r1", "AKIA-1")
			w.approving("strategy", "irreversible")
			v := w.run()
			require.Equal(t, "all-clear", v.State)
			require.Equal(t, view.Notices{Sent: 1, Delivered: 1}, v.Notices, "a mail is sent, a webhook that answers is delivered")
			cut := w.provider.when("Disable AKIA-1").Sub(t0)
			require.GreaterOrEqual(t, cut, tt.after)
			require.Less(t, cut, tt.before)
		})
	}
}

func TestAWebhookThatIsUnclearIsSentAgain(t *testing.T) {
	n := 0
	w := newWorld(t, withMail(func(in workflows.SendInput) (workflows.SendResult, error) {
		if in.Ref != "C033" {
			return workflows.SendResult{}, nil
		}
		if n++; n < 4 {
			return workflows.SendResult{Class: activities.ClassUnclear, Detail: "the receiver failed (500)", Again: true}, nil
		}
		return workflows.SendResult{}, nil
	}))
	s := workflows.Scoped{Owner: "platform", OwnerKind: "team", Customers: []string{"C033"}, Dependents: []plan.Dependent{{ID: "billing", Owner: "platform"}}}
	w.estate["AKIA-1"] = s
	w.moves(30*time.Hour, "AKIA-1", "10.0.0.1")
	w.reported(0, "r1", "AKIA-1")
	w.approving("strategy", "irreversible")
	v := w.run()
	require.Equal(t, "delivered", toldOf(t, v, "C033", 1).State)
	require.Len(t, w.mail.told("C033"), 1)
	require.Empty(t, openHumans(v))
}

func TestAnOwnerWithoutAContactIsToldByAPerson(t *testing.T) {
	w := newWorld(t, withMail(nil))
	w.used("AKIA-1", "billing")
	s := w.estate["AKIA-1"]
	s.Owner, s.Dependents[0].Owner = "nobody", "nobody"
	w.estate["AKIA-1"] = s
	w.moves(2*time.Hour, "AKIA-1", "10.0.0.1")
	w.reported(0, "r1", "AKIA-1")
	w.approving("strategy", "irreversible")
	w.at(time.Hour, func() {
		open := openHumans(w.show())
		require.Len(t, open, 1)
		require.Contains(t, open[0].What, "no contact of owner nobody is known")
		require.Contains(t, open[0].Text, "AKIA-1")
		w.update(w.say(statement.Resolve, "alice", func(s *statement.Statement) { s.Task = open[0].ID }))
	})
	v := w.run()
	require.Equal(t, "all-clear", v.State)
	require.Zero(t, w.mail.tries)
	require.Equal(t, "sent", toldOf(t, v, "nobody", 1).State)
}
