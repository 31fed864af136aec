package batch_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/activities/batch"
	"rekey/internal/blob"
	"rekey/internal/codec/keyring"
	"rekey/internal/page"
	"rekey/playbooks"
)

// A vendor is a provider account with many principals, each with one key to begin
// with. It survives the workers, and counts what was done to it.
type vendor struct {
	mu    sync.Mutex
	users map[string]*user // by the id of the first key
	calls map[string]int   // by verb
	each  map[string]int   // by verb and key
	last  time.Time        // of the last call
	// fault decides what a call gives; nil: all succeed.
	fault func(op, key string, n int) *answer
	// during is called while a call is under way, without the lock.
	during func(op, key string)
}

type user struct {
	keys []activities.KeyState
	mine map[string]bool // made by rekey
	cut  bool            // sessions ended
	put  map[string]string
}

func newVendor(n int) *vendor {
	v := &vendor{users: map[string]*user{}, calls: map[string]int{}, each: map[string]int{}}
	for i := range n {
		id := keyID(i)
		v.users[id] = &user{keys: []activities.KeyState{{ID: id, Active: true, Created: time.Unix(1000, 0).UTC()}}, mine: map[string]bool{}, put: map[string]string{}}
	}
	return v
}

func keyID(i int) string { return fmt.Sprintf("KEY%06d", i) }

// do is one call: it is counted, may go wrong, and takes effect in between.
func (v *vendor) do(ctx context.Context, op, key string, effect func(u *user)) (activities.Result, error) {
	if v.during != nil {
		v.during(op, key)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.calls[op]++
	v.each[op+" "+key]++
	v.last = time.Now()
	u, ok := v.users[key]
	if !ok {
		return activities.Result{}, &activities.Fault{Class: activities.ClassInvalid, Op: op, Detail: "no such key"}
	}
	var a *answer
	if v.fault != nil {
		a = v.fault(op, key, v.each[op+" "+key])
	}
	if a == nil || a.applied {
		effect(u)
	}
	if a != nil {
		return a.res, a.err
	}
	return activities.Result{Outcome: activities.Done, Evidence: []activities.Evidence{{Op: op, RequestID: "req-" + key, Status: 200}}}, ctx.Err()
}

func (v *vendor) count(op string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.calls[op]
}

// alive counts the keys that work, by user.
func (v *vendor) alive(key string) []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []string
	for _, k := range v.users[key].keys {
		if k.Active {
			out = append(out, k.ID)
		}
	}
	return out
}

func (v *vendor) set(active bool) func(*user) {
	return func(u *user) { u.keys[0].Active = active }
}

func (v *vendor) Disable(ctx context.Context, r activities.Ref) (activities.Result, error) {
	return v.do(ctx, "Disable", r.Key.ID, v.set(false))
}

func (v *vendor) Revoke(ctx context.Context, r activities.Ref) (activities.Result, error) {
	return v.do(ctx, "Revoke", r.Key.ID, v.set(false))
}

func (v *vendor) EndSessions(ctx context.Context, r activities.EndSessionsRequest) (activities.Result, error) {
	return v.do(ctx, "EndSessions", r.Key.ID, func(u *user) { u.cut = true })
}

func (v *vendor) Distribute(ctx context.Context, r activities.DistributeRequest) (activities.DistributeResult, error) {
	res, err := v.do(ctx, "Distribute", r.Key.ID, func(u *user) { u.put[r.Name] = r.NewKeyID })
	return activities.DistributeResult{Result: res, Version: "1"}, err
}

func (v *vendor) Probe(ctx context.Context, r activities.ProbeRequest) (activities.ProbeResult, error) {
	saw := activities.ProbeRefused
	_, err := v.do(ctx, "Probe", r.Key.ID, func(u *user) {
		id := cmp.Or(r.NewKeyID, r.Key.ID)
		if slices.ContainsFunc(u.keys, func(k activities.KeyState) bool { return k.ID == id && k.Active }) {
			saw = activities.ProbeAlive
		}
	})
	return activities.ProbeResult{Saw: saw, Control: true, Mode: r.Mode}, err
}

func (v *vendor) Inspect(ctx context.Context, r activities.InspectRequest) (activities.InspectResult, error) {
	_, err := v.do(ctx, "Inspect", r.Key.ID, func(*user) {})
	yes := true
	return activities.InspectResult{
		Principal: "user-" + r.Key.ID, Exists: &yes,
		Findings: []activities.Finding{{What: "user", ID: "made-by-" + r.Key.ID, At: world()}, {What: "policy", ID: "shared", At: world()}},
		Unseen:   []activities.Unseen{{Source: "cloudtrail", Why: "denied"}},
		Dark:     []activities.Window{{From: world().Add(-90 * 24 * time.Hour), To: world().Add(-24 * time.Hour), Source: "cloudtrail"}},
	}, err
}

func (v *vendor) ListKeys(ctx context.Context, r activities.Ref) (keys []activities.KeyState, err error) {
	_, err = v.do(ctx, "ListKeys", r.Key.ID, func(u *user) { keys = slices.Clone(u.keys) })
	return keys, err
}

func (v *vendor) Issue(ctx context.Context, r activities.IssueRequest) (activities.IssueResult, error) {
	var k activities.KeyState
	res, err := v.do(ctx, "Issue", r.Key.ID, func(u *user) {
		k = activities.KeyState{ID: fmt.Sprintf("%s-new%d", r.Key.ID, len(u.keys)), Active: true, Created: world()}
		u.keys = append(u.keys, k)
		u.mine[k.ID] = true
	})
	return activities.IssueResult{Result: res, New: k, Handle: r.Handle}, err
}

func (v *vendor) ReconcileIssue(ctx context.Context, r activities.ReconcileRequest) (activities.ReconcileResult, error) {
	out := activities.ReconcileResult{Settled: true, Detail: "settled"}
	_, err := v.do(ctx, "ReconcileIssue", r.Key.ID, func(u *user) {
		for i, k := range u.keys {
			if k.Active && u.mine[k.ID] && !slices.ContainsFunc(r.Before, func(b activities.KeyState) bool { return b.ID == k.ID }) {
				u.keys[i].Active = false
				out.Killed = append(out.Killed, k)
			}
		}
	})
	return out, err
}

// A process is one worker: what it still wants to do after its death does not happen.
type process struct {
	dead atomic.Bool
}

var errDead = errors.New("the process is dead")

// hardDisk is the blob store and the journals of all processes, as one of them sees it.
type hardDisk struct {
	batch.BlobJournals
	dir  *blob.Dir
	p    *process
	full *atomic.Bool
	puts *atomic.Int64
}

func (d hardDisk) err() error {
	switch {
	case d.p.dead.Load():
		return errDead
	case d.full.Load():
		return errors.New("no space left on device")
	}
	return nil
}

func (d hardDisk) Open(ctx context.Context, name string, term uint64) (batch.Journal, error) {
	if d.p.dead.Load() {
		return nil, errDead
	}
	j, err := d.BlobJournals.Open(ctx, name, term)
	return hardJournal{j, d}, err
}

func (d hardDisk) Get(ctx context.Context, hash string) ([]byte, error) {
	if d.p.dead.Load() {
		return nil, errDead
	}
	return d.dir.Get(ctx, hash)
}

func (d hardDisk) Put(ctx context.Context, b []byte) (string, error) {
	if err := d.err(); err != nil {
		return "", err
	}
	d.puts.Add(1)
	return d.dir.Put(ctx, b)
}

type hardJournal struct {
	batch.Journal
	d hardDisk
}

func (j hardJournal) Append(ctx context.Context, rec []byte, durable bool) error {
	if err := j.d.err(); err != nil {
		return err
	}
	return j.Journal.Append(ctx, rec, durable)
}

func (j hardJournal) Seal(ctx context.Context) (string, error) {
	if err := j.d.err(); err != nil {
		return "", err
	}
	return j.Journal.Seal(ctx)
}

// A rig is a world with one incident's rows.
type rig struct {
	t     testing.TB
	v     *vendor
	dir   *blob.Dir
	root  string
	full  atomic.Bool
	puts  atomic.Int64
	facts page.Facts
	now   atomic.Int64 // world's time, in seconds after world()
	limit *batch.Limits
	dead  func(epoch string) bool
	// before and edge are called where a worker's process stands.
	edge func(p *process, edge string, v activities.Verb, key string)
	seen atomic.Int64 // calls told to Observe
}

func newRig(t testing.TB, n int) *rig {
	t.Helper()
	k, err := keyring.Open(keyring.Options{Dir: t.TempDir(), Create: true, Now: time.Now})
	require.NoError(t, err)
	root := t.TempDir()
	d, err := blob.OpenDir(root, k)
	require.NoError(t, err)
	return &rig{t: t, root: root, v: newVendor(n), dir: d, limit: batch.NewLimits(nil), facts: page.Facts{
		Incident: "inc-1", Prefix: "wave/1", Strategy: playbooks.RevokeNow, K: 1, Opened: world(),
		Kinds: map[string]page.Kind{"awsiam/user-access-key": {
			API:             []activities.Verb{activities.Inspect, activities.Disable, activities.Revoke, activities.EndSessions, activities.Issue, activities.Distribute, activities.Probe},
			SessionsOutlive: true,
		}},
	}}
}

// worker starts a process.
func (g *rig) worker(epoch string, change ...func(*batch.Options)) (*batch.Runner, *process) {
	p := &process{}
	disk := hardDisk{BlobJournals: batch.BlobJournals{Journals: g.dir}, dir: g.dir, p: p, full: &g.full, puts: &g.puts}
	dead := g.dead
	if dead == nil {
		dead = func(e string) bool { return e != epoch }
	}
	o := batch.Options{
		Client: func(string, string) (any, error) { return g.v, nil },
		Kind: func(string, string) (activities.KindInfo, bool) {
			verbs := map[activities.Verb]activities.VerbInfo{}
			for _, v := range activities.Verbs() {
				verbs[v] = activities.VerbInfo{Support: activities.ByAPI, Idempotent: v != activities.Issue, API: "iam"}
			}
			return activities.KindInfo{Verbs: verbs}, true
		},
		Journals: disk, Blobs: disk, Limits: g.limit, Epoch: epoch, Dead: dead, Log: slog.New(slog.DiscardHandler),
		Now: func(context.Context) time.Time { return g.time() },
		Observe: func(ctx context.Context, _ activities.Pass, _ activities.Key) (context.Context, func(activities.Attempt)) {
			g.seen.Add(1)
			return ctx, func(activities.Attempt) {}
		},
	}
	if g.edge != nil {
		o.Edge = func(_ context.Context, edge string, v activities.Verb, key activities.Key) {
			g.edge(p, edge, v, key.ID)
		}
	}
	for _, c := range change {
		c(&o)
	}
	return batch.New(o), p
}

func (g *rig) time() time.Time { return world().Add(time.Duration(g.now.Load()) * time.Second) }

// rows are n rows at the beginning of their way.
func (g *rig) rows(n int) []page.Row {
	rows := bare(n)
	for i := range rows {
		g.facts.Begin(&rows[i], g.time())
	}
	return rows
}

// bare are n rows as a plan has them.
func bare(n int) []page.Row {
	rows := make([]page.Row, n)
	for i := range rows {
		rows[i] = page.Row{
			FP: fmt.Sprintf("fp1_%020x", i), Provider: "awsiam", Account: "prod", Kind: "user-access-key", ID: keyID(i),
			Owner: "platform", Basis: "observed", Why: "the same machine", Rule: "abuse", Depth: 2,
		}
	}
	return rows
}

// rowsFor are n rows that need a verb next.
func (g *rig) rowsFor(v activities.Verb, n int) []page.Row {
	g.facts.Strategy = playbooks.RevokeNow
	if v == activities.Issue || v == activities.Distribute {
		g.facts.Strategy = playbooks.ReissueFirst
	}
	rows := bare(n)
	for i := range rows {
		r := &rows[i]
		r.Death, r.Adoption = "alive", "not-wanted"
		switch v {
		case activities.Issue, activities.Distribute:
			r.Adopt, r.Adoption, r.Stores = true, "waiting", []page.Store{{Name: "platform/aws", Target: "awssm"}}
			if v == activities.Distribute {
				r.NewKey, r.Handle, r.Adoption = "NEW", "new/x", "issued"
			}
		case activities.Probe, activities.Revoke:
			r.Disabled, r.EndedSessions = true, true
		}
		if v == activities.Revoke {
			r.Death, r.Grade = "dead", "B"
		}
		g.facts.Begin(r, g.time())
		require.Equal(g.t, v, r.Next.Verb)
	}
	return rows
}

func (g *rig) put(rows []page.Row) string {
	g.t.Helper()
	b, err := page.Encode(rows)
	require.NoError(g.t, err)
	hash, err := g.dir.Put(context.Background(), b)
	require.NoError(g.t, err)
	return hash
}

func (g *rig) get(groups []page.Group) []page.Row {
	g.t.Helper()
	var out []page.Row
	for _, gr := range groups {
		b, err := g.dir.Get(context.Background(), gr.Hash)
		require.NoError(g.t, err)
		rows, err := page.Decode(b)
		require.NoError(g.t, err)
		require.Len(g.t, rows, gr.N)
		require.Equal(g.t, page.RefOf(gr.Hash, rows), gr.Ref)
		require.Equal(g.t, page.Count(rows), gr.Tally)
		for i := range rows {
			require.Equal(g.t, gr.Next, rows[i].Next, "rows of a group need the same")
		}
		out = append(out, rows...)
	}
	slices.SortFunc(out, func(a, b page.Row) int { return cmp.Compare(a.FP, b.FP) })
	return out
}

// pass asks for a verb over pages.
func (g *rig) pass(id string, v activities.Verb, pages ...string) page.Pass {
	g.t.Helper()
	b, err := jsonOf(g.facts)
	require.NoError(g.t, err)
	facts, err := g.dir.Put(context.Background(), b)
	require.NoError(g.t, err)
	return page.Pass{
		Incident: "inc-1", ID: "wave/1/" + id, Verb: v, Provider: "awsiam", Account: "prod", Attempt: 1, Pages: pages, Facts: facts, Now: g.time(),
		First: v == activities.Disable || v == activities.EndSessions,
	}
}

// records are the records of a sealed journal.
func (g *rig) records(hash string) []record {
	g.t.Helper()
	b, err := g.dir.Get(context.Background(), hash)
	require.NoError(g.t, err)
	return decodeRecords(g.t, b)
}

// damage changes a byte of a stored blob.
func (g *rig) damage(hash string) {
	g.t.Helper()
	digits := strings.TrimPrefix(hash, "sha256:")
	path := filepath.Join(g.root, "sha256", digits[:2], digits[2:])
	b, err := os.ReadFile(path)
	require.NoError(g.t, err)
	b[len(b)-1] ^= 1
	require.NoError(g.t, os.WriteFile(path, b, 0o600))
}
