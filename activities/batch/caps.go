package batch

import (
	"slices"
	"strings"
	"time"

	"rekey/activities"
	"rekey/playbooks"
)

// A Cap is a rate of an incident's playbook (contracts section 2, rates). Incidents
// whose playbooks say the same share it in an account; it only lowers what the
// account's own budget allows.
type Cap struct {
	Name string // "awsiam.write"
	Rate playbooks.Rate
}

// Names of caps besides those of a provider's own limits.
const (
	capWrite = "write" // every call that changes something
	capRead  = "read"  // every other call
)

// Caps are those of a playbook's rates that bound a call: "awsiam.write" and
// "awsiam.read" by what the verb does, "awsiam.iam" by the limit that it counts
// against ("cloudtrail" stands for "cloudtrail:LookupEvents" too). Sorted by name.
func Caps(rates map[string]string, provider string, v activities.Verb, api string) []Cap {
	var out []Cap
	for name, rate := range rates {
		limit, ok := strings.CutPrefix(name, provider+".")
		if !ok {
			continue
		}
		service, _, _ := strings.Cut(api, ":")
		if limit == capWrite && v.Mutates() || limit == capRead && !v.Mutates() || limit == api || limit == service {
			out = append(out, Cap{Name: name, Rate: playbooks.Rate(rate)})
		}
	}
	slices.SortFunc(out, func(a, b Cap) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// perSecond is the cap's rate; one that cannot be read bounds as tightly as there is a
// rate: a playbook was checked before it ran, and never loosens anything.
func (c Cap) perSecond() float64 {
	n, per, err := c.Rate.Parse()
	if err != nil {
		return 1.0 / 60
	}
	return float64(n) / per.Seconds()
}

// manyCaps is how many caps of an account are kept before idle ones are forgotten.
const manyCaps = 32

// capped gives the bucket of a cap. l.mu is held.
func (a *account) capped(c Cap) *capped {
	if b, ok := a.caps[c]; ok {
		return b
	}
	now := time.Now()
	if len(a.caps) >= manyCaps {
		for old, b := range a.caps {
			if b.fill(now); b.waiting == 0 && b.tokens >= b.most() {
				delete(a.caps, old)
			}
		}
	}
	b := &capped{bucket: newBucket(c.perSecond(), now)}
	a.caps[c] = b
	return b
}

// waits counts who waits for the caps of a call.
func (a *account) waits(w *waiter, n int) {
	for _, c := range w.want.Caps {
		if b, ok := a.caps[c]; ok {
			b.waiting += n
		}
	}
}
