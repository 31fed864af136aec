package cli

import (
	"context"
	"encoding/json"
	"time"

	"rekey/activities"
	"rekey/internal/plan"
)

// An Engine is what package worker gives to the command line. A field that is nil
// takes its command away. Every function obeys ctx; what it says to people goes to
// IOStreams.Err. It may return an [*Error] to choose code and advice.
type Engine struct {
	Up     func(context.Context, UpOptions, IOStreams) error
	Worker func(context.Context, WorkerOptions, IOStreams) error
	Serve  func(context.Context, ServeOptions, IOStreams) error
	Lab    func(context.Context, LabOptions, IOStreams) error
	Plan   func(context.Context, PlanOptions, IOStreams) (PlanResult, error)
	Check  func(context.Context, CheckOptions, IOStreams) (CheckResult, error)
	Drill  func(context.Context, DrillOptions, IOStreams) (DrillSession, error)
	Bench  func(context.Context, BenchOptions, IOStreams) (BenchResult, error)
	Doctor func(context.Context, DoctorOptions, IOStreams) (DoctorResult, error)
	// Promote and Builds are commands of `rekey worker`.
	Promote func(context.Context, PromoteOptions, IOStreams) (PromoteResult, error)
	Builds  func(context.Context, BuildsOptions, IOStreams) (BuildsResult, error)
	// Providers describe themselves; their key ids and secrets are recognised by it.
	Providers []activities.Provider
	// Version is what `rekey version` shows; empty: from the build.
	Version string
	// Build is the name under which workers register; empty: internal/build.ID.
	Build string
}

// Common are the options of every command of the engine. Empty: as configured.
type Common struct {
	Config string // --config
	Data   string // --data
}

// UpOptions are the flags of `rekey up`.
type UpOptions struct {
	Common
	// Lab starts a lab and uses it as the provider.
	Lab bool
	// Scenario is the drill whose estate the lab plays, by name or file.
	Scenario string
	// Listen addresses, host:port; empty: as configured.
	ListenHTTP, ListenTemporal, ListenUI, ListenMetrics string
	Logging
}

// Logging says what is logged to stderr, and how.
type Logging struct {
	Level  string // debug, info, warn, error; empty: warn
	Format string // text, json; empty: text
}

// ClusterOptions say which Temporal cluster to use.
type ClusterOptions struct {
	Address, Namespace     string
	TLSCA, TLSCert, TLSKey string // files
	APIKeyFile             string
}

// WorkerOptions are the flags of `rekey worker`.
type WorkerOptions struct {
	Common
	ClusterOptions
	// Build names this build.
	Build         string
	ListenMetrics string
	Logging
}

// ServeOptions are the flags of `rekey serve`.
type ServeOptions struct {
	Common
	ClusterOptions
	ListenHTTP, ListenMetrics string
	Logging
}

// LabOptions are the flags of `rekey lab`.
type LabOptions struct {
	Listen   string
	Dir      string
	Scenario string
}

// PlanOptions are the arguments of `rekey plan`. Nothing is changed or stored.
type PlanOptions struct {
	Common
	Provider, Kind, Account, KeyID string
	// PlaybookName or PlaybookFile; both empty: the first that matches.
	PlaybookName, PlaybookFile string
	Exposure                   string
	// Copies are places where a copy of the secret was seen (docs/estate.md).
	Copies   []string
	Lookback time.Duration
}

// SchemaPlan is the schema of [PlanResult].
const SchemaPlan = "rekey.plan/v1"

// A PlanResult is what would be done, and why.
type PlanResult struct {
	Schema   string         `json:"schema"`
	Key      activities.Key `json:"key"`
	Playbook string         `json:"playbook"`
	Severity string         `json:"severity"`
	Owner    string         `json:"owner,omitempty"`
	// OwnerKind is who owns it: team, customer, vendor; empty: unknown.
	OwnerKind string `json:"owner_kind,omitempty"`
	// Exists, Active and Admin are absent when unknown.
	Exists   *bool  `json:"exists,omitempty"`
	Active   *bool  `json:"active,omitempty"`
	Admin    *bool  `json:"admin,omitempty"`
	Created  string `json:"created,omitempty"`
	LastUsed string `json:"last_used,omitempty"`
	// Held says why this key must not move.
	Held string `json:"held,omitempty"`

	Uses     []PlanUse        `json:"uses"`
	Findings []PlanFinding    `json:"findings"`
	Items    []activities.Key `json:"items"`
	Plan     plan.Plan        `json:"plan"`
	// Approval says per strategy who must agree.
	Approvals []PlanApproval      `json:"approvals"`
	Unseen    []activities.Unseen `json:"unseen"`
	Dark      []PlanDark          `json:"dark"`
}

// A PlanUse is a group of uses that look alike.
type PlanUse struct {
	First   string   `json:"first"`
	Last    string   `json:"last"`
	Count   int64    `json:"count"`
	Source  string   `json:"source"`
	Agent   string   `json:"agent,omitempty"`
	Calls   []string `json:"calls"`
	Refused int64    `json:"refused,omitempty"`
	Label   string   `json:"label"`
	Why     string   `json:"why,omitempty"`
	Who     string   `json:"who,omitempty"`
}

// A PlanFinding is what the key made.
type PlanFinding struct {
	What string `json:"what"`
	ID   string `json:"id"`
	At   string `json:"at,omitempty"`
	Why  string `json:"why"`
}

// A PlanApproval is who must agree to a wave.
type PlanApproval struct {
	Wave   int      `json:"wave"`
	Policy bool     `json:"policy"`
	Rule   string   `json:"rule,omitempty"`
	Roles  []string `json:"roles,omitempty"`
	Quorum int      `json:"quorum,omitempty"`
}

// A PlanDark is a span without logs.
type PlanDark struct {
	From   string `json:"from"`
	To     string `json:"to"`
	Source string `json:"source"`
}

// CheckOptions are the arguments of `rekey provider check`.
type CheckOptions struct {
	Common
	// Provider and Account; empty: all that are configured.
	Provider, Account string
}

// SchemaCheck is the schema of [CheckResult].
const SchemaCheck = "rekey.check/v1"

// A CheckResult tells which of our own permissions are there; read-only.
type CheckResult struct {
	Schema   string         `json:"schema"`
	Accounts []AccountCheck `json:"accounts"`
}

// An AccountCheck is one configured account.
type AccountCheck struct {
	Provider string `json:"provider"`
	Account  string `json:"account"`
	// Identity is who we are there, in the provider's words.
	Identity string       `json:"identity,omitempty"`
	Verbs    []VerbCheck  `json:"verbs"`
	Problems []CheckFault `json:"problems"`
}

// A VerbCheck tells for one verb whether we may.
type VerbCheck struct {
	Verb string `json:"verb"`
	// State is allowed, denied or unknown (it cannot be told without doing it).
	State   string   `json:"state"`
	Missing []string `json:"missing,omitempty"`
}

// A CheckFault is something to mend.
type CheckFault struct {
	Message string `json:"message"`
	Do      string `json:"do"`
}

// DrillOptions are the flags of `rekey drill run`.
type DrillOptions struct {
	Common
	// Drill is a name, or a file when File is set.
	Drill   string
	File    bool
	Control string
	Scale   int
	Keep    bool
	Seed    int64 // 0: the drill's own
}

// A DrillSession is a drill that has been judged.
type DrillSession struct {
	Result DrillResult
	// Keep, with --keep, leaves everything running until ctx is cancelled. It is
	// called after the result was printed; nil: everything has ended.
	Keep func(context.Context) error
}

// SchemaDrill is the schema of [DrillResult].
const SchemaDrill = "rekey.drill/v1"

// DrillResult is `drill run --json` (contracts section 4).
type DrillResult struct {
	Schema string `json:"schema"`
	Drill  string `json:"drill"`
	Seed   int64  `json:"seed"`
	Scale  int    `json:"scale"`
	Result string `json:"result"` // passed, failed, error
	// Control is nil without --control, and then "" in JSON.
	Control      *DrillControl `json:"control"`
	Incidents    []string      `json:"incidents"`
	VirtualMs    int64         `json:"virtual_ms"`
	WallMs       int64         `json:"wall_ms"`
	Expectations []Expectation `json:"expectations"`
	Invariants   []Invariant   `json:"invariants"`
	Effects      Effects       `json:"effects"`
	Kills        int           `json:"kills"`
	Data         string        `json:"data"`
	Bundle       string        `json:"bundle"`
	Report       string        `json:"report"`
	TemporalUI   string        `json:"temporal_ui"`
}

// MarshalJSON implements json.Marshaler.
func (r DrillResult) MarshalJSON() ([]byte, error) {
	type plain DrillResult
	out := struct {
		plain
		Control any `json:"control"`
	}{plain: plain(r), Control: ""}
	if r.Control != nil {
		out.Control = r.Control
	}
	return json.Marshal(out)
}

// DrillControl is the verdict on a negative control.
type DrillControl struct {
	Name        string   `json:"name"`
	MustViolate []string `json:"must_violate"`
	Violated    []string `json:"violated"`
	Caught      bool     `json:"caught"`
}

// An Expectation of the drill's file.
type Expectation struct {
	ID     string `json:"id"`
	Held   bool   `json:"held"`
	Detail string `json:"detail"`
}

// An Invariant is one of G1 to G10. State: held, violated, not-applicable.
type Invariant struct {
	ID      string `json:"id"`
	State   string `json:"state"`
	Checked int64  `json:"checked"`
	Detail  string `json:"detail"`
}

// Effects as the lab's own log counts them.
type Effects struct {
	Calls                          int64 `json:"calls"`
	Duplicate                      int64 `json:"duplicate"`
	Orphans                        int64 `json:"orphans"`
	AttackerSuccessesAfterVerified int64 `json:"attacker_successes_after_verified"`
}

// BenchOptions are the flags of `rekey bench`.
type BenchOptions struct {
	Common
	Incidents int
	Items     int
	// Scale are sizes of single incidents to be measured instead.
	Scale []int
}

// SchemaBench is the schema of [BenchResult].
const SchemaBench = "rekey.bench/v1"

// A BenchResult is figures; none of them fails the command.
type BenchResult struct {
	Schema  string   `json:"schema"`
	Figures []Figure `json:"figures"`
}

// A Figure is one measured number, with its budget of design section 13 where it
// has one.
type Figure struct {
	Name   string `json:"name"`
	Value  int64  `json:"value"`
	Unit   string `json:"unit"`
	Budget int64  `json:"budget,omitempty"`
	Note   string `json:"note,omitempty"`
}

// DoctorOptions are the flags of `rekey doctor`.
type DoctorOptions struct {
	Common
	Fix bool
	// Only are the areas to look at besides the configuration; empty: all.
	Only []DoctorArea
}

// A DoctorArea is a part of an installation that `rekey doctor --only` can look at
// alone.
type DoctorArea string

// The areas.
const (
	DoctorData      DoctorArea = "data"
	DoctorEstate    DoctorArea = "estate"
	DoctorPeople    DoctorArea = "people"
	DoctorPlaybooks DoctorArea = "playbooks"
	DoctorServer    DoctorArea = "server"
	DoctorTemporal  DoctorArea = "temporal"
	DoctorProviders DoctorArea = "providers"
	DoctorChannels  DoctorArea = "channels"
	DoctorTelemetry DoctorArea = "telemetry"
)

// DoctorAreas are all of them, in the order in which doctor looks.
func DoctorAreas() []DoctorArea {
	return []DoctorArea{DoctorData, DoctorEstate, DoctorPeople, DoctorPlaybooks, DoctorServer, DoctorTemporal, DoctorProviders, DoctorChannels, DoctorTelemetry}
}

// SchemaDoctor is the schema of [DoctorResult].
const SchemaDoctor = "rekey.doctor/v1"

// A DoctorResult lists every check that was made.
type DoctorResult struct {
	Schema string        `json:"schema"`
	Checks []DoctorCheck `json:"checks"`
}

// A DoctorCheck is one check. State: ok, fault, mended, skipped.
type DoctorCheck struct {
	ID     string `json:"id"`
	State  string `json:"state"`
	Detail string `json:"detail"`
	Do     string `json:"do,omitempty"`
}
