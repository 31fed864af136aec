package awssim

import (
	"net/http"
	"time"

	"rekey/internal/lab/awssim/policy"
)

// principal is who a request acts as.
type principal struct {
	user    string
	role    string
	arn     string // of the caller, as GetCallerIdentity gives it
	base    string // aws:PrincipalArn: the user's or role's own ARN
	id      string // unique id
	session *Session
}

func (s *Sim) arn(kind, name string) string {
	return "arn:aws:iam::" + s.opt.Account + ":" + kind + "/" + name
}

func (s *Sim) userPrincipal(user string) *principal {
	p := &principal{user: user, arn: s.arn("user", user)}
	p.base = p.arn
	if u := s.live.Users[user]; u != nil {
		p.id = u.ID
	}
	return p
}

func (s *Sim) sessionPrincipal(sess *Session) *principal {
	sts := "arn:aws:sts::" + s.opt.Account + ":"
	switch sess.Kind {
	case AssumedRole:
		p := &principal{role: sess.Role, session: sess, arn: sts + "assumed-role/" + sess.Role + "/" + sess.Name, base: s.arn("role", sess.Role)}
		if r := s.live.Roles[sess.Role]; r != nil {
			p.id = r.ID + ":" + sess.Name
		}
		return p
	case FederatedToken:
		p := s.userPrincipal(sess.User)
		p.session, p.arn = sess, sts+"federated-user/"+sess.Name
		p.id = s.opt.Account + ":" + sess.Name
		return p
	default:
		p := s.userPrincipal(sess.User)
		p.session = sess
		return p
	}
}

// document parses a policy and remembers it: policies are evaluated at every call.
func (s *Sim) document(text string) (*policy.Document, error) {
	if d, ok := s.docs[text]; ok {
		return d, nil
	}
	d, err := policy.Parse(text)
	if err == nil {
		if len(s.docs) >= cached {
			clear(s.docs) // every Deny on sessions has a text of its own
		}
		s.docs[text] = d
	}
	return d, err
}

func (s *Sim) managedDocument(arn string) *policy.Document {
	if d, ok := s.docs[arn]; ok {
		return d
	}
	text, ok := managed(arn)
	if !ok {
		return nil
	}
	d, err := policy.Parse(text)
	if err != nil {
		panic("awssim: managed policy " + arn + ": " + err.Error())
	}
	s.docs[arn] = d
	return d
}

// collectDocs adds inline and attached policies. Inline ones were parsed when they were put.
func (s *Sim) collectDocs(docs []*policy.Document, inline map[string]string, attached []string) []*policy.Document {
	for _, text := range inline {
		if d, err := s.document(text); err == nil {
			docs = append(docs, d)
		}
	}
	for _, arn := range attached {
		if d := s.managedDocument(arn); d != nil {
			docs = append(docs, d)
		}
	}
	return docs
}

// userDocuments gives the policies in force on a user: what has propagated.
func (s *Sim) userDocuments(user string) []*policy.Document {
	u := s.auth.State.Users[user]
	if u == nil {
		return nil
	}
	docs := s.collectDocs(nil, u.Inline, u.Attached)
	for _, name := range u.Groups {
		if g := s.auth.State.Groups[name]; g != nil {
			docs = s.collectDocs(docs, g.Inline, g.Attached)
		}
	}
	return docs
}

func (s *Sim) roleDocuments(role string) []*policy.Document {
	r := s.auth.State.Roles[role]
	if r == nil {
		return nil
	}
	return s.collectDocs(nil, r.Inline, r.Attached)
}

// conditionContext gives the context keys of a request. aws:TokenIssueTime exists only for
// temporary credentials (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html).
func (c *call) conditionContext() policy.Context {
	ctx := policy.Context{
		"aws:sourceip":         c.ip,
		"aws:principalarn":     c.who.base,
		"aws:principalaccount": c.sim.opt.Account,
		"aws:currenttime":      c.now.UTC().Format(time.RFC3339),
		"aws:requestedregion":  c.region,
		"aws:useragent":        c.agent,
		"aws:viaawsservice":    "false",
		"aws:securetransport":  "false",
	}
	if c.who.user != "" {
		ctx["aws:username"] = c.who.user
	}
	if sess := c.who.session; sess != nil {
		ctx["aws:tokenissuetime"] = sess.Issued.UTC().Format(time.RFC3339Nano)
		ctx["aws:multifactorauthpresent"] = "false"
	}
	return ctx
}

// authorise decides a call. GetCallerIdentity needs no permission and cannot be denied
// (https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html).
func (s *Sim) authorise(c *call) *APIError {
	name := c.service + ":" + c.action
	if name == "sts:GetCallerIdentity" {
		return nil
	}
	sess := c.who.session
	if sess != nil && (sess.Kind == SessionToken || sess.Kind == FederatedToken) {
		// Without MFA such a session has no IAM at all, and of STS only a little.
		if c.service == "iam" {
			return invalidToken()
		}
		if c.service == "sts" && (c.action != "AssumeRole" || sess.Kind == FederatedToken) {
			return s.denied(c, "*", "the session cannot call STS")
		}
	}
	resource := "*"
	if c.op.resource != nil {
		resource = c.op.resource(c)
	}
	req := policy.Request{Action: name, Resource: resource, Context: c.conditionContext()}
	docs := s.userDocuments(c.who.user)
	if c.who.role != "" {
		docs = s.roleDocuments(c.who.role)
	}
	switch decision := policy.Evaluate(docs, req); {
	case decision == policy.ExplicitDeny:
		return s.denied(c, resource, "with an explicit deny in an identity-based policy")
	case decision == policy.ImplicitDeny && name == "sts:GetSessionToken":
		// needs no permission, but a Deny counts (https://docs.aws.amazon.com/STS/latest/APIReference/API_GetSessionToken.html)
	case decision == policy.ImplicitDeny && !(name == "sts:AssumeRole" && s.namedInTrust(c)):
		return s.denied(c, resource, "because no identity-based policy allows the "+name+" action")
	}
	if sess != nil && sess.Policy != "" {
		d, err := s.document(sess.Policy)
		if err != nil || policy.Evaluate([]*policy.Document{d}, req) != policy.Allow {
			return s.denied(c, resource, "because no session policy allows the "+name+" action")
		}
	} else if sess != nil && sess.Kind == FederatedToken {
		return s.denied(c, resource, "because no session policy allows the "+name+" action")
	}
	return nil
}

// namedInTrust: within one account a trust policy that names the caller itself is enough.
func (s *Sim) namedInTrust(c *call) bool {
	r := s.auth.State.Roles[roleOfARN(c.form.Get("RoleArn"))]
	if r == nil {
		return false
	}
	d, err := s.document(r.Trust)
	if err != nil {
		return false
	}
	_, named := policy.Trusts(d, c.who.base, s.opt.Account, "sts:AssumeRole", c.conditionContext())
	return named
}

func (s *Sim) denied(c *call, resource, why string) *APIError {
	return fail(http.StatusForbidden, "AccessDenied", "User: %s is not authorized to perform: %s on resource: %s %s",
		c.who.arn, c.service+":"+c.action, resource, why)
}

// anything is the resource of actions that have none.
func anything(*call) string { return "*" }

// onUser authorises on the user the call names, or on the caller's own user.
func onUser(c *call) string { return c.sim.arn("user", c.userName()) }

func onRole(c *call) string { return c.sim.arn("role", c.form.Get("RoleName")) }

// userName is the UserName parameter; without it the caller means itself.
func (c *call) userName() string {
	if name := c.form.Get("UserName"); name != "" {
		return name
	}
	if c.who != nil {
		return c.who.user
	}
	return ""
}

// Usable tells whether a session could still do anything: not expired, and an action nobody
// restricts would not meet an explicit Deny.
func (s *Sim) Usable(sessionID string) bool {
	sess := s.live.Sessions[sessionID]
	now := s.opt.Now()
	if sess == nil || !now.Before(sess.Expires) || s.auth.catchUp(now) != nil {
		return false
	}
	c := &call{sim: s, now: now, service: "ec2", action: "DescribeInstances", who: s.sessionPrincipal(sess), region: s.opt.Region, ip: s.opt.EngineIP}
	return s.authorise(c) == nil
}
