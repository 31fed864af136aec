package workflows

import (
	"errors"
	"fmt"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"rekey/activities"
)

// caller makes provider passes for one workflow and repeats them.
type caller struct {
	incident string
	// prefix makes pass ids unique within the incident, over all its lives:
	// a journal found under an id that was used before would skip the call.
	prefix string
	clk    *clock
	passes int
	off    func(rule string) bool
	// rates gives the playbook's that bound a provider.
	rates func(provider string) map[string]string
}

// An effect is one thing that shall happen once. However often it is tried, its
// attempts share one id, one token and one journal.
type effect struct {
	id       string
	attempts int
	// token is set where the effect was begun by a pass over pages.
	token string
	// unserved: no worker took the last pass up.
	unserved bool
}

func (c *caller) effect(v activities.Verb, k activities.Key) *effect {
	c.passes++
	return &effect{id: fmt.Sprintf("%s/%s/%s/%d", c.prefix, v, k.Short(), c.passes)}
}

// once makes one pass of one verb over one item. When the worker dies under it,
// the pass is made again under the same id, at once: the journal tells the second
// attempt what the first one did. Anything the provider says comes back in the
// Attempt, never as an error; an error means that the workflow is cancelled.
func (c *caller) once(ctx workflow.Context, v activities.Verb, req activities.Request) (activities.Attempt, error) {
	return c.pass(ctx, v, c.effect(v, req.Key), req)
}

// pass makes one pass for an effect.
func (c *caller) pass(ctx workflow.Context, v activities.Verb, e *effect, req activities.Request) (activities.Attempt, error) {
	defer c.clk.working()()
	e.unserved = false
	req.Incident = c.incident
	if req.Token == "" {
		req.Token = or(e.token, c.incident+"/"+e.id)
	}
	for lost := 1; ; lost++ {
		e.attempts++
		req.Attempt = e.attempts
		req.Now = c.clk.Now(ctx)
		what := fmt.Sprintf("%s %s/%s %s", v, req.Key.Provider, req.Key.Account, req.Key.Short())
		if req.Mode != "" {
			what += " (" + req.Mode + " from " + req.Vantage + ")"
		}
		in := activities.Pass{
			Incident: c.incident, ID: e.id, Verb: v, Provider: req.Key.Provider, Account: req.Key.Account,
			Attempt: e.attempts, Items: []activities.Request{req}, NoReconcile: c.off(OffReconcile),
			Rates: c.rates(req.Key.Provider),
		}
		var out activities.PassResult
		err := workflow.ExecuteActivity(providerOptions(ctx, v, req.Key, what), activities.Name(req.Key.Provider, v), in).Get(ctx, &out)
		switch {
		case err == nil && len(out.Items) == 1:
			return out.Items[0], nil
		case err == nil:
			return c.broken(ctx, v, e, req, activities.ClassInvalid, activities.NeedsHuman, "a pass over one item gave back another number of items: the worker is of another build"), nil
		case temporal.IsCanceledError(err) || ctx.Err() != nil:
			return activities.Attempt{}, err
		case waited(err):
			// Nobody began it. What an earlier attempt did is still for the journal to
			// say, so the answer is unclear.
			e.unserved = true
			return c.broken(ctx, v, e, req, activities.ClassUnclear, activities.Unclear, fmt.Sprintf(
				"no worker took the call up for %s: no `rekey worker` serves account %s/%s, or the account is far behind its limit; see `rekey doctor`", unserved, req.Key.Provider, req.Key.Account)), nil
		case lost >= patience:
			// Whoever runs this verb does not come back. What it did is not known.
			return c.broken(ctx, v, e, req, activities.ClassUnclear, activities.Unclear, "no worker could finish the pass: is one running that has this provider?"), nil
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

// broken is the attempt of a pass that rekey itself could not make.
func (c *caller) broken(ctx workflow.Context, v activities.Verb, e *effect, req activities.Request, class activities.Class, o activities.Outcome, detail string) activities.Attempt {
	return activities.Attempt{FP: req.Key.FP, Verb: v, N: e.attempts, At: c.clk.Now(ctx), Outcome: o, Class: class, Detail: detail}
}

// died tells whether the worker was lost under the activity: then the repeat need
// not wait.
func died(err error) bool {
	var t *temporal.TimeoutError
	return errors.As(err, &t)
}

// waited tells whether no worker began the activity.
func waited(err error) bool {
	var t *temporal.TimeoutError
	return errors.As(err, &t) && t.TimeoutType() == enums.TIMEOUT_TYPE_SCHEDULE_TO_START
}

// until repeats a verb as one effect of its own, see [caller.repeat].
func (c *caller) until(ctx workflow.Context, v activities.Verb, req activities.Request, stuck func(activities.Attempt), stop func() bool) (activities.Attempt, error) {
	return c.repeat(ctx, v, c.effect(v, req.Key), req, stuck, stop)
}

// repeat repeats a verb until the provider's answer is something to go on with: a
// reached state, done-async, assumed, denied, needs-human, unsupported, or a fault
// that repeating cannot mend. Throttling is obeyed, transient faults are repeated
// with growing waits; an unclear outcome of an idempotent verb is asked again, at
// most settle times, and then given back as unclear. stuck is told once when it
// takes long, or when no worker takes the call up; stop ends the waits.
func (c *caller) repeat(ctx workflow.Context, v activities.Verb, e *effect, req activities.Request, stuck func(activities.Attempt), stop func() bool) (activities.Attempt, error) {
	const settle = 3
	unclear, failures, throttled, told := 0, 0, 0, false
	for {
		a, err := c.pass(ctx, v, e, req)
		if err != nil {
			return a, err
		}
		var wait time.Duration
		switch {
		case e.unserved:
			// The wait for a worker was long enough, and it is never given up: the
			// call may have been made by a worker that died.
			wait = backoffFirst
		case !a.Failed() && a.Outcome != activities.Unclear:
			return a, nil
		case a.Class == activities.ClassThrottled:
			throttled++
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
		if stuck != nil && !told && (e.unserved || failures+unclear >= patience || throttled >= 10*patience) {
			told = true
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

// engineCall runs one of the engine's own activities until it succeeds: one that
// fails for good would end the incident, and an incident ends by proof only.
func engineCall[T any](ctx workflow.Context, clk *clock, limit time.Duration, name, what string, in any) (T, error) {
	defer clk.working()()
	for n := 1; ; n++ {
		var out T
		err := workflow.ExecuteActivity(engineOptions(ctx, limit, what), name, in).Get(ctx, &out)
		if err == nil || temporal.IsCanceledError(err) || ctx.Err() != nil {
			return out, err
		}
		if err := workflow.Sleep(ctx, backoff(n)); err != nil {
			return out, err
		}
	}
}
