package scenario

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Parts of a build that can act on a fault. A build lists those it has; see Unsupported.
const (
	PartLab          = "lab"            // the simulated provider and its world
	PartEngine       = "engine"         // the drill driver's hold on the engine and its server
	PartPeople       = "people"         // the simulated approvers
	PartDriver       = "driver"         // reports sent after the first one
	PartChannelEmail = "channel email"  // the mail channel with its simulated server
	PartBatchAPI     = "provider batch" // a provider with calls that take many items
)

// Edges of a call at which worker-kill can strike.
const (
	EdgeBeforeCall  = "before-call"              // nothing was sent
	EdgeAfterCall   = "after-call-before-record" // the effect is made, the answer is lost
	EdgeAfterRecord = "after-record"             // the outcome is durable, nothing was reported
)

// Rungs of the kill ladder that alive-after-200 knows; never = no rung helps.
const (
	RungKey         = "key"          // until the key is deleted
	RungSessions    = "sessions"     // until a Deny on older sessions is in force
	RungPrincipal   = "principal"    // until an unconditional Deny is on the principal
	RungNetworkBind = "network-bind" // until a Deny by source address is on the principal
	RungNever       = "never"
)

// Verbs of the provider contract, as `at: {verb: …}` names them.
var verbs = []string{"Inspect", "Disable", "Restore", "Revoke", "EndSessions", "Deny", "Bind", "Issue", "Distribute", "Probe", "Sweep"}

// Phases of an incident, as `at: {phase: …}` names them.
var phases = []string{"preserve", "scope", "plan", "approve", "act", "notify", "verify", "harden", "close", "seal", "watch"}

// Fault is one thing that goes wrong. Which fields a fault takes is in the catalogue.
type Fault struct {
	What       string   `yaml:"what"`
	At         At       `yaml:"at"`
	Key        string   `yaml:"key"`
	User       string   `yaml:"user"`
	Action     string   `yaml:"action"`
	Status     int      `yaml:"status"`
	RetryAfter Duration `yaml:"retry_after"`
	Times      int      `yaml:"times"`
	For        Duration `yaml:"for"`
	By         Duration `yaml:"by"`
	UntilRung  string   `yaml:"until_rung"`
	From       When     `yaml:"from"`
	To         When     `yaml:"to"`
	Account    string   `yaml:"account"`
	Where      string   `yaml:"where"`
	Dependent  string   `yaml:"dependent"`
	Do         string   `yaml:"do"`
	Due        When     `yaml:"due"`
	Actor      string   `yaml:"actor"`
	Customer   string   `yaml:"customer"`
	Message    string   `yaml:"message"`
	Report     *Report  `yaml:"report"`
}

// At is when a fault strikes: a time, the nth call of a verb (with an edge for worker-kill), or a
// phase of the incident.
type At struct {
	Verb  string `yaml:"verb"`
	Nth   int    `yaml:"nth"`
	Edge  string `yaml:"edge"`
	Phase string `yaml:"phase"`
	Time  When
}

func (a *At) parse(s string) error { return a.Time.parse(s) }

// IsZero tells whether no `at` was given: the fault then holds from T0 on.
func (a At) IsZero() bool {
	return a.Verb == "" && a.Phase == "" && a.Edge == "" && a.Nth == 0 && a.Time.IsZero()
}

// Word is one entry of the fault catalogue (domain.md section 3).
type Word struct {
	What  string   // the word in the file
	Part  string   // the part of a build that acts on it
	Takes []string // optional fields
	Needs []string // required fields
	Edge  bool     // `at` must name verb and edge
	Doc   string
}

// Catalogue lists every fault there is.
func Catalogue() []Word {
	sel := []string{"at", "action", "times", "key"}
	with := func(more ...string) []string { return append(slices.Clone(sel), more...) }
	return []Word{
		{What: "throttle", Part: PartLab, Takes: with("status", "retry_after"), Doc: "the call is refused for rate; default status 429"},
		{What: "burst-503", Part: PartLab, Takes: with("status", "retry_after", "for"), Doc: "the service is unavailable, for a number of calls or a span"},
		{What: "latency", Part: PartLab, Needs: []string{"for"}, Takes: sel, Doc: "the answer comes late, in wall time"},
		{What: "lost-answer", Part: PartLab, Takes: sel, Doc: "the effect is made, the connection is cut before the answer"},
		{What: "alive-after-200", Part: PartLab, Needs: []string{"key", "until_rung"}, Doc: "the call succeeds, the key goes on working until the rung is in force"},
		{What: "not-found", Part: PartLab, Takes: sel, Doc: "the provider says it does not know the object"},
		{What: "partial-batch", Part: PartBatchAPI, Takes: sel, Doc: "a batch call does a part of its items"},
		{What: "wrong-account-credential", Part: PartLab, Takes: []string{"at", "account"}, Doc: "the engine's own credential belongs to another account"},
		{What: "list-missing", Part: PartLab, Needs: []string{"action"}, Takes: []string{"at", "status", "times"}, Doc: "a listing API does not exist; default status 501"},
		{What: "pagination-cut", Part: PartLab, Needs: []string{"action"}, Takes: []string{"at", "times"}, Doc: "a listing ends after its first page and claims to be complete"},
		{What: "propagation", Part: PartLab, Needs: []string{"for"}, Takes: []string{"at"}, Doc: "changes take effect this much later"},
		{What: "clock-skew", Part: PartLab, Needs: []string{"by"}, Takes: []string{"at"}, Doc: "the provider's clock is off by this much"},
		{What: "log-gap", Part: PartLab, Needs: []string{"from", "to"}, Doc: "the provider's log has nothing for this span"},

		{What: "worker-kill", Part: PartLab, Edge: true, Needs: []string{"at"}, Takes: []string{"key"}, Doc: "SIGKILL to the engine at an edge of a call"},
		{What: "replay-new-version", Part: PartEngine, Needs: []string{"at"}, Doc: "the engine restarts as a new build in mid-incident"},
		{What: "signal-twice", Part: PartEngine, Takes: []string{"at", "message"}, Doc: "a report is delivered twice"},
		{What: "signal-reordered", Part: PartEngine, Takes: []string{"at", "message"}, Doc: "reports arrive in the wrong order"},
		{What: "store-down", Part: PartEngine, Needs: []string{"at", "for"}, Doc: "the blob store is away"},
		{What: "mail-down", Part: PartChannelEmail, Needs: []string{"at", "for"}, Doc: "the mail server is away"},

		{What: "approver-silent", Part: PartPeople, Needs: []string{"actor"}, Takes: []string{"for"}, Doc: "an approver does not answer"},
		{What: "approver-is-requester", Part: PartPeople, Needs: []string{"actor"}, Doc: "the reporter tries to approve"},
		{What: "plan-changed", Part: PartPeople, Takes: []string{"at", "key"}, Doc: "the plan changes after it was approved"},
		{What: "hold-without-expiry", Part: PartPeople, Needs: []string{"actor", "key"}, Takes: []string{"at"}, Doc: "someone asks for a hold that never ends"},
		{What: "close-early", Part: PartPeople, Needs: []string{"actor", "at"}, Doc: "someone asks to close while items are open"},
		{What: "court-order", Part: PartPeople, Needs: []string{"key", "at", "for"}, Takes: []string{"actor"}, Doc: "a court holds a key until a date"},

		{What: "hidden-copy", Part: PartLab, Needs: []string{"key", "where", "at"}, Doc: "an unregistered copy starts using the key"},
		{What: "stale-cache", Part: PartLab, Needs: []string{"dependent", "for"}, Doc: "a dependent goes on with the key it has in cache"},
		{What: "residual-session", Part: PartLab, Needs: []string{"key"}, Takes: []string{"at", "for", "do", "times"}, Doc: "a session minted by the attacker outlives the key; for is its lifetime"},
		{What: "planted-persistence", Part: PartLab, Needs: []string{"key", "do"}, Takes: []string{"at", "due", "where"}, Doc: "the attacker left itself a way back in; a job (PutRule) of the name where runs when it is due"},
		{What: "attacker-mints", Part: PartLab, Needs: []string{"key"}, Takes: []string{"at", "do"}, Doc: "the attacker makes a key while ours is being killed"},
		{What: "undocumented-dependent", Part: PartLab, Needs: []string{"key", "where"}, Takes: []string{"at", "for"}, Doc: "a consumer nobody registered uses the key"},

		{What: "bounce", Part: PartChannelEmail, Needs: []string{"customer"}, Takes: []string{"times"}, Doc: "mail to a customer bounces, once or at every address"},
		{What: "look-alike-notice", Part: PartChannelEmail, Needs: []string{"at"}, Takes: []string{"customer"}, Doc: "someone sends a forged notice"},
		{What: "scope-change", Part: PartDriver, Needs: []string{"at", "report"}, Doc: "the source extends or retracts what it said"},
		{What: "second-trigger", Part: PartDriver, Needs: []string{"at", "report"}, Doc: "a report arrives for a closed case"},
	}
}

func word(what string) (Word, bool) {
	for _, w := range Catalogue() {
		if w.What == what {
			return w, true
		}
	}
	return Word{}, false
}

// Unsupported refuses a drill with a fault that nothing in this build acts on. have names the
// parts the build has. The error names the fault and what is missing: `needs channel email`.
func (d *Drill) Unsupported(have map[string]bool) error {
	var missing []string
	for i, f := range d.Faults {
		need := d.needs(f)
		if !have[need] {
			missing = append(missing, fmt.Sprintf("faults[%d] %s: needs %s", i, f.What, need))
		}
	}
	if missing != nil {
		return fmt.Errorf("drill %s has faults this build cannot act on: %s", d.Name, strings.Join(missing, "; "))
	}
	return nil
}

func (d *Drill) needs(f Fault) string {
	w, ok := word(f.What)
	if !ok {
		return "a build that knows it"
	}
	// A phase of the incident is something only the driver sees.
	if w.Part == PartLab && f.At.Phase != "" {
		return PartDriver
	}
	return w.Part
}

// given lists the fields of a fault that are set, by their yaml names.
func (f *Fault) given() []string {
	var out []string
	add := func(set bool, name string) {
		if set {
			out = append(out, name)
		}
	}
	add(!f.At.IsZero(), "at")
	add(f.Key != "", "key")
	add(f.User != "", "user")
	add(f.Action != "", "action")
	add(f.Status != 0, "status")
	add(f.RetryAfter != 0, "retry_after")
	add(f.Times != 0, "times")
	add(f.For != 0, "for")
	add(f.By != 0, "by")
	add(f.UntilRung != "", "until_rung")
	add(!f.From.IsZero(), "from")
	add(!f.To.IsZero(), "to")
	add(f.Account != "", "account")
	add(f.Where != "", "where")
	add(f.Dependent != "", "dependent")
	add(f.Do != "", "do")
	add(!f.Due.IsZero(), "due")
	add(f.Actor != "", "actor")
	add(f.Customer != "", "customer")
	add(f.Message != "", "message")
	add(f.Report != nil, "report")
	return out
}

// T0 is the drill's T0; fallback is used where the file gives none (mode real).
func (d *Drill) T0(fallback time.Time) time.Time {
	if d.Clock.T0.IsZero() {
		return fallback
	}
	return d.Clock.T0.Time
}
