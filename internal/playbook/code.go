package playbook

// A Code names a kind of mistake. A code is never given another meaning.
type Code string

// A CodeInfo explains a code in docs/playbook-problems.md.
type CodeInfo struct {
	Code    Code
	Meaning string
	Mend    string
}

// The codes: form (RK00x), rules (RK01x), values (RK02x), decisions and approvals
// (RK03x), provider facts (RK04x), danger (RK05x), ceilings (RK06x).
const (
	codeSyntax       Code = "RK001"
	codeDocument     Code = "RK002"
	codeUnknownKey   Code = "RK003"
	codeTwice        Code = "RK004"
	codeType         Code = "RK005"
	codeMissing      Code = "RK006"
	codeAlias        Code = "RK007"
	codeFormat       Code = "RK008"
	codeName         Code = "RK009"
	codeVersion      Code = "RK010"
	codeRuleSyntax   Code = "RK011"
	codeUnknownFact  Code = "RK012"
	codeRuleType     Code = "RK013"
	codeRuleCost     Code = "RK014"
	codeTooEarly     Code = "RK015"
	codeNeverEqual   Code = "RK016"
	codeValue        Code = "RK020"
	codeDuration     Code = "RK021"
	codeRate         Code = "RK022"
	codeNumber       Code = "RK023"
	codeRepeated     Code = "RK024"
	codeStrategy     Code = "RK025"
	codeStep         Code = "RK026"
	codeRung         Code = "RK027"
	codeRole         Code = "RK028"
	codeNetwork      Code = "RK029"
	codeLastRule     Code = "RK030"
	codeLastSeverity Code = "RK031"
	codeUnreachable  Code = "RK032"
	codeNoApproval   Code = "RK033"
	codeApprovalName Code = "RK034"
	codeQuorum       Code = "RK035"
	codeExpiry       Code = "RK036"
	codeEscalation   Code = "RK037"
	codePolicy       Code = "RK038"
	codeBreakGlass   Code = "RK039"
	codeProvider     Code = "RK040"
	codeKeyKind      Code = "RK041"
	codeSpan         Code = "RK042"
	codeVerb         Code = "RK043"
	codeStore        Code = "RK044"
	codeRateName     Code = "RK045"
	codeEvidence     Code = "RK050"
	codeNoProbe      Code = "RK051"
	codeNoGate       Code = "RK052"
	codeCutoff       Code = "RK053"
	codeQuiet        Code = "RK054"
	codeOrder        Code = "RK055"
	codePlaceholder  Code = "RK056"
	codeLockout      Code = "RK057"
	codeRungVote     Code = "RK058"
	codeVoter        Code = "RK059"
	codeIdle         Code = "RK060"
	codeCeiling      Code = "RK061"
	codePin          Code = "RK062"
)

// CodeTable lists every code in order.
func CodeTable() []CodeInfo {
	return []CodeInfo{
		{codeSyntax, "The file is not YAML.", "Mend the line that is named; strings with `: `, `#` or braces need quotes."},
		{codeDocument, "The file is empty, too large, holds several documents, or is not a mapping.", "One mapping per file, at most 1 MiB, no list of more than 500 entries."},
		{codeUnknownKey, "A key that the format does not have.", "Write the key that is suggested, or remove it."},
		{codeTwice, "The same key twice in one mapping.", "Keep one."},
		{codeType, "A value of the wrong type.", "Write what the message asks for; a text that looks like a number or a truth value needs quotes."},
		{codeMissing, "A required key is missing.", "Add it."},
		{codeAlias, "Anchors, aliases, merge keys and tags are not part of the format.", "Write the value out: a playbook is read by people at night."},
		{codeFormat, "apiVersion or kind is not known to this build.", "`apiVersion: rekey/v1` and `kind: Playbook`."},
		{codeName, "The name is not lower case letters, digits and dashes, or not the folder's.", "Rename the folder or the playbook."},
		{codeVersion, "The version is not a semantic version.", "MAJOR.MINOR.PATCH, such as 1.0.0 (https://semver.org)."},
		{codeRuleSyntax, "The condition is not CEL.", "See https://cel.dev; texts are in double quotes, `&&`, `||`, `!`."},
		{codeUnknownFact, "The condition reads something that is not a fact.", "docs/playbook-facts.md lists every fact. There is no clock, environment or network."},
		{codeRuleType, "The condition does not give true or false, or compares different types.", "Compare a fact with a value of its own type."},
		{codeRuleCost, "The condition may cost more than 10,000.", "Shorten it; leave out loops within loops."},
		{codeTooEarly, "The condition reads facts that are not known yet when it is asked: it could never be true.", "match.when reads only report; contain_on_report.when does not read scope."},
		{codeNeverEqual, "A fact is compared with a value that it never has.", "docs/playbook-facts.md lists the values of a fact that has few."},
		{codeValue, "A value outside its list.", "Write one of the values that are named."},
		{codeDuration, "Not a length of time, or zero where time must pass.", "Write 30s, 15m, 72h or 90d."},
		{codeRate, "Not a rate.", "A whole number per s, m or h: 10/s."},
		{codeNumber, "A number that is too small or too large.", "The message names the bounds."},
		{codeRepeated, "The same entry twice in a list, or two rules with one id.", "Keep one."},
		{codeStrategy, "No such strategy.", "revoke-now, reissue-first, disable-and-watch, barrier, hold, notify-only, close-exposure."},
		{codeStep, "No such step.", "docs/playbook-facts.md lists the steps."},
		{codeRung, "No such rung, or one in both lists.", "key, sessions, principal, parent-deny, network-bind, vendor-ticket."},
		{codeRole, "No such role.", "viewer reporter responder approver commander security product legal auditor maintainer admin."},
		{codeNetwork, "Not a network in CIDR form.", "Write 198.18.0.0/15; host bits must be zero."},
		{codeLastRule, "The last rule of decide is not `when: \"true\"`.", "Add a last rule that takes every item; disable-and-watch is the careful one."},
		{codeLastSeverity, "The last severity is not `when: \"true\"`.", "Add a last one that takes every incident."},
		{codeUnreachable, "A rule behind one that is always true is never reached.", "Move it up, or remove it."},
		{codeNoApproval, "A strategy that a rule uses has no approval (warning: the votes of irreversible apply), or rung or restore has none.", "Say who must agree under approvals."},
		{codeApprovalName, "Nothing is approved under this name.", "A strategy that moves keys, irreversible, rung, restore or break_glass."},
		{codeQuorum, "Votes without a number, or without roles.", "quorum: 1 or more, and roles."},
		{codeExpiry, "Votes that never expire: the incident would wait for ever, unseen.", "expires: 30m."},
		{codeEscalation, "An expired approval must escalate to somebody.", "on_expiry: escalate and escalate_to: [admin]."},
		{codePolicy, "policy: true where people must vote, or together with votes.", "irreversible, rung, restore and break_glass always need people."},
		{codeBreakGlass, "Break-glass lasts too long or is not reviewed in time.", "window at most 15m, review_within at most 24h."},
		{codeProvider, "No such provider in this build.", "rekey provider list."},
		{codeKeyKind, "The provider has no such kind.", "rekey provider show CODE."},
		{codeSpan, "The refusals span less than twice the provider's propagation: an old answer could pass for death.", "Raise verify.span to what the message names."},
		{codeVerb, "No kind that is matched has the verb of a step.", "Contracts section 6 says what happens then; remove the step if that is not wanted."},
		{codeStore, "The provider has no such store.", "rekey provider show CODE lists the stores."},
		{codeRateName, "The rate is not of the provider that is matched.", "<provider>.<limit>, such as awsiam.write."},
		{codeEvidence, "A key would be destroyed although nothing was read from its provider first.", "scope.sources must have provider."},
		{codeNoProbe, "A Disable or Revoke is not followed by a Probe: a 200 proves nothing.", "Put Probe behind it."},
		{codeNoGate, "An irreversible verb without a gate.", "Add approvals.irreversible with a quorum."},
		{codeCutoff, "reissue-first without a cut-off: the thief stays for as long as one dependent sleeps.", "cutoff: 72h."},
		{codeQuiet, "WaitQuiet without its time, or disable-and-watch without WaitQuiet.", "quiet: 24h."},
		{codeOrder, "A step before the one it needs.", "The message names the order."},
		{codePlaceholder, "A placeholder that nothing binds.", "docs/playbook-facts.md lists the placeholders."},
		{codeLockout, "Everything outside the networks is denied, and these are nobody's, or everybody's.", "Write your own egress ranges, or leave the list out."},
		{codeRungVote, "A rung that stops more than the key is climbed without a vote.", "principal, parent-deny and network-bind belong under ladder.approved."},
		{codeVoter, "A role that may only look or report would vote.", "responder, approver, commander, security, product, legal, maintainer or admin."},
		{codeIdle, "A strategy or approval that no rule uses.", "Remove it, or add the rule."},
		{codeCeiling, "The playbook is looser than rekey.yaml allows.", "Playbooks can only tighten: raise it here, or let the owner of rekey.yaml change the ceiling."},
		{codePin, "The playbook's digest is not pinned in rekey.yaml.", "rekey playbook show prints the digest; have it pinned, or signed by two maintainers."},
	}
}
