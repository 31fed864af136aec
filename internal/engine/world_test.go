package engine

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/activities/batch"
	"rekey/internal/config"
	"rekey/internal/estate"
	"rekey/internal/playbook"
	"rekey/internal/secret"
	"rekey/playbooks"
	"rekey/workflows"
)

var now = time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)

func shipped(t testing.TB) playbooks.Playbook {
	t.Helper()
	l, err := playbook.Load("aws-access-key")
	require.NoError(t, err)
	return *l.Playbook
}

func fingers(t *testing.T) *secret.Fingerprinter {
	t.Helper()
	f, err := secret.NewFingerprinter(bytes.Repeat([]byte{7}, secret.KeySize))
	require.NoError(t, err)
	return f
}

func estateOf(t *testing.T, text, customers string) *estate.Estate {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "e.yaml"), []byte(text), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "c.json"), []byte(customers), 0o600))
	e, err := estate.Load([]string{filepath.Join(dir, "e.yaml")}, []string{filepath.Join(dir, "c.json")}, fingers(t))
	require.NoError(t, err)
	return e
}

func verbs() map[activities.Verb]activities.VerbInfo {
	out := map[activities.Verb]activities.VerbInfo{}
	for _, v := range activities.Verbs() {
		out[v] = activities.VerbInfo{Support: activities.ByAPI, Calls: []string{"iam:" + string(v)}}
	}
	return out
}

func kinds() map[string]workflows.KindFacts {
	return map[string]workflows.KindFacts{"awsiam/user-access-key": {
		Verbs: verbs(), PropagationMs: 15_000, SessionsOutlive: true,
		RungVerbs: map[string]activities.Verb{"sessions": activities.EndSessions, "principal": activities.Deny, "network-bind": activities.Bind},
	}}
}

// journals keeps journals in memory, as a disk does: they outlive who opened them.
type journals struct {
	recs map[string][][]byte
	down bool
	held bool // by another process that stands still
}

func (m *journals) Lock(ctx context.Context, _ string) (func(), error) {
	if m.held {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return func() {}, nil
}

func (m *journals) Open(_ context.Context, name string, _ uint64) (batch.Journal, error) {
	if m.down {
		return nil, errors.New("no disk")
	}
	if m.recs == nil {
		m.recs = map[string][][]byte{}
	}
	return &journal{m: m, name: name}, nil
}

type journal struct {
	m    *journals
	name string
}

func (j *journal) Append(_ context.Context, rec []byte, durable bool) error {
	if !durable {
		return errors.New("a place that is not on disk is lost with the process")
	}
	j.m.recs[j.name] = append(j.m.recs[j.name], rec)
	return nil
}
func (j *journal) Records(context.Context) ([][]byte, error) { return j.m.recs[j.name], nil }
func (j *journal) Seal(context.Context) (string, error)      { return "", nil }
func (j *journal) Close() error                              { return nil }

// prober answers for the account, and counts how often it was asked.
type prober struct {
	saw   string
	err   error
	asked []activities.ProbeRequest
}

func (p *prober) Probe(_ context.Context, r activities.ProbeRequest) (activities.ProbeResult, error) {
	p.asked = append(p.asked, r)
	return activities.ProbeResult{Saw: p.saw}, p.err
}

const known = `
keys:
  - {id: AKIAIOSFODNN7EXAMPLE, provider: awsiam, account: prod, kind: user-access-key, owner: billing}
  - {id: held-by-nobody, provider: awsiam, account: prod, kind: user-access-key}
  - {id: of-a-customer, provider: awsiam, account: prod, kind: user-access-key}
  - {id: fragile, provider: awsiam, account: prod, kind: user-access-key, owner: web}
dependents:
  - {id: invoices, keys: [AKIAIOSFODNN7EXAMPLE], outage_budget: 60s}
  - {id: shop, keys: [fragile], outage_budget: 59s}
`

// newEngine knows account prod, whose changes take 15 s to be seen.
func newEngine(t *testing.T, p *prober, m *journals) *Engine {
	t.Helper()
	return New(Options{
		Config: &config.Config{
			Providers: map[string]map[string]config.Account{"awsiam": {"prod": {}}},
		},
		Estate: estateOf(t, known, `[{"ref":"c1","name":"n","keys":["of-a-customer"]}]`),
		Finger: fingers(t),
		Providers: []activities.Descriptor{{Code: "awsiam", Kinds: []activities.KindInfo{{
			Kind: "user-access-key", Verbs: verbs(), Propagation: 15 * time.Second,
		}}}},
		Client: func(provider, account string) (any, error) {
			require.Equal(t, "awsiam/prod", provider+"/"+account)
			return p, nil
		},
		Breaker: &Breaker{Journals: m, Ceiling: config.Breaker{PerSource: 3, PerAccount: config.PerAccount{Keys: 10, Percent: 100}}},
	})
}
