package e2e

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	sdk "go.temporal.io/sdk/worker"

	"rekey/activities"
	"rekey/internal/api"
	"rekey/internal/blob"
	"rekey/internal/codec"
	"rekey/internal/codec/keyring"
	"rekey/internal/config"
	"rekey/internal/derive"
	"rekey/internal/devserver"
	"rekey/internal/engine"
	"rekey/internal/event"
	"rekey/internal/intake"
	"rekey/internal/people"
	"rekey/internal/playbook"
	"rekey/internal/secret"
	"rekey/internal/secret/agestore"
	"rekey/internal/secret/installation"
	"rekey/internal/secret/redact"
	"rekey/internal/temporalx"
	"rekey/internal/view"
	"rekey/worker"
	"rekey/workflows"
)

// A hall is intake and the workflows on the embedded server, with engine activities
// that answer at once and a kind of key that no call is made for: what is tested is
// how reports and incidents meet.
type hall struct {
	*intake.Intake
	client client.Client
	keys   *keyring.Keyring
	finger *secret.Fingerprinter
	signer ed25519.PrivateKey
}

func newHall(t *testing.T) *hall {
	t.Helper()
	h := &hall{}
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o700))
	cfg, err := config.Parse([]byte("providers: {awsiam: {prod: {account_id: \"123456789012\"}}}\n"), dir)
	require.NoError(t, err)
	h.keys, err = keyring.Open(keyring.Options{Dir: filepath.Join(dir, "codec"), Create: true, Now: time.Now})
	require.NoError(t, err)
	srv, err := devserver.Start(t.Context(), devserver.Options{DataDir: dir, Frontend: "127.0.0.1:0", Namespaces: []string{"rekey"}})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		require.NoError(t, srv.Stop(ctx))
	})
	o := srv.DialOptions("rekey")
	o.DataConverter, o.FailureConverter = codec.NewDataConverter(h.keys), codec.NewFailureConverter(h.keys)
	h.client, err = temporalx.Dial(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(h.client.Close)
	w := sdk.New(h.client, workflows.TaskQueue, sdk.Options{})
	worker.Register(w)
	for name, f := range map[string]any{
		workflows.ActivityAdmit: func(context.Context, workflows.AdmitInput) (workflows.AdmitResult, error) {
			return workflows.AdmitResult{Severity: "low"}, nil
		},
		workflows.ActivityPreserve: func(context.Context, workflows.PreserveInput) (workflows.PreserveResult, error) {
			return workflows.PreserveResult{}, nil
		},
		workflows.ActivityExpand: func(_ context.Context, in workflows.ExpandInput) (workflows.ExpandResult, error) {
			return workflows.ExpandResult{Items: in.Items}, nil
		},
		workflows.ActivityPlan: func(_ context.Context, in workflows.PlanInput) (workflows.PlanResult, error) {
			return engine.BuildPlan(in)
		},
		workflows.ActivityClaim: func(context.Context, workflows.ClaimInput) (workflows.ClaimResult, error) {
			return workflows.ClaimResult{}, nil
		},
		workflows.ActivitySeal: func(context.Context, workflows.SealInput) (workflows.SealResult, error) {
			return workflows.SealResult{Path: "bundle.zip", Digest: "sha256:bundle"}, nil
		},
		workflows.ActivityArchive: func(context.Context, workflows.ArchiveInput) (workflows.ArchiveResult, error) {
			return workflows.ArchiveResult{}, nil
		},
	} {
		w.RegisterActivityWithOptions(f, activity.RegisterOptions{Name: name})
	}
	require.NoError(t, w.Start())
	t.Cleanup(w.Stop)

	h.finger, err = installation.Load(filepath.Join(dir, "keys", "installation.key"))
	require.NoError(t, err)
	h.signer, err = people.LoadOrCreate(people.ServerKeyFile(dir))
	require.NoError(t, err)
	voters, err := people.Pinned(cfg, dir)
	require.NoError(t, err)
	identity, err := agestore.LoadIdentity(filepath.Join(dir, "keys", "age.txt"), secret.Value{})
	require.NoError(t, err)
	sealed, err := agestore.Open(agestore.Options{Dir: filepath.Join(dir, "sealed"), Identity: identity, Now: time.Now})
	require.NoError(t, err)
	blobs, err := blob.OpenDir(filepath.Join(dir, "blobs"), h.keys)
	require.NoError(t, err)
	hide, err := redact.New(redact.Options{})
	require.NoError(t, err)
	h.Intake, err = intake.New(intake.Options{
		Config: cfg, Voters: voters, Signer: h.signer, Fingerprints: h.finger, Sealed: sealed, Blobs: blobs,
		Providers: []activities.Descriptor{{Code: "awsiam", Name: "AWS IAM", Kinds: []activities.KindInfo{{Kind: "user-access-key"}}}},
		Engine:    intake.Temporal{Client: h.client}, Redact: hide, Now: time.Now, Log: slog.New(slog.DiscardHandler), Namespace: "rekey",
		Origin: func(string, activities.Account) (string, error) { return "aws", nil },
	})
	require.NoError(t, err)
	return h
}

// ending starts the incident of a key in its last moments: its one item is proven
// dead, and all that is left is to close, to seal and to end.
func (h *hall) ending(t *testing.T, key string) string {
	t.Helper()
	fp, err := h.finger.Public("awsiam", "prod", "user-access-key", key)
	require.NoError(t, err)
	id, err := secret.IncidentID(fp)
	require.NoError(t, err)
	pb, err := playbook.Load("aws-access-key")
	require.NoError(t, err)
	in := workflows.IncidentInput{ID: id, Settings: workflows.Settings{Playbook: *pb.Playbook, Digest: pb.Digest, ServerKeys: []string{people.Encode(people.Public(h.signer))}}}
	in.Settings.Playbook.Watch.For = 0
	k := activities.Key{Provider: "awsiam", Account: "prod", Kind: "user-access-key", ID: key, FP: fp}
	done := view.Item{FP: fp, EndState: "revoked-verified"}
	done.Death.State, done.Adoption.State = "dead", "not-wanted"
	in.State = &workflows.IncidentState{
		Opened: time.Now(), Phase: "act", State: "open", Severity: "low", ScopeVersion: 1, NextWave: 1,
		Reports: []workflows.Report{{ID: "r-first", Source: "cli", Actor: "local:first", Received: time.Now(), Key: k}}, Triaged: 1,
		Items: []workflows.Scoped{{Key: k, Basis: "report"}}, Views: []view.Item{done}, Disabled: map[string]bool{},
	}
	_, err = h.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: workflows.IncidentID(id), TaskQueue: workflows.TaskQueue}, workflows.TypeIncident, in)
	require.NoError(t, err)
	return id
}

// record gives how often each report is in the histories of an incident, and how many
// lives it had.
func (h *hall) record(t *testing.T, id string) (map[string]int, int) {
	t.Helper()
	src := derive.Source{Client: h.client, Codec: codec.New(h.keys)}
	out := map[string]int{}
	lives := 0
	for run := ""; ; {
		one, err := src.Run(t.Context(), workflows.IncidentID(id), run)
		require.NoError(t, err)
		events, err := derive.Events(id, []derive.Run{one})
		require.NoError(t, err)
		lives++
		for _, e := range events {
			if e.Type == event.EventTrigger {
				out[e.Attrs["report"]]++
			}
		}
		if run = one.Before(); run == "" {
			return out, lives
		}
	}
}

// TestReportsWhileAnIncidentCloses: a report that comes at any moment of an incident's
// last ones is in its record exactly once: in the life that ends, in the one that
// goes on from it, or in the one that intake opens with a reference to it. Sent
// twice, in whatever order, it is one.
func TestReportsWhileAnIncidentCloses(t *testing.T) {
	t.Parallel()
	const atOnce = 6
	tries := 120
	if more := os.Getenv("REKEY_TRIES"); more != "" {
		var err error
		tries, err = strconv.Atoi(more)
		require.NoError(t, err)
	}
	h := newHall(t)
	var took []time.Duration
	for n := range 5 {
		began := time.Now()
		id := h.ending(t, fmt.Sprintf("AKIAWARMINGUP%07d", n))
		require.NoError(t, h.client.GetWorkflow(t.Context(), workflows.IncidentID(id), "").Get(t.Context(), nil))
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	var mu sync.Mutex
	inTime, reopened, lives := 0, 0, map[int]int{}
	places := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for n := range tries {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			key := fmt.Sprintf("AKIACLOSING%09d", n)
			id := h.ending(t, key)
			time.Sleep(rand.N(2 * took[len(took)/2]))
			var reps sync.Map
			var senders sync.WaitGroup
			for _, nonce := range []string{"first-one", "other-one", "first-one"} {
				senders.Go(func() {
					answer, err := h.Report(t.Context(), intake.Caller{Actor: "local:late", Source: "cli", SourceKind: "cli"}, api.ReportRequest{Provider: "awsiam", Kind: "user-access-key", KeyID: key, Nonce: nonce})
					if err != nil || answer.Incident != id {
						t.Error(err, answer.Incident, id)
						return
					}
					reps.Store(answer.Report, true)
					mu.Lock()
					defer mu.Unlock()
					if answer.Reopened {
						reopened++
					} else {
						inTime++
					}
				})
			}
			senders.Wait()
			var got map[string]int
			var n int
			enough := func() bool {
				got, n = h.record(t, id)
				return len(got) >= 2
			}
			for end := time.Now().Add(time.Minute); !enough() && time.Now().Before(end); {
				time.Sleep(20 * time.Millisecond)
			}
			reps.Range(func(rep, _ any) bool {
				if got[rep.(string)] != 1 {
					t.Errorf("%s: report %s is in the record %d times", id, rep, got[rep.(string)])
				}
				return true
			})
			if len(got) != 2 {
				t.Errorf("%s has %v", id, got)
			}
			mu.Lock()
			lives[n]++
			mu.Unlock()
		})
	}
	all.Wait()
	t.Logf("%d incidents that close in about %d ms: %d reports were answered in time, %d opened the incident again; lives: %v", tries, took[len(took)/2].Milliseconds(), inTime, reopened, lives)
	require.Positive(t, inTime, "no report came before the end")
	require.Positive(t, reopened, "no report came after the end")
}
