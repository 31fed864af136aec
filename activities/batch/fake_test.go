package batch_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/activities/batch"
	"rekey/internal/blob"
	"rekey/internal/blob/blobtest"
	"rekey/internal/blob/s3blob"
	"rekey/internal/codec/keyring"
)

// cloud is a provider account: a principal with keys. It survives the workers.
type cloud struct {
	mu    sync.Mutex
	keys  []activities.KeyState
	calls map[string]int
	// fail is what the next calls of an operation give; applied ones take effect.
	fail map[string][]answer
	// mine are keys that the account's log attributes to this incident.
	mine map[string]bool
	now  time.Time
}

type answer struct {
	err     error
	res     activities.Result
	applied bool
}

func newCloud() *cloud {
	return &cloud{
		keys:  []activities.KeyState{{ID: "OLD", Active: true, Created: time.Unix(1000, 0).UTC()}},
		calls: map[string]int{}, fail: map[string][]answer{}, mine: map[string]bool{}, now: time.Unix(2000, 0).UTC(),
	}
}

func (c *cloud) did(op string) (answer, bool) {
	c.calls[op]++
	if len(c.fail[op]) == 0 {
		return answer{}, false
	}
	a := c.fail[op][0]
	c.fail[op] = c.fail[op][1:]
	return a, true
}

func (c *cloud) alive() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, k := range c.keys {
		if k.Active {
			out = append(out, k.ID)
		}
	}
	return out
}

func (c *cloud) count(op string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[op]
}

func (c *cloud) Disable(ctx context.Context, _ activities.Ref) (activities.Result, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, wrong := c.did("Disable")
	if !wrong || a.applied {
		c.keys[0].Active = false
	}
	if wrong {
		return a.res, a.err
	}
	return activities.Result{Outcome: activities.Done, Evidence: []activities.Evidence{{Op: "iam:UpdateAccessKey", RequestID: "req-1", Status: 200}}}, ctx.Err()
}

func (c *cloud) Probe(context.Context, activities.ProbeRequest) (activities.ProbeResult, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a, wrong := c.did("Probe"); wrong {
		return activities.ProbeResult{}, a.err
	}
	return activities.ProbeResult{Saw: activities.ProbeRefused, Control: true}, nil
}

func (c *cloud) ListKeys(context.Context, activities.Ref) ([]activities.KeyState, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a, wrong := c.did("ListKeys"); wrong {
		return nil, a.err
	}
	return slices.Clone(c.keys), nil
}

func (c *cloud) Issue(_ context.Context, r activities.IssueRequest) (activities.IssueResult, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, wrong := c.did("Issue")
	var k activities.KeyState
	if !wrong || a.applied {
		k = activities.KeyState{ID: fmt.Sprintf("NEW%d", len(c.keys)), Active: true, Created: c.now}
		c.keys = append(c.keys, k)
		c.mine[k.ID] = true
	}
	if wrong {
		return activities.IssueResult{Result: a.res}, a.err
	}
	return activities.IssueResult{Result: activities.Result{Outcome: activities.Done}, New: k, Handle: r.Handle}, nil
}

func (c *cloud) ReconcileIssue(_ context.Context, r activities.ReconcileRequest) (activities.ReconcileResult, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a, wrong := c.did("ReconcileIssue"); wrong {
		return activities.ReconcileResult{}, a.err
	}
	out := activities.ReconcileResult{Settled: true, Detail: "settled"}
	for i, k := range c.keys {
		if !k.Active || slices.ContainsFunc(r.Before, func(b activities.KeyState) bool { return b.ID == k.ID }) {
			continue
		}
		if !c.mine[k.ID] {
			out.Settled = false
			out.Unattributed = append(out.Unattributed, k)
			continue
		}
		c.keys[i].Active = false
		out.Killed = append(out.Killed, k)
	}
	return out, nil
}

// memory is journals that outlive the worker.
type memory struct {
	mu    sync.Mutex
	recs  map[string][][]byte
	full  bool // appends fail
	syncs int
	reads int
}

func newMemory() *memory { return &memory{recs: map[string][][]byte{}} }

func (m *memory) Open(_ context.Context, name string, _ uint64) (batch.Journal, error) {
	return &memJournal{m: m, name: name}, nil
}

type memJournal struct {
	m    *memory
	name string
}

func (j *memJournal) Append(_ context.Context, rec []byte, durable bool) error {
	j.m.mu.Lock()
	defer j.m.mu.Unlock()
	if j.m.full {
		return errors.New("no space left on device")
	}
	if durable {
		j.m.syncs++
	}
	j.m.recs[j.name] = append(j.m.recs[j.name], slices.Clone(rec))
	return nil
}

func (j *memJournal) Records(context.Context) ([][]byte, error) {
	j.m.mu.Lock()
	defer j.m.mu.Unlock()
	j.m.reads++
	return slices.Clone(j.m.recs[j.name]), nil
}

func (j *memJournal) Seal(context.Context) (string, error) { return "sha256:journal", nil }
func (j *memJournal) Close() error                         { return nil }

func blobs(t *testing.T) batch.BlobJournals {
	t.Helper()
	k, err := keyring.Open(keyring.Options{Dir: t.TempDir(), Create: true, Now: time.Now})
	require.NoError(t, err)
	d, err := blob.OpenDir(t.TempDir(), k)
	require.NoError(t, err)
	return batch.BlobJournals{Journals: d}
}

func bucket(t *testing.T) batch.BlobJournals {
	t.Helper()
	half := filepath.Join(t.TempDir(), "half")
	require.NoError(t, os.WriteFile(half, []byte("test\n"), 0o600))
	s, err := s3blob.New(s3blob.Options{
		Endpoint: blobtest.NewS3(t).URL, Region: "us-east-1", Bucket: blobtest.Bucket, AllowPrivate: true,
		AccessKeyFile: half, SecretKeyFile: half, Keys: blobtest.Keys(t), Owner: "fp1_test",
	})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return batch.BlobJournals{Journals: s}
}

// kill is what a killed worker panics with.
type kill struct{}

// worker is one process.
type workerOptions struct {
	epoch  string
	dead   func(string) bool
	edge   string // where it is killed
	limits *batch.Limits
}

func runner(c any, j batch.Journals, o workerOptions) *batch.Runner {
	if o.limits == nil {
		o.limits = batch.NewLimits(nil)
	}
	if o.dead == nil {
		o.dead = func(e string) bool { return e != o.epoch } // the others are known dead
	}
	opt := batch.Options{
		Client: func(string, string) (any, error) { return c, nil },
		Kind: func(string, string) (activities.KindInfo, bool) {
			verbs := map[activities.Verb]activities.VerbInfo{}
			for _, v := range activities.Verbs() {
				verbs[v] = activities.VerbInfo{Support: activities.ByAPI, Idempotent: v != activities.Issue, API: "iam"}
			}
			return activities.KindInfo{Verbs: verbs}, true
		},
		Journals: j, Limits: o.limits, Now: func(context.Context) time.Time { return time.Unix(3000, 0).UTC() }, Epoch: o.epoch, Dead: o.dead,
		Log: slog.New(slog.DiscardHandler),
	}
	if o.edge != "" {
		opt.Edge = func(_ context.Context, edge string, _ activities.Verb, _ activities.Key) {
			if edge == o.edge {
				panic(kill{})
			}
		}
	}
	return batch.New(opt)
}

func pass(v activities.Verb, attempt int) activities.Pass {
	k := activities.Key{FP: "fp1_0123456789abcdef0123", Provider: "awsiam", Account: "prod", Kind: "user-access-key", ID: "OLD"}
	return activities.Pass{
		Incident: "inc-1", ID: "wave/1/" + string(v) + "/1", Verb: v, Provider: "awsiam", Account: "prod", Attempt: attempt,
		Items: []activities.Request{{Ref: activities.Ref{Incident: "inc-1", Token: "t", Attempt: attempt, Key: k, Secret: "sealed/1"}, Handle: "new/1"}},
	}
}

// do makes one attempt; killed tells that the worker died under it.
func do(t *testing.T, r *batch.Runner, p activities.Pass) (a activities.Attempt, killed bool) {
	t.Helper()
	defer func() {
		if e := recover(); e != nil {
			if _, ok := e.(kill); !ok {
				panic(e)
			}
			killed = true
		}
	}()
	out, err := r.Activity(p.Verb)(context.Background(), p)
	require.NoError(t, err)
	require.Len(t, out.Items, 1)
	return out.Items[0], false
}
