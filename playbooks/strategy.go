package playbooks

// StrategyName is a way to make an item harmless (design section 2).
type StrategyName string

// The strategies.
const (
	RevokeNow       StrategyName = "revoke-now"
	ReissueFirst    StrategyName = "reissue-first"
	DisableAndWatch StrategyName = "disable-and-watch"
	Barrier         StrategyName = "barrier"
	Hold            StrategyName = "hold"
	NotifyOnly      StrategyName = "notify-only"
	CloseExposure   StrategyName = "close-exposure"
)

// StrategyNames lists every strategy.
func StrategyNames() []StrategyName {
	return []StrategyName{RevokeNow, ReissueFirst, DisableAndWatch, Barrier, Hold, NotifyOnly, CloseExposure}
}

// Moves tells whether the strategy changes anything at the key's provider, and so
// needs steps and an approval.
func (n StrategyName) Moves() bool {
	switch n {
	case RevokeNow, ReissueFirst, DisableAndWatch, Barrier:
		return true
	}
	return false
}

// StandardSteps is the order of design section 3, used where the playbook gives
// none. Nil for a strategy that moves nothing, except for the Notice of
// notify-only and close-exposure.
func (n StrategyName) StandardSteps() []Step {
	switch n {
	case RevokeNow:
		return []Step{StepDisable, StepEndSessions, StepProbe, StepIssue, StepDistribute, StepProbeNew, StepRevoke}
	case ReissueFirst:
		return []Step{StepIssue, StepDistribute, StepNotice, StepWaitCutover, StepDisable, StepEndSessions, StepProbe, StepRevoke}
	case DisableAndWatch:
		return []Step{StepDisable, StepEndSessions, StepProbe, StepWaitQuiet, StepRevoke}
	case Barrier:
		return []Step{StepIsolate, StepDisable, StepEndSessions, StepProbe, StepWaitAllDead, StepIssue, StepDistribute, StepProbeNew, StepRevoke}
	case NotifyOnly, CloseExposure:
		return []Step{StepNotice}
	}
	return nil
}

// A Strategy is the order of steps of one strategy.
type Strategy struct {
	Steps []Step `json:"steps,omitempty" yaml:"steps,omitempty" jsonschema_description:"The steps in their order."`
	// Cutoff ends WaitCutover: the old key dies then, whoever still uses it.
	Cutoff Duration `json:"cutoff,omitzero" yaml:"cutoff,omitempty" jsonschema_description:"End of WaitCutover: the old key dies then, whoever still uses it."`
	// Quiet is how long WaitQuiet waits for a complaint.
	Quiet Duration `json:"quiet,omitzero" yaml:"quiet,omitempty" jsonschema_description:"How long WaitQuiet waits for a complaint before the key is destroyed."`
}

// Step is one step of a strategy: a verb, or a wait between verbs.
type Step string

// The steps.
const (
	// StepIsolate takes the watcher's reach away before the first kill (barrier).
	// No provider verb does it for a host or a store: a person confirms it.
	StepIsolate     Step = "Isolate"
	StepDisable     Step = "Disable"
	StepEndSessions Step = "EndSessions"
	// StepProbe proves the old key dead.
	StepProbe      Step = "Probe"
	StepIssue      Step = "Issue"
	StepDistribute Step = "Distribute"
	// StepProbeNew proves the new key alive.
	StepProbeNew Step = "ProbeNew"
	StepRevoke   Step = "Revoke"
	// StepNotice sends the notices and is the warn-before-cut gate.
	StepNotice Step = "Notice"
	// StepWaitCutover waits until every dependent is seen on the new key, or for
	// the cut-off.
	StepWaitCutover Step = "WaitCutover"
	// StepWaitQuiet waits for a complaint.
	StepWaitQuiet Step = "WaitQuiet"
	// StepWaitAllDead waits until every item of the wave is proven dead (barrier).
	StepWaitAllDead Step = "WaitAllDead"
)

// Steps lists every step.
func Steps() []Step {
	return []Step{
		StepIsolate, StepDisable, StepEndSessions, StepProbe, StepIssue, StepDistribute, StepProbeNew, StepRevoke,
		StepNotice, StepWaitCutover, StepWaitQuiet, StepWaitAllDead,
	}
}

// Verb is the provider verb of the step, as text (package activities names them),
// or "" for a step that calls no provider.
func (s Step) Verb() string {
	switch s {
	case StepDisable, StepEndSessions, StepProbe, StepIssue, StepDistribute, StepRevoke:
		return string(s)
	case StepProbeNew:
		return string(StepProbe)
	}
	return ""
}

// Rung is one rung of the kill ladder (design section 3).
type Rung string

// The rungs, from the bottom up.
const (
	RungKey          Rung = "key"
	RungSessions     Rung = "sessions"
	RungPrincipal    Rung = "principal"
	RungParentDeny   Rung = "parent-deny"
	RungNetworkBind  Rung = "network-bind"
	RungVendorTicket Rung = "vendor-ticket"
)

// Rungs lists every rung from the bottom up.
func Rungs() []Rung {
	return []Rung{RungKey, RungSessions, RungPrincipal, RungParentDeny, RungNetworkBind, RungVendorTicket}
}

// NeedsVote tells whether the rung is never climbed by policy (design section 3:
// principal, parent deny and network bind).
func (r Rung) NeedsVote() bool {
	return r == RungPrincipal || r == RungParentDeny || r == RungNetworkBind
}

// Role is what a person may do (contracts section 1).
type Role string

// The roles.
const (
	RoleViewer     Role = "viewer"
	RoleReporter   Role = "reporter"
	RoleResponder  Role = "responder"
	RoleApprover   Role = "approver"
	RoleCommander  Role = "commander"
	RoleSecurity   Role = "security"
	RoleProduct    Role = "product"
	RoleLegal      Role = "legal"
	RoleAuditor    Role = "auditor"
	RoleMaintainer Role = "maintainer"
	RoleAdmin      Role = "admin"
)

// Roles lists every role.
func Roles() []Role {
	return []Role{
		RoleViewer, RoleReporter, RoleResponder, RoleApprover, RoleCommander, RoleSecurity,
		RoleProduct, RoleLegal, RoleAuditor, RoleMaintainer, RoleAdmin,
	}
}

// Names of approvals besides the strategies.
const (
	ApproveIrreversible = "irreversible" // Revoke, accept-risk
	ApproveRung         = "rung"         // rungs of ladder.approved
	ApproveRestore      = "restore"
	ApproveBreakGlass   = "break_glass"
)

// ApprovalNames lists every name that approvals may have: the strategies that
// move keys, then the four others.
func ApprovalNames() []string {
	var out []string
	for _, n := range StrategyNames() {
		if n.Moves() {
			out = append(out, string(n))
		}
	}
	return append(out, ApproveIrreversible, ApproveRung, ApproveRestore, ApproveBreakGlass)
}

// OnExpiryEscalate is the only thing that an expired approval may do: it never
// proceeds and never drops (design section 3).
const OnExpiryEscalate = "escalate"

// An Approval says who must agree.
type Approval struct {
	// Policy true: no vote; the rule's id is the approver of record.
	Policy bool `json:"policy,omitempty" yaml:"policy,omitempty" jsonschema_description:"true: no vote; the id of the deciding rule is the approver of record."`
	// Roles are the roles whose votes count.
	Roles      []Role   `json:"roles,omitempty" yaml:"roles,omitempty" jsonschema_description:"Roles whose votes count."`
	Quorum     int      `json:"quorum,omitempty" yaml:"quorum,omitempty" jsonschema:"minimum=1" jsonschema_description:"How many different people must agree."`
	Expires    Duration `json:"expires,omitzero" yaml:"expires,omitempty" jsonschema_description:"When nobody decided by then, it escalates."`
	OnExpiry   string   `json:"on_expiry,omitempty" yaml:"on_expiry,omitempty" jsonschema:"enum=escalate" jsonschema_description:"Always escalate: it never goes ahead and is never dropped."`
	EscalateTo []Role   `json:"escalate_to,omitempty" yaml:"escalate_to,omitempty" jsonschema_description:"Roles that are paged, and may vote, after it expired."`
	// Window and ReviewWithin are of break_glass.
	Window       Duration `json:"window,omitzero" yaml:"window,omitempty" jsonschema_description:"break_glass: how long the power lasts."`
	ReviewWithin Duration `json:"review_within,omitzero" yaml:"review_within,omitempty" jsonschema_description:"break_glass: by when somebody else must review it."`
}
