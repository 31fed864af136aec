package awsiam

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"rekey/activities"
)

// When a pattern of use may be called known without anybody's word. All of it
// must hold; a label that is wrongly "known" hides a thief, one that is wrongly
// "unknown" costs a question.
const (
	stableDays = 5                   // seen on that many days
	stableSpan = 14 * 24 * time.Hour // spread over that long
	// firstUse is how soon after its creation (or after the logs begin) the
	// pattern must have been there: what came later may be the thief.
	firstUse  = 7 * 24 * time.Hour
	maxGroups = 500 // of uses in one reading
)

// hostile are calls that give access away, make it last, or blind the owner: the
// classes Persistence, PrivilegeEscalation, Exfiltration and DefenseEvasion of
// https://docs.aws.amazon.com/guardduty/latest/ug/guardduty_finding-types-iam.html.
var hostile = map[string]bool{
	"CreateAccessKey": true, "CreateUser": true, "CreateLoginProfile": true, "UpdateLoginProfile": true, "CreateRole": true,
	"PutUserPolicy": true, "PutRolePolicy": true, "PutGroupPolicy": true, "AttachUserPolicy": true, "AttachRolePolicy": true,
	"AttachGroupPolicy": true, "CreatePolicyVersion": true, "SetDefaultPolicyVersion": true, "AddUserToGroup": true,
	"UpdateAssumeRolePolicy": true, "DeleteUserPermissionsBoundary": true, "DeleteRolePermissionsBoundary": true,
	"CreateServiceSpecificCredential": true, "UploadSSHPublicKey": true, "CreateSAMLProvider": true, "CreateOpenIDConnectProvider": true,
	"DeactivateMFADevice": true, "EnableMFADevice": true, "GetFederationToken": true,
	"CopySnapshot": true, "ModifySnapshotAttribute": true, "ModifyImageAttribute": true, "ModifyDBSnapshotAttribute": true,
	"CopyDBSnapshot": true, "PutBucketPolicy": true, "DeleteBucketPolicy": true, "PutBucketAcl": true, "CreateKeyPair": true, "ImportKeyPair": true,
	"StopLogging": true, "DeleteTrail": true, "UpdateTrail": true, "PutEventSelectors": true, "DeleteFlowLogs": true, "DeleteDetector": true,
	"UpdateDetector": true, "LeaveOrganization": true, "ScheduleKeyDeletion": true, "GetPasswordData": true, "SendCommand": true,
}

// A baseline is what the key's normal use is known from.
type baseline struct {
	known   []activities.Caller
	created time.Time
	since   time.Time // logs begin
}

// A group is the events of one source and agent.
type group struct {
	source, agent string
	events        []event // newest first
}

func (g group) last() time.Time  { return g.events[0].Time.UTC() }
func (g group) first() time.Time { return g.events[len(g.events)-1].Time.UTC() }

// uses groups the events that are not rekey's own and labels each group against
// the baseline, newest group first.
func uses(b baseline, events []event) []activities.Use {
	groups := grouped(events, func(e event) string { return clean(e.Source, 64) })
	labels := make([]string, len(groups))
	out := make([]activities.Use, len(groups))
	based := len(b.known) > 0
	for i, g := range groups {
		out[i] = g.use()
		labels[i], out[i].Who, out[i].Why = b.label(g)
		based = based || labels[i] == activities.UseKnown
	}
	for i, g := range groups {
		switch {
		case labels[i] != activities.UseNew:
			// Known, or of no known caller but with a reason not to call it new.
		case !based:
			labels[i], out[i].Why = activities.UseUnknown, "nothing in the logs or the estate says what is normal for this key"
		default:
			if calls := hostileCalls(g); len(calls) > 0 {
				out[i].Malicious = true
				out[i].Why = fmt.Sprintf("%s from a source and agent that no known use has, with a key reported as exposed", strings.Join(calls, ", "))
			}
		}
		out[i].Label = labels[i]
	}
	return out
}

// grouped puts events of one source and agent family together, newest group
// first; what is beyond maxGroups goes into the oldest one kept.
func grouped(events []event, source func(event) string) []group {
	byKey := map[string]int{}
	var out []group
	for _, e := range events {
		if e.ours() {
			continue
		}
		src, agent := source(e), family(e.Agent)
		key := src + "\x00" + agent
		n, ok := byKey[key]
		if !ok {
			if len(out) == maxGroups {
				src, agent, key = "several", "several", ""
				if n, ok = byKey[key]; ok {
					out[n].events = append(out[n].events, e)
					continue
				}
			}
			n = len(out)
			byKey[key] = n
			out = append(out, group{source: src, agent: agent})
		}
		out[n].events = append(out[n].events, e)
	}
	return out
}

var versionPart = regexp.MustCompile(`^[^\s/\[(]+`)

// family is the first product of a user agent without its version, so that an
// upgrade is not a stranger: "aws-cli/2.15.3 Python/3.11" is "aws-cli".
func family(agent string) string {
	return clean(versionPart.FindString(strings.TrimPrefix(agent, "[")), 64)
}

func (g group) use() activities.Use {
	u := activities.Use{First: g.first(), Last: g.last(), Count: int64(len(g.events)), Source: g.source, Agent: g.agent}
	for _, e := range g.events {
		if e.Error != "" {
			u.Refused++
		}
		u.Calls = append(u.Calls, clean(e.call(), 96))
	}
	slices.Sort(u.Calls)
	u.Calls = slices.Compact(u.Calls)
	return u
}

// label judges one group by itself: known with a reason, new, or unknown where it
// is regular but nobody vouches for it.
func (b baseline) label(g group) (label, who, why string) {
	if caller, ok := b.vouched(g); ok {
		if calls := hostileCalls(g); len(calls) > 0 && (caller.Network == "" || caller.Agent == "") {
			return activities.UseUnknown, caller.Who, fmt.Sprintf("looks like a known caller, but %s needs somebody's word", strings.Join(calls, ", "))
		}
		return activities.UseKnown, caller.Who, "matches a known caller"
	}
	if len(b.known) > 0 && !b.stable(g) {
		return activities.UseNew, "", "matches no known caller"
	}
	if !b.stable(g) {
		return activities.UseNew, "", "no pattern of this key before"
	}
	begin := b.since
	if b.created.After(begin) {
		begin = b.created
	}
	if late := g.first().Sub(begin); late > firstUse {
		return activities.UseUnknown, "", fmt.Sprintf("regular, but it began %d days after the logs of this key; somebody must confirm it", int(late.Hours()/24))
	}
	return activities.UseKnown, "", fmt.Sprintf("regular since %s, the same calls, nothing refused; told from the pattern, not confirmed", g.first().Format(time.DateOnly))
}

// vouched finds the known caller that every event of the group matches, the one
// that says most first.
func (b baseline) vouched(g group) (activities.Caller, bool) {
	var found *activities.Caller
	for _, k := range b.known {
		if k.Network == "" && k.Agent == "" || !callerMatches(k, g) {
			continue
		}
		if k.Network != "" && k.Agent != "" {
			return k, true
		}
		if found == nil {
			found = &k
		}
	}
	if found == nil {
		return activities.Caller{}, false
	}
	return *found, true
}

func callerMatches(k activities.Caller, g group) bool {
	if k.Network != "" && !within(k.Network, g.source) {
		return false
	}
	return k.Agent == "" || !slices.ContainsFunc(g.events, func(e event) bool { return !strings.HasPrefix(e.Agent, k.Agent) })
}

// stable tells whether the group is a pattern: often, long, the same calls all
// along, nothing refused, nothing hostile.
func (b baseline) stable(g group) bool {
	days := map[string]bool{}
	early, late := map[string]bool{}, map[string]bool{}
	half := g.first().Add(g.last().Sub(g.first()) / 2)
	for _, e := range g.events {
		if e.Error != "" || hostile[e.Name] || g.source == "several" {
			return false
		}
		days[e.Time.UTC().Format(time.DateOnly)] = true
		if e.Time.After(half) {
			late[e.Name] = true
		} else {
			early[e.Name] = true
		}
	}
	for name := range late {
		if !early[name] {
			return false
		}
	}
	return len(days) >= stableDays && g.last().Sub(g.first()) >= stableSpan
}

func hostileCalls(g group) []string {
	var out []string
	for _, e := range g.events {
		if hostile[e.Name] {
			out = append(out, clean(e.Name, 64))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

var appProduct = regexp.MustCompile(`\bapp/([A-Za-z0-9._/#-]{1,64})`)

// place is where a dead key still is, as well as it can be told: the application
// id that an SDK puts into its user agent, else the source address. It is for
// finding the copy, never for trusting the caller
// (https://docs.aws.amazon.com/sdkref/latest/guide/feature-appid.html).
func place(e event) string {
	if m := appProduct.FindStringSubmatch(e.Agent); m != nil {
		return m[1]
	}
	return clean(e.Source, 64)
}

// hits are the uses of a key that should be dead, newest first.
func hits(events []event, id string) []activities.Use {
	own := slices.DeleteFunc(slices.Clone(events), func(e event) bool { return e.Who.Key != "" && e.Who.Key != id })
	var out []activities.Use
	for _, g := range grouped(own, place) {
		u := g.use()
		u.Label, u.Why = activities.UseUnknown, "use of a key that should be dead"
		out = append(out, u)
	}
	slices.SortFunc(out, func(a, b activities.Use) int {
		return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.Source, b.Source))
	})
	return out
}

func within(network, source string) bool {
	p, err := netip.ParsePrefix(network)
	if err != nil {
		return false
	}
	a, err := netip.ParseAddr(source)
	return err == nil && p.Contains(a.Unmap())
}
