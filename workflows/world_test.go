package workflows_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"rekey/activities"
	"rekey/internal/engine"
	"rekey/internal/event"
	"rekey/internal/playbook"
	"rekey/internal/statement"
	"rekey/internal/view"
	"rekey/playbooks"
	"rekey/workflows"
)

const incidentID = "inc-000000000001"

// start of every story.
var t0 = time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)

// fp is a fingerprint for a key id.
func fp(id string) string {
	sum := sha256.Sum256([]byte(id))
	return "fp1_" + hex.EncodeToString(sum[:])
}

func key(id string) activities.Key {
	return activities.Key{FP: fp(id), Provider: "awsiam", Account: "prod", Kind: "user-access-key", ID: id, Principal: "user-" + id}
}

// A world is one story: an incident, its people, a scripted provider and a fake
// engine, in Temporal's test environment where hours pass for free.
type world struct {
	t   *testing.T
	env *testsuite.TestWorkflowEnvironment
	set workflows.Settings
	in  workflows.IncidentInput

	server ed25519.PrivateKey
	voters map[string]ed25519.PrivateKey

	mu       sync.Mutex
	provider *provider
	estate   map[string]workflows.Scoped // what the estate says, by key id
	reach    map[string][]string         // key id -> further key ids
	lacks    workflows.ExpandResult      // what the estate cannot tell
	expanded []workflows.ExpandInput
	claims   map[string]string
	admit    func(workflows.AdmitInput) workflows.AdmitResult
	plans    []workflows.PlanInput
	seals    []workflows.SealInput
	archived []workflows.ArchiveInput
	forgets  int
	alarms   []workflows.AlarmInput
	events   []event.Event
	nonce    int
	open     int // parts of the story that were not played
	last     view.Incident
	place    *place     // where the incident is followed, if anywhere
	mail     *mail      // where a story has channels
	mass     *massWorld // what a large incident has besides
}

type option func(*world)

func shipped(t *testing.T) playbooks.Playbook {
	t.Helper()
	l, err := playbook.Load("aws-access-key")
	require.NoError(t, err)
	pb := *l.Playbook
	pb.Harden = playbooks.Harden{} // asked for in every story otherwise; see harden_test.go
	return pb
}

func newWorld(t *testing.T, opts ...option) *world {
	t.Helper()
	w := &world{
		t: t, voters: map[string]ed25519.PrivateKey{}, estate: map[string]workflows.Scoped{}, reach: map[string][]string{}, claims: map[string]string{},
		admit: func(workflows.AdmitInput) workflows.AdmitResult { return workflows.AdmitResult{Severity: "medium"} },
	}
	w.provider = newProvider(w)
	w.set = workflows.Settings{
		Playbook: shipped(t), Digest: "sha256:test", Quorum: 1, Kinds: map[string]workflows.KindFacts{"awsiam/user-access-key": awsKind()},
	}
	w.server = w.signer()
	w.set.ServerKeys = []string{public(w.server)}
	w.person("alice", "commander", "approver")
	w.person("bob", "security")
	w.person("carol", "admin")
	w.person("rita", "reporter", "commander")
	w.in = workflows.IncidentInput{ID: incidentID}
	for _, o := range opts {
		o(w)
	}
	w.in.Settings = w.set
	w.begin()
	return w
}

func (w *world) signer() ed25519.PrivateKey {
	_, k, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(w.t, err)
	return k
}

func public(k ed25519.PrivateKey) string {
	return base64.StdEncoding.EncodeToString(k.Public().(ed25519.PublicKey))
}

func (w *world) person(name string, roles ...string) {
	w.voters[name] = w.signer()
	w.set.People = append(w.set.People, statement.Person{Actor: name, Roles: roles, Keys: []string{public(w.voters[name])}, Methods: []string{statement.MethodSlack}})
}

func awsKind() workflows.KindFacts {
	verbs := map[activities.Verb]activities.VerbInfo{}
	for _, v := range activities.Verbs() {
		verbs[v] = activities.VerbInfo{Support: activities.ByAPI, Idempotent: v != activities.Issue}
	}
	return workflows.KindFacts{
		Verbs: verbs, PropagationMs: 15000, SessionsOutlive: true, ProbeAction: true,
		Vantages:  map[string][]string{"prod": {"eu-central-1", "us-east-1"}},
		RungVerbs: map[string]activities.Verb{"key": activities.Revoke, "sessions": activities.EndSessions, "principal": activities.Deny, "network-bind": activities.Bind},
	}
}

// begin makes the test environment with everything registered under the names that
// production uses.
func (w *world) begin() {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(quiet{})
	w.open = 0
	w.env = suite.NewTestWorkflowEnvironment()
	w.env.SetStartTime(t0)
	w.env.SetTestTimeout(30 * time.Second)
	w.env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: workflows.IncidentID(incidentID), TaskQueue: workflows.TaskQueue})
	w.env.SetWorkerOptions(worker.Options{Interceptors: []interceptor.WorkerInterceptor{&recorder{w: w}}})
	w.env.SetDetachedChildWait(false)
	for name, f := range map[string]any{
		workflows.TypeIncident: workflows.Incident, workflows.TypeWave: workflows.Wave, workflows.TypeWatch: workflows.Watch, workflows.TypeRegister: workflows.Register, workflows.TypeRecord: workflows.Record,
		workflows.TypeAccount: workflows.Account,
		workflows.TypeNotices: workflows.Notices,
	} {
		w.env.RegisterWorkflowWithOptions(f, workflow.RegisterOptions{Name: name})
	}
	for name, f := range map[string]any{
		workflows.ActivityAdmit:    w.doAdmit,
		workflows.ActivityPreserve: w.doPreserve,
		workflows.ActivityExpand:   w.doExpand,
		workflows.ActivityPlan:     w.doPlan,
		workflows.ActivityClaim:    w.doClaim,
		workflows.ActivitySeal:     w.doSeal,
		workflows.ActivityForget:   w.doForget,
		workflows.ActivityAlarm:    w.doAlarm,
		workflows.ActivityArchive:  w.doArchive,
	} {
		w.env.RegisterActivityWithOptions(f, activity.RegisterOptions{Name: name})
	}
	if w.place != nil {
		w.place.register(w)
	}
	if w.mail != nil {
		w.mail.register(w)
	}
	if w.mass != nil {
		w.mass.register()
	}
	for _, v := range activities.Verbs() {
		if _, ok := w.set.Kinds["awsiam/user-access-key"].Verbs[v]; ok {
			w.env.RegisterActivityWithOptions(w.provider.activity(v), activity.RegisterOptions{Name: activities.Name("awsiam", v)})
		}
	}
}

func (w *world) doAdmit(_ context.Context, in workflows.AdmitInput) (workflows.AdmitResult, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.admit(in), nil
}

func (w *world) doPreserve(_ context.Context, in workflows.PreserveInput) (workflows.PreserveResult, error) {
	return workflows.PreserveResult{Evidence: []workflows.Evidence{{Name: "reading", Hash: fmt.Sprintf("sha256:%d", len(in.Readings))}}}, nil
}

func (w *world) doArchive(_ context.Context, in workflows.ArchiveInput) (workflows.ArchiveResult, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.archived = append(w.archived, in)
	return workflows.ArchiveResult{Chapter: workflows.Chapter{Workflow: in.Workflow, Run: "run of " + in.Workflow, Hash: "sha256:" + in.Workflow}}, nil
}

func (w *world) doExpand(_ context.Context, in workflows.ExpandInput) (workflows.ExpandResult, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.expanded = append(w.expanded, in)
	out := workflows.ExpandResult{Reachable: len(in.Items), Unseen: w.lacks.Unseen, Dark: w.lacks.Dark}
	if w.mass != nil {
		out.Mass = w.mass.expand(in)
	}
	have := map[string]bool{}
	for _, s := range in.Items {
		have[s.Key.ID] = true
	}
	for _, s := range in.Items {
		e := w.estate[s.Key.ID]
		s.Owner, s.OwnerKind, s.Dependents, s.Customers, s.StoreDirty = e.Owner, e.OwnerKind, e.Dependents, e.Customers, e.StoreDirty
		s.Copies = e.Copies // as the estate does it: what it knows, anew
		out.Items = append(out.Items, s)
		for _, id := range w.reach[s.Key.ID] {
			if !have[id] {
				have[id] = true
				out.Items = append(out.Items, workflows.Scoped{Key: key(id), Basis: "estate", Why: "reached from " + s.Key.ID, Owner: w.estate[id].Owner})
			}
		}
	}
	return out, nil
}

func (w *world) doPlan(_ context.Context, in workflows.PlanInput) (workflows.PlanResult, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.plans = append(w.plans, in)
	return engine.BuildPlan(in)
}

func (w *world) doClaim(_ context.Context, in workflows.ClaimInput) (workflows.ClaimResult, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := workflows.ClaimResult{Owners: map[string]string{}}
	for _, f := range in.FPs {
		if w.claims[f] == "" {
			w.claims[f] = in.Incident
		}
		out.Owners[f] = w.claims[f]
	}
	return out, nil
}

func (w *world) doSeal(_ context.Context, in workflows.SealInput) (workflows.SealResult, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seals = append(w.seals, in)
	return workflows.SealResult{Path: "bundle.zip", Digest: fmt.Sprintf("sha256:bundle%d", len(w.seals)), Events: 1}, nil
}

func (w *world) doForget(context.Context, workflows.ForgetInput) (struct{}, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.forgets++
	return struct{}{}, nil
}

func (w *world) doAlarm(_ context.Context, in workflows.AlarmInput) (struct{}, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.alarms = append(w.alarms, in)
	return struct{}{}, nil
}

// report signs a report of a key as rekey's server does.
func (w *world) report(id, keyID string, change ...func(*workflows.Report)) workflows.Report {
	rep := workflows.Report{
		ID: id, Source: "cli", SourceKind: "person", Actor: "rita", Received: w.env.Now().UTC(), Confidence: "confirmed", Key: key(keyID), Ceiling: "propose",
	}
	rep.Key.Principal = ""
	for _, c := range change {
		c(&rep)
	}
	signed, err := statement.Sign(statement.Statement{
		Action: statement.Report, Incident: w.in.ID, Actor: rep.Actor, Method: "server", Items: []string{rep.Key.FP}, Nonce: "report-" + id, Issued: rep.Received, Expires: rep.Received.Add(time.Hour),
	}, w.server)
	require.NoError(w.t, err)
	rep.Statement = signed
	return rep
}

func withSecret(rep *workflows.Report) { rep.Secret = "reported/" + rep.ID }

// at runs f when the story is that old. A story whose incident is over before all
// of it was played has failed.
func (w *world) at(d time.Duration, f func()) {
	w.open++
	w.env.RegisterDelayedCallback(func() { w.open--; f() }, d)
}

// reported brings a report at a time.
func (w *world) reported(d time.Duration, id, keyID string, change ...func(*workflows.Report)) {
	w.at(d, func() { w.env.SignalWorkflow(workflows.SignalReport, w.report(id, keyID, change...)) })
}

// say makes a statement of a person, valid now.
func (w *world) say(action, actor string, change ...func(*statement.Statement)) statement.Signed {
	w.nonce++
	s := statement.Statement{
		Action: action, Incident: w.in.ID, Actor: actor, Method: "cli-key", Nonce: fmt.Sprintf("n%d", w.nonce),
		Issued: w.env.Now(), Expires: w.env.Now().Add(5 * time.Minute),
	}
	for _, c := range change {
		c(&s)
	}
	k := w.voters[actor]
	if k == nil {
		k = w.signer()
	}
	if s.Method == statement.MethodSlack {
		k = w.server
	}
	signed, err := statement.Sign(s, k)
	require.NoError(w.t, err)
	return signed
}

// An answer is what became of an update.
type answer struct {
	workflows.Decision
	code     string
	err      error
	rejected error
	done     bool
}

// update sends a statement and keeps the answer.
func (w *world) update(s statement.Signed) *answer { return w.updateAs(s.Statement.Action, s) }

func (w *world) updateAs(name string, s statement.Signed) *answer {
	a := &answer{}
	w.nonce++
	w.env.UpdateWorkflow(name, fmt.Sprintf("u%d", w.nonce), &testsuite.TestUpdateCallback{
		OnReject: func(err error) { a.rejected = err },
		OnAccept: func() {},
		OnComplete: func(res any, err error) {
			a.done, a.err = true, err
			var app *temporal.ApplicationError
			if errors.As(err, &app) {
				var body view.ErrorBody
				if app.Details(&body) == nil {
					a.code = body.Code
				}
			}
			if d, ok := res.(workflows.Decision); ok {
				a.Decision = d
			}
		},
	}, s)
	return a
}

// show asks the incident how it stands.
func (w *world) show() view.Incident {
	enc, err := w.env.QueryWorkflow(workflows.QueryShow)
	require.NoError(w.t, err)
	var v view.Incident
	require.NoError(w.t, enc.Get(&v))
	return v
}

// vote answers the one open question of a kind.
func (w *world) vote(actor, action, about string) *answer {
	for _, a := range w.show().Approvals {
		if a.State == "open" && a.For == about {
			return w.update(w.say(action, actor, func(s *statement.Statement) {
				s.WaveHash, s.Approval, s.Text = a.WaveHash, a.ID, "because"
			}))
		}
	}
	w.t.Errorf("%s: nothing open about %q for %s", w.env.Now().Sub(t0), about, actor)
	return &answer{}
}

// approving lets people vote for every question of the kinds as soon as it is
// asked, looking every minute.
func (w *world) approving(abouts ...string) {
	done := map[string]bool{}
	w.every(time.Minute, func() {
		for _, a := range w.show().Approvals {
			for _, about := range abouts {
				if a.State != "open" || a.For != about || done[a.ID] {
					continue
				}
				done[a.ID] = true
				for _, actor := range []string{"alice", "bob"} {
					if a.Needed == 1 && actor == "bob" {
						continue
					}
					w.update(w.say(statement.Approve, actor, func(s *statement.Statement) { s.WaveHash, s.Approval = a.WaveHash, a.ID }))
				}
			}
		}
	})
}

// resolving ends every open step that a person is asked for.
func (w *world) resolving(change ...func(*statement.Statement)) {
	done := map[string]bool{}
	w.every(time.Minute, func() {
		for _, h := range w.show().NeedsHuman {
			if h.State == "open" && !done[h.ID] {
				done[h.ID] = true
				w.update(w.say(statement.Resolve, "alice", append([]func(*statement.Statement){func(s *statement.Statement) { s.Task = h.ID }}, change...)...))
			}
		}
	})
}

// every runs f again and again while the incident is open.
func (w *world) every(d time.Duration, f func()) {
	var again func()
	again = func() {
		if w.env.IsWorkflowCompleted() {
			return
		}
		f()
		w.env.RegisterDelayedCallback(again, d)
	}
	w.env.RegisterDelayedCallback(again, d)
}

// until ends the story at a time, with the incident still open.
func (w *world) until(d time.Duration) {
	w.env.RegisterDelayedCallback(func() {
		w.last = w.show()
		w.env.CancelWorkflow()
	}, d)
}

// run plays the story and gives the end of the incident.
func (w *world) run() view.Incident {
	w.t.Helper()
	w.env.ExecuteWorkflow(workflows.TypeIncident, w.in)
	require.True(w.t, w.env.IsWorkflowCompleted(), "the story never ends")
	if w.last.ID == "" {
		require.NoError(w.t, w.env.GetWorkflowError())
		w.last = w.show()
	}
	require.Zero(w.t, w.open, "the incident was over before the story was")
	return w.last
}

// of gives an item of a view.
func of(t *testing.T, v view.Incident, id string) view.Item {
	t.Helper()
	for _, it := range v.Items {
		if it.FP == fp(id) {
			return it
		}
	}
	t.Fatalf("%s is not in scope", id)
	return view.Item{}
}

// count gives the recorded events of a type with a result; "" is any.
func (w *world) count(typ, result string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, e := range w.events {
		if e.Type == typ && (result == "" || e.Result == result) {
			n++
		}
	}
	return n
}

// openHumans lists the steps that wait for people.
func openHumans(v view.Incident) []view.Human {
	var out []view.Human
	for _, h := range v.NeedsHuman {
		if h.State == "open" {
			out = append(out, h)
		}
	}
	return out
}

// recorder keeps what workflows write into their history by side effect.
type recorder struct {
	interceptor.WorkerInterceptorBase
	w *world
}

func (r *recorder) InterceptWorkflow(_ workflow.Context, next interceptor.WorkflowInboundInterceptor) interceptor.WorkflowInboundInterceptor {
	return &inbound{WorkflowInboundInterceptorBase: interceptor.WorkflowInboundInterceptorBase{Next: next}, w: r.w}
}

type inbound struct {
	interceptor.WorkflowInboundInterceptorBase
	w *world
}

func (i *inbound) Init(out interceptor.WorkflowOutboundInterceptor) error {
	return i.Next.Init(&outbound{WorkflowOutboundInterceptorBase: interceptor.WorkflowOutboundInterceptorBase{Next: out}, w: i.w})
}

type outbound struct {
	interceptor.WorkflowOutboundInterceptorBase
	w *world
}

func (o *outbound) SideEffect(ctx workflow.Context, f func(workflow.Context) any) converter.EncodedValue {
	return o.Next.SideEffect(ctx, func(ctx workflow.Context) any {
		v := f(ctx)
		if rec, ok := v.(workflows.Recorded); ok {
			o.w.mu.Lock()
			o.w.events = append(append(o.w.events, rec.Event), rec.More...)
			o.w.mu.Unlock()
		}
		return v
	})
}

// quiet drops the SDK's log.
type quiet struct{}

func (quiet) Debug(string, ...any) {}
func (quiet) Info(string, ...any)  {}
func (quiet) Warn(string, ...any)  {}
func (quiet) Error(string, ...any) {}
