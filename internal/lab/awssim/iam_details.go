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
	var users, groups, roles, policies []string
	if want("User") {
		users = inOrder(&s.userNames, s.live.Users)
	}
	if want("Group") {
		groups = slices.Sorted(maps.Keys(s.live.Groups))
	}
	if want("Role") {
		roles = inOrder(&s.roleNames, s.live.Roles)
	}
	attachments := map[string]int{}
	if want("AWSManagedPolicy") {
		attachments = s.attachments()
		policies = slices.Sorted(maps.Keys(attachments))
	}
	from, to, marker, err := c.pageOf(len(users) + len(groups) + len(roles) + len(policies))
	if err != nil {
		return nil, err
	}
	// part gives what the page holds of the next list.
	part := func(list []string) []string {
		a, b := min(max(from, 0), len(list)), min(max(to, 0), len(list))
		from, to = from-len(list), to-len(list)
		return list[a:b]
	}
	out := struct {
		UserDetailList  members[userDetail]
		GroupDetailList members[groupDetail]
		RoleDetailList  members[roleDetail]
		Policies        members[managedDetail]
		IsTruncated     bool
		Marker          string `xml:",omitempty"`
	}{IsTruncated: marker != "", Marker: marker}
	for _, name := range part(users) {
		u := s.live.Users[name]
		var tags members[tag]
		for _, k := range slices.Sorted(maps.Keys(u.Tags)) {
			tags.Member = append(tags.Member, tag{k, u.Tags[k]})
		}
		out.UserDetailList.Member = append(out.UserDetailList.Member, userDetail{"/", name, u.ID, s.arn("user", name), isoTime(u.Created),
			inlineDetails(u.Inline), members[string]{u.Groups}, members[attachedPolicy]{attachedNames(u.Attached)}, tags})
	}
	for _, name := range part(groups) {
		g := s.live.Groups[name]
		out.GroupDetailList.Member = append(out.GroupDetailList.Member, groupDetail{"/", name, g.ID, s.arn("group", name), isoTime(g.Created),
			inlineDetails(g.Inline), members[attachedPolicy]{attachedNames(g.Attached)}})
	}
	for _, name := range part(roles) {
		r := s.live.Roles[name]
		out.RoleDetailList.Member = append(out.RoleDetailList.Member, roleDetail{"/", name, r.ID, s.arn("role", name), isoTime(r.Created),
			encodeDocument(r.Trust), inlineDetails(r.Inline), members[attachedPolicy]{attachedNames(r.Attached)}})
	}
	for _, arn := range part(policies) {
		doc, _ := managed(arn)
		name := arn[strings.LastIndexByte(arn, '/')+1:]
		out.Policies.Member = append(out.Policies.Member, managedDetail{PolicyName: name, PolicyId: uniqueID(s.opt.Salt, "ANPA", name), Arn: arn, Path: "/",
			DefaultVersionId: "v1", AttachmentCount: attachments[arn], IsAttachable: true,
			PolicyVersionList: members[policyVersion]{[]policyVersion{{encodeDocument(doc), "v1", true, isoTime(s.start)}}}})
	}
	return out, nil
}

// attachments counts what each managed policy is attached to. It walks the account: only a listing
// of AWS's managed policies asks for it.
func (s *Sim) attachments() map[string]int {
	out := map[string]int{}
	for _, u := range s.live.Users {
		count(out, u.Attached)
	}
	for _, g := range s.live.Groups {
		count(out, g.Attached)
	}
	for _, r := range s.live.Roles {
		count(out, r.Attached)
	}
	return out
}

func count(into map[string]int, arns []string) {
	for _, a := range arns {
		into[a]++
	}
}
