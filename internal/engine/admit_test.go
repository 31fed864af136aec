package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/activities/batch"
	"rekey/internal/blob"
	"rekey/internal/codec/keyring"
	"rekey/internal/config"
	"rekey/workflows"
)

func reported() workflows.Report {
	return workflows.Report{
		ID: "r1", Source: "github", SourceKind: "webhook", Confidence: "confirmed", Ceiling: config.CeilingContain, Secret: "handle",
		Key: activities.Key{FP: "fp1_a", Provider: "awsiam", Account: "prod", Kind: "user-access-key", ID: "AKIAIOSFODNN7EXAMPLE", Principal: "ci"},
	}
}

// One condition that does not hold is enough: nothing is disabled, no secret is
// tried for nothing and no place of the breaker is taken.
func TestAdmitNeedsEveryCondition(t *testing.T) {
	type given struct {
		in workflows.AdmitInput
		e  *Engine
		p  *prober
	}
	never := func(pattern string) func(*given) {
		return func(g *given) { g.e.Config.Ceilings.NeverAuto = []string{"other/*", pattern} }
	}
	key := func(id string) func(*given) { return func(g *given) { g.in.Report.Key.ID = id } }
	for name, row := range map[string]struct {
		change func(*given)
		fails  []string
		why    string // of the first that fails
		probes int
	}{
		"all hold":                         {func(*given) {}, nil, "", 1},
		"the provider says it: no probe":   {func(g *given) { g.in.Report.SourceKind, g.in.Report.Secret = "provider", "" }, nil, "", 0},
		"subject key is the same as none":  {func(g *given) { g.in.Report.Subject = "key" }, nil, "", 1},
		"never-auto of somebody else":      {never("web/*"), nil, "", 1},
		"the source may only propose":      {func(g *given) { g.in.Report.Ceiling = config.CeilingPropose }, []string{"ceiling", "possession", "playbook", "breaker"}, `source "github" may propose`, 0},
		"the provider may only propose":    {func(g *given) { g.in.Report.Ceiling, g.in.Report.SourceKind = config.CeilingPropose, "provider" }, []string{"ceiling", "breaker"}, "may propose", 0},
		"an account that is not ours":      {func(g *given) { g.in.Report.Key.Account = "else" }, []string{"ours", "possession", "playbook", "breaker"}, "awsiam/else is not configured", 0},
		"a key nobody told of":             {key("unknown"), []string{"ours", "dependents", "possession", "playbook", "breaker"}, "does not know the key", 0},
		"a customer's key":                 {key("of-a-customer"), []string{"ours", "possession", "playbook", "breaker"}, "a customer's", 0},
		"never-auto names the key":         {never("awsiam/prod/AKIA*EXAMPLE"), []string{"ours", "possession", "playbook", "breaker"}, "never-auto list as awsiam/prod/AKIA*EXAMPLE", 0},
		"never-auto names the principal":   {never("awsiam/prod/ci"), []string{"ours", "possession", "playbook", "breaker"}, "never-auto", 0},
		"never-auto names the owner":       {never("billing/*"), []string{"ours", "possession", "playbook", "breaker"}, "never-auto", 0},
		"a host is isolated first":         {func(g *given) { g.in.Report.Subject = "host" }, []string{"subject", "possession", "playbook", "breaker"}, "about a host", 0},
		"a dependent bears too little":     {key("fragile"), []string{"dependents", "possession", "playbook", "breaker"}, "shop bears 59000 ms without the key, and a Disable may take 60000 ms", 0},
		"no secret given":                  {func(g *given) { g.in.Report.Secret = "" }, []string{"possession", "playbook", "breaker"}, "no secret was given", 0},
		"the secret is dead":               {func(g *given) { g.p.saw = activities.ProbeRefused }, []string{"possession", "playbook", "breaker"}, "does not work with the key: refused", 1},
		"the secret is another key's":      {func(g *given) { g.p.saw = activities.ProbeMismatch }, []string{"possession", "playbook", "breaker"}, "mismatch", 1},
		"the provider gives no answer":     {func(g *given) { g.p.err = errors.New("vendor text") }, []string{"possession", "playbook", "breaker"}, "the secret could not be tried", 1},
		"the account cannot be opened":     {func(g *given) { g.e.Client = func(string, string) (any, error) { return nil, errors.New("no") } }, []string{"possession", "playbook", "breaker"}, "cannot be opened", 0},
		"the provider cannot probe":        {func(g *given) { g.e.Client = func(string, string) (any, error) { return struct{}{}, nil } }, []string{"possession", "playbook", "breaker"}, "no Probe", 0},
		"the playbook does not contain":    {func(g *given) { g.in.Playbook.ContainOnReport = nil }, []string{"playbook", "breaker"}, "no contain_on_report", 1},
		"the playbook asks what is not so": {func(g *given) { g.in.Playbook.ContainOnReport.When = `report.confidence == "suspected"` }, []string{"playbook", "breaker"}, "", 1},
		"an unknown fact is no yes":        {func(g *given) { g.in.Playbook.ContainOnReport.When = "item.admin || !item.admin" }, []string{"playbook", "breaker"}, "", 1},
		"the breaker is full":              {func(g *given) { g.e.Breaker.Ceiling.PerSource = 0 }, []string{"breaker"}, `0 of 0 an hour from source "github" are used`, 1},
	} {
		t.Run(name, func(t *testing.T) {
			p, m := &prober{saw: activities.ProbeAlive}, &journals{}
			g := &given{in: workflows.AdmitInput{Incident: "inc-1", Report: reported(), Playbook: shipped(t), Now: now}, e: newEngine(t, p, m), p: p}
			row.change(g)
			res, err := g.e.Admit(context.Background(), g.in)
			require.NoError(t, err)

			var ids, fails, whys []string
			for _, c := range res.Contain.Conditions {
				ids = append(ids, c.ID)
				require.NotContains(t, c.Why, "vendor text")
				if !c.Held {
					fails, whys = append(fails, c.ID), append(whys, c.Why)
				}
			}
			require.Equal(t, []string{"ceiling", "ours", "subject", "dependents", "possession", "playbook", "breaker"}, ids, "each is given, held or not")
			require.Equal(t, row.fails, fails)
			require.Equal(t, len(row.fails) == 0, res.Contain.Allowed)
			require.Len(t, p.asked, row.probes)
			for _, asked := range p.asked {
				require.Equal(t, "handle", asked.Secret)
				require.Equal(t, activities.ProbeAuth, asked.Mode)
			}
			places := 0
			if res.Contain.Allowed {
				places = 1
			}
			require.Len(t, m.recs["breaker"], places)
			if len(fails) > 0 {
				require.Contains(t, whys[0], row.why)
			}
		})
	}
}

func TestAdmitSeverity(t *testing.T) {
	for exposure, want := range map[string]string{"public": "high", "internal": "medium", "": "medium"} {
		rep := reported()
		rep.Exposure = exposure
		res, err := newEngine(t, &prober{}, &journals{}).Admit(context.Background(), workflows.AdmitInput{Report: rep, Playbook: shipped(t), Now: now})
		require.NoError(t, err)
		require.Equal(t, want, res.Severity, exposure)
	}
}

func TestAdmitFailsWithoutTheBreakersJournal(t *testing.T) {
	e := newEngine(t, &prober{saw: activities.ProbeAlive}, &journals{down: true})
	res, err := e.Admit(context.Background(), workflows.AdmitInput{Incident: "inc-1", Report: reported(), Playbook: shipped(t), Now: now})
	require.ErrorContains(t, err, "breaker")
	require.False(t, res.Contain.Allowed)
}

func TestBreaker(t *testing.T) {
	type ask struct {
		incident, source, account string
		after                     time.Duration
		room                      bool
	}
	for name, row := range map[string]struct {
		ceiling config.Breaker
		live    int
		asks    []ask
	}{
		"per source": {config.Breaker{PerSource: 2, PerAccount: config.PerAccount{Keys: 10, Percent: 100}}, 50, []ask{
			{"i1", "github", "prod", 0, true}, {"i2", "github", "dev", 0, true}, {"i3", "github", "test", 0, false}, {"i4", "slack", "test", 0, true},
		}},
		"per account, whoever reports": {config.Breaker{PerSource: 9, PerAccount: config.PerAccount{Keys: 2, Percent: 100}}, 50, []ask{
			{"i1", "github", "prod", 0, true}, {"i2", "slack", "prod", 0, true}, {"i3", "aws", "prod", 0, false}, {"i4", "aws", "dev", 0, true},
		}},
		"a share of the live keys": {config.Breaker{PerSource: 9, PerAccount: config.PerAccount{Keys: 10, Percent: 1}}, 200, []ask{
			{"i1", "github", "prod", 0, true}, {"i2", "github", "prod", 0, true}, {"i3", "github", "prod", 0, false},
		}},
		"the same incident has its place, also when it is full": {config.Breaker{PerSource: 1, PerAccount: config.PerAccount{Keys: 1, Percent: 100}}, 50, []ask{
			{"i1", "github", "prod", 0, true}, {"i1", "github", "prod", 0, true}, {"i2", "github", "prod", 0, false}, {"i1", "github", "prod", 3 * time.Hour, true}, {"i2", "github", "prod", 3 * time.Hour, true},
		}},
		"an hour later there is room": {config.Breaker{PerSource: 1, PerAccount: config.PerAccount{Keys: 9, Percent: 100}}, 50, []ask{
			{"i1", "github", "prod", 0, true}, {"i2", "github", "prod", time.Hour - time.Second, false}, {"i2", "github", "prod", time.Hour, true}, {"i3", "github", "prod", time.Hour, false},
		}},
		"zero is off": {config.Breaker{PerAccount: config.PerAccount{Keys: 9, Percent: 100}}, 50, []ask{{"i1", "github", "prod", 0, false}}},
		"no live key": {config.Breaker{PerSource: 9, PerAccount: config.PerAccount{Keys: -1, Percent: 1}}, 0, []ask{{"i1", "github", "prod", 0, false}}},
	} {
		t.Run(name, func(t *testing.T) {
			m := &journals{}
			seen := map[string]bool{}
			for i, a := range row.asks {
				// A new breaker each time: a restart does not empty it.
				b := &Breaker{Journals: m, Ceiling: row.ceiling}
				rep := workflows.Report{Source: a.source, Key: activities.Key{Provider: "awsiam", Account: a.account}}
				room, why, err := b.Take(context.Background(), rep, a.incident, row.live, now.Add(a.after))
				require.NoError(t, err)
				require.Equal(t, a.room, room, "ask %d: %s", i, why)
				require.NotEmpty(t, why)
				if room {
					seen[a.incident] = true
				}
				require.Len(t, m.recs["breaker"], len(seen), "a place per incident")
			}
		})
	}
}

func TestBreakerRefusesADamagedJournal(t *testing.T) {
	m := &journals{recs: map[string][][]byte{"breaker": {[]byte("{")}}}
	room, _, err := (&Breaker{Journals: m, Ceiling: config.Breaker{PerSource: 9, PerAccount: config.PerAccount{Keys: 9, Percent: 100}}}).
		Take(context.Background(), reported(), "i1", 9, now)
	require.Error(t, err)
	require.False(t, room)
}

// TestBreakerDoesNotWaitForAWorkerThatStandsStill asks people instead.
func TestBreakerDoesNotWaitForAWorkerThatStandsStill(t *testing.T) {
	room, why, err := (&Breaker{Journals: &journals{held: true}, Ceiling: config.Breaker{PerSource: 9, PerAccount: config.PerAccount{Keys: 9, Percent: 100}}}).
		Take(context.Background(), reported(), "i1", 9, now)
	require.NoError(t, err)
	require.False(t, room)
	require.Contains(t, why, "another worker")
}

// TestBreakerHoldsAcrossProcesses lets processes that share nothing but the directory
// take places at the same moment: no more than the ceiling are given.
func TestBreakerHoldsAcrossProcesses(t *testing.T) {
	keys, err := keyring.Open(keyring.Options{Dir: t.TempDir(), Create: true, Now: time.Now})
	require.NoError(t, err)
	root := t.TempDir()
	const processes, asks, ceiling = 4, 8, 5
	var given atomic.Int64
	var wg sync.WaitGroup
	for p := range processes {
		dir, err := blob.OpenDir(root, keys) // what it has open is its own
		require.NoError(t, err)
		b := &Breaker{Journals: batch.BlobJournals{Journals: dir}, Ceiling: config.Breaker{PerSource: ceiling, PerAccount: config.PerAccount{Keys: 99, Percent: 100}}}
		wg.Go(func() {
			for n := range asks {
				room, _, err := b.Take(context.Background(), reported(), fmt.Sprintf("inc-%d-%d", p, n), 99, now)
				if err != nil {
					t.Error(err)
				}
				if room {
					given.Add(1)
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, int64(ceiling), given.Load())
}
