package batch_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/activities/batch"
	"rekey/internal/blob"
)

var edges = []string{batch.EdgeBefore, batch.EdgeAfter, batch.EdgeRecord}

// journals are the kinds that every story about a crash is played with.
func journals(t *testing.T) map[string]batch.Journals {
	return map[string]batch.Journals{"memory": newMemory(), "directory": blobs(t), "bucket": bucket(t)}
}

// finish makes attempts until the effect is reached, as the workflow does.
func finish(t *testing.T, c any, j batch.Journals, v activities.Verb, from int, o workerOptions) activities.Attempt {
	t.Helper()
	for n := from; n < from+6; n++ {
		a, killed := do(t, runner(c, j, o), pass(v, n))
		require.False(t, killed)
		if a.Outcome.Reached() {
			return a
		}
	}
	t.Fatal("never reached")
	return activities.Attempt{}
}

func TestKilledAtEveryEdge(t *testing.T) {
	for _, edge := range edges {
		for name, j := range journals(t) {
			t.Run("Disable "+edge+" "+name, func(t *testing.T) {
				c := newCloud()
				_, killed := do(t, runner(c, j, workerOptions{epoch: "e1", edge: edge}), pass(activities.Disable, 1))
				require.True(t, killed)
				a := finish(t, c, j, activities.Disable, 2, workerOptions{epoch: "e2"})
				require.Equal(t, activities.Done, a.Outcome)
				require.Empty(t, c.alive())
				want := map[string]int{batch.EdgeBefore: 1, batch.EdgeAfter: 2, batch.EdgeRecord: 1}[edge]
				require.Equal(t, want, c.count("Disable"), "an outcome on record is not called for again; a lost one of an idempotent verb is")
				require.Equal(t, edge == batch.EdgeRecord, a.Recovered)
			})
		}
		for name, j := range journals(t) {
			t.Run("Issue "+edge+" "+name, func(t *testing.T) {
				c := newCloud()
				_, killed := do(t, runner(c, j, workerOptions{epoch: "e1", edge: edge}), pass(activities.Issue, 1))
				require.True(t, killed)
				a := finish(t, c, j, activities.Issue, 2, workerOptions{epoch: "e2"})
				require.NotNil(t, a.Issue)
				require.Equal(t, []string{"OLD", a.Issue.New.ID}, c.alive(), "exactly one replacement is alive")
				require.Equal(t, 1, c.count("ListKeys"), "the list before the first attempt serves all")
				if edge != batch.EdgeRecord {
					require.Equal(t, 1, c.count("ReconcileIssue"))
				}
			})
		}
	}
}

func TestKilledTwice(t *testing.T) {
	for name, j := range journals(t) {
		t.Run(name, func(t *testing.T) {
			c := newCloud()
			for n, edge := range []string{batch.EdgeAfter, batch.EdgeAfter, batch.EdgeAfter, batch.EdgeBefore} {
				epoch := string(rune('a' + n))
				for m := range 2 { // one attempt settles what was lost, the next one creates and dies
					if _, killed := do(t, runner(c, j, workerOptions{epoch: epoch, edge: edge}), pass(activities.Issue, 2*n+m+1)); killed {
						break
					}
				}
			}
			a := finish(t, c, j, activities.Issue, 20, workerOptions{epoch: "z"})
			require.Equal(t, []string{"OLD", a.Issue.New.ID}, c.alive())
		})
	}
}

func TestNoReconcileMakesADuplicate(t *testing.T) {
	c, j := newCloud(), newMemory()
	_, killed := do(t, runner(c, j, workerOptions{epoch: "e1", edge: batch.EdgeAfter}), pass(activities.Issue, 1))
	require.True(t, killed)
	p := pass(activities.Issue, 2)
	p.NoReconcile = true
	a, _ := do(t, runner(c, j, workerOptions{epoch: "e2"}), p)
	require.True(t, a.Outcome.Reached())
	require.Len(t, c.alive(), 3, "the negative control: the lost key lives on beside its twin")
}

func TestUnclearIssue(t *testing.T) {
	unclear := &activities.Fault{Class: activities.ClassUnclear, Op: "iam:CreateAccessKey", Detail: "no answer"}
	t.Run("it had happened: settled before it is made again", func(t *testing.T) {
		c, j := newCloud(), newMemory()
		c.fail["Issue"] = []answer{{err: unclear, applied: true}}
		a, _ := do(t, runner(c, j, workerOptions{epoch: "e"}), pass(activities.Issue, 1))
		require.Equal(t, activities.Unclear, a.Outcome)
		a, _ = do(t, runner(c, j, workerOptions{epoch: "e"}), pass(activities.Issue, 2))
		require.Equal(t, activities.Unclear, a.Outcome, "the settling is an answer of its own")
		require.Len(t, a.Reconcile.Killed, 1)
		require.True(t, a.Recovered)
		require.Equal(t, 1, c.count("Issue"))
		a, _ = do(t, runner(c, j, workerOptions{epoch: "e"}), pass(activities.Issue, 3))
		require.Equal(t, activities.Done, a.Outcome)
		require.Equal(t, []string{"OLD", a.Issue.New.ID}, c.alive())
	})
	t.Run("it had not happened", func(t *testing.T) {
		c, j := newCloud(), newMemory()
		c.fail["Issue"] = []answer{{err: unclear}}
		a := finish(t, c, j, activities.Issue, 1, workerOptions{epoch: "e"})
		require.Equal(t, []string{"OLD", a.Issue.New.ID}, c.alive())
	})
	t.Run("an unattributed key is never settled and never deleted", func(t *testing.T) {
		c, j := newCloud(), newMemory()
		c.fail["Issue"] = []answer{{err: unclear}}
		do(t, runner(c, j, workerOptions{epoch: "e"}), pass(activities.Issue, 1))
		c.keys = append(c.keys, activities.KeyState{ID: "ROGUE", Active: true, Created: c.now})
		for n := 2; n < 6; n++ {
			a, _ := do(t, runner(c, j, workerOptions{epoch: "e"}), pass(activities.Issue, n))
			require.Equal(t, activities.Unclear, a.Outcome)
			require.Equal(t, "ROGUE", a.Reconcile.Unattributed[0].ID)
		}
		require.Equal(t, 1, c.count("Issue"), "no second create while the first is not settled")
		require.Contains(t, c.alive(), "ROGUE")
	})
	t.Run("its settling is refused: asked again, and no create meanwhile", func(t *testing.T) {
		c, j := newCloud(), newMemory()
		c.fail["Issue"] = []answer{{err: unclear, applied: true}}
		c.fail["ReconcileIssue"] = []answer{{err: &activities.Fault{Class: activities.ClassDenied, Op: "iam:ListAccessKeys", Permission: "iam:ListAccessKeys"}}}
		do(t, runner(c, j, workerOptions{epoch: "e"}), pass(activities.Issue, 1))
		a, _ := do(t, runner(c, j, workerOptions{epoch: "e"}), pass(activities.Issue, 2))
		require.Equal(t, activities.Denied, a.Outcome)
		require.Equal(t, "iam:ListAccessKeys", a.Permission)
		require.Equal(t, 1, c.count("Issue"))
		a = finish(t, c, j, activities.Issue, 3, workerOptions{epoch: "e"})
		require.Equal(t, []string{"OLD", a.Issue.New.ID}, c.alive())
	})
}

type keeper struct{ *cloud }

// ReconcileIssue finds the lost key with its secret sealed.
func (k keeper) ReconcileIssue(context.Context, activities.ReconcileRequest) (activities.ReconcileResult, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls["ReconcileIssue"]++
	last := k.keys[len(k.keys)-1]
	return activities.ReconcileResult{Settled: true, Kept: &last}, nil
}

func TestKept(t *testing.T) {
	for name, j := range journals(t) {
		t.Run(name, func(t *testing.T) {
			c := keeper{newCloud()}
			_, killed := do(t, runner(c, j, workerOptions{epoch: "e1", edge: batch.EdgeAfter}), pass(activities.Issue, 1))
			require.True(t, killed)
			for n := 2; n < 4; n++ { // and again: a third attempt reads it from the journal
				a, _ := do(t, runner(c, j, workerOptions{epoch: "e2"}), pass(activities.Issue, n))
				require.Equal(t, activities.Done, a.Outcome)
				require.Equal(t, "NEW1", a.Issue.New.ID)
				require.Equal(t, "new/1", a.Issue.Handle)
			}
			require.Equal(t, 1, c.count("Issue"))
			require.Equal(t, 1, c.count("ReconcileIssue"))
		})
	}
}

func TestAnotherEpochThatMayLiveIsOutlived(t *testing.T) {
	c, j := newCloud(), newMemory()
	_, killed := do(t, runner(c, j, workerOptions{epoch: "e1", edge: batch.EdgeAfter}), pass(activities.Issue, 1))
	require.True(t, killed)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	r := runner(c, j, workerOptions{epoch: "e2", dead: func(string) bool { return false }})
	_, err := r.Activity(activities.Issue)(ctx, pass(activities.Issue, 2))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, 0, c.count("ReconcileIssue"), "its call may still be running")
	require.Equal(t, 1, c.count("Issue"))
	a := finish(t, c, j, activities.Issue, 3, workerOptions{epoch: "e3"}) // known dead: at once
	require.Equal(t, []string{"OLD", a.Issue.New.ID}, c.alive())
}

func TestFirstAttemptEndsWellWhileTheSecondWaits(t *testing.T) { synctest.Test(t, firstEndsWell) }

func firstEndsWell(t *testing.T) {
	ctx := context.Background()
	c, j := newCloud(), newMemory()
	name := "inc-1/" + pass(activities.Issue, 1).ID
	log, err := j.Open(ctx, name, 0)
	require.NoError(t, err)
	line := func(s string) []byte {
		at := time.Now().UTC().Format(time.RFC3339Nano)
		return []byte(`{"fp":"fp1_0123456789abcdef0123","attempt":1,"at":"` + at + `",` + s + `}`)
	}
	deadline := time.Now().Add(time.Second).UTC().Format(time.RFC3339Nano)
	require.NoError(t, log.Append(ctx, line(`"kind":"intent","epoch":"e","deadline":"`+deadline+`","before":[{"key_id":"OLD","active":true,"created":"2026-01-01T00:00:00Z"}]`), true))
	c.keys = append(c.keys, activities.KeyState{ID: "NEW1", Active: true})
	c.mine["NEW1"] = true
	got := make(chan activities.Attempt)
	go func() {
		out, err := runner(c, j, workerOptions{epoch: "e"}).Activity(activities.Issue)(ctx, pass(activities.Issue, 2))
		if err != nil || len(out.Items) != 1 {
			close(got)
			return
		}
		got <- out.Items[0]
	}()
	synctest.Wait() // it has seen the intent alone, and waits for its end
	require.Positive(t, j.reads)
	require.NoError(t, log.Append(ctx, line(`"kind":"outcome","result":{"verb":"Issue","outcome":"done","issue":{"outcome":"done","new":{"key_id":"NEW1","active":true,"created":"2026-01-01T00:00:00Z"}}}`), true))
	a := <-got
	require.Equal(t, activities.Done, a.Outcome)
	require.Equal(t, "NEW1", a.Issue.New.ID)
	require.Contains(t, c.alive(), "NEW1", "what ended well is not settled")
	require.Equal(t, 0, c.count("ReconcileIssue"))
}

func TestSlotNeededIsMadeAgain(t *testing.T) {
	c, j := newCloud(), newMemory()
	c.fail["Issue"] = []answer{{res: activities.Result{Outcome: activities.NeedsHuman, Detail: activities.SlotNeeded}}}
	a, _ := do(t, runner(c, j, workerOptions{epoch: "e"}), pass(activities.Issue, 1))
	require.Equal(t, activities.SlotNeeded, a.Detail)
	a, _ = do(t, runner(c, j, workerOptions{epoch: "e"}), pass(activities.Issue, 2))
	require.Equal(t, activities.Done, a.Outcome)
	require.Equal(t, 0, c.count("ReconcileIssue"), "nothing was lost")
}

func TestWhatAPersonMendsIsMadeAgain(t *testing.T) {
	c, j := newCloud(), newMemory()
	c.fail["Issue"] = []answer{{res: activities.Result{Outcome: activities.NeedsHuman, Detail: "quota"}}}
	a, _ := do(t, runner(c, j, workerOptions{epoch: "e"}), pass(activities.Issue, 1))
	require.Equal(t, activities.NeedsHuman, a.Outcome)
	a, _ = do(t, runner(c, j, workerOptions{epoch: "e"}), pass(activities.Issue, 2))
	require.Equal(t, activities.Done, a.Outcome)
}

func TestThrottle(t *testing.T) {
	limits := batch.NewLimits(nil)
	c, j := newCloud(), newMemory()
	c.fail["Disable"] = []answer{{err: &activities.Fault{Class: activities.ClassThrottled, Op: "iam", After: 30 * time.Second}}}
	o := workerOptions{epoch: "e", limits: limits}
	a, _ := do(t, runner(c, j, o), pass(activities.Disable, 1))
	require.Equal(t, activities.ClassThrottled, a.Class)
	require.Equal(t, int64(30000), a.AfterMs)
	for _, v := range []activities.Verb{activities.Disable, activities.Probe, activities.Issue} {
		a, _ := do(t, runner(c, j, o), pass(v, 2))
		require.Equal(t, activities.ClassThrottled, a.Class, v)
		require.Positive(t, a.AfterMs)
	}
	require.Equal(t, 1, c.count("Disable"), "the account is stopped at once")
	require.Equal(t, 0, c.count("Probe")+c.count("Issue")+c.count("ListKeys"))
}

func TestThrottledWithoutATimeStopsToo(t *testing.T) {
	limits := batch.NewLimits(nil)
	c, j := newCloud(), newMemory()
	c.fail["Probe"] = []answer{{err: &activities.Fault{Class: activities.ClassThrottled, Op: "iam"}}}
	do(t, runner(c, j, workerOptions{epoch: "e", limits: limits}), pass(activities.Probe, 1))
	a, _ := do(t, runner(c, j, workerOptions{epoch: "e", limits: limits}), pass(activities.Probe, 2))
	require.Equal(t, activities.ClassThrottled, a.Class)
	require.Equal(t, 1, c.count("Probe"))
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	c := newCloud()
	out, err := runner(c, blobs(t), workerOptions{epoch: "e"}).Activity(activities.Disable)(ctx, pass(activities.Disable, 1))
	require.Error(t, err)
	require.Empty(t, out.Items)
	require.Equal(t, 0, c.count("Disable"), "no call without its intent")
}

func TestJournalThatCannotBeWrittenIsAnErrorAndNoOutcome(t *testing.T) {
	t.Run("before the call: no call", func(t *testing.T) {
		c, j := newCloud(), newMemory()
		j.full = true
		_, err := runner(c, j, workerOptions{epoch: "e"}).Activity(activities.Issue)(context.Background(), pass(activities.Issue, 1))
		require.Error(t, err)
		require.Equal(t, 0, c.count("Issue"))
	})
	t.Run("after the call: not told as done, and settled by the next attempt", func(t *testing.T) {
		c, j := newCloud(), newMemory()
		r := runner(c, j, workerOptions{epoch: "e1"})
		r.Edge = func(_ context.Context, edge string, _ activities.Verb, _ activities.Key) {
			j.full = edge == batch.EdgeAfter
		}
		_, err := r.Activity(activities.Issue)(context.Background(), pass(activities.Issue, 1))
		require.Error(t, err)
		require.Equal(t, 1, c.count("Issue"))
		j.full = false
		a := finish(t, c, j, activities.Issue, 2, workerOptions{epoch: "e2"})
		require.Equal(t, []string{"OLD", a.Issue.New.ID}, c.alive())
	})
}

func TestOnlyWhatIsNotIdempotentWaitsForTheDisk(t *testing.T) {
	c, j := newCloud(), newMemory()
	do(t, runner(c, j, workerOptions{epoch: "e"}), pass(activities.Disable, 1))
	require.Equal(t, 0, j.syncs)
	do(t, runner(c, j, workerOptions{epoch: "e"}), pass(activities.Issue, 1))
	require.Equal(t, 2, j.syncs, "intent and outcome")
}

// canary is an error as a vendor's client makes it: with a credential in it.
const canary = "hunter2-canary"

func TestNoVendorTextAnywhere(t *testing.T) {
	c, j := newCloud(), newMemory()
	c.fail["Disable"] = []answer{{err: errors.New("Get https://user:" + canary + "@host")}}
	c.fail["Issue"] = []answer{{err: errors.New("secret " + canary)}}
	for _, v := range []activities.Verb{activities.Disable, activities.Issue} {
		a, _ := do(t, runner(c, j, workerOptions{epoch: "e"}), pass(v, 1))
		require.Equal(t, activities.Unclear, a.Outcome)
		require.NotContains(t, a.Detail, canary)
	}
	for name, recs := range j.recs {
		require.NotContains(t, name, canary)
		for _, r := range recs {
			require.False(t, bytes.Contains(r, []byte(canary)), "%s", r)
		}
	}
}

func TestPassForAnotherVerbIsRefused(t *testing.T) {
	_, err := runner(newCloud(), newMemory(), workerOptions{epoch: "e"}).Activity(activities.Revoke)(context.Background(), pass(activities.Disable, 1))
	require.Error(t, err)
}

func TestVerbThatTheClientLacks(t *testing.T) {
	a, _ := do(t, runner(newCloud(), newMemory(), workerOptions{epoch: "e"}), pass(activities.Deny, 1))
	require.Equal(t, activities.Unsupported, a.Outcome)
}

func TestBlobJournalStaysOpenAfterItWasSealed(t *testing.T) {
	ctx := context.Background()
	b := blobs(t)
	j, err := b.Open(ctx, "inc-1/wave/1/Disable/0123456789ab/1", 0)
	require.NoError(t, err)
	require.NoError(t, j.Append(ctx, []byte(`{"n":1}`), true))
	first, err := j.Seal(ctx)
	require.NoError(t, err)
	require.NoError(t, j.Append(ctx, []byte(`{"n":2}`), false), "the next attempt goes on")
	second, err := j.Seal(ctx)
	require.NoError(t, err)
	require.NotEqual(t, first, second)
	store, ok := b.Journals.(blob.Store)
	require.True(t, ok)
	content, err := store.Get(ctx, second)
	require.NoError(t, err)
	require.Equal(t, "{\"n\":1}\n{\"n\":2}\n", string(content))
	require.NoError(t, j.Close())
	j, err = b.Open(ctx, "inc-1/wave/1/Disable/0123456789ab/1", 0)
	require.NoError(t, err)
	recs, err := j.Records(ctx)
	require.NoError(t, err)
	require.Len(t, recs, 2)
	require.NoError(t, j.Close())
}
