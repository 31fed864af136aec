// Package playbooks holds the plain types of a playbook and the playbooks that
// ship with rekey, embedded.
//
// A parsed [Playbook] is workflow input: editing the file never changes a running
// incident. So this package imports nothing but the standard library, holds no
// behaviour that depends on clock, environment or the order of a map, and every
// accessor over a map is sorted. The loader, the validator, the rules and the
// schema are in internal/playbook.
//
// # Adding a playbook
//
// A playbook is one folder here: <name>/playbook.yaml, whose `name` is the folder,
// and <name>/README.md for the person who is woken by it. Both are embedded; the
// test in internal/playbook holds every shipped playbook to the validator without
// a warning. `rekey playbook validate FILE` says what is wrong and how to mend it.
package playbooks

import (
	"slices"
	"sort"
	"strings"
)

// The values of apiVersion and kind.
const (
	APIVersion = "rekey/v1"
	Kind       = "Playbook"
)

// A Playbook says how a class of incident is handled (design section 7, contracts
// section 2).
type Playbook struct {
	APIVersion string `json:"api_version" yaml:"apiVersion" jsonschema:"required" jsonschema_description:"Version of this format: rekey/v1."`
	Kind       string `json:"kind" yaml:"kind" jsonschema:"required" jsonschema_description:"Always Playbook."`
	Name       string `json:"name" yaml:"name" jsonschema:"required" jsonschema_description:"Name of the playbook; the same as its folder."`
	Title      string `json:"title" yaml:"title" jsonschema:"required" jsonschema_description:"One line for the person who is paged."`
	Version    string `json:"version" yaml:"version" jsonschema:"required" jsonschema_description:"Semantic version, raised on every change."`

	Match Match `json:"match" yaml:"match" jsonschema:"required" jsonschema_description:"Which reports this playbook takes. The first playbook whose match is true is used."`
	Start Start `json:"start" yaml:"start" jsonschema:"required" jsonschema_description:"auto: run at once. ask: wait for a person first. record: write it down and do nothing."`

	Severity        []SeverityRule   `json:"severity" yaml:"severity" jsonschema:"required,minItems=1" jsonschema_description:"First match gives the severity; the last must be when: true."`
	ContainOnReport *ContainOnReport `json:"contain_on_report,omitempty" yaml:"contain_on_report,omitempty" jsonschema_description:"Allows a reversible Disable of the reported key before the scope is known. Off unless given."`

	Scope      Scope                     `json:"scope" yaml:"scope" jsonschema:"required" jsonschema_description:"How far and how long the blast radius is looked for. It is the evidence that every irreversible step rests on."`
	Decide     []Rule                    `json:"decide" yaml:"decide" jsonschema:"required,minItems=1" jsonschema_description:"Ordered rules; the first whose condition is true gives the strategy of an item. A rule that reads an unknown fact is false. The last must be when: true."`
	Strategies map[StrategyName]Strategy `json:"strategies,omitempty" yaml:"strategies" jsonschema_description:"The steps of each strategy. One that is left out has its standard steps."`
	Ladder     Ladder                    `json:"ladder" yaml:"ladder" jsonschema_description:"What happens when a key still answers after Disable."`
	Approvals  map[string]Approval       `json:"approvals,omitempty" yaml:"approvals" jsonschema:"required" jsonschema_description:"Who must agree, per strategy and for irreversible, rung, restore and break_glass. A moving strategy that is left out needs the votes of irreversible."`

	Rates   map[string]Rate `json:"rates,omitempty" yaml:"rates,omitempty" jsonschema_description:"Upper bounds of calls of an account, for all incidents with the same bound together: awsiam.write for calls that change something, awsiam.read for the others, awsiam.iam for those that count against that limit of the provider. They only lower what rekey.yaml allows."`
	Notices []Notice        `json:"notices,omitempty" yaml:"notices,omitempty" jsonschema_description:"Who is told what, through which channel."`
	Harden  Harden          `json:"harden,omitzero" yaml:"harden,omitempty" jsonschema_description:"What is proposed for each replaced item afterwards; its owner may decline it until a date."`
	Reissue Reissue         `json:"reissue,omitzero" yaml:"reissue,omitempty" jsonschema_description:"How the new key is made and where it goes."`
	Verify  Verify          `json:"verify" yaml:"verify" jsonschema:"required" jsonschema_description:"When the old key counts as proven dead."`
	Watch   Watch           `json:"watch" yaml:"watch" jsonschema_description:"How long the dead key is watched afterwards."`
	Record  Record          `json:"record,omitzero" yaml:"record,omitempty" jsonschema_description:"Where the incident is written down besides the bundle."`
}

// Match says which reports a playbook takes.
type Match struct {
	Provider string   `json:"provider" yaml:"provider" jsonschema:"required" jsonschema_description:"Provider code, see rekey provider list."`
	Kinds    []string `json:"kinds" yaml:"kinds" jsonschema:"required,minItems=1" jsonschema_description:"Kinds of credential of that provider."`
	When     string   `json:"when,omitempty" yaml:"when,omitempty" jsonschema_description:"Condition over report; left out it is true."`
}

// Start says what a matching report begins.
type Start string

// The starts.
const (
	StartAuto   Start = "auto"   // run at once
	StartAsk    Start = "ask"    // wait for a person first
	StartRecord Start = "record" // write it down, do nothing
)

// Starts lists every start.
func Starts() []Start { return []Start{StartAuto, StartAsk, StartRecord} }

// Level is a severity.
type Level string

// The severities, worst first.
const (
	Critical Level = "critical"
	High     Level = "high"
	Medium   Level = "medium"
	Low      Level = "low"
)

// Levels lists every severity, worst first.
func Levels() []Level { return []Level{Critical, High, Medium, Low} }

// A SeverityRule gives its level when its condition is the first that is true.
type SeverityRule struct {
	Level Level  `json:"level" yaml:"level" jsonschema:"required" jsonschema_description:"critical, high, medium or low."`
	When  string `json:"when" yaml:"when" jsonschema:"required" jsonschema_description:"Condition (CEL) over report, item and scope."`
}

// ContainOnReport allows a Disable of the reported key before scope is known. All
// conditions of design section 3 hold besides.
type ContainOnReport struct {
	When string `json:"when" yaml:"when" jsonschema:"required" jsonschema_description:"Condition (CEL) over report, item and scope."`
}

// Scope bounds the search for what the key reaches.
type Scope struct {
	Depth    int      `json:"depth" yaml:"depth" jsonschema:"required,minimum=1" jsonschema_description:"How many edges of the estate are followed from the reported key."`
	Sources  []Source `json:"sources" yaml:"sources" jsonschema:"required,minItems=1" jsonschema_description:"provider: Inspect. estate: what rekey is told. blobs: text in the evidence files given."`
	Lookback Duration `json:"lookback" yaml:"lookback" jsonschema:"required" jsonschema_description:"How far back logs are read; older is reported as a dark window."`
	Timeout  Duration `json:"timeout" yaml:"timeout" jsonschema:"required" jsonschema_description:"After this the scope goes on with what it has and lists the rest as unseen."`
}

// Source is a place where scope looks.
type Source string

// The sources.
const (
	SourceProvider Source = "provider"
	SourceEstate   Source = "estate"
	SourceBlobs    Source = "blobs"
)

// Sources lists every source.
func Sources() []Source { return []Source{SourceProvider, SourceEstate, SourceBlobs} }

// A Rule gives an item its strategy when its condition is the first that is true.
type Rule struct {
	ID       string       `json:"id" yaml:"id" jsonschema:"required" jsonschema_description:"Name of the rule; it is written into the plan and the bundle."`
	Strategy StrategyName `json:"strategy" yaml:"strategy" jsonschema:"required" jsonschema_description:"Strategy of the items for which the rule is the first that is true."`
	When     string       `json:"when" yaml:"when" jsonschema:"required" jsonschema_description:"Condition (CEL) over report, item and scope."`
}

// Ladder says which rungs an item climbs by itself while its key still answers.
type Ladder struct {
	Automatic []Rung `json:"automatic,omitempty" yaml:"automatic,omitempty" jsonschema_description:"Rungs climbed without asking again, as long as their exact calls are in the approved plan."`
	Approved  []Rung `json:"approved,omitempty" yaml:"approved,omitempty" jsonschema_description:"Rungs that pause, page and need the votes of approvals.rung."`
}

// Allows tells whether the playbook has the rung at all, and whether it is climbed
// without a vote of its own.
func (l Ladder) Allows(r Rung) (listed, automatic bool) {
	automatic = slices.Contains(l.Automatic, r)
	return automatic || slices.Contains(l.Approved, r), automatic
}

// A Notice is one message that the incident sends.
type Notice struct {
	Audience  string   `json:"audience" yaml:"audience" jsonschema:"required,enum=owner,enum=customer" jsonschema_description:"owner or customer."`
	Template  string   `json:"template" yaml:"template" jsonschema:"required" jsonschema_description:"Name of the template."`
	Channel   []string `json:"channel" yaml:"channel" jsonschema:"required,minItems=1" jsonschema_description:"Channels in the order they are tried: email, webhook, slack."`
	Gate      string   `json:"gate,omitempty" yaml:"gate,omitempty" jsonschema:"enum=warn-before-cut" jsonschema_description:"warn-before-cut: the key is not cut before this notice is delivered or its deadline has passed."`
	Deadlines string   `json:"deadlines,omitempty" yaml:"deadlines,omitempty" jsonschema:"enum=contracts" jsonschema_description:"contracts: the contract_hours of the customer."`
}

// Values of [Notice].
const (
	AudienceOwner      = "owner"
	AudienceCustomer   = "customer"
	GateWarnBeforeCut  = "warn-before-cut"
	DeadlinesContracts = "contracts"
)

// Templates lists the notice templates of this build. Their text is in
// internal/notice.
func Templates() []string { return []string{"key-owner", "customer-key"} }

// Harden is what is proposed for each replaced item. Empty fields propose nothing.
type Harden struct {
	AllowFrom []string `json:"allow_from,omitempty" yaml:"allow_from,omitempty" jsonschema_description:"Networks (CIDR) from which the new key may be used. From anywhere else it is denied: use your own."`
	Lifetime  Duration `json:"lifetime,omitzero" yaml:"lifetime,omitempty" jsonschema_description:"Longest life of the new key."`
	Scope     string   `json:"scope,omitempty" yaml:"scope,omitempty" jsonschema_description:"used-90d: cut permissions to what was used in that time."`
}

// Reissue says how the new key is made and where it goes.
type Reissue struct {
	Narrow Narrow  `json:"narrow,omitzero" yaml:"narrow,omitempty" jsonschema_description:"Limits put on the new key as it is made."`
	Stores []Store `json:"stores,omitempty" yaml:"stores,omitempty" jsonschema_description:"Where the new secret is put."`
}

// Narrow is put on the new key as it is made. Empty fields put nothing.
type Narrow struct {
	DenyUnlessSourceIP []string `json:"deny_unless_source_ip,omitempty" yaml:"deny_unless_source_ip,omitempty" jsonschema_description:"Networks (CIDR) outside which everything is denied: use your own."`
}

// A Store is a place for the new secret. Its name may hold placeholders, see
// [Placeholders].
type Store struct {
	Target string `json:"target" yaml:"target" jsonschema:"required" jsonschema_description:"Kind of store, such as awssm."`
	Name   string `json:"name" yaml:"name" jsonschema:"required" jsonschema_description:"Name of the secret there; placeholders in double braces, such as {{item.owner}}."`
}

// Verify says when the old key counts as dead: K consecutive refusals, each with
// its control, over at least Span, from Vantage places.
type Verify struct {
	K       int      `json:"k" yaml:"k" jsonschema:"required,minimum=1" jsonschema_description:"Consecutive refusals needed."`
	Span    Duration `json:"span" yaml:"span" jsonschema:"required" jsonschema_description:"Time they must span; at least twice the provider's propagation."`
	Vantage int      `json:"vantage" yaml:"vantage" jsonschema:"required,minimum=1" jsonschema_description:"Places they must come from, where the provider has that many."`
	Sweep   bool     `json:"sweep" yaml:"sweep" jsonschema_description:"Look for what the key left behind until two readings are equal."`
}

// Watch is the time for which use of the dead key raises an alarm.
type Watch struct {
	For Duration `json:"for" yaml:"for" jsonschema:"required" jsonschema_description:"How long."`
}

// Record names where the incident is written down besides the bundle.
type Record struct {
	GitHub *RecordGitHub `json:"github,omitempty" yaml:"github,omitempty" jsonschema_description:"An issue per incident."`
	Slack  *RecordSlack  `json:"slack,omitempty" yaml:"slack,omitempty" jsonschema_description:"A thread per incident."`
}

// RecordGitHub opens an issue per incident.
type RecordGitHub struct {
	Repo   string   `json:"repo" yaml:"repo" jsonschema:"required" jsonschema_description:"owner/name."`
	Labels []string `json:"labels,omitempty" yaml:"labels,omitempty" jsonschema_description:"Labels of the issue."`
}

// RecordSlack opens a thread per incident.
type RecordSlack struct {
	Channel string `json:"channel" yaml:"channel" jsonschema:"required" jsonschema_description:"Channel name with #, or its id."`
}

// StrategyNames lists the strategies that the file defines, sorted.
func (p *Playbook) StrategyNames() []StrategyName {
	out := make([]StrategyName, 0, len(p.Strategies))
	for n := range p.Strategies { //workflowcheck:ignore sorted below
		out = append(out, n)
	}
	sort.Slice(out, func(i, j int) bool { return out[i] < out[j] })
	return out
}

// ApprovalNames lists the approvals that the file defines, sorted.
func (p *Playbook) ApprovalNames() []string { return sortedKeys(p.Approvals) }

// RateNames lists the rates that the file sets, sorted.
func (p *Playbook) RateNames() []string { return sortedKeys(p.Rates) }

// RatesOf gives the rates that bound calls of a provider, by their names in the file;
// nil when there are none. "awsiam.write" bounds every call that changes something,
// "awsiam.read" every other one, "awsiam.iam" those that count against the provider's
// limit of that name.
func (p *Playbook) RatesOf(provider string) map[string]string {
	var out map[string]string
	for name, r := range p.Rates { //workflowcheck:ignore into a map
		if strings.HasPrefix(name, provider+".") {
			if out == nil {
				out = map[string]string{}
			}
			out[name] = string(r)
		}
	}
	return out
}

// Strategy gives the steps of a strategy: the file's, or the standard ones.
func (p *Playbook) Strategy(n StrategyName) Strategy {
	s := p.Strategies[n]
	if len(s.Steps) == 0 {
		s.Steps = n.StandardSteps()
	}
	return s
}

// ApprovalFor gives who must agree to a strategy. One that moves keys and is not
// listed needs the votes of `irreversible`; one that moves nothing needs none.
func (p *Playbook) ApprovalFor(n StrategyName) Approval {
	if a, ok := p.Approvals[string(n)]; ok {
		return a
	}
	if !n.Moves() {
		return Approval{Policy: true}
	}
	return p.Approvals[ApproveIrreversible]
}

// Rule finds a rule by its id.
func (p *Playbook) Rule(id string) (Rule, bool) {
	for _, r := range p.Decide {
		if r.ID == id {
			return r, true
		}
	}
	return Rule{}, false
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m { //workflowcheck:ignore sorted below
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}
