package workflows

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"rekey/activities"
	"rekey/internal/page"
)

// PagesRun is what a run over pages hands to its next run.
type PagesRun struct {
	Groups []page.Group `json:"groups"`
	Over   []page.Group `json:"over,omitempty"`
	Passes int          `json:"passes"`
	Facts  string       `json:"facts"`
}

// A pager moves groups of rows: those that are due are put together to passes, a few at
// once, and come back grouped by what they need next (docs/design/0017). It decides
// nothing about a row.
type pager struct {
	incident string
	prefix   string // of the ids of passes, unique in the incident over all its lives
	facts    string
	clk      *clock
	// opened tells whether a gate is open; nil: none ever is.
	opened func(page.Group) bool
	// back is told of every pass that came back, stuck of what keeps failing.
	back  func(workflow.Context, page.PassResult)
	stuck func(workflow.Context, string)

	idle    []resting
	over    []page.Group // nothing more to do
	running map[int][]resting
	passes  int
	orders  []page.Order
	news    bool
	ending  bool // no further passes: the run ends
	err     error
}

// resting is a group and how many orders its rows have obeyed.
type resting struct {
	page.Group
	obeyed int
}

// orderRows is how many rows one sorting takes at most: they are held in memory.
const orderRows = 25_000

func newPager(incident, prefix string, clk *clock) *pager {
	return &pager{incident: incident, prefix: prefix, clk: clk, running: map[int][]resting{}, back: func(workflow.Context, page.PassResult) {}, stuck: func(workflow.Context, string) {}}
}

// carry takes over what an earlier run handed on.
func (p *pager) carry(s *PagesRun) {
	p.facts, p.passes, p.over = s.Facts, s.Passes, s.Over
	for _, g := range s.Groups {
		p.idle = append(p.idle, resting{Group: g})
	}
}

// state is what the next run needs. Nothing is under way, and every order was obeyed.
func (p *pager) state() PagesRun {
	s := PagesRun{Over: p.over, Passes: p.passes, Facts: p.facts}
	for _, g := range p.idle {
		s.Groups = append(s.Groups, g.Group)
	}
	return s
}

// order has rows obey: those at rest soon, those under way when they come back.
func (p *pager) order(o page.Order) {
	p.orders = append(p.orders, o)
	p.news = true
}

// begin sorts the rows of a list for the first time.
func (p *pager) begin(ctx workflow.Context, list string) error {
	res, err := engineCall[page.SortResult](ctx, p.clk, sortLimit, ActivitySort, "rows by what they need first", page.SortInput{
		Incident: p.incident, Facts: p.facts, List: list, Now: p.clk.Now(ctx), Begin: true,
	})
	if err != nil {
		return err
	}
	p.take(res.Groups, 0)
	return nil
}

// take puts groups to rest.
func (p *pager) take(groups []page.Group, obeyed int) {
	for _, g := range groups {
		if g.Next.Over() {
			p.over = append(p.over, g)
			continue
		}
		p.idle = append(p.idle, resting{g, obeyed})
	}
	p.news = true
}

// run moves the groups until nothing is left to do, until stop holds, or until the run
// must end: then it gives false, and state is what to go on with.
func (p *pager) run(ctx workflow.Context, stop func() bool) (bool, error) {
	for {
		p.news = false
		if p.err != nil {
			return false, p.err
		}
		p.ending = p.ending || workflow.GetInfo(ctx).GetContinueAsNewSuggested()
		p.sort(ctx)
		if !p.ending && !stop() {
			p.dispatch(ctx)
		}
		if len(p.running) == 0 && p.settled() {
			switch {
			case len(p.idle) == 0, stop():
				return true, nil
			case p.ending:
				return false, nil
			}
		}
		if _, err := p.clk.Wait(ctx, p.due(ctx), "next pass", func() bool { return p.news || p.err != nil || stop() && len(p.running) == 0 }); err != nil {
			return false, err
		}
	}
}

// settled tells whether every group at rest has obeyed every order.
func (p *pager) settled() bool {
	return !slices.ContainsFunc(p.idle, func(g resting) bool { return g.obeyed < len(p.orders) })
}

// waited tells whether a group only waits for a time that has come: its rows are looked
// at again.
func (p *pager) waited(g page.Group, now time.Time) bool {
	return g.Next.Timed() && !now.Before(g.Next.Due.Time)
}

// due is when a group at rest can go on by itself; zero: when something else happens.
func (p *pager) due(ctx workflow.Context) time.Time {
	var next time.Time
	now := p.clk.Now(ctx)
	for _, g := range p.idle {
		d := g.Next.Due.Time
		if d.IsZero() || !d.After(now) || !g.Next.Timed() && !p.mayGo(g.Group) {
			continue
		}
		if next.IsZero() || d.Before(next) {
			next = d
		}
	}
	return next
}

// mayGo tells whether only time keeps a group.
func (p *pager) mayGo(g page.Group) bool {
	switch g.Next.Gate {
	case "", page.GateNotice:
		return true
	}
	return p.opened != nil && p.opened(g)
}

// sort has groups obey orders, and looks again at those whose time has come.
func (p *pager) sort(ctx workflow.Context) {
	now := p.clk.Now(ctx)
	var rest []resting
	chunks := map[int][]resting{} // by how many orders they have obeyed
	var from []int
	for _, g := range p.idle {
		if g.obeyed >= len(p.orders) && !p.waited(g.Group, now) {
			rest = append(rest, g)
			continue
		}
		if _, ok := chunks[g.obeyed]; !ok {
			from = append(from, g.obeyed)
		}
		chunks[g.obeyed] = append(chunks[g.obeyed], g)
	}
	if len(from) == 0 {
		return
	}
	p.idle = rest
	slices.Sort(from)
	for _, n := range from {
		for todo := chunks[n]; len(todo) > 0; {
			rows, k := 0, 0
			for k < len(todo) && (k == 0 || rows+todo[k].N <= orderRows) {
				rows += todo[k].N
				k++
			}
			p.resort(ctx, todo[:k:k], n, now)
			todo = todo[k:]
		}
	}
}

func (p *pager) resort(ctx workflow.Context, groups []resting, obeyed int, now time.Time) {
	orders := slices.Clone(p.orders[obeyed:])
	upto := len(p.orders)
	p.under(ctx, groups, func(ctx workflow.Context, _ int) error {
		res, err := engineCall[page.SortResult](ctx, p.clk, sortLimit, ActivitySort, "rows by what they need next", page.SortInput{
			Incident: p.incident, Facts: p.facts, Pages: hashes(groups), Orders: orders, Now: now,
		})
		if err == nil {
			p.take(res.Groups, upto)
		}
		return err
	})
}

// under does something with groups that are out of rest meanwhile.
func (p *pager) under(ctx workflow.Context, groups []resting, do func(ctx workflow.Context, n int) error) {
	p.passes++
	id := p.passes
	p.running[id] = groups
	workflow.Go(ctx, func(ctx workflow.Context) {
		err := do(ctx, id)
		delete(p.running, id)
		p.news = true
		if err != nil && p.err == nil {
			p.err = err
		}
	})
}

// dispatch begins passes while there is room for them.
func (p *pager) dispatch(ctx workflow.Context) {
	now := p.clk.Now(ctx)
	for len(p.running) < passesAtOnce {
		i := p.pick(now)
		if i < 0 {
			return
		}
		first := p.idle[i]
		var mine, rest []resting
		rows := 0
		for _, g := range p.idle {
			if p.ready(g, now) && same(first.Group, g.Group) && (len(mine) == 0 || rows+g.N <= page.Size) {
				rows += g.N
				mine = append(mine, g)
				continue
			}
			rest = append(rest, g)
		}
		p.idle = rest
		p.pass(ctx, mine)
	}
}

// ready tells whether a group's verb can be called now.
func (p *pager) ready(g resting, now time.Time) bool {
	if g.Next.Verb == "" || g.obeyed < len(p.orders) || g.Next.Gate == page.GateNotice || !p.mayGo(g.Group) {
		return false
	}
	return g.Next.Due.IsZero() || !now.Before(g.Next.Due.Time)
}

// pick gives the group to go first, -1 for none: what kills goes before what does not,
// then what was due first.
func (p *pager) pick(now time.Time) int {
	best := -1
	for i, g := range p.idle {
		if !p.ready(g, now) {
			continue
		}
		if best < 0 || before(g.Group, p.idle[best].Group) {
			best = i
		}
	}
	return best
}

func before(a, b page.Group) bool {
	return cmp.Or(cmp.Compare(urgency(a.Next.Verb), urgency(b.Next.Verb)), a.Next.Due.Compare(b.Next.Due.Time)) < 0
}

// urgency: containment goes before all else.
func urgency(v activities.Verb) int {
	switch v {
	case activities.Disable, activities.EndSessions, activities.Deny:
		return 0
	case activities.Probe:
		return 1
	}
	return 2
}

// same tells whether rows of both groups can be in one pass.
func same(a, b page.Group) bool {
	return a.Provider == b.Provider && a.Account == b.Account && a.Next.Verb == b.Next.Verb && a.Next.Mode == b.Next.Mode && a.Next.Vantage == b.Next.Vantage
}

// pass makes one pass over groups. When the worker dies under it the pass is made again
// under the same id: the journal tells the second attempt what the first one did.
func (p *pager) pass(ctx workflow.Context, groups []resting) {
	n := groups[0].Next
	obeyed := groups[0].obeyed
	for _, g := range groups {
		obeyed = min(obeyed, g.obeyed)
	}
	p.under(ctx, groups, func(ctx workflow.Context, id int) error {
		defer p.clk.working()()
		in := page.Pass{
			Incident: p.incident, ID: fmt.Sprintf("%s/%s/p%d", p.prefix, n.Verb, id), Verb: n.Verb, Provider: groups[0].Provider, Account: groups[0].Account,
			Pages: hashes(groups), Facts: p.facts, First: urgency(n.Verb) == 0,
		}
		rows := 0
		for _, g := range groups {
			rows += g.N
		}
		what := fmt.Sprintf("%s of %d in %s/%s", n.Verb, rows, in.Provider, in.Account)
		for lost := 0; ; {
			in.Attempt++
			in.Now = p.clk.Now(ctx)
			var out page.PassResult
			err := workflow.ExecuteActivity(pageOptions(ctx, in.Verb, AccountQueue(in.Provider, in.Account), what), page.Name(in.Provider, in.Verb), in).Get(ctx, &out)
			switch {
			case err == nil:
				p.take(out.Groups, obeyed)
				p.back(ctx, out)
				return nil
			case temporal.IsCanceledError(err) || ctx.Err() != nil:
				return err
			}
			lost++
			switch {
			case waited(err):
				p.stuck(ctx, fmt.Sprintf("no worker took %s up: no `rekey worker` serves account %s/%s, or the account is far behind its limit; see `rekey doctor`", what, in.Provider, in.Account))
			case lost >= patience:
				p.stuck(ctx, fmt.Sprintf("%s keeps failing and is repeated: look at the log of the worker that holds %s/%s (a page or a journal cannot be read or written)", what, in.Provider, in.Account))
			}
			if !died(err) {
				if err := workflow.Sleep(ctx, backoff(lost)); err != nil {
					return err
				}
			}
		}
	})
}

// pull takes rows out that wait behind GatePull, at most n.
func (p *pager) pull(ctx workflow.Context, n int) ([]page.Row, error) {
	i := slices.IndexFunc(p.idle, func(g resting) bool { return g.Next.Gate == page.GatePull && g.obeyed >= len(p.orders) })
	if i < 0 {
		return nil, nil
	}
	g := p.idle[i]
	p.idle = slices.Delete(p.idle, i, i+1)
	p.passes++
	id := p.passes
	p.running[id] = []resting{g}
	res, err := engineCall[page.SortResult](ctx, p.clk, sortLimit, ActivitySort, "rows that need a look of their own", page.SortInput{
		Incident: p.incident, Facts: p.facts, Pages: []string{g.Hash}, Now: p.clk.Now(ctx), Pull: n,
	})
	delete(p.running, id)
	if err != nil {
		return nil, err
	}
	p.take(res.Groups, g.obeyed)
	return res.Pulled, nil
}

// groups are all groups, those under way as they went.
func (p *pager) groups() []page.Group {
	out := slices.Clone(p.over)
	for _, g := range p.idle {
		out = append(out, g.Group)
	}
	ids := make([]int, 0, len(p.running))
	//workflowcheck:ignore
	for id := range p.running { // sorted below
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		for _, g := range p.running[id] {
			out = append(out, g.Group)
		}
	}
	return out
}

// tally counts all rows.
func (p *pager) tally() page.Tally {
	var t page.Tally
	for _, g := range p.groups() {
		t.Add(g.Tally)
	}
	return t
}

// pack writes what is over into one list.
func (p *pager) pack(ctx workflow.Context) (page.List, error) {
	in := ListInput{Incident: p.incident}
	for _, g := range p.groups() {
		in.Pack = append(in.Pack, g.Hash)
	}
	return engineCall[page.List](ctx, p.clk, sortLimit, ActivityList, "rows into one list", in)
}

func hashes(groups []resting) []string {
	out := make([]string, len(groups))
	for i, g := range groups {
		out[i] = g.Hash
	}
	return out
}
