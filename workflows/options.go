package workflows

import (
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"rekey/activities"
)

// Every time-out and retry policy of rekey stands here, with its reason.
const (
	// heartbeat: a worker that died is noticed this fast. The runner beats from a
	// ticker, so a slow provider does not miss it.
	heartbeat = 4 * time.Second
	// mutate bounds one mutating call on one item: the slowest documented IAM
	// calls answer in seconds; longer means that the answer is lost.
	mutate = 30 * time.Second
	// read bounds Inspect and Sweep: CloudTrail gives 2 pages a second.
	read = 15 * time.Minute
	// probe bounds one probe and its control.
	probe = 30 * time.Second
	// engine bounds the engine's own activities: files and rules, no vendor.
	engine = 30 * time.Second
	// seal bounds writing a bundle: 100,000 events take seconds.
	seal = 5 * time.Minute

	// backoffFirst and backoffMax pace the repeats of a transient failure.
	backoffFirst = 2 * time.Second
	backoffMax   = 5 * time.Minute
	// patience is how many failures in a row open a needs-human step. The repeats
	// go on beside it.
	patience = 6
	// humanDue is how long a person has before the step is shown as late.
	humanDue = 4 * time.Hour

	// settleSpan is how long two equal sweeps must lie apart at least, on top of
	// twice the propagation.
	settleSpan = 5 * time.Second
	// maxWait is the longest single timer: longer waits wake daily, so that a
	// cluster can move them to a new build.
	maxWait = 24 * time.Hour

	// secretLife is how long a sealed secret lives at most (design section 8).
	secretLife = 72 * time.Hour

	// WaveItems bounds a wave so that its history stays far below 10,000 events:
	// an item costs up to some hundred.
	WaveItems = 10

	// approvalDefault is used where a playbook gives no expiry.
	approvalDefault = time.Hour
)

// summary is what the Temporal UI shows beside a step (200 bytes at most).
func summary(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most]
	}
	return s
}

// providerOptions are for one pass of a provider's verb. Mutating verbs have one
// Temporal attempt: the repeats are in the workflow, where each is on record. So
// have the reading ones, for the same reason.
func providerOptions(ctx workflow.Context, v activities.Verb, what string) workflow.Context {
	limit := mutate
	switch v {
	case activities.Inspect, activities.Sweep:
		limit = read
	case activities.Probe:
		limit = probe
	}
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: limit,
		HeartbeatTimeout:    heartbeat,
		RetryPolicy:         &temporal.RetryPolicy{MaximumAttempts: 1},
		Summary:             summary(what),
		WaitForCancellation: true,
	})
}

// engineOptions are for the engine's own activities. They are idempotent and
// local, so Temporal repeats them for ever: a full disk ends when it is mended.
func engineOptions(ctx workflow.Context, limit time.Duration, what string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: limit,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval:    500 * time.Millisecond,
			BackoffCoefficient: 2,
			MaximumInterval:    10 * time.Second,
		},
		Summary: summary(what),
	})
}

// backoff is the wait before repeat n (1 is the first).
func backoff(n int) time.Duration {
	d := backoffFirst
	for i := 1; i < n && d < backoffMax; i++ {
		d *= 2
	}
	return min(d, backoffMax)
}
