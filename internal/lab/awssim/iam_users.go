package awssim

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

func iamUserOps() map[string]operation {
	return map[string]operation{
		"iam:GetUser":                        {read: true, verb: "Inspect", resource: onUser, run: getUser},
		"iam:ListUsers":                      {read: true, verb: "Inspect", resource: anything, run: listUsers},
		"iam:CreateUser":                     {resource: onUser, run: createUser},
		"iam:DeleteUser":                     {resource: onUser, run: deleteUser},
		"iam:ListUserPolicies":               {read: true, verb: "Inspect", resource: onUser, run: listUserPolicies},
		"iam:GetUserPolicy":                  {read: true, verb: "Inspect", resource: onUser, run: getUserPolicy},
		"iam:PutUserPolicy":                  {resource: onUser, run: putUserPolicy},
		"iam:DeleteUserPolicy":               {resource: onUser, run: deleteUserPolicy},
		"iam:ListAttachedUserPolicies":       {read: true, verb: "Inspect", resource: onUser, run: listAttachedUserPolicies},
		"iam:AttachUserPolicy":               {resource: onUser, run: attachUserPolicy},
		"iam:DetachUserPolicy":               {resource: onUser, run: detachUserPolicy},
		"iam:ListGroupsForUser":              {read: true, verb: "Inspect", resource: onUser, run: listGroupsForUser},
		"iam:GetLoginProfile":                {read: true, verb: "Inspect", resource: onUser, run: getLoginProfile},
		"iam:DeleteLoginProfile":             {verb: "EndSessions", resource: onUser, run: deleteLoginProfile},
		"iam:ListMFADevices":                 {read: true, verb: "Inspect", resource: onUser, run: listMFADevices},
		"iam:ListSSHPublicKeys":              {read: true, verb: "Inspect", resource: onUser, run: listSSHPublicKeys},
		"iam:ListServiceSpecificCredentials": {read: true, verb: "Inspect", resource: onUser, run: listServiceSpecificCredentials},
		"iam:ListSigningCertificates":        {read: true, verb: "Inspect", resource: onUser, run: listSigningCertificates},
	}
}

type userXML struct {
	Path, UserName, UserId, Arn, CreateDate string
}

func (s *Sim) userXML(u *User) userXML {
	return userXML{"/", u.Name, u.ID, s.arn("user", u.Name), isoTime(u.Created)}
}

func (s *Sim) namedUser(c *call) (*User, *APIError) {
	if u := s.live.Users[c.userName()]; u != nil {
		return u, nil
	}
	return nil, noSuchUser(c)
}

func getUser(s *Sim, c *call) (any, *APIError) {
	u, err := s.namedUser(c)
	if err != nil {
		return nil, err
	}
	return struct{ User userXML }{s.userXML(u)}, nil
}

func listUsers(s *Sim, c *call) (any, *APIError) {
	if !c.network {
		return nil, nil // the world's actors only want to know whether they may
	}
	users, truncated, marker, err := page(c, inOrder(&s.userNames, s.live.Users))
	if err != nil {
		return nil, err
	}
	out := struct {
		Users       members[userXML]
		IsTruncated bool
		Marker      string `xml:",omitempty"`
	}{IsTruncated: truncated, Marker: marker}
	for _, name := range users {
		out.Users.Member = append(out.Users.Member, s.userXML(s.live.Users[name]))
	}
	return out, nil
}

func createUser(s *Sim, c *call) (any, *APIError) {
	name := c.form.Get("UserName")
	if name == "" {
		return nil, validation("UserName is missing")
	}
	if s.live.Users[name] != nil {
		return nil, fail(http.StatusConflict, "EntityAlreadyExists", "User with name %s already exists.", name)
	}
	u := &User{Name: name, ID: uniqueID(s.opt.Salt, "AIDA", name), Created: c.now.UTC()}
	s.live.Users[name] = u
	s.userNames.drop()
	c.touch("user", name)
	c.elements = map[string]any{"user": map[string]any{"userName": name, "userId": u.ID, "arn": s.arn("user", name), "createDate": isoTime(c.now)}}
	return struct{ User userXML }{s.userXML(u)}, nil
}

func deleteUser(s *Sim, c *call) (any, *APIError) {
	u, err := s.namedUser(c)
	if err != nil {
		return nil, err
	}
	if len(s.keysOf(u.Name)) > 0 || len(u.Inline) > 0 || len(u.Attached) > 0 || u.LoginProfile || len(u.Groups) > 0 {
		return nil, fail(http.StatusConflict, "DeleteConflict", "Cannot delete entity, must delete or detach everything it has first.")
	}
	delete(s.live.Users, u.Name)
	s.userNames.drop()
	c.touch("user", u.Name)
	return nil, nil
}

type policyNames struct {
	PolicyNames members[string]
	IsTruncated bool
	Marker      string `xml:",omitempty"`
}

func inlineNames(c *call, inline map[string]string) (any, *APIError) {
	list, truncated, marker, err := page(c, slices.Sorted(maps.Keys(inline)))
	return policyNames{members[string]{list}, truncated, marker}, err
}

func listUserPolicies(s *Sim, c *call) (any, *APIError) {
	u, err := s.namedUser(c)
	if err != nil {
		return nil, err
	}
	return inlineNames(c, u.Inline)
}

func getUserPolicy(s *Sim, c *call) (any, *APIError) {
	u, err := s.namedUser(c)
	if err != nil {
		return nil, err
	}
	name := c.form.Get("PolicyName")
	doc, ok := u.Inline[name]
	if !ok {
		return nil, noSuchPolicy(name)
	}
	return struct{ UserName, PolicyName, PolicyDocument string }{u.Name, name, encodeDocument(doc)}, nil
}

func noSuchPolicy(name string) *APIError {
	return noSuchEntity("The policy with name %s cannot be found.", name)
}

// encodeDocument: policy documents are URL-encoded in answers (RFC 3986).
func encodeDocument(doc string) string { return strings.ReplaceAll(url.QueryEscape(doc), "+", "%20") }

// checkedDocument refuses what AWS would call malformed, and what the lab would not understand.
func (s *Sim) checkedDocument(c *call) (string, *APIError) {
	text := c.form.Get("PolicyDocument")
	if _, err := s.document(text); err != nil {
		return "", fail(http.StatusBadRequest, "MalformedPolicyDocument", "The policy document is not one the lab understands: see package policy.")
	}
	return text, nil
}

// newInline reads the document of a put. A document that is there already changes nothing.
func (s *Sim) newInline(c *call, inline map[string]string) (name, doc string, err *APIError) {
	if doc, err = s.checkedDocument(c); err != nil {
		return "", "", err
	}
	if name = c.form.Get("PolicyName"); name == "" {
		return "", "", validation("PolicyName is missing")
	}
	had, ok := inline[name]
	c.same = ok && had == doc
	return name, doc, nil
}

func withInline(inline map[string]string, name, doc string) map[string]string {
	if inline == nil {
		inline = map[string]string{}
	}
	inline[name] = doc
	return inline
}

func putUserPolicy(s *Sim, c *call) (any, *APIError) {
	u, err := s.namedUser(c)
	if err != nil {
		return nil, err
	}
	name, doc, err := s.newInline(c, u.Inline)
	if err == nil && !c.same {
		n := s.changeUser(c, u)
		n.Inline = withInline(n.Inline, name, doc)
	}
	return nil, err
}

func deleteUserPolicy(s *Sim, c *call) (any, *APIError) {
	u, err := s.namedUser(c)
	if err != nil {
		return nil, err
	}
	if _, ok := u.Inline[c.form.Get("PolicyName")]; !ok {
		return nil, noSuchPolicy(c.form.Get("PolicyName"))
	}
	delete(s.changeUser(c, u).Inline, c.form.Get("PolicyName"))
	return nil, nil
}

type attachedXML struct {
	AttachedPolicies members[attachedPolicy]
	IsTruncated      bool
	Marker           string `xml:",omitempty"`
}

func attachedList(c *call, arns []string) (any, *APIError) {
	list, truncated, marker, err := page(c, attachedNames(arns))
	return attachedXML{members[attachedPolicy]{list}, truncated, marker}, err
}

func listAttachedUserPolicies(s *Sim, c *call) (any, *APIError) {
	u, err := s.namedUser(c)
	if err != nil {
		return nil, err
	}
	return attachedList(c, u.Attached)
}

// attachable checks what is to be attached. One that is attached already changes nothing.
func (s *Sim) attachable(c *call, attached []string) (arn string, err *APIError) {
	arn = c.form.Get("PolicyArn")
	if s.managedDocument(arn) == nil {
		return "", noSuchEntity("Policy %s does not exist or is not attachable.", arn)
	}
	c.same = slices.Contains(attached, arn)
	return arn, nil
}

func detached(c *call, attached []string) (rest []string, err *APIError) {
	i := slices.Index(attached, c.form.Get("PolicyArn"))
	if i < 0 {
		return nil, noSuchEntity("Policy %s was not found.", c.form.Get("PolicyArn"))
	}
	return slices.Delete(slices.Clone(attached), i, i+1), nil
}

func attachUserPolicy(s *Sim, c *call) (any, *APIError) {
	u, err := s.namedUser(c)
	if err != nil {
		return nil, err
	}
	arn, err := s.attachable(c, u.Attached)
	if err == nil && !c.same {
		n := s.changeUser(c, u)
		n.Attached = append(n.Attached, arn)
	}
	return nil, err
}

func detachUserPolicy(s *Sim, c *call) (any, *APIError) {
	u, err := s.namedUser(c)
	if err != nil {
		return nil, err
	}
	rest, err := detached(c, u.Attached)
	if err == nil {
		s.changeUser(c, u).Attached = rest
	}
	return nil, err
}

type groupXML struct {
	Path, GroupName, GroupId, Arn, CreateDate string
}

func listGroupsForUser(s *Sim, c *call) (any, *APIError) {
	u, err := s.namedUser(c)
	if err != nil {
		return nil, err
	}
	out := struct {
		Groups      members[groupXML]
		IsTruncated bool
	}{}
	for _, name := range u.Groups {
		if g := s.live.Groups[name]; g != nil {
			out.Groups.Member = append(out.Groups.Member, groupXML{"/", g.Name, g.ID, s.arn("group", g.Name), isoTime(g.Created)})
		}
	}
	return out, nil
}

func getLoginProfile(s *Sim, c *call) (any, *APIError) {
	u, err := s.namedUser(c)
	if err != nil {
		return nil, err
	}
	if !u.LoginProfile {
		return nil, noSuchEntity("Login Profile for User %s cannot be found.", u.Name)
	}
	type profile struct {
		UserName, CreateDate  string
		PasswordResetRequired bool
	}
	return struct{ LoginProfile profile }{profile{UserName: u.Name, CreateDate: isoTime(u.Created)}}, nil
}

func deleteLoginProfile(s *Sim, c *call) (any, *APIError) {
	u, err := s.namedUser(c)
	if err != nil {
		return nil, err
	}
	if !u.LoginProfile {
		return nil, noSuchEntity("Login Profile for User %s cannot be found.", u.Name)
	}
	s.changeUser(c, u).LoginProfile = false
	return nil, nil
}

func listMFADevices(s *Sim, c *call) (any, *APIError) {
	u, err := s.namedUser(c)
	if err != nil {
		return nil, err
	}
	type device struct{ UserName, SerialNumber, EnableDate string }
	out := struct {
		MFADevices  members[device]
		IsTruncated bool
	}{}
	for _, serial := range u.MFA {
		out.MFADevices.Member = append(out.MFADevices.Member, device{u.Name, serial, isoTime(u.Created)})
	}
	return out, nil
}

func listSSHPublicKeys(s *Sim, c *call) (any, *APIError) {
	u, err := s.namedUser(c)
	if err != nil {
		return nil, err
	}
	type key struct{ UserName, SSHPublicKeyId, Status, UploadDate string }
	out := struct {
		SSHPublicKeys members[key]
		IsTruncated   bool
	}{}
	for _, id := range u.SSHKeys {
		out.SSHPublicKeys.Member = append(out.SSHPublicKeys.Member, key{u.Name, id, Active, isoTime(u.Created)})
	}
	return out, nil
}

func listServiceSpecificCredentials(s *Sim, c *call) (any, *APIError) {
	u, err := s.namedUser(c)
	if err != nil {
		return nil, err
	}
	type cred struct{ UserName, Status, ServiceUserName, CreateDate, ServiceSpecificCredentialId, ServiceName string }
	out := struct {
		ServiceSpecificCredentials members[cred]
	}{}
	for _, id := range u.ServiceCreds {
		out.ServiceSpecificCredentials.Member = append(out.ServiceSpecificCredentials.Member,
			cred{u.Name, Active, u.Name + "-at-" + s.opt.Account, isoTime(u.Created), id, "codecommit.amazonaws.com"})
	}
	return out, nil
}

func listSigningCertificates(s *Sim, c *call) (any, *APIError) {
	u, err := s.namedUser(c)
	if err != nil {
		return nil, err
	}
	type cert struct{ UserName, CertificateId, CertificateBody, Status, UploadDate string }
	out := struct {
		Certificates members[cert]
		IsTruncated  bool
	}{}
	for _, id := range u.Certificates {
		out.Certificates.Member = append(out.Certificates.Member, cert{u.Name, id, "", Active, isoTime(u.Created)})
	}
	return out, nil
}
