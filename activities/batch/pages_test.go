package batch_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"rekey/activities"
	"rekey/activities/batch"
	"rekey/internal/page"
	"rekey/playbooks"
)

func jsonOf(v any) ([]byte, error) { return json.Marshal(v) }

// record is a line of a sealed journal.
type record struct {
	Kind   string              `json:"kind"`
	Pass   string              `json:"pass"`
	FP     string              `json:"fp"`
	Result *activities.Attempt `json:"result"`
}

func decodeRecords(t testing.TB, b []byte) (out []record) {
	t.Helper()
	for line := range bytes.Lines(b) {
		var r record
		require.NoError(t, json.Unmarshal(line, &r))
		out = append(out, r)
	}
	return out
}

// TestAPassCallsEachRowOnce and says what came of it.
func TestAPassCallsEachRowOnce(t *testing.T) {
	g := newRig(t, 1000)
	g.limit = batch.NewLimits(map[string]float64{"awsiam/prod/iam": 1e6})
	rows := g.rows(500)
	w, _ := g.worker("a")
	out, err := w.Pages(activities.Disable)(t.Context(), g.pass("p1", activities.Disable, g.put(rows[:200]), g.put(rows[200:])))
	require.NoError(t, err)
	require.Equal(t, 500, g.v.count("Disable"))
	require.Len(t, g.v.each, 500, "each once")
	require.Equal(t, int64(500), g.seen.Load())
	require.Equal(t, 500, out.Made)
	require.Equal(t, map[string]int{"done": 500}, out.Outcomes)
	require.Zero(t, out.Left)
	require.Len(t, out.Groups, 1)
	require.Equal(t, activities.EndSessions, out.Groups[0].Next.Verb)
	require.Equal(t, map[string]int{"disabled": 500}, out.Groups[0].Tally.Death)
	for _, r := range g.get(out.Groups) {
		require.True(t, r.Disabled)
		require.Equal(t, "req-"+r.ID, r.Outcomes[0].RequestID)
	}
	recs := g.records(out.Journal)
	require.Len(t, recs, 510, "an answer of each, and intents of fifty at a time")
	kinds := map[string]int{}
	for _, r := range recs {
		kinds[r.Kind]++
		require.Equal(t, "wave/1/p1", r.Pass)
	}
	require.Equal(t, map[string]int{"intents": 10, "outcome": 500}, kinds)
}

// TestRowsGoTheirWholeWay moves rows by passes alone, as a wave does.
func TestRowsGoTheirWholeWay(t *testing.T) {
	g := newRig(t, 40)
	rows := g.rows(40)
	for i := range rows {
		if rows[i].Adopt = i%2 == 0; rows[i].Adopt {
			rows[i].Adoption = "waiting"
			rows[i].Stores = []page.Store{{Name: "platform/aws", Target: "awssm"}}
			rows[i].Dependents = []page.Dependent{{ID: "app"}}
			rows[i].Attested = true
		}
	}
	w, _ := g.worker("a")
	groups := []page.Group{{Ref: page.Ref{Hash: g.put(rows), N: 40}, Next: rows[0].Next}}
	passes := 0
	for {
		var todo []page.Group
		for _, gr := range groups {
			require.NotEqual(t, page.GatePull, gr.Next.Gate, gr.Next.Why)
			if !gr.Next.Over() {
				todo = append(todo, gr)
			}
		}
		if len(todo) == 0 {
			break
		}
		passes++
		require.Less(t, passes, 100)
		g.now.Add(1)
		gr := slices.MinFunc(todo, func(a, b page.Group) int { return a.Next.Due.Compare(b.Next.Due.Time) })
		if d := gr.Next.Due.Sub(g.time()); d > 0 {
			g.now.Add(int64(d / time.Second))
		}
		out, err := w.Pages(gr.Next.Verb)(t.Context(), g.pass(fmt.Sprintf("p%d", passes), gr.Next.Verb, gr.Hash))
		require.NoError(t, err)
		rest := out.Groups
		for _, o := range groups {
			if o.Hash != gr.Hash {
				rest = append(rest, o)
			}
		}
		groups = rest
	}
	for i, r := range g.get(groups) {
		require.Equal(t, "revoked-verified", r.End)
		require.Len(t, g.v.alive(r.ID), map[bool]int{true: 1, false: 0}[i%2 == 0], "only the replacement is alive, where one was wanted")
	}
	require.Equal(t, 20, g.v.count("Issue"))
	require.Equal(t, 40, g.v.count("Revoke"))
}

// TestWhatIsNotDueIsGivenBackAsItIs: other verbs, times to come, gates.
func TestWhatIsNotDueIsGivenBackAsItIs(t *testing.T) {
	g := newRig(t, 10)
	rows := g.rows(9)
	at := func(d time.Duration) page.At { return page.At{Time: g.time().Add(d)} }
	for i := range rows {
		rows[i].Disabled, rows[i].EndedSessions = true, true
		rows[i].Next = page.Next{Verb: activities.Revoke}
	}
	rows[1].Next = page.Next{Verb: activities.Disable}
	rows[2].Next.Due = at(time.Second)
	rows[3].Next = page.Next{Verb: activities.Revoke, Gate: page.GateHeld, Why: page.WhyHeld}
	rows[4].Next = page.Next{Verb: activities.Revoke, Gate: page.GateHuman, Why: "a right is missing"}
	rows[5].Next = page.Next{Verb: activities.Revoke, Gate: page.GatePull, Why: "alive"}
	rows[6].Next = page.Next{Gate: page.GateNotice, Why: page.WhyNotice}
	rows[7].Next = page.Next{}
	rows[8].Next = page.Next{Verb: activities.Revoke, Gate: page.GateVotes, Why: page.WhyVotes, Due: at(-time.Second)}
	before := append([]page.Row{}, rows...)
	w, _ := g.worker("a")
	out, err := w.Pages(activities.Revoke)(t.Context(), g.pass("p1", activities.Revoke, g.put(rows)))
	require.NoError(t, err)
	require.Equal(t, map[string]int{"Revoke": 2}, g.v.calls)
	require.Equal(t, 2, out.Made)
	for i, r := range g.get(out.Groups) {
		called := i == 0 || i == 8
		require.Equal(t, called, r.Revoked, "row %d", i)
		if !called {
			require.Equal(t, before[i], r, "row %d", i)
		}
	}

	t.Run("the workflow's clock may be ahead", func(t *testing.T) {
		p := g.pass("p2", activities.Revoke, g.put(before[2:3]))
		p.Now = g.time().Add(time.Second)
		out, err := w.Pages(activities.Revoke)(t.Context(), p)
		require.NoError(t, err)
		require.Equal(t, 1, out.Made, "or it would ask again at once, for ever")
	})
	t.Run("nothing is due: no journal", func(t *testing.T) {
		out, err := w.Pages(activities.Revoke)(t.Context(), g.pass("p3", activities.Revoke, g.put(before[3:4])))
		require.NoError(t, err)
		require.Empty(t, out.Journal)
		require.Zero(t, out.Made)
		require.Len(t, out.Groups, 1)
	})
	t.Run("the cut-off was reached meanwhile: the row needs another call", func(t *testing.T) {
		f := g.facts
		defer func() { g.facts = f }()
		g.facts.Strategy, g.facts.Cutoff = playbooks.ReissueFirst, g.time().Add(time.Minute)
		row := page.Row{FP: "fp1_x", Provider: "awsiam", Account: "prod", Kind: "user-access-key", ID: keyID(9), Adopt: true}
		g.facts.Begin(&row, g.time())
		require.Equal(t, activities.Issue, row.Next.Verb)
		g.now.Add(60)
		out, err := w.Pages(activities.Issue)(t.Context(), g.pass("p4", activities.Issue, g.put([]page.Row{row})))
		require.NoError(t, err)
		require.Equal(t, activities.Disable, out.Groups[0].Next.Verb)
		require.Zero(t, g.v.count("Issue"))
		require.Zero(t, out.Left)
	})
}

func TestAReadingOfTheScopeTellsWhatItFoundOnce(t *testing.T) {
	g := newRig(t, 300)
	g.facts.Scope = true
	w, _ := g.worker("a")
	out, err := w.Pages(activities.Inspect)(t.Context(), g.pass("p1", activities.Inspect, g.put(g.rows(300))))
	require.NoError(t, err)
	require.Len(t, out.Findings, page.Most)
	require.Equal(t, 301-page.Most, out.More, "300 users and one policy that all of them lead to")
	require.Equal(t, "fp1_00000000000000000000", out.Findings[0].From.FP)
	require.Equal(t, []activities.Unseen{{Source: "cloudtrail", Why: "denied"}}, out.Unseen)
	require.Len(t, out.Dark, 1)
	for _, r := range g.get(out.Groups) {
		read, err := r.Read()
		require.NoError(t, err)
		require.Len(t, read.Findings, 2)
		require.True(t, r.Next.Over())
	}
	recs := g.records(out.Journal)
	require.Len(t, recs, 300, "what was read, and when, is evidence")
	require.Nil(t, recs[0].Result.Inspect, "the reading itself is in the page")
}

// TestThePassOfAnotherIsRefused: nothing is called with a client of another account.
func TestThePassOfAnotherIsRefused(t *testing.T) {
	g := newRig(t, 600)
	w, _ := g.worker("a")
	good := g.rows(2)
	foreign, twice := g.rows(1), g.rows(1)
	foreign[0].Account = "staging"
	for name, p := range map[string]page.Pass{
		"another account":  g.pass("p1", activities.Disable, g.put(foreign)),
		"a row twice":      g.pass("p1", activities.Disable, g.put(good), g.put(twice)),
		"too many rows":    g.pass("p1", activities.Disable, g.put(g.rows(501))),
		"another verb":     g.pass("p1", activities.Revoke, g.put(good)),
		"another incident": func() page.Pass { p := g.pass("p1", activities.Disable, g.put(good)); p.Incident = "inc-2"; return p }(),
	} {
		_, err := w.Pages(activities.Disable)(t.Context(), p)
		var app *temporal.ApplicationError
		require.ErrorAs(t, err, &app, name)
		require.True(t, app.NonRetryable(), name)
	}
	require.Empty(t, g.v.calls)
}

func TestAPageThatCannotBeRead(t *testing.T) {
	g := newRig(t, 2)
	w, _ := g.worker("a")
	good := g.put(g.rows(2))
	missing := "sha256:" + fmt.Sprintf("%064x", 7)
	schema, err := g.dir.Put(t.Context(), []byte(`{"rows":[{"account":"prod","fp":"x","kind":"k","news":true,"provider":"awsiam"}],"schema":"rekey.page/v1"}`))
	require.NoError(t, err)
	newFacts, err := g.dir.Put(t.Context(), []byte(`{"incident":"inc-1","prefix":"x","kinds":{},"k":1,"span_ns":0,"vantages":1,"never_revoke":true}`))
	require.NoError(t, err)
	for name, row := range map[string]struct {
		change func(*page.Pass)
		kind   string
		says   string
	}{
		"a page is missing":         {func(p *page.Pass) { p.Pages = []string{good, missing} }, page.Lost, missing},
		"the facts are missing":     {func(p *page.Pass) { p.Facts = missing }, page.Lost, missing},
		"a page of a newer build":   {func(p *page.Pass) { p.Pages = []string{schema} }, page.OtherBuild, "newest build"},
		"facts of a newer build":    {func(p *page.Pass) { p.Facts = newFacts }, page.OtherBuild, "newest build"},
		"something that is no page": {func(p *page.Pass) { p.Pages = []string{p.Facts} }, page.OtherBuild, "not a page"},
	} {
		p := g.pass("p1", activities.Disable, good)
		row.change(&p)
		_, err := w.Pages(activities.Disable)(t.Context(), p)
		var app *temporal.ApplicationError
		require.ErrorAs(t, err, &app, name)
		require.True(t, app.NonRetryable(), name)
		require.Equal(t, row.kind, app.Type(), name)
		require.ErrorContains(t, err, row.says, name)
		require.ErrorContains(t, err, "nothing was called", name)
	}
	t.Run("a damaged page", func(t *testing.T) {
		g.damage(good)
		_, err := w.Pages(activities.Disable)(t.Context(), g.pass("p1", activities.Disable, good))
		var app *temporal.ApplicationError
		require.ErrorAs(t, err, &app)
		require.Equal(t, page.Lost, app.Type())
		require.ErrorContains(t, err, good)
		require.ErrorContains(t, err, "backup")
	})
	require.Empty(t, g.v.calls)
}

func TestAnAccountThatCannotBeOpenedIsNoAnswer(t *testing.T) {
	g := newRig(t, 2)
	w, _ := g.worker("a", func(o *batch.Options) {
		o.Client = func(string, string) (any, error) { return nil, errors.New("no account prod") }
	})
	_, err := w.Pages(activities.Disable)(t.Context(), g.pass("p1", activities.Disable, g.put(g.rows(2))))
	require.ErrorContains(t, err, "mend rekey.yaml")
	var app *temporal.ApplicationError
	require.NotErrorAs(t, err, &app, "it is repeated: hundreds of rows must not be handed to people for it")
}

// TestEveryKindOfAnswer has the vendor answer in every way, at once.
func TestEveryKindOfAnswer(t *testing.T) {
	g := newRig(t, 6)
	f := func(c activities.Class) *answer {
		return &answer{err: &activities.Fault{Class: c, Op: "iam:X", Permission: "iam:X", Detail: "told"}}
	}
	answers := map[string]*answer{
		keyID(1): f(activities.ClassTransient), keyID(2): f(activities.ClassUnclear), keyID(3): f(activities.ClassDenied), keyID(4): f(activities.ClassInvalid),
		keyID(5): {res: activities.Result{Outcome: activities.AlreadyGone}},
	}
	g.v.fault = func(_, key string, _ int) *answer { return answers[key] }
	w, _ := g.worker("a")
	p := g.pass("p1", activities.Disable, g.put(g.rows(6)))
	out, err := w.Pages(activities.Disable)(t.Context(), p)
	require.NoError(t, err)
	require.Equal(t, map[string]int{"done": 1, "unclear": 2, "denied": 1, "needs-human": 1, "already-gone": 1}, out.Outcomes)
	require.Equal(t, map[string]int{"transient": 1, "unclear": 1, "denied": 1, "invalid": 1}, out.Failed)
	rows := g.get(out.Groups)
	require.Equal(t, activities.EndSessions, rows[0].Next.Verb)
	require.Equal(t, activities.Disable, rows[1].Next.Verb)
	require.True(t, rows[1].Next.Due.After(g.time()))
	require.Equal(t, page.GateHuman, rows[3].Next.Gate)
	require.Equal(t, page.GatePull, rows[4].Next.Gate)
	require.True(t, rows[5].Revoked)

	// A second attempt of the same pass has all of it from the journal.
	p.Attempt = 2
	again, err := w.Pages(activities.Disable)(t.Context(), p)
	require.NoError(t, err)
	require.Equal(t, 6, g.v.count("Disable"))
	require.Zero(t, again.Made)
	require.Equal(t, out.Outcomes, again.Outcomes)
	require.Equal(t, hashesOf(out.Groups), hashesOf(again.Groups), "the same answers give the same pages")
	require.Equal(t, out.Journal, again.Journal)
}

func hashesOf(groups []page.Group) map[string]page.Next {
	out := map[string]page.Next{}
	for _, g := range groups {
		out[g.Hash] = g.Next
	}
	return maps.Clone(out)
}

// TestNoVendorTextInPagesOrJournals: errors that nobody classed hold credentials.
func TestNoVendorTextInPagesOrJournals(t *testing.T) {
	g := newRig(t, 3)
	g.v.fault = func(string, string, int) *answer {
		return &answer{err: errors.New("Get https://user:" + canary + "@host")}
	}
	w, _ := g.worker("a")
	for _, v := range []activities.Verb{activities.Disable, activities.Issue, activities.Probe} {
		rows := g.rows(3)
		for i := range rows {
			rows[i].Next.Verb = v
		}
		out, err := w.Pages(v)(t.Context(), g.pass("p-"+string(v), v, g.put(rows)))
		require.NoError(t, err)
		b, err := json.Marshal(out)
		require.NoError(t, err)
		for _, gr := range out.Groups {
			blob, err := g.dir.Get(t.Context(), gr.Hash)
			require.NoError(t, err)
			b = append(b, blob...)
		}
		if out.Journal != "" {
			blob, err := g.dir.Get(t.Context(), out.Journal)
			require.NoError(t, err)
			b = append(b, blob...)
		}
		require.NotContains(t, string(b), canary)
	}
}

// TestAPanicOfAProviderIsTheActivitys: it reaches the worker on the activity's own
// goroutine, which knows what to do with it; the process lives.
func TestAPanicOfAProviderIsTheActivitys(t *testing.T) {
	g := newRig(t, 50)
	g.v.during = func(_, key string) {
		if key == keyID(20) {
			panic("nil map")
		}
	}
	w, _ := g.worker("a")
	require.PanicsWithValue(t, "nil map", func() {
		_, _ = w.Pages(activities.Disable)(context.Background(), g.pass("p1", activities.Disable, g.put(g.rows(50))))
	})
}
