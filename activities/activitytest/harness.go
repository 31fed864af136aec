// Package activitytest holds every provider to the same promises under failure.
//
// A provider's test gives a [Subject]: how to open it, and a [World] that imitates
// its vendor with one live key. [Run] then cuts connections after the vendor has
// acted, throttles, plants canaries where a vendor could echo a secret, answers
// with pages of proxies, and asks the world, not the provider, what is true.
//
// A new promise is a new check in [Run]; it then holds for all providers.
package activitytest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/internal/httpx"
	"rekey/internal/secret"
)

// A World is a fresh imitation of the vendor with one live key in it.
type World struct {
	// Vendor, Throttle and Refuse are those of a vendor that speaks HTTP; another
	// brings a [Front].
	Vendor http.Handler
	// Ref names the live key. Its Secret, when set, is sealed already.
	Ref activities.Ref
	// Keys are all keys of the principal, as the vendor has them.
	Keys func() []activities.KeyState
	// AddKey makes a key of the principal by somebody else.
	AddKey func() string
	// Throttle answers as the vendor does when asked too often, with a wait of
	// ThrottleAfter; Refuse as it does when our credential lacks the right. Both
	// say the canary in their text and headers.
	Throttle, Refuse func(w http.ResponseWriter, r *http.Request, canary string)
}

// ThrottleAfter is what [World.Throttle] asks us to wait.
const ThrottleAfter = 7 * time.Second

// A Call is one verb with its request. It returns the verb's result.
type Call func(ctx context.Context, client any) (any, error)

// A Subject is a provider under test.
type Subject struct {
	Provider activities.Provider
	// Account points the provider at url; its time-out must be short, a second.
	Account func(url string) activities.Account
	// World makes a world whose secrets are sealed in store and contain nothing but
	// the canary where the vendor's form allows it.
	World func(t *testing.T, store *Store, url string) World
	// Calls are the requests, one for each verb that the provider has by API.
	Calls func(World) map[activities.Verb]Call
	// Front, where set, stands before a vendor that does not speak HTTP.
	Front func(t *testing.T) Front
	// Wait is what the provider waits where the vendor does not say how long; 0: the
	// vendor says ThrottleAfter.
	Wait time.Duration
}

// Run checks all promises.
func Run(t *testing.T, s Subject) {
	t.Run("every verb has a request", func(t *testing.T) { everyVerb(t, s) })
	t.Run("disable and revoke reach a state", func(t *testing.T) { states(t, s) })
	t.Run("throttled", func(t *testing.T) { throttled(t, s) })
	t.Run("refused", func(t *testing.T) { refused(t, s) })
	t.Run("lost answers", func(t *testing.T) { lostAnswers(t, s) })
	t.Run("lost creates", func(t *testing.T) { lostCreates(t, s) })
	t.Run("unattributed keys are left alone", func(t *testing.T) { strangers(t, s) })
	t.Run("cancelled", func(t *testing.T) { cancelled(t, s) })
	t.Run("hostile answers", func(t *testing.T) { hostile(t, s) })
}

// A stage is one open client before one world, and what can be read of both.
type stage struct {
	t      *testing.T
	client any
	world  World
	store  *Store
	front  Front
	calls  map[activities.Verb]Call
	canary string
	logs   *bytes.Buffer
	said   []string
}

func newStage(t *testing.T, s Subject) *stage {
	t.Helper()
	st := &stage{t: t, store: NewStore(), canary: Canary(), logs: &bytes.Buffer{}}
	previous := slog.Default()
	slog.SetDefault(slog.New(slog.NewJSONHandler(st.logs, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if s.Front != nil {
		st.front = s.Front(t)
		st.world = s.World(t, st.store, st.front.URL())
	} else {
		f := newFront(t)
		st.front = f
		st.world = s.World(t, st.store, f.URL())
		f.world = st.world
	}
	client, err := s.Provider.Open(s.Account(st.front.URL()), activities.Deps{
		Secrets: st.store, Agent: "rekey/test",
		HTTP: func(a activities.Account) (*http.Client, error) { return httpx.ForAccount(a) },
		Now:  func(context.Context) time.Time { return time.Now() },
	})
	require.NoError(t, err)
	st.client, st.calls = client, s.Calls(st.world)
	t.Cleanup(func() {
		st.front.Close()
		slog.SetDefault(previous)
		st.leaks()
	})
	return st
}

// do makes one call and keeps all that it says.
func (st *stage) do(ctx context.Context, v activities.Verb) (any, error) {
	st.t.Helper()
	res, err := st.calls[v](ctx, st.client)
	raw, jerr := json.Marshal(res)
	require.NoError(st.t, jerr)
	st.said = append(st.said, string(raw), fmt.Sprintf("%v %+v %#v", res, res, res))
	if err != nil {
		st.said = append(st.said, fmt.Sprintf("%v %+v %#v", err, err, err))
		for e := err; e != nil; e = errors.Unwrap(e) {
			st.said = append(st.said, e.Error())
		}
	}
	return res, err
}

func (st *stage) fault(v activities.Verb, err error) *activities.Fault {
	st.t.Helper()
	var f *activities.Fault
	require.ErrorAs(st.t, err, &f, "%s: every failure is a *Fault", v)
	require.NotEmpty(st.t, f.Op, v)
	require.NotEmpty(st.t, f.Detail, v)
	return f
}

// leaks looks for canaries and for the secrets of the store.
func (st *stage) leaks() {
	look := map[string]string{"canary": st.canary}
	for i, v := range st.store.secrets() {
		look[fmt.Sprintf("sealed secret %d", i)] = v
	}
	for what, s := range look {
		for _, form := range []string{s, url.QueryEscape(s), base64.StdEncoding.EncodeToString([]byte(s)), hex.EncodeToString([]byte(s))} {
			for _, said := range append(st.said, st.logs.String()) {
				require.NotContains(st.t, said, form, "%s leaked", what)
			}
		}
	}
}

// Canary is a made-up secret that looks like one.
func Canary() string {
	b := make([]byte, 30)
	_, _ = rand.Read(b) // never fails, crypto/rand
	return base64.RawStdEncoding.EncodeToString(b)
}

// secrets are those sealed, in parts where they are JSON.
func (s *Store) secrets() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, e := range s.sealed {
		raw := e.value.Reveal()
		var parts map[string]string
		if json.Unmarshal(raw, &parts) != nil {
			out = append(out, string(raw))
		}
		for k, v := range parts {
			if len(v) >= 32 && k != "access_key_id" {
				out = append(out, v)
			}
		}
	}
	return out
}

func has(st *stage, v activities.Verb) bool { _, ok := st.calls[v]; return ok }

func (st *stage) state(id string) *activities.KeyState {
	keys := st.world.Keys()
	if i := slices.IndexFunc(keys, func(k activities.KeyState) bool { return k.ID == id }); i >= 0 {
		return &keys[i]
	}
	return nil
}

// outcome reads the Result in a verb's result.
func outcome(t *testing.T, res any) activities.Outcome {
	t.Helper()
	raw, err := json.Marshal(res)
	require.NoError(t, err)
	var r struct {
		Outcome activities.Outcome `json:"outcome"`
	}
	require.NoError(t, json.Unmarshal(raw, &r))
	return r.Outcome
}

func everyVerb(t *testing.T, s Subject) {
	st := newStage(t, s)
	for _, k := range s.Provider.Descriptor.Kinds {
		for v, info := range k.Verbs {
			if info.Support == activities.ByAPI {
				require.Contains(t, st.calls, v, "the subject has no request for %s", v)
			}
		}
	}
	for v := range st.calls {
		t.Run(string(v), func(t *testing.T) {
			st := newStage(t, s)
			_, err := st.do(t.Context(), v)
			require.NoError(t, err, "the imitation of the vendor must serve an ordinary call")
			require.Positive(t, st.front.Count())
		})
	}
}

func states(t *testing.T, s Subject) {
	st := newStage(t, s)
	id := st.world.Ref.Key.ID
	if has(st, activities.Disable) {
		for range 2 {
			res, err := st.do(t.Context(), activities.Disable)
			require.NoError(t, err)
			require.True(t, outcome(t, res).Reached())
			require.False(t, st.state(id).Active)
		}
	}
	if !has(st, activities.Revoke) {
		return
	}
	res, err := st.do(t.Context(), activities.Revoke)
	require.NoError(t, err)
	require.Equal(t, activities.Done, outcome(t, res))
	require.Nil(t, st.state(id))
	for _, v := range []activities.Verb{activities.Revoke, activities.Disable} {
		if has(st, v) {
			res, err = st.do(t.Context(), v)
			require.NoError(t, err)
			require.Equal(t, activities.AlreadyGone, outcome(t, res), "%s of what is gone", v)
		}
	}
}

func throttled(t *testing.T, s Subject) {
	each(t, s, func(t *testing.T, st *stage, v activities.Verb) {
		st.front.Trouble(Trouble{Name: Throttled, Canary: st.canary})
		_, err := st.do(t.Context(), v)
		f := st.fault(v, err)
		require.Equal(t, activities.ClassThrottled, f.Class)
		require.Equal(t, cmp.Or(s.Wait, ThrottleAfter), f.After)
		require.True(t, f.Retryable())
		require.LessOrEqual(t, st.front.Count(), 8, "a throttled call is not repeated by itself")
		st.front.Trouble(Trouble{})
		_, err = st.do(t.Context(), v)
		require.NoError(t, err)
	})
}

func refused(t *testing.T, s Subject) {
	each(t, s, func(t *testing.T, st *stage, v activities.Verb) {
		st.front.Trouble(Trouble{Name: Refused, Canary: st.canary})
		res, err := st.do(t.Context(), v)
		if v == activities.Probe && err == nil {
			require.False(t, res.(activities.ProbeResult).Control, "the control was refused too")
			return
		}
		f := st.fault(v, err)
		require.Equal(t, activities.ClassDenied, f.Class)
		require.NotEmpty(t, f.Permission, "name the right we lack")
	})
}

// lostAnswers cuts the connection after the vendor has acted, at each call that
// the verb makes, in turn.
func lostAnswers(t *testing.T, s Subject) {
	each(t, s, func(t *testing.T, first *stage, v activities.Verb) {
		_, err := first.do(t.Context(), v)
		require.NoError(t, err)
		for n := 1; n <= first.front.Count(); n++ {
			st := newStage(t, s)
			st.front.CutAfter(n)
			res, err := st.do(t.Context(), v)
			if err != nil {
				f := st.fault(v, err)
				require.Contains(t, []activities.Class{activities.ClassUnclear, activities.ClassTransient}, f.Class, "call %d", n)
				if f.Class == activities.ClassTransient && v == activities.Issue {
					require.Len(t, st.world.Keys(), 1, "call %d: transient means that nothing happened", n)
				}
			} else if v.Mutates() {
				require.Greater(t, n, 1, "call %d was lost and yet there is a result", n)
			}
			_ = res
			if v == activities.Issue {
				continue // lostCreates
			}
			_, err = st.do(t.Context(), v)
			require.NoError(t, err, "again after call %d was lost", n)
		}
	})
}

// lostCreates loses the answer of the create and settles it: in the end either one
// new key lives, with its secret sealed, or none.
func lostCreates(t *testing.T, s Subject) {
	probe := newStage(t, s)
	if !has(probe, activities.Issue) {
		t.Skip("the provider creates nothing")
	}
	_, err := probe.do(t.Context(), activities.Issue)
	require.NoError(t, err)
	for n := 1; n <= probe.front.Count(); n++ {
		st := newStage(t, s)
		before := st.world.Keys()
		req := activities.IssueRequest{Ref: st.world.Ref, Handle: "harness/new", Before: before}
		st.calls[activities.Issue] = func(ctx context.Context, c any) (any, error) { return c.(activities.Issuer).Issue(ctx, req) }
		st.front.CutAfter(n)
		started := time.Now()
		_, err := st.do(t.Context(), activities.Issue)
		require.Error(t, err)
		made := len(st.world.Keys()) - len(before)
		again, err := st.do(t.Context(), activities.Issue)
		if made > 0 && err == nil {
			// It finds what the lost call made, whose secret was sealed before it was made.
			require.Equal(t, activities.Done, outcome(t, again))
			require.Len(t, st.world.Keys(), len(before)+made, "call %d: never a second key", n)
			rec, err := st.client.(activities.Reconciler).ReconcileIssue(t.Context(), activities.ReconcileRequest{IssueRequest: req, Started: started, Now: started.Add(24 * time.Hour)})
			require.NoError(t, err)
			require.NotNil(t, rec.Kept, "sealed, so kept")
			require.Empty(t, rec.Killed)
			continue
		}
		if made > 0 {
			require.Equal(t, activities.ClassUnclear, st.fault(activities.Issue, err).Class, "never a second key while the first is unsettled")
			require.Len(t, st.world.Keys(), len(before)+made)
		} else {
			require.NoError(t, err)
			continue
		}
		reconcile := activities.ReconcileRequest{IssueRequest: req, Started: started, Now: started.Add(24 * time.Hour)}
		for range 2 { // idempotent
			rec, err := st.client.(activities.Reconciler).ReconcileIssue(t.Context(), reconcile)
			require.NoError(t, err)
			require.True(t, rec.Settled)
			require.Nil(t, rec.Kept, "its secret is lost")
			for _, k := range rec.Killed {
				require.Nil(t, st.state(k.ID), "killed means gone")
			}
			require.Len(t, st.world.Keys(), len(before)+len(rec.Unattributed))
		}
		require.Len(t, st.world.Keys(), len(before), "provably ours, so destroyed")
		res, err := st.do(t.Context(), activities.Issue)
		require.NoError(t, err)
		require.Equal(t, activities.Done, outcome(t, res))
		rec, err := st.client.(activities.Reconciler).ReconcileIssue(t.Context(), reconcile)
		require.NoError(t, err)
		require.NotNil(t, rec.Kept, "sealed, so kept")
		require.Empty(t, rec.Killed)
	}
	t.Run("a key that cannot be sealed does not stay", func(t *testing.T) {
		st := newStage(t, s)
		before := st.world.Keys()
		st.store.Fail = errors.New("disk full " + st.canary)
		_, err := st.do(t.Context(), activities.Issue)
		_ = st.fault(activities.Issue, err)
		require.Equal(t, before, st.world.Keys())
	})
}

func strangers(t *testing.T, s Subject) {
	st := newStage(t, s)
	if !has(st, activities.Issue) {
		t.Skip("the provider creates nothing")
	}
	before := st.world.Keys()
	stranger := st.world.AddKey()
	req := activities.IssueRequest{Ref: st.world.Ref, Handle: "harness/new", Before: before}
	_, err := st.client.(activities.Issuer).Issue(t.Context(), req)
	require.Equal(t, activities.ClassUnclear, st.fault(activities.Issue, err).Class)
	now := time.Now()
	rec, err := st.client.(activities.Reconciler).ReconcileIssue(t.Context(), activities.ReconcileRequest{IssueRequest: req, Started: now, Now: now.Add(24 * time.Hour)})
	require.NoError(t, err)
	require.True(t, rec.Settled)
	require.Empty(t, rec.Killed)
	require.Len(t, rec.Unattributed, 1)
	require.Equal(t, stranger, rec.Unattributed[0].ID)
	require.True(t, st.state(stranger).Active)
}

func cancelled(t *testing.T, s Subject) {
	each(t, s, func(t *testing.T, st *stage, v activities.Verb) {
		ctx, cancel := context.WithCancel(t.Context())
		asked := make(chan struct{}, 64)
		st.front.Trouble(Trouble{Name: Silent, Canary: st.canary, Asked: func() { asked <- struct{}{} }})
		done := make(chan error, 1)
		go func() {
			_, err := st.do(ctx, v)
			done <- err
		}()
		<-asked
		cancel()
		select {
		case err := <-done:
			f := st.fault(v, err)
			require.Contains(t, []activities.Class{activities.ClassUnclear, activities.ClassTransient}, f.Class)
		case <-time.After(time.Second):
			t.Fatalf("%s did not return within a second", v)
		}
	})
}

// hostile answers are never a success, never a verdict, and never hang.
func hostile(t *testing.T, s Subject) {
	for _, name := range newStage(t, s).front.Hostile() {
		t.Run(name, func(t *testing.T) {
			each(t, s, func(t *testing.T, st *stage, v activities.Verb) {
				before := st.world.Keys()
				st.front.Trouble(Trouble{Name: name, Canary: st.canary})
				res, err := st.do(t.Context(), v)
				if v == activities.Probe && err == nil {
					require.Equal(t, activities.ProbeUnclear, res.(activities.ProbeResult).Saw)
					return
				}
				f := st.fault(v, err)
				require.Contains(t, []activities.Class{activities.ClassUnclear, activities.ClassTransient}, f.Class, "%v", f)
				require.Equal(t, before, st.world.Keys())
			})
		})
	}
}

// each runs a check for each verb, on a fresh stage.
func each(t *testing.T, s Subject, check func(*testing.T, *stage, activities.Verb)) {
	t.Helper()
	first := newStage(t, s)
	for _, v := range activities.Verbs() {
		if has(first, v) {
			t.Run(string(v), func(t *testing.T) { check(t, newStage(t, s), v) })
		}
	}
}

var _ secret.Store = (*Store)(nil)
