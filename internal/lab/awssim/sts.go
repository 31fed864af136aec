package awssim

import (
	"net/http"
	"time"

	"rekey/internal/lab/awssim/policy"
)

func stsOps() map[string]operation {
	return map[string]operation{
		"sts:GetCallerIdentity":  {read: true, verb: "Inspect", resource: anything, run: getCallerIdentity},
		"sts:GetAccessKeyInfo":   {read: true, verb: "Inspect", resource: anything, run: getAccessKeyInfo},
		"sts:AssumeRole":         {resource: func(c *call) string { return c.form.Get("RoleArn") }, run: assumeRole},
		"sts:GetSessionToken":    {resource: anything, run: getSessionToken},
		"sts:GetFederationToken": {resource: anything, run: getFederationToken},
	}
}

func getCallerIdentity(s *Sim, c *call) (any, *APIError) {
	account := s.opt.Account
	if c.account != "" {
		account = c.account
	}
	return struct{ UserId, Account, Arn string }{c.who.id, account, c.who.arn}, nil
}

// getAccessKeyInfo says nothing about state and answers for any id that carries an account.
func getAccessKeyInfo(_ *Sim, c *call) (any, *APIError) {
	account, ok := AccountOf(c.form.Get("AccessKeyId"))
	if !ok {
		return nil, validation("The access key id is not one that exists.")
	}
	return struct{ Account string }{account}, nil
}

type credentialsXML struct {
	AccessKeyId, SecretAccessKey, SessionToken, Expiration string
}

// duration reads DurationSeconds between 15 minutes and a maximum.
func duration(c *call, standard, longest int) (time.Duration, *APIError) {
	n := standard
	if v := c.form.Get("DurationSeconds"); v != "" {
		got, ok := number(v)
		if !ok || got < 900 || got > longest {
			return 0, validation("DurationSeconds must be 900 to %d", longest)
		}
		n = got
	}
	return time.Duration(n) * time.Second, nil
}

// issue makes a session. It works at once: sessions are not subject to propagation.
func (s *Sim) issue(c *call, sess *Session, life time.Duration) credentialsXML {
	s.live.Counter++
	sess.ID = accessKeyID(s.opt.Salt, "ASIA", s.opt.Account, s.live.Counter)
	sess.Parent, sess.Issued, sess.Expires = c.keyID, c.now.UTC(), c.now.Add(life).UTC()
	sess.Engine = c.engine
	s.live.Sessions[sess.ID] = sess
	c.touch("session", sess.ID)
	c.elements = map[string]any{"credentials": map[string]any{"accessKeyId": sess.ID, "expiration": sess.Expires.Format("Jan 2, 2006, 3:04:05 PM")}, "_target": sess.ID}
	return credentialsXML{sess.ID, secretOf(s.opt.Salt, sess.ID), tokenOf(s.opt.Salt, sess.ID), isoTime(sess.Expires)}
}

func (s *Sim) sessionPolicy(c *call) (string, *APIError) {
	text := c.form.Get("Policy")
	if text == "" {
		return "", nil
	}
	if _, err := s.document(text); err != nil {
		return "", fail(http.StatusBadRequest, "MalformedPolicyDocument", "The session policy is not one the lab understands: see package policy.")
	}
	return text, nil
}

func assumeRole(s *Sim, c *call) (any, *APIError) {
	name := roleOfARN(c.form.Get("RoleArn"))
	role := s.auth.State.Roles[name]
	if role == nil || s.live.Roles[name] == nil || c.form.Get("RoleArn") != s.arn("role", name) {
		return nil, s.denied(c, c.form.Get("RoleArn"), "because no such role trusts it")
	}
	trust, err := s.document(role.Trust)
	if err != nil {
		return nil, s.denied(c, c.form.Get("RoleArn"), "because the trust policy cannot be read")
	}
	if decision, _ := policy.Trusts(trust, c.who.base, s.opt.Account, "sts:AssumeRole", c.conditionContext()); decision != policy.Allow {
		return nil, s.denied(c, c.form.Get("RoleArn"), "because the role does not trust it")
	}
	longest := role.MaxSeconds
	if c.who.session != nil && c.who.role != "" {
		longest = 3600 // role chaining
	}
	life, aerr := duration(c, min(3600, longest), longest)
	if aerr != nil {
		return nil, aerr
	}
	sessionName := c.form.Get("RoleSessionName")
	if sessionName == "" {
		return nil, validation("RoleSessionName is missing")
	}
	doc, aerr := s.sessionPolicy(c)
	if aerr != nil {
		return nil, aerr
	}
	sess := &Session{Kind: AssumedRole, Role: name, Name: sessionName, Policy: doc}
	cred := s.issue(c, sess, life)
	type assumed struct{ AssumedRoleId, Arn string }
	who := assumed{role.ID + ":" + sessionName, "arn:aws:sts::" + s.opt.Account + ":assumed-role/" + name + "/" + sessionName}
	c.elements["assumedRoleUser"] = map[string]any{"assumedRoleId": who.AssumedRoleId, "arn": who.Arn}
	return struct {
		Credentials     credentialsXML
		AssumedRoleUser assumed
	}{cred, who}, nil
}

func getSessionToken(s *Sim, c *call) (any, *APIError) {
	if c.who.session != nil {
		return nil, s.denied(c, "*", "with session credentials")
	}
	life, err := duration(c, 43200, 129600)
	if err != nil {
		return nil, err
	}
	return struct{ Credentials credentialsXML }{s.issue(c, &Session{Kind: SessionToken, User: c.who.user, Name: c.who.user}, life)}, nil
}

func getFederationToken(s *Sim, c *call) (any, *APIError) {
	if c.who.session != nil {
		return nil, s.denied(c, "*", "with session credentials")
	}
	name := c.form.Get("Name")
	if len(name) < 2 {
		return nil, validation("Name is missing")
	}
	life, err := duration(c, 43200, 129600)
	if err != nil {
		return nil, err
	}
	doc, err := s.sessionPolicy(c)
	if err != nil {
		return nil, err
	}
	cred := s.issue(c, &Session{Kind: FederatedToken, User: c.who.user, Name: name, Policy: doc}, life)
	type federated struct{ FederatedUserId, Arn string }
	return struct {
		Credentials   credentialsXML
		FederatedUser federated
	}{cred, federated{s.opt.Account + ":" + name, "arn:aws:sts::" + s.opt.Account + ":federated-user/" + name}}, nil
}
