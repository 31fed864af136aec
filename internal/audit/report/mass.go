package report

import (
	"strconv"
	"strings"

	"rekey/internal/audit"
)

// massView is the items of a large incident that are rows of pages.
type massView struct {
	Items, Dead, Open, Pages            int
	Ends, Grades, Strategies, Adoptions string
	Rows                                []rowView
	More                                int
	Lists                               []string
}

type rowView struct {
	audit.Row
	Class string
}

func newMass(m *audit.Mass) *massView {
	if m == nil {
		return nil
	}
	v := &massView{
		Items: m.Items, Dead: m.Dead, Open: m.Open, Pages: m.Pages, Lists: m.Lists, More: m.Items - len(m.First),
		Ends: words(m.ByEndState), Grades: words(m.ByGrade), Strategies: words(m.ByStrategy), Adoptions: words(m.ByAdoption),
	}
	for _, r := range m.First {
		v.Rows = append(v.Rows, rowView{r, endClass(r.End)})
	}
	return v
}

// Short is the fingerprint as people see it.
func (r rowView) Short() string { return short(r.FP) }

// endClass is how an end state is coloured.
func endClass(end string) string {
	switch end {
	case "":
		return "open"
	case "accepted-risk", "customer-action-open":
		return "warn"
	}
	return "good"
}

// pass adds the calls of a pass over rows to those of its verb.
func (c *callRow) pass(e *audit.Event) {
	for key, value := range e.Attrs {
		n, err := strconv.Atoi(value)
		if err != nil {
			continue
		}
		if key == audit.AttrMade {
			c.Attempts += n
			if e.Attempt > 1 {
				c.Retries += n
			}
		}
		if name, ok := strings.CutPrefix(key, audit.AttrOutcome); ok {
			c.outcomes[name] += n
		}
	}
}
