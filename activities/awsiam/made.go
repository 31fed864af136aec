package awsiam

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudtrail/types"

	"rekey/activities"
)

// sessionMax is the longest that a session lives: 36 hours, GetSessionToken,
// https://docs.aws.amazon.com/STS/latest/APIReference/API_GetSessionToken.html.
const sessionMax = 36 * time.Hour

// A maker says what a call makes and where its id stands in the event. The shapes
// are those of the calls' own results (CloudTrail lower-cases the first letter).
type maker struct {
	what string
	id   [][]string // paths in the response, then in the request
}

var makers = map[string]maker{
	"CreateAccessKey": {"key", [][]string{{"accessKey", "accessKeyId"}}},
	"CreateUser":      {"user", [][]string{{"user", "userName"}, {"userName"}}},
	"CreateRole":      {"role", [][]string{{"role", "roleName"}, {"roleName"}}},
	// A trust policy lets others in as that role.
	"UpdateAssumeRolePolicy": {"role", [][]string{{"roleName"}}},
	"CreateLoginProfile":     {"login", [][]string{{"loginProfile", "userName"}, {"userName"}}},
	"UpdateLoginProfile":     {"login", [][]string{{"userName"}}},

	"CreateServiceSpecificCredential": {"login", [][]string{{"serviceSpecificCredential", "serviceSpecificCredentialId"}}},
	"ResetServiceSpecificCredential":  {"login", [][]string{{"serviceSpecificCredential", "serviceSpecificCredentialId"}}},
	"UploadSSHPublicKey":              {"login", [][]string{{"sSHPublicKey", "sSHPublicKeyId"}, {"userName"}}},
	"UploadSigningCertificate":        {"login", [][]string{{"certificate", "certificateId"}, {"userName"}}},
	"EnableMFADevice":                 {"login", [][]string{{"serialNumber"}}},
	"CreateVirtualMFADevice":          {"login", [][]string{{"virtualMFADevice", "serialNumber"}, {"virtualMFADeviceName"}}},
	"CreateSAMLProvider":              {"login", [][]string{{"sAMLProviderArn"}, {"name"}}},
	"CreateOpenIDConnectProvider":     {"login", [][]string{{"openIDConnectProviderArn"}, {"url"}}},

	"PutUserPolicy":     {"policy", [][]string{{"policyName"}}},
	"PutRolePolicy":     {"policy", [][]string{{"policyName"}}},
	"PutGroupPolicy":    {"policy", [][]string{{"policyName"}}},
	"AttachUserPolicy":  {"policy", [][]string{{"policyArn"}}},
	"AttachRolePolicy":  {"policy", [][]string{{"policyArn"}}},
	"AttachGroupPolicy": {"policy", [][]string{{"policyArn"}}},
	"CreatePolicy":      {"policy", [][]string{{"policy", "arn"}, {"policyName"}}},

	"CreatePolicyVersion":           {"policy", [][]string{{"policyArn"}}},
	"SetDefaultPolicyVersion":       {"policy", [][]string{{"policyArn"}}},
	"AddUserToGroup":                {"policy", [][]string{{"groupName"}}},
	"DeleteUserPermissionsBoundary": {"policy", [][]string{{"userName"}}},
	"DeleteRolePermissionsBoundary": {"policy", [][]string{{"roleName"}}},

	"AssumeRole":         {"session", [][]string{{"credentials", "accessKeyId"}}},
	"GetSessionToken":    {"session", [][]string{{"credentials", "accessKeyId"}}},
	"GetFederationToken": {"session", [][]string{{"credentials", "accessKeyId"}}},

	"RunInstances":                 {"other", [][]string{{"instancesSet", "items", "0", "instanceId"}, {"reservationId"}}},
	"CreateFunction20150331":       {"other", [][]string{{"functionArn"}, {"functionName"}}},
	"UpdateFunctionCode20150331v2": {"other", [][]string{{"functionArn"}, {"functionName"}}},
	"CreateInstanceProfile":        {"other", [][]string{{"instanceProfile", "arn"}, {"instanceProfileName"}}},
	"CreateKeyPair":                {"other", [][]string{{"keyPairId"}, {"keyName"}}},
	"ImportKeyPair":                {"other", [][]string{{"keyPairId"}, {"keyName"}}},
	"CreateSnapshot":               {"other", [][]string{{"snapshotId"}}},
	"CopySnapshot":                 {"other", [][]string{{"snapshotId"}}},
	"ModifySnapshotAttribute":      {"other", [][]string{{"snapshotId"}}},
	"CreateImage":                  {"other", [][]string{{"imageId"}}},
	"ModifyImageAttribute":         {"other", [][]string{{"imageId"}}},
	"PutRule":                      {"other", [][]string{{"ruleArn"}, {"name"}}},
	"CreateStack":                  {"other", [][]string{{"stackId"}, {"stackName"}}},
}

// made reads what the event made; ok is false when it made nothing.
func (e event) made() (what, id string, ok bool) {
	m, ok := makers[e.Name]
	if !ok || e.Error != "" {
		return "", "", false
	}
	for _, from := range []map[string]any{e.Response, e.Request} {
		for _, path := range m.id {
			if id = at(from, path...); id != "" {
				return m.what, clean(id, 256), true
			}
		}
	}
	return m.what, e.Name + "/" + e.ID, true
}

// at is text that also goes through lists, by index.
func at(v any, path ...string) string {
	for _, p := range path {
		switch o := v.(type) {
		case map[string]any:
			v = o[p]
		case []any:
			if p != "0" || len(o) == 0 {
				return ""
			}
			v = o[0]
		default:
			return ""
		}
	}
	s, _ := v.(string)
	return s
}

// session reads the session that the event gave out.
func (e event) session(account string) (activities.Finding, bool) {
	what, id, ok := e.made()
	if !ok || what != "session" {
		return activities.Finding{}, false
	}
	if kind, err := CheckID(id); err != nil || kind != KindSession {
		return activities.Finding{}, false
	}
	f := activities.Finding{What: "session", ID: id, At: e.Time.UTC(), By: e.Who.Key}
	f.Expires = expiry(text(e.Response, "credentials", "expiration"))
	if f.Expires.IsZero() {
		f.Expires = e.Time.UTC().Add(sessionMax)
	}
	owner := ""
	if e.Name == "AssumeRole" {
		owner = rolePrefix + roleName(text(e.Request, "roleArn"))
	} else if p, ok := e.principal(); ok {
		owner = p.String()
	}
	f.Key = &activities.Key{Provider: Code, Account: account, Kind: KindSession, ID: id, Principal: owner}
	return f, true
}

// roleName cuts the name out of a role's ARN, paths included.
func roleName(arn string) string {
	return arn[strings.LastIndex(arn, "/")+1:]
}

// expiry reads the time in CloudTrail's two forms.
func expiry(s string) time.Time {
	for _, layout := range []string{time.RFC3339, "Jan 2, 2006 3:04:05 PM", "Jan 2, 2006, 3:04:05 PM"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}

// A trace is what the key and everything derived from it did.
type trace struct {
	events []event
	roles  []string
	unseen []activities.Unseen
	keys   []string // the key and the sessions followed
}

// derived follows the sessions that the key derived, and theirs, newest first and
// at most maxSessions of them.
func (c *Client) derived(ctx context.Context, l *log, first reading, id string, since, now time.Time, patience bool) (trace, *activities.Fault) {
	out := trace{events: slices.Clone(first.events), keys: []string{id}}
	seen := map[string]bool{id: true}
	roles := map[string]bool{}
	queue := first.events
	for len(queue) > 0 {
		e := queue[0]
		queue = queue[1:]
		s, ok := e.session(c.account.Name)
		if !ok {
			continue
		}
		if e.Name == "AssumeRole" {
			if r := roleName(text(e.Request, "roleArn")); r != "" && !roles[r] {
				roles[r] = true
				out.roles = append(out.roles, r)
			}
		}
		if seen[s.ID] {
			continue
		}
		seen[s.ID] = true
		if len(out.keys) > maxSessions {
			continue
		}
		out.keys = append(out.keys, s.ID)
		r, f := c.lookup(ctx, l, types.LookupAttributeKeyAccessKeyId, s.ID, since, now, patience)
		if f != nil {
			return trace{}, f
		}
		for region := range r.blind {
			out.unseen = append(out.unseen, activities.Unseen{Source: "cloudtrail/" + region, Why: "uses of session " + s.ID + " are incomplete"})
		}
		out.events = append(out.events, r.events...)
		queue = append(queue, r.events...)
	}
	if n := len(seen) - len(out.keys); n > 0 {
		out.unseen = append(out.unseen, activities.Unseen{Source: "cloudtrail", Why: fmt.Sprintf("%d older sessions were not followed", n)})
	}
	slices.SortStableFunc(out.events, func(a, b event) int {
		return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

// findings lists what the events made, oldest first, with the reason for which it
// is suspect.
func findings(events []event, account string, compromised []string, inspected string) []activities.Finding {
	var out []activities.Finding
	seen := map[string]bool{}
	for _, e := range slices.Backward(events) {
		what, id, ok := e.made()
		if !ok || seen[what+"\x00"+id] {
			continue
		}
		f := activities.Finding{What: what, ID: id, At: e.Time.UTC(), By: e.Who.Key}
		if s, ok := e.session(account); ok {
			f = s
		}
		if kind, err := CheckID(id); what == "key" && err == nil && kind == KindUser {
			owner := text(e.Response, "accessKey", "userName")
			if owner == "" {
				owner = text(e.Request, "userName")
			}
			f.Key = &activities.Key{Provider: Code, Account: account, Kind: KindUser, ID: id, Principal: owner}
		}
		by := "the inspected key"
		switch {
		case slices.Contains(compromised, e.Who.Key):
			by = "compromised key " + e.Who.Key
		case e.Who.Key != inspected:
			by = "a session derived from the key"
		}
		f.Why = "made by " + by + " with " + clean(e.Name, 64)
		if e.Name == "GetFederationToken" {
			f.Why += "; an issue-time Deny may not end it, the rung principal does"
		}
		seen[what+"\x00"+id] = true
		out = append(out, f)
	}
	return out
}

// clean takes what a caller or a vendor chose down to short printable ASCII.
func clean(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return -1
		}
		return r
	}, s)
	return s[:min(len(s), limit)]
}
