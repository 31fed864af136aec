package intake_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/internal/blob"
	"rekey/internal/codec/keyring"
	"rekey/internal/config"
	"rekey/internal/intake"
	"rekey/internal/people"
	"rekey/internal/secret"
	"rekey/internal/secret/agestore"
	"rekey/internal/secret/installation"
	"rekey/internal/secret/redact"
	"rekey/workflows"
)

// fakeEngine keeps registers and incidents in memory and counts what was asked.
type fakeEngine struct {
	mu      sync.Mutex
	owners  map[string]string
	claims  []string // "register fp"
	runs    map[string]*run
	down    error
	closing func(incident string) // called before each Signal
	slow    time.Duration         // of each Signal and Claim
}

type run struct {
	input   workflows.IncidentInput
	reports []workflows.Report
	closed  *intake.Closed
	starts  int
	signals []int // how many reports each had
}

func newEngine() *fakeEngine {
	return &fakeEngine{owners: map[string]string{}, runs: map[string]*run{}}
}

func (e *fakeEngine) Claim(_ context.Context, register string, c workflows.Claim) (workflows.ClaimResult, error) {
	time.Sleep(e.slow)
	e.mu.Lock()
	defer e.mu.Unlock()
	out := workflows.ClaimResult{Owners: map[string]string{}}
	for _, fp := range c.FPs {
		e.claims = append(e.claims, register+" "+fp)
		if e.owners[fp] == "" {
			e.owners[fp] = c.Incident
		}
		out.Owners[fp] = e.owners[fp]
	}
	return out, e.down
}

func (e *fakeEngine) State(_ context.Context, incident string) (intake.State, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.runs[incident]
	if r == nil || e.down != nil {
		return intake.State{}, e.down
	}
	return intake.State{Running: r.closed == nil, Closed: r.closed}, nil
}

func (e *fakeEngine) Signal(_ context.Context, incident string, reps []workflows.Report) error {
	if e.closing != nil {
		e.closing(incident)
	}
	time.Sleep(e.slow)
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.runs[incident]
	if r == nil || r.closed != nil {
		return intake.ErrNotRunning
	}
	r.signals = append(r.signals, len(reps))
	for _, rep := range reps {
		r.take(rep)
	}
	return nil
}

func (e *fakeEngine) Start(_ context.Context, in workflows.IncidentInput, rep workflows.Report) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.runs[in.ID]
	if r == nil {
		r = &run{input: in}
		e.runs[in.ID] = r
	}
	if r.closed != nil || r.starts == 0 {
		r.input, r.closed = in, nil
		r.starts++
	}
	r.take(rep)
	return nil
}

// take drops a report sent twice, as the workflow does.
func (r *run) take(rep workflows.Report) {
	for _, old := range r.reports {
		if old.ID == rep.ID {
			return
		}
	}
	r.reports = append(r.reports, rep)
}

func (e *fakeEngine) close(incident string, c intake.Closed) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.runs[incident].closed = &c
}

// world is an intake with real stores.
type world struct {
	*intake.Intake
	engine *fakeEngine
	sealed *agestore.Store
	blobs  *blob.Dir
	signer ed25519.PrivateKey
	log    *bytes.Buffer
	data   string
	cfg    *config.Config
}

var t0 = time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)

const twoAccounts = `
ceilings: {sources: {default: propose, github: contain, cli: contain}}
providers:
  awsiam:
    prod: {account_id: "123456789012", regions: [eu-central-1, us-east-1]}
    test: {account_id: "123456789013", base_url: "http://127.0.0.1:5000"}
`

const oneAccount = `
ceilings: {sources: {default: propose, github: contain, cli: contain}}
providers: {awsiam: {prod: {account_id: "123456789012", regions: [eu-central-1, us-east-1]}}}
`

// descriptors are two providers as they describe themselves.
func descriptors() []activities.Descriptor {
	verbs := map[activities.Verb]activities.VerbInfo{}
	for _, v := range activities.Verbs() {
		verbs[v] = activities.VerbInfo{Support: activities.ByAPI, Reversible: v != activities.Revoke, Idempotent: v != activities.Issue}
	}
	return []activities.Descriptor{{
		Code: "awsiam", Name: "AWS IAM", Stores: []string{"awssm"},
		Limits: []activities.Limit{{API: "iam", Rate: "15/s", Per: "account", Value: 15}},
		Kinds: []activities.KindInfo{
			{Kind: "user-access-key", Verbs: verbs, Propagation: 15 * time.Second, SessionsOutlive: true, IDSuffices: true, ProbeAction: "sts:GetCallerIdentity"},
			{Kind: "sts-session", Verbs: verbs, Propagation: 15 * time.Second},
		},
		RungVerbs: map[string]activities.Verb{"principal": activities.Deny},
		CheckID: func(id string) (string, error) {
			switch {
			case len(id) == 40:
				return "", errors.New("that looks like a secret; give the key id")
			case strings.HasPrefix(id, "AKIA") && len(id) == 20:
				return "user-access-key", nil
			case strings.HasPrefix(id, "ASIA") && len(id) == 20:
				return "sts-session", nil
			}
			return "", errors.New("a key id begins with AKIA or ASIA and has 20 characters")
		},
		Secrets: []string{`lab-secret-[0-9a-f]{16}`},
	}, {
		Code: "vault", Name: "Vault", Kinds: []activities.KindInfo{{Kind: "token", Verbs: verbs}},
	}}
}

func newWorld(t *testing.T, yaml string, change func(*intake.Options)) *world {
	t.Helper()
	data := t.TempDir()
	w := &world{engine: newEngine(), log: &bytes.Buffer{}, data: data}
	var err error
	w.cfg, err = config.Parse([]byte(yaml), data)
	require.NoError(t, err)
	voters, err := people.Pinned(w.cfg, data)
	require.NoError(t, err)
	w.signer, err = people.LoadOrCreate(people.ServerKeyFile(data))
	require.NoError(t, err)
	fps, err := installation.Load(filepath.Join(data, "keys", "installation.key"))
	require.NoError(t, err)
	identity, err := agestore.LoadIdentity(filepath.Join(data, "keys", "age.txt"), secret.Value{})
	require.NoError(t, err)
	now := func() time.Time { return t0 }
	w.sealed, err = agestore.Open(agestore.Options{Dir: filepath.Join(data, "sealed"), Identity: identity, Now: now})
	require.NoError(t, err)
	keys, err := keyring.Open(keyring.Options{Dir: filepath.Join(data, "codec"), Create: true, Now: now})
	require.NoError(t, err)
	w.blobs, err = blob.OpenDir(filepath.Join(data, "blobs"), keys)
	require.NoError(t, err)
	red, err := redact.New(redact.Options{})
	require.NoError(t, err)
	o := intake.Options{
		Config: w.cfg, Providers: descriptors(), Voters: voters, Signer: w.signer, Fingerprints: fps, Sealed: w.sealed, Blobs: w.blobs,
		Engine: w.engine, Redact: red, Now: now, Log: slog.New(slog.NewJSONHandler(w.log, nil)), Namespace: "rekey", URL: "http://127.0.0.1:8443",
		Origin: func(_ string, a activities.Account) (string, error) {
			if a.Settings["base_url"] != "" {
				return a.Settings["base_url"], nil
			}
			return "aws", nil
		},
	}
	if change != nil {
		change(&o)
	}
	w.Intake, err = intake.New(o)
	require.NoError(t, err)
	return w
}

// canary is a secret that must be found nowhere but where it is sealed.
func canary(t *testing.T) string {
	t.Helper()
	b := make([]byte, 20)
	_, err := rand.Read(b)
	require.NoError(t, err)
	return hex.EncodeToString(b)
}

// failing fails one step once, before or after its effect.
type failing struct {
	intake.Engine
	step   string
	effect bool
	failed bool
}

var errLost = errors.New("lost")

func (f *failing) fail(step string, do func() error) error {
	if f.step != step || f.failed {
		return do()
	}
	f.failed = true
	if f.effect {
		if err := do(); err != nil {
			return err
		}
	}
	return errLost
}

func (f *failing) Claim(ctx context.Context, register string, c workflows.Claim) (r workflows.ClaimResult, err error) {
	err = f.fail("claim", func() error { r, err = f.Engine.Claim(ctx, register, c); return err })
	return r, err
}

func (f *failing) State(ctx context.Context, incident string) (s intake.State, err error) {
	err = f.fail("state", func() error { s, err = f.Engine.State(ctx, incident); return err })
	return s, err
}

func (f *failing) Start(ctx context.Context, in workflows.IncidentInput, r workflows.Report) error {
	return f.fail("start", func() error { return f.Engine.Start(ctx, in, r) })
}

func (f *failing) Signal(ctx context.Context, incident string, r []workflows.Report) error {
	return f.fail("signal", func() error { return f.Engine.Signal(ctx, incident, r) })
}

type failingStore struct {
	secret.Store
	f *failing
}

func (s failingStore) Seal(ctx context.Context, ref secret.Ref, v secret.Value) error {
	return s.f.fail("seal", func() error { return s.Store.Seal(ctx, ref, v) })
}

type failingBlobs struct {
	blob.Store
	f *failing
}

func (b failingBlobs) Put(ctx context.Context, plain []byte) (hash string, err error) {
	err = b.f.fail("blob", func() error { hash, err = b.Store.Put(ctx, plain); return err })
	return hash, err
}
