package page

import (
	"slices"
	"time"

	"rekey/activities"
	"rekey/playbooks"
)

// Facts are what all rows of a wave share, pinned when it starts and kept as a blob:
// passes name its hash.
type Facts struct {
	Incident string `json:"incident"`
	// Prefix makes tokens and the ids of passes unique in the incident, over all its
	// lives: "wave/3.1a2b3c4d".
	Prefix string `json:"prefix"`
	// Life tells the handles of a reopened incident from those before.
	Life     string                            `json:"life,omitempty"`
	Opened   time.Time                         `json:"opened,omitzero"`
	Strategy playbooks.StrategyName            `json:"strategy,omitempty"`
	Steps    map[playbooks.StrategyName][]Step `json:"steps,omitempty"`
	Kinds    map[string]Kind                   `json:"kinds"` // by "provider/kind"
	K        int                               `json:"k"`
	Span     time.Duration                     `json:"span_ns"`
	Vantages int                               `json:"vantages"`
	Quiet    time.Duration                     `json:"quiet_ns,omitempty"`
	// Cutoff is when the old keys of reissue-first die, whoever uses them.
	Cutoff time.Time `json:"cutoff,omitzero"`
	// Gated: the playbook wants owners told before the cut.
	Gated bool `json:"gated,omitempty"`
	// Trust and NoReconcile: a drill's control has switched the probe of the old key, or
	// the settling of lost creates, off.
	Trust       bool `json:"trust,omitempty"`
	NoReconcile bool `json:"no_reconcile,omitempty"`
	// Scope: the pass reads what the rows are, before there is a plan.
	Scope bool `json:"scope,omitempty"`
	// Since is how far back a reading of the scope looks; Compromised are keys of the
	// scope whose doings are not ours.
	Since       time.Time `json:"since,omitzero"`
	Compromised []string  `json:"compromised,omitempty"`
	// Rates are the playbook's, by their names there ("awsiam.write": "10/s").
	Rates map[string]playbooks.Rate `json:"rates,omitempty"`
}

// DecodeFacts reads the bytes of pinned facts. A field that this build does not know
// fails, with [ErrSchema]: it may say that something must not be done.
func DecodeFacts(b []byte) (*Facts, error) {
	var f Facts
	if err := decode(b, &f); err != nil {
		return nil, err
	}
	return &f, nil
}

// Step is a step of a strategy.
type Step = playbooks.Step

// Kind is what must be known of a kind of credential.
type Kind struct {
	// API are the verbs that the provider has by API; Human those that a person does.
	API             []activities.Verb `json:"api"`
	Human           []activities.Verb `json:"human,omitempty"`
	Propagation     time.Duration     `json:"propagation_ns"`
	SessionsOutlive bool              `json:"sessions_outlive,omitempty"`
	// Places to probe from, by account.
	Places map[string][]string `json:"places,omitempty"`
}

func (k Kind) has(v activities.Verb) bool { return slices.Contains(k.API, v) }

func (f *Facts) kind(r *Row) Kind { return f.Kinds[r.Provider+"/"+r.Kind] }

// steps are those of the row's strategy that it needs.
func (f *Facts) steps(r *Row) []Step {
	k, name := f.kind(r), playbooks.StrategyName(r.Strategy)
	all, ok := f.Steps[name]
	if !ok {
		all = name.StandardSteps() // what a row is promoted to has steps in any case
	}
	out := make([]Step, 0, len(all))
	for _, s := range all {
		switch s {
		case playbooks.StepEndSessions:
			if !k.SessionsOutlive {
				continue
			}
		case playbooks.StepIssue, playbooks.StepDistribute, playbooks.StepProbeNew, playbooks.StepWaitCutover:
			if !r.Adopt {
				continue
			}
		}
		out = append(out, s)
	}
	return out
}

// mode is how the old key is asked: by itself where its secret is sealed, by the
// provider's state otherwise.
func (r *Row) mode() string {
	if r.Secret != "" {
		return activities.ProbeAuth
	}
	return activities.ProbeState
}

// places are where a probe asks from. The provider's state is the same from
// everywhere.
func (f *Facts) places(r *Row, mode string) []string {
	all := f.kind(r).Places[r.Account]
	if mode == activities.ProbeState || len(all) == 0 {
		return []string{""}
	}
	return all[:min(len(all), max(f.Vantages, 1))]
}

// token is the same for every attempt at the same effect, and of no other effect: a name
// of twelve digits would be shared by two of a million keys.
func (f *Facts) token(r *Row) string {
	v := r.Next.Verb
	if v == activities.Issue && r.EffectToken != "" {
		return r.EffectToken
	}
	token := f.Incident + "/" + f.Prefix + "/" + string(v) + "/" + r.FP
	switch v {
	case activities.Disable:
		token += "/" + itoa(r.Resured)
	case activities.EndSessions:
		token += "/" + itoa(r.Sessions)
	case activities.Distribute:
		token += "/" + itoa(r.Handed)
	}
	return token
}

// Journal names the journal that the row's next call goes into: that of its pass, but for
// a create without an outcome, which goes on where its first intent is.
func (r *Row) Journal(pass string) string {
	if r.Next.Verb == activities.Issue && r.Effect != "" {
		return r.Effect
	}
	return pass
}

// Request is the call that the row needs next.
func (f *Facts) Request(r *Row, now time.Time) activities.Request {
	req := activities.Request{Now: now, Vantage: r.Next.Vantage}
	req.Incident, req.Key, req.Secret, req.Attempt, req.Token = f.Incident, r.Key(), r.Secret, r.Tries+1, f.token(r)
	switch r.Next.Verb {
	case activities.Inspect:
		req.Since, req.Compromised = f.Since, f.Compromised
		if r.Next.Mode == ModeCutover {
			req.Key.ID, req.Secret, req.Since, req.Compromised = r.NewKey, "", r.Placed.Time, nil
		}
	case activities.EndSessions:
		req.Before, req.Roles = r.Border.Time, r.Roles
	case activities.Probe:
		req.Mode = r.Next.Mode
		if req.Mode == ModeNew {
			req.Mode, req.Handle, req.NewKeyID = activities.ProbeAuth, r.Handle, r.NewKey
		}
	case activities.Issue:
		req.Handle = "new/" + r.FP + f.Life
	case activities.Distribute:
		req.Handle, req.NewKeyID = r.Handle, r.NewKey
		if r.Handed < len(r.Stores) {
			s := r.Stores[r.Handed]
			req.Target, req.Name = s.Target, s.Name
		}
	}
	return req
}
