package workflows_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"rekey/activities"
	"rekey/playbooks"
	"rekey/workflows"
)

// TestAccountKeepsOneHolder plays the ends that a hold can have, and what the next
// holder is told.
func TestAccountKeepsOneHolder(t *testing.T) {
	until := t0.Add(time.Hour)
	stops := map[string]time.Time{"iam": until}
	for name, row := range map[string]struct {
		end    func() (workflows.HoldResult, error)
		handed bool
		stops  map[string]time.Time
		wait   time.Duration
	}{
		"it hands over": {end: func() (workflows.HoldResult, error) { return workflows.HoldResult{Stops: stops}, nil }, handed: true, stops: stops},
		"it dies": {end: func() (workflows.HoldResult, error) {
			return workflows.HoldResult{}, temporal.NewTimeoutError(enums.TIMEOUT_TYPE_HEARTBEAT, nil, workflows.HoldResult{Stops: stops})
		}, stops: stops},
		"it cannot": {end: func() (workflows.HoldResult, error) {
			return workflows.HoldResult{}, temporal.NewApplicationError("no credentials here", "cannot-hold")
		}, wait: 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var mu sync.Mutex
			var holds []workflows.HoldInput
			var at []time.Time
			running := 0
			w.env.RegisterActivityWithOptions(func(ctx context.Context, in workflows.HoldInput) (workflows.HoldResult, error) {
				mu.Lock()
				defer mu.Unlock()
				running++
				defer func() { running-- }()
				require.Equal(t, 1, running, "one at a time")
				require.Equal(t, workflows.HoldQueue, activity.GetInfo(ctx).TaskQueue)
				require.Equal(t, workflows.Lease, activity.GetInfo(ctx).HeartbeatTimeout, "the lease is what Temporal waits for")
				require.Equal(t, workflows.Lease.Milliseconds(), in.LeaseMs)
				holds, at = append(holds, in), append(at, w.env.Now())
				if len(holds) == 3 {
					w.env.SetContinueAsNewSuggested(true)
				}
				return row.end()
			}, activity.RegisterOptions{Name: workflows.ActivityHold})
			w.env.ExecuteWorkflow(workflows.TypeAccount, workflows.AccountInput{Provider: "awsiam", Account: "prod"})
			var can *workflow.ContinueAsNewError
			require.ErrorAs(t, w.env.GetWorkflowError(), &can)
			require.Len(t, holds, 3)
			require.False(t, holds[0].Handed)
			for n := 1; n < 3; n++ {
				require.Greater(t, holds[n].Term, holds[n-1].Term, "terms only grow")
				require.Equal(t, row.handed, holds[n].Handed)
				require.Len(t, holds[n].Stops, len(row.stops))
				for api, to := range row.stops {
					require.True(t, to.Equal(holds[n].Stops[api]), "what the provider asked for is obeyed by the next one")
				}
				require.GreaterOrEqual(t, at[n].Sub(at[n-1]), row.wait)
			}
			var next workflows.AccountInput
			require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(can.Input, &next))
			require.Equal(t, holds[2].Term, next.Term)
		})
	}
}

// TestTermsGrowWhenTheWorkflowIsBegunAnew is an account whose workflow somebody
// terminated: a later one must not give out a term that a journal has seen.
func TestTermsGrowWhenTheWorkflowIsBegunAnew(t *testing.T) {
	var terms []uint64
	for _, began := range []time.Duration{0, time.Minute} {
		w := newWorld(t)
		w.env.SetStartTime(t0.Add(began))
		w.env.RegisterActivityWithOptions(func(_ context.Context, in workflows.HoldInput) (workflows.HoldResult, error) {
			terms = append(terms, in.Term)
			w.env.SetContinueAsNewSuggested(true)
			return workflows.HoldResult{}, nil
		}, activity.RegisterOptions{Name: workflows.ActivityHold})
		w.env.ExecuteWorkflow(workflows.TypeAccount, workflows.AccountInput{Provider: "awsiam", Account: "prod"})
	}
	require.Len(t, terms, 2)
	require.Greater(t, terms[1], terms[0])
}

// TestPassesWaitWhereTheirAccountIsHeld looks at the queue of every call.
func TestPassesWaitWhereTheirAccountIsHeld(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	queues := map[string]map[string]int{}
	w.env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
		mu.Lock()
		defer mu.Unlock()
		kind, _, _ := strings.Cut(info.ActivityType.Name, ".")
		if queues[kind] == nil {
			queues[kind] = map[string]int{}
		}
		queues[kind][info.TaskQueue]++
	})
	w.reported(0, "r1", "AKIA-1", withSecret)
	w.approving("irreversible")
	v := w.run()
	require.Equal(t, "all-clear", v.State)
	require.Len(t, queues["awsiam"], 1, "%v", queues)
	require.Positive(t, queues["awsiam"][workflows.AccountQueue("awsiam", "prod")])
	require.Len(t, queues["engine"], 1)
	require.Positive(t, queues["engine"][workflows.TaskQueue])
}

// TestNobodyServesTheAccount has no worker for an account: a person is told soon, the
// call stays one effect, and it is made when a worker comes.
func TestNobodyServesTheAccount(t *testing.T) {
	for _, verb := range []activities.Verb{activities.Disable, activities.Issue} {
		t.Run(string(verb), func(t *testing.T) {
			w := newWorld(t)
			if verb == activities.Issue {
				w.used("AKIA-1", "billing")
			}
			w.provider.always[verb] = fault{waited: true}
			w.reported(0, "r1", "AKIA-1", withSecret)
			w.approving("strategy", "irreversible")
			w.at(10*time.Minute, func() {
				h := openHumans(w.show())
				require.Len(t, h, 1)
				require.Contains(t, h[0].What, "account awsiam/prod")
				require.Contains(t, h[0].What, "rekey doctor")
				require.Empty(t, w.provider.did(activities.Revoke))
				w.provider.mu.Lock()
				delete(w.provider.always, verb)
				w.provider.mu.Unlock()
			})
			w.until(20 * time.Minute)
			v := w.run()
			if verb == activities.Disable {
				require.Equal(t, "dead", of(t, v, "AKIA-1").Death.State)
			} else {
				require.NotEmpty(t, of(t, v, "AKIA-1").Adoption.NewKeyID)
			}
			for _, h := range openHumans(v) {
				require.NotContains(t, h.What, "no worker", "the step lapses when the call is made")
			}
			ids := map[string]bool{}
			for _, c := range w.provider.all() {
				if c.verb == verb {
					ids[c.pass.ID] = true
				}
			}
			require.Len(t, ids, 1, "one effect, one journal")
		})
	}
}

// TestASecretIsTriedWhereTheAccountIsHeld: the step that may call the provider runs
// at the holder, and without one it runs anywhere, where possession is not shown.
func TestASecretIsTriedWhereTheAccountIsHeld(t *testing.T) {
	may := func(w *world) { w.set.Playbook.ContainOnReport = &playbooks.ContainOnReport{When: "true"} }
	for name, row := range map[string]struct {
		nobody bool
		ask    bool
		want   []string
	}{
		"held":                     {ask: true, want: []string{workflows.AccountQueue("awsiam", "prod")}},
		"nobody holds it":          {ask: true, nobody: true, want: []string{workflows.AccountQueue("awsiam", "prod"), workflows.TaskQueue}},
		"the source may not cause": {want: []string{workflows.TaskQueue}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, may)
			var queues []string
			w.env.OnActivity(workflows.ActivityAdmit, mock.Anything, mock.Anything).Return(func(ctx context.Context, _ workflows.AdmitInput) (workflows.AdmitResult, error) {
				queues = append(queues, activity.GetInfo(ctx).TaskQueue)
				if row.nobody && len(queues) == 1 {
					return workflows.AdmitResult{}, errors.New("as if nobody had taken it up")
				}
				return workflows.AdmitResult{Severity: "medium"}, nil
			})
			w.reported(0, "r1", "AKIA-1", withSecret, func(rep *workflows.Report) {
				if row.ask {
					rep.Ceiling = "contain"
				}
			})
			w.approving("irreversible")
			w.run()
			require.Equal(t, row.want, queues)
		})
	}
}
