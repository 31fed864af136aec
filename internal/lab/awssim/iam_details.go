package awssim

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

func iamDetailOps() map[string]operation {
	return map[string]operation{
		"iam:GetAccountAuthorizationDetails": {read: true, verb: "Inspect", resource: anything, run: getAccountAuthorizationDetails},
		"iam:ListAccountAliases":             {read: true, verb: "Inspect", resource: anything, run: listAccountAliases},
	}
}

func listAccountAliases(*Sim, *call) (any, *APIError) {
	return struct {
		AccountAliases members[string]
		IsTruncated    bool
	}{members[string]{[]string{"rekey-lab"}}, false}, nil
}

type policyDetail struct{ PolicyName, PolicyDocument string }

func inlineDetails(inline map[string]string) members[policyDetail] {
	var out members[policyDetail]
	for _, name := range slices.Sorted(maps.Keys(inline)) {
		out.Member = append(out.Member, policyDetail{name, encodeDocument(inline[name])})
	}
	return out
}

type tag struct{ Key, Value string }

type userDetail struct {
	Path, UserName, UserId, Arn, CreateDate string
	UserPolicyList                          members[policyDetail]
	GroupList                               members[string]
	AttachedManagedPolicies                 members[attachedPolicy]
	Tags                                    members[tag]
}

type groupDetail struct {
	Path, GroupName, GroupId, Arn, CreateDate string
	GroupPolicyList                           members[policyDetail]
	AttachedManagedPolicies                   members[attachedPolicy]
}

type roleDetail struct {
	Path, RoleName, RoleId, Arn, CreateDate string
	AssumeRolePolicyDocument                string
	RolePolicyList                          members[policyDetail]
	AttachedManagedPolicies                 members[attachedPolicy]
}

type policyVersion struct {
	Document         string
	VersionId        string
	IsDefaultVersion bool
	CreateDate       string
}

type managedDetail struct {
	PolicyName, PolicyId, Arn, Path, DefaultVersionId string
	AttachmentCount                                   int
	IsAttachable                                      bool
	PolicyVersionList                                 members[policyVersion]
}

// getAccountAuthorizationDetails pages over users, groups, roles and managed policies in this
// order, as one list (https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetAccountAuthorizationDetails.html).
func getAccountAuthorizationDetails(s *Sim, c *call) (any, *APIError) {
	want := func(string) bool { return true }
	if c.form.Get("Filter.member.1") != "" {
		var filter []string
		for i := 1; c.form.Get("Filter.member."+strconv.Itoa(i)) != ""; i++ {
			filter = append(filter, c.form.Get("Filter.member."+strconv.Itoa(i)))
		}
		want = func(kind string) bool { return slices.Contains(filter, kind) }
	}
	var all []any
	attachments := map[string]int{}
	for _, u := range sorted(s.live.Users) {
		count(attachments, u.Attached)
		if want("User") {
			all = append(all, u)
		}
	}
	for _, g := range sorted(s.live.Groups) {
		count(attachments, g.Attached)
		if want("Group") {
			all = append(all, g)
		}
	}
	for _, r := range sorted(s.live.Roles) {
		count(attachments, r.Attached)
		if want("Role") {
			all = append(all, r)
		}
	}
	if want("AWSManagedPolicy") {
		for _, arn := range slices.Sorted(maps.Keys(attachments)) {
			all = append(all, arn)
		}
	}
	entries, truncated, marker, err := page(c, all)
	if err != nil {
		return nil, err
	}
	out := struct {
		UserDetailList  members[userDetail]
		GroupDetailList members[groupDetail]
		RoleDetailList  members[roleDetail]
		Policies        members[managedDetail]
		IsTruncated     bool
		Marker          string `xml:",omitempty"`
	}{IsTruncated: truncated, Marker: marker}
	for _, e := range entries {
		switch e := e.(type) {
		case *User:
			var tags members[tag]
			for _, k := range slices.Sorted(maps.Keys(e.Tags)) {
				tags.Member = append(tags.Member, tag{k, e.Tags[k]})
			}
			out.UserDetailList.Member = append(out.UserDetailList.Member, userDetail{"/", e.Name, e.ID, s.arn("user", e.Name), isoTime(e.Created),
				inlineDetails(e.Inline), members[string]{e.Groups}, members[attachedPolicy]{attachedNames(e.Attached)}, tags})
		case *Group:
			out.GroupDetailList.Member = append(out.GroupDetailList.Member, groupDetail{"/", e.Name, e.ID, s.arn("group", e.Name), isoTime(e.Created),
				inlineDetails(e.Inline), members[attachedPolicy]{attachedNames(e.Attached)}})
		case *Role:
			out.RoleDetailList.Member = append(out.RoleDetailList.Member, roleDetail{"/", e.Name, e.ID, s.arn("role", e.Name), isoTime(e.Created),
				encodeDocument(e.Trust), inlineDetails(e.Inline), members[attachedPolicy]{attachedNames(e.Attached)}})
		case string:
			doc, _ := managed(e)
			name := e[strings.LastIndexByte(e, '/')+1:]
			out.Policies.Member = append(out.Policies.Member, managedDetail{PolicyName: name, PolicyId: uniqueID(s.opt.Salt, "ANPA", name), Arn: e, Path: "/",
				DefaultVersionId: "v1", AttachmentCount: attachments[e], IsAttachable: true,
				PolicyVersionList: members[policyVersion]{[]policyVersion{{encodeDocument(doc), "v1", true, isoTime(s.start)}}}})
		}
	}
	return out, nil
}

func count(into map[string]int, arns []string) {
	for _, a := range arns {
		into[a]++
	}
}
