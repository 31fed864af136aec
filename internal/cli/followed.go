package cli

import (
	"fmt"
	"strings"
)

// followed says where people read about the incident, and where they read too
// little: then this page is ahead.
func (s shower) followed() []string {
	t := table{}
	for _, r := range s.v.Records {
		where := line(or(r.URL, strings.TrimSpace(r.Where+" "+r.ID)))
		state := r.State
		if r.State == "behind" {
			state = s.p.red(state)
		}
		behind := ""
		if r.Behind > 0 {
			behind = fmt.Sprintf("%d of %s not told yet", r.Behind, count(int(r.Lines), "line", "lines"))
		}
		if r.Why != "" {
			behind = strings.TrimPrefix(behind+", since "+clock(r.Since)+": "+line(r.Why), ", ")
		}
		t.add(r.Channel, state, or(where, "-"), behind)
	}
	return t.lines("  ")
}
