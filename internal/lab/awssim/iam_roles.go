package awssim

import (
	"net/http"
	"strings"
)

func iamRoleOps() map[string]operation {
	return map[string]operation{
		"iam:ListRoles":                {read: true, verb: "Inspect", resource: anything, run: listRoles},
		"iam:GetRole":                  {read: true, verb: "Inspect", resource: onRole, run: getRole},
		"iam:CreateRole":               {resource: onRole, run: createRole},
		"iam:DeleteRole":               {resource: onRole, run: deleteRole},
		"iam:UpdateAssumeRolePolicy":   {resource: onRole, run: updateAssumeRolePolicy},
		"iam:ListRolePolicies":         {read: true, verb: "Inspect", resource: onRole, run: listRolePolicies},
		"iam:GetRolePolicy":            {read: true, verb: "Inspect", resource: onRole, run: getRolePolicy},
		"iam:PutRolePolicy":            {resource: onRole, run: putRolePolicy},
		"iam:DeleteRolePolicy":         {resource: onRole, run: deleteRolePolicy},
		"iam:ListAttachedRolePolicies": {read: true, verb: "Inspect", resource: onRole, run: listAttachedRolePolicies},
		"iam:AttachRolePolicy":         {resource: onRole, run: attachRolePolicy},
		"iam:DetachRolePolicy":         {resource: onRole, run: detachRolePolicy},
	}
}

type roleXML struct {
	Path, RoleName, RoleId, Arn, CreateDate string
	AssumeRolePolicyDocument                string
	MaxSessionDuration                      int
}

func (s *Sim) roleXML(r *Role) roleXML {
	return roleXML{"/", r.Name, r.ID, s.arn("role", r.Name), isoTime(r.Created), encodeDocument(r.Trust), r.MaxSeconds}
}

func (s *Sim) namedRole(c *call) (*Role, *APIError) {
	if r := s.live.Roles[c.form.Get("RoleName")]; r != nil {
		return r, nil
	}
	return nil, noSuchEntity("The role with name %s cannot be found.", c.form.Get("RoleName"))
}

func listRoles(s *Sim, c *call) (any, *APIError) {
	roles, truncated, marker, err := page(c, inOrder(&s.roleNames, s.live.Roles))
	if err != nil {
		return nil, err
	}
	out := struct {
		Roles       members[roleXML]
		IsTruncated bool
		Marker      string `xml:",omitempty"`
	}{IsTruncated: truncated, Marker: marker}
	for _, name := range roles {
		out.Roles.Member = append(out.Roles.Member, s.roleXML(s.live.Roles[name]))
	}
	return out, nil
}

func getRole(s *Sim, c *call) (any, *APIError) {
	r, err := s.namedRole(c)
	if err != nil {
		return nil, err
	}
	return struct{ Role roleXML }{s.roleXML(r)}, nil
}

func createRole(s *Sim, c *call) (any, *APIError) {
	name := c.form.Get("RoleName")
	if name == "" {
		return nil, validation("RoleName is missing")
	}
	if s.live.Roles[name] != nil {
		return nil, fail(http.StatusConflict, "EntityAlreadyExists", "Role with name %s already exists.", name)
	}
	trust := c.form.Get("AssumeRolePolicyDocument")
	if _, err := s.document(trust); err != nil {
		return nil, fail(http.StatusBadRequest, "MalformedPolicyDocument", "The trust policy is not one the lab understands: see package policy.")
	}
	r := &Role{Name: name, ID: uniqueID(s.opt.Salt, "AROA", name), Created: c.now.UTC(), Trust: trust, MaxSeconds: 3600}
	if v := c.form.Get("MaxSessionDuration"); v != "" {
		n, ok := number(v)
		if !ok || n < 3600 || n > 43200 {
			return nil, validation("MaxSessionDuration must be 3600 to 43200")
		}
		r.MaxSeconds = n
	}
	s.live.Roles[name] = r
	s.roleNames.drop()
	c.touch("role", name)
	c.elements = map[string]any{"role": map[string]any{"roleName": name, "roleId": r.ID, "arn": s.arn("role", name)}}
	return struct{ Role roleXML }{s.roleXML(r)}, nil
}

func deleteRole(s *Sim, c *call) (any, *APIError) {
	r, err := s.namedRole(c)
	if err != nil {
		return nil, err
	}
	if len(r.Inline) > 0 || len(r.Attached) > 0 {
		return nil, fail(http.StatusConflict, "DeleteConflict", "Cannot delete entity, must delete or detach policies first.")
	}
	delete(s.live.Roles, r.Name)
	s.roleNames.drop()
	c.touch("role", r.Name)
	return nil, nil
}

func updateAssumeRolePolicy(s *Sim, c *call) (any, *APIError) {
	r, err := s.namedRole(c)
	if err != nil {
		return nil, err
	}
	doc, err := s.checkedDocument(c)
	if err != nil {
		return nil, err
	}
	s.changeRole(c, r).Trust = doc
	return nil, nil
}

func listRolePolicies(s *Sim, c *call) (any, *APIError) {
	r, err := s.namedRole(c)
	if err != nil {
		return nil, err
	}
	return inlineNames(c, r.Inline)
}

func getRolePolicy(s *Sim, c *call) (any, *APIError) {
	r, err := s.namedRole(c)
	if err != nil {
		return nil, err
	}
	name := c.form.Get("PolicyName")
	doc, ok := r.Inline[name]
	if !ok {
		return nil, noSuchPolicy(name)
	}
	return struct{ RoleName, PolicyName, PolicyDocument string }{r.Name, name, encodeDocument(doc)}, nil
}

func putRolePolicy(s *Sim, c *call) (any, *APIError) {
	r, err := s.namedRole(c)
	if err != nil {
		return nil, err
	}
	name, doc, err := s.newInline(c, r.Inline)
	if err == nil && !c.same {
		n := s.changeRole(c, r)
		n.Inline = withInline(n.Inline, name, doc)
	}
	return nil, err
}

func deleteRolePolicy(s *Sim, c *call) (any, *APIError) {
	r, err := s.namedRole(c)
	if err != nil {
		return nil, err
	}
	if _, ok := r.Inline[c.form.Get("PolicyName")]; !ok {
		return nil, noSuchPolicy(c.form.Get("PolicyName"))
	}
	delete(s.changeRole(c, r).Inline, c.form.Get("PolicyName"))
	return nil, nil
}

func listAttachedRolePolicies(s *Sim, c *call) (any, *APIError) {
	r, err := s.namedRole(c)
	if err != nil {
		return nil, err
	}
	return attachedList(c, r.Attached)
}

func attachRolePolicy(s *Sim, c *call) (any, *APIError) {
	r, err := s.namedRole(c)
	if err != nil {
		return nil, err
	}
	arn, err := s.attachable(c, r.Attached)
	if err == nil && !c.same {
		n := s.changeRole(c, r)
		n.Attached = append(n.Attached, arn)
	}
	return nil, err
}

func detachRolePolicy(s *Sim, c *call) (any, *APIError) {
	r, err := s.namedRole(c)
	if err != nil {
		return nil, err
	}
	rest, err := detached(c, r.Attached)
	if err == nil {
		s.changeRole(c, r).Attached = rest
	}
	return nil, err
}

// roleOfARN gives the name in arn:aws:iam::<account>:role/<name>.
func roleOfARN(arn string) string {
	if i := strings.Index(arn, ":role/"); i >= 0 {
		return arn[strings.LastIndexByte(arn, '/')+1:]
	}
	return ""
}
