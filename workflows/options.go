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
	// unserved is how long a pass may wait for the holder of its account before it
	// is asked for anew and a person is told. A holder takes it up at once; a lease
	// moves in seconds. An account at its limits may keep it waiting too, so that
	// the person is told both.
	unserved = time.Minute
	// trySecret is how long the check of a reported secret waits for the holder of
	// its account: containment waits for it.
	trySecret = 10 * time.Second

	// Lease is how long a holder may call its account after the last renewal that
	// Temporal took. Shorter loses it to a pause of the machine, longer delays who
	// takes over after a crash.
	Lease = 6 * time.Second
	// holdTerm is how long one process holds an account at most without starting
	// its hold anew, so that the account's history tells who held it.
	holdTerm = 12 * time.Hour
	// holdStop is how long a holder may take beyond its term to end in order.
	holdStop = 5 * time.Minute
	// holdAgain is the wait after a process that was asked could not hold the
	// account, so that another one is likely asked next.
	holdAgain = 5 * time.Second

	// engine bounds the engine's own activities: files and rules, no vendor.
	engine = 30 * time.Second
	// archiveWait is how long a seal waits for the history of a run that has just ended:
	// writing it takes milliseconds.
	archiveWait = 10 * time.Second
	// seal bounds writing a bundle: 100,000 events take seconds.
	seal = 5 * time.Minute

	// tell bounds one call to a channel that follows an incident: some pages of a
	// thread, where the call before may have succeeded. There is no heartbeat: the
	// next attempt has to wait until this one cannot be running any more anyhow, or a
	// slow worker would say the same line twice. TellMargin is how long before that
	// the activity itself gives up.
	tell = time.Minute
	// tellSlow is the longest wait between attempts that need a person first: a
	// right that is missing, a line that is refused. Somebody mends it, and need not
	// tell rekey.
	tellSlow = time.Hour
	// tellBehind is how long a channel may fail before it is shown as behind.
	tellBehind = time.Minute
	// tellGiveUp is how long a record goes on trying once its incident is over.
	tellGiveUp = 30 * 24 * time.Hour

	// gatherLines, gatherCard and gatherBulk are how long news wait for more of
	// their kind, so that a wave of ten keys is a few messages instead of a hundred.
	// What wants a person goes at once.
	gatherLines = 2 * time.Second
	gatherCard  = 15 * time.Second
	gatherBulk  = time.Minute

	// rereadSpan is how long after a scope version the keys are read again because of
	// reports that say nothing new: a storm of reports must not keep an incident, and
	// the provider, busy with the same readings.
	rereadSpan = 10 * time.Second

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

	// passLimit bounds one pass over pages. The runner gives back what its budget does
	// not let it call in some twenty seconds; 500 slow calls, 32 at once, take longer.
	passLimit = 10 * time.Minute
	// sortLimit bounds the engine's work on pages: 50 of them are read and written in
	// seconds; a slow disk takes longer.
	sortLimit = 10 * time.Minute
	// passesAtOnce is how many passes of a wave are under way: one is called while
	// others are read and written. The calls at once are bounded by the account.
	passesAtOnce = 4
	// massWaves is how many waves over pages run at once: the next ones keep what the
	// first need short. What is approved and waits is shown.
	massWaves = 4
	// pulledAtOnce bounds the rows that are items of their own at the same time.
	pulledAtOnce = 50
	// tallyPause is the least time between two counts that a wave sends its incident.
	tallyPause = 5 * time.Second

	// LargeFrom is from how many items on an incident keeps further ones as rows of
	// pages: a small one shows each call by itself in the Temporal UI, and 200 items
	// cost some ten thousand events already.
	LargeFrom = 200

	// WaveItems bounds a wave so that its history stays far below 10,000 events:
	// an item costs up to some hundred.
	WaveItems = 10

	// WaveRows bounds a wave over pages: 50 pages of 500 rows. One vote covers it, one
	// workflow holds its groups, and one sorting takes all of it at once ([orderRows]).
	WaveRows = 25_000

	// approvalDefault is used where a playbook gives no expiry.
	approvalDefault = time.Hour
)

// TellMargin is how long before its time-out an activity of a channel gives up, so
// that it says so instead of being lost.
const TellMargin = 10 * time.Second

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
//
// They wait on the queue of their account, which one process polls.
func providerOptions(ctx workflow.Context, v activities.Verb, k activities.Key, what string) workflow.Context {
	limit := mutate
	switch v {
	case activities.Inspect, activities.Sweep:
		limit = read
	case activities.Probe:
		limit = probe
	}
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:              AccountQueue(k.Provider, k.Account),
		ScheduleToStartTimeout: unserved,
		StartToCloseTimeout:    limit,
		HeartbeatTimeout:       heartbeat,
		RetryPolicy:            &temporal.RetryPolicy{MaximumAttempts: 1},
		Summary:                summary(what),
		WaitForCancellation:    true,
		Priority:               priority(v, false),
	})
}

// priority is who of those that wait on an account's queue is taken up first: what
// contains, then calls by themselves, then passes over pages, which stay for long. The
// server's order holds among waiting tasks (five levels, 3 by default); who calls first
// among those taken up is the runner's matter.
func priority(v activities.Verb, pages bool) temporal.Priority {
	key := 3
	if urgency(v) == 0 {
		key = 1
	}
	if pages {
		key++
	}
	return temporal.Priority{PriorityKey: key}
}

// pageOptions are for one pass over pages: like [providerOptions].
func pageOptions(ctx workflow.Context, v activities.Verb, queue, what string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:              queue,
		ScheduleToStartTimeout: unserved,
		StartToCloseTimeout:    passLimit,
		HeartbeatTimeout:       heartbeat,
		RetryPolicy:            &temporal.RetryPolicy{MaximumAttempts: 1},
		Summary:                summary(what),
		WaitForCancellation:    true,
		Priority:               priority(v, true),
	})
}

// trialOptions are for the engine's step that may try a reported secret: like
// [engineOptions], where the account is held, and for a short while only.
func trialOptions(ctx workflow.Context, k activities.Key, what string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:              AccountQueue(k.Provider, k.Account),
		ScheduleToStartTimeout: trySecret,
		StartToCloseTimeout:    engine,
		RetryPolicy:            &temporal.RetryPolicy{MaximumAttempts: 1},
		Summary:                summary(what),
	})
}

// holdOptions are for the holding of an account. One attempt: the repeat is in the
// workflow, with the next term. The heartbeat time-out is the lease.
func holdOptions(ctx workflow.Context, what string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:           HoldQueue,
		StartToCloseTimeout: holdTerm + holdStop,
		HeartbeatTimeout:    Lease,
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

// recordOptions are for one call to a channel that follows an incident. It has one
// Temporal attempt: the repeats are in the workflow, where each is on record.
func recordOptions(ctx workflow.Context, what string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: tell,
		RetryPolicy:         &temporal.RetryPolicy{MaximumAttempts: 1},
		Summary:             summary(what),
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

// hand is how long a hand-over of a notice may take: a mail server may look at the
// whole mail before it answers (activities/notify/email waits a minute).
const hand = 2 * time.Minute

// sendOptions are for one attempt at one contact. It has one Temporal attempt: the
// repeats are in the workflow, and whether there may be one is in the journal.
func sendOptions(ctx workflow.Context, what string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: hand,
		HeartbeatTimeout:    heartbeat,
		RetryPolicy:         &temporal.RetryPolicy{MaximumAttempts: 1},
		Summary:             summary(what),
		WaitForCancellation: true,
	})
}
