package scenario

import "time"

// Drill is one scenario file.
type Drill struct {
	APIVersion string  `yaml:"apiVersion"`
	Kind       string  `yaml:"kind"`
	Name       string  `yaml:"name"`
	Title      string  `yaml:"title"`
	Seed       int64   `yaml:"seed"`
	Clock      Clock   `yaml:"clock"`
	Estate     Estate  `yaml:"estate"`
	Trigger    Trigger `yaml:"trigger"`
	// Playbook is the text of the playbook for reports that name none; absent: rekey chooses.
	Playbook string             `yaml:"playbook"`
	People   []Person           `yaml:"people"`
	Faults   []Fault            `yaml:"faults"`
	Attacker *Attacker          `yaml:"attacker"`
	Expect   []Expectation      `yaml:"expect"`
	Controls map[string]Control `yaml:"controls"`

	file string
}

// File is the name the drill was loaded under.
func (d *Drill) File() string { return d.file }

// Clock says where world time starts and how it moves.
type Clock struct {
	// T0 is the time of the trigger. Mode real: absent = the start of the lab.
	T0 RFC3339 `yaml:"t0"`
	// Horizon is how long after T0 the drill may last.
	Horizon Duration `yaml:"horizon"`
	// Mode is virtual (default: moved only through the control API) or real (runs with the wall clock).
	Mode string `yaml:"mode"`
}

// RFC3339 is an absolute time in the file.
type RFC3339 struct{ time.Time }

func (t *RFC3339) parse(s string) error {
	w, err := ParseWhen(s)
	if err != nil || w.relative {
		return errNotAbsolute
	}
	t.Time = w.abs
	return nil
}

// Estate is the world before the report.
type Estate struct {
	// Providers is keyed by provider/account as in rekey.yaml: awsiam/lab.
	Providers  map[string]Provider `yaml:"providers"`
	Keys       []Key               `yaml:"keys"`
	Copies     []Copy              `yaml:"copies"`
	Dependents []Dependent         `yaml:"dependents"`
	Generate   []Generate          `yaml:"generate"`
	Uses       []Use               `yaml:"uses"`
	Logs       Logs                `yaml:"logs"`
}

// Provider is how one simulated provider account behaves.
type Provider struct {
	AccountID string `yaml:"account_id"`
	// Limits by API: iam, iam.write (calls that change something) or iam:ListUsers.
	Limits      map[string]Rate `yaml:"limits"`
	Propagation Duration        `yaml:"propagation"`
	Quotas      Quotas          `yaml:"quotas"`
	// EngineIP is the source address the provider sees for everything that comes over the network.
	EngineIP string `yaml:"engine_ip"`
}

// Quotas of a provider account.
type Quotas struct {
	KeysPerUser int `yaml:"keys_per_user"`
}

// Key is one credential of the estate. ID is the scenario's name for it: the lab generates the
// provider's own id at run time and keeps the alias.
type Key struct {
	ID           string `yaml:"id"`
	User         string `yaml:"user"`
	Policy       string `yaml:"policy"`
	Issued       When   `yaml:"issued"`
	LastLegitUse When   `yaml:"last_legit_use"`
	Owner        string `yaml:"owner"`
	Parent       string `yaml:"parent"`
	// Status is active (default) or inactive.
	Status string `yaml:"status"`
	// State is exposed (default) or unrelated: an unrelated key must be untouched at the end.
	State string `yaml:"state"`
}

// Copy is a place where a key lies. A copy that is not registered is unknown to rekey; with
// relaunch it starts using the key at that time.
type Copy struct {
	Key        string `yaml:"key"`
	Where      string `yaml:"where"`
	Store      string `yaml:"store"`
	Zone       string `yaml:"zone"`
	Registered bool   `yaml:"registered"`
	Relaunch   When   `yaml:"relaunch"`
}

// Dependent is a legitimate consumer of keys.
type Dependent struct {
	ID           string   `yaml:"id"`
	Keys         []string `yaml:"keys"`
	Owner        string   `yaml:"owner"`
	OutageBudget Duration `yaml:"outage_budget"`
	// Cutover: dual reads its store before each use, hot reads it after a refusal, restart only
	// when restarted.
	Cutover string `yaml:"cutover"`
	Proof   string `yaml:"proof"`
	// Every is the period of its uses; default 10m.
	Every Duration `yaml:"every"`
	// Store is the Secrets Manager name it reads; default <owner>/aws.
	Store string `yaml:"store"`
	// Calls it makes, as service:Action; default sts:GetCallerIdentity and ec2:DescribeInstances.
	Calls []string `yaml:"calls"`
	// Moves is when its owner moves it over: until then it goes on with the key it has, whatever
	// its store says; from then on it reads its store before each use. Absent: as cutover says.
	Moves When `yaml:"moves"`
	// Past is how it used its keys before T0; default 12 uses, one period apart.
	Past Past `yaml:"past"`
}

// Past is a number of uses before T0, the last one a period before it.
type Past struct {
	Every Duration `yaml:"every"`
	Times int      `yaml:"times"`
}

// Generate makes many keys, or many dependents. In id, user, owner, where, store and keys the
// placeholders of pattern.go stand for the number of each. --scale multiplies Count.
type Generate struct {
	Kind  string `yaml:"kind"` // key or dependent
	Count int    `yaml:"count"`
	// From is the number of the first; default 1.
	From int `yaml:"from"`
	// Except are numbers that are left out.
	Except []int  `yaml:"except"`
	ID     string `yaml:"id"`
	Owner  string `yaml:"owner"`

	User   string `yaml:"user"`
	Policy string `yaml:"policy"`
	State  string `yaml:"state"`
	Issued When   `yaml:"issued"`
	// Where is a registered place that keeps a copy of each key.
	Where string `yaml:"where"`

	Keys         []string `yaml:"keys"`
	OutageBudget Duration `yaml:"outage_budget"`
	Cutover      string   `yaml:"cutover"`
	Proof        string   `yaml:"proof"`
	Every        Duration `yaml:"every"`
	Store        string   `yaml:"store"`
	Calls        []string `yaml:"calls"`
	Past         Past     `yaml:"past"`
	// Moves is spread over the dependents in their order.
	Moves Span `yaml:"moves"`
}

// Use is a use of a key, before or after T0. Label is for the oracle only.
type Use struct {
	Key      string   `yaml:"key"`
	At       When     `yaml:"at"`
	ASN      int      `yaml:"asn"`
	SourceIP string   `yaml:"source_ip"`
	Source   string   `yaml:"source"`
	Calls    []string `yaml:"calls"`
	Label    string   `yaml:"label"`
	Every    Duration `yaml:"every"`
	Times    int      `yaml:"times"`
}

// Logs is what the provider's log gives.
type Logs struct {
	Retention Duration `yaml:"retention"`
}

// Trigger is the report that starts the incident.
type Trigger struct {
	At     When   `yaml:"at"`
	Report Report `yaml:"report"`
	// Also are further reports at the same time; their keys are in the scope of the first.
	Also []Report `yaml:"also"`
}

// Report is what the trigger says.
type Report struct {
	Provider   string `yaml:"provider"`
	Kind       string `yaml:"kind"`
	Key        string `yaml:"key"`
	Source     string `yaml:"source"`
	Confidence string `yaml:"confidence"`
	Severity   string `yaml:"severity"`
	// Exposure is public, internal or private: where a copy was seen.
	Exposure string   `yaml:"exposure"`
	Playbook string   `yaml:"playbook"`
	Reason   string   `yaml:"reason"`
	Evidence []string `yaml:"evidence"`
	// Secret says that the report carries the secret itself, and so proves possession.
	Secret bool `yaml:"secret"`
}

// Person is what one person does when asked.
type Person struct {
	Actor string   `yaml:"actor"`
	Roles []string `yaml:"roles"`
	On    string   `yaml:"on"`
	After Duration `yaml:"after"`
	Do    string   `yaml:"do"`
	// Match is a text that the question holds; absent: any question.
	Match string `yaml:"match"`
	// As is what a needs-human is resolved as: adopted, waived, accepted-risk, …
	As string `yaml:"as"`
	// First is what the person does at the provider before they answer.
	First *Act `yaml:"first"`
}

// Act is a call that a person makes at the provider, with an administrator's rights.
type Act struct {
	Call string            `yaml:"call"` // service:Action
	With map[string]string `yaml:"with"` // its parameters
}

// Attacker retries every secret it knows and reacts to what we do.
type Attacker struct {
	Knows  []string   `yaml:"knows"`
	Every  Duration   `yaml:"every"`
	ASN    int        `yaml:"asn"`
	Reacts []Reaction `yaml:"reacts"`
}

// Reaction is what the attacker does on an event: first-change or each-change of a key it knows,
// or first-refusal of one of its own calls.
type Reaction struct {
	On string `yaml:"on"`
	Do string `yaml:"do"`
}

// Expectation is a CEL expression over final, events and lab.
type Expectation struct {
	ID   string `yaml:"id"`
	Expr string `yaml:"expr"`
}

// Control switches a rule of the engine off; the drill must then fail by these invariants or expectations.
type Control struct {
	Off         string   `yaml:"off"`
	MustViolate []string `yaml:"must_violate"`
}

// Invariant holds in every drill without being asked for (domain.md section 3).
type Invariant struct{ ID, Text string }

// Invariants lists G1 to G10 in order.
func Invariants() []Invariant {
	return []Invariant{
		{"G1", "no attacker success after an item is marked verified"},
		{"G2", "no reissued fingerprint is in the compromised set"},
		{"G3", "no new secret in a dirty zone"},
		{"G4", "no secret bytes in history, logs, notices or export"},
		{"G5", "every scoped item ends in exactly one end state"},
		{"G6", "one effective side effect per idempotency key"},
		{"G7", "warned before the cut, or an override on record"},
		{"G8", "the audit bundle verifies offline and tampering is caught"},
		{"G9", "all obligations are listed with their clocks"},
		{"G10", "no high-tier action without a valid approval or break-glass record"},
	}
}
