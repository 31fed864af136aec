package workflows

import (
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"rekey/activities"
)

// caller makes provider passes for one workflow and repeats them.
type caller struct {
	incident string
	// prefix makes pass ids unique within the incident ("wave/1", "scope").
	prefix string
	clk    *clock
	passes int
	off    func(rule string) bool
	// seen is told of every attempt, for the view.
	seen func(activities.Attempt)
}

// once makes one pass of one verb over one item. When the worker dies under it,
// the pass is made again under the same id, at once: the journal tells the second
// attempt what the first one did. Anything the provider says comes back in the
// Attempt, never as an error; an error means that the workflow is cancelled.
func (c *caller) once(ctx workflow.Context, v activities.Verb, req activities.Request) (activities.Attempt, error) {
	c.passes++
	id := fmt.Sprintf("%s/%s/%s/%d", c.prefix, v, req.Key.Short(), c.passes)
	if req.Token == "" {
		req.Token = c.incident + "/" + id
	}
	n := 0
	return c.pass(ctx, v, id, req, &n)
}

// pass makes one pass; n counts the attempts at this effect, over all passes that
// share its id.
func (c *caller) pass(ctx workflow.Context, v activities.Verb, id string, req activities.Request, n *int) (activities.Attempt, error) {
	defer c.clk.working()()
	req.Incident = c.incident
	for lost := 1; ; lost++ {
		*n++
		req.Attempt = *n
		what := fmt.Sprintf("%s %s/%s %s", v, req.Key.Provider, req.Key.Account, req.Key.Short())
		if req.Mode != "" {
			what += " (" + req.Mode + " from " + req.Vantage + ")"
		}
		in := activities.Pass{
			Incident: c.incident, ID: id, Verb: v, Provider: req.Key.Provider, Account: req.Key.Account,
			Attempt: *n, Items: []activities.Request{req}, NoReconcile: c.off(OffReconcile),
		}
		var out activities.PassResult
		err := workflow.ExecuteActivity(providerOptions(ctx, v, what), activities.Name(req.Key.Provider, v), in).Get(ctx, &out)
		switch {
		case err == nil && len(out.Items) == 1:
			a := out.Items[0]
			if c.seen != nil {
				c.seen(a)
			}
			return a, nil
		case err == nil:
			return activities.Attempt{}, temporal.NewApplicationError("a pass over one item gave back another number of items", "invalid-result")
		case temporal.IsCanceledError(err) || ctx.Err() != nil:
			return activities.Attempt{}, err
		}
		// The worker died, or could not write its journal. Neither says what the
		// provider did, and the journal settles it.
		if !died(err) {
			if err := workflow.Sleep(ctx, backoff(lost)); err != nil {
				return activities.Attempt{}, err
			}
		}
	}
}

// died tells whether the worker was lost under the activity: then the repeat need
// not wait.
func died(err error) bool {
	var t *temporal.TimeoutError
	return errors.As(err, &t)
}

// until repeats a verb until the provider's answer is something to go on with: a
// reached state, done-async, assumed, denied, needs-human, unsupported, or a fault
// that repeating cannot mend. Throttling is obeyed, transient faults are repeated
// with growing waits; an unclear outcome of an idempotent verb is asked again, at
// most settle times, and then given back as unclear. stop ends the waits.
func (c *caller) until(ctx workflow.Context, v activities.Verb, req activities.Request, stuck func(activities.Attempt), stop func() bool) (activities.Attempt, error) {
	const settle = 3
	unclear, failures := 0, 0
	c.passes++
	// One effect, one id, one token, one journal, however often it is tried.
	id := fmt.Sprintf("%s/%s/%s/%d", c.prefix, v, req.Key.Short(), c.passes)
	if req.Token == "" {
		req.Token = c.incident + "/" + id
	}
	attempts := 0
	for {
		a, err := c.pass(ctx, v, id, req, &attempts)
		if err != nil {
			return a, err
		}
		var wait time.Duration
		switch {
		case !a.Failed() && a.Outcome != activities.Unclear:
			return a, nil
		case a.Class == activities.ClassThrottled:
			wait = max(time.Duration(a.AfterMs)*time.Millisecond, time.Second)
		case a.Class == activities.ClassTransient:
			failures++
			wait = backoff(failures)
		case a.Class == activities.ClassDenied, a.Class == activities.ClassInvalid:
			return a, nil
		default: // unclear
			unclear++
			if unclear >= settle && v != activities.Issue {
				return a, nil
			}
			wait = backoff(unclear)
		}
		if stuck != nil && (failures == patience || unclear == patience) {
			stuck(a)
		}
		ended, err := c.clk.Wait(ctx, c.clk.Now(ctx).Add(wait), fmt.Sprintf("%s again: %s", v, a.Class), stop)
		if err != nil {
			return a, err
		}
		if ended {
			return a, nil
		}
	}
}

// engineCall runs one of the engine's own activities.
func engineCall[T any](ctx workflow.Context, clk *clock, limit time.Duration, name, what string, in any) (T, error) {
	defer clk.working()()
	var out T
	err := workflow.ExecuteActivity(engineOptions(ctx, limit, what), name, in).Get(ctx, &out)
	return out, err
}
