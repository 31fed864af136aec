package awssim

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// The functions here set up the world before the first call: what they make is in force at once.

// AddUser makes a user with managed policies by name; an existing one gets the policies added.
func (s *Sim) AddUser(name string, created time.Time, policies ...string) error {
	u := s.live.Users[name]
	if u == nil {
		u = &User{Name: name, ID: uniqueID(s.opt.Salt, "AIDA", name), Created: created.UTC()}
		s.live.Users[name], s.auth.State.Users[name] = u, u
	}
	for _, p := range policies {
		arn := managedPrefix + p
		if s.managedDocument(arn) == nil {
			return fmt.Errorf("the lab has no managed policy %q", p)
		}
		if !slices.Contains(u.Attached, arn) {
			u.Attached = append(u.Attached, arn)
		}
	}
	return nil
}

// AddEngine makes the engine's own user and role: calls with their credentials are the engine's.
func (s *Sim) AddEngine(user, role string, created time.Time) (keyID string, err error) {
	if err := s.AddUser(user, created, "AdministratorAccess"); err != nil {
		return "", err
	}
	if err := s.AddRole(role, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"`+s.arn("user", user)+`"},"Action":"sts:AssumeRole"}]}`, created, "AdministratorAccess"); err != nil {
		return "", err
	}
	s.MarkEngine(user)
	return s.AddKey(user, created, Active), nil
}

// MarkEngine says which user is the engine; it is part of the configuration, not of the state.
func (s *Sim) MarkEngine(user string) { s.engine["user/"+user] = true }

// AddRole makes a role.
func (s *Sim) AddRole(name, trust string, created time.Time, policies ...string) error {
	if _, err := s.document(trust); err != nil {
		return err
	}
	r := &Role{Name: name, ID: uniqueID(s.opt.Salt, "AROA", name), Created: created.UTC(), Trust: trust, MaxSeconds: 3600}
	for _, p := range policies {
		r.Attached = append(r.Attached, managedPrefix+p)
	}
	s.live.Roles[name], s.auth.State.Roles[name] = r, r
	return nil
}

// AddKey makes a key of a user and gives its id.
func (s *Sim) AddKey(user string, created time.Time, status string) string {
	k := s.addKey(user, created, "scenario")
	k.Status = status
	s.auth.State.Keys[k.ID] = k
	return k.ID
}

// AddStore makes a Secrets Manager secret that holds an access key, in the shape the AWS CLI
// prints one: {"AccessKeyId":…,"SecretAccessKey":…}.
func (s *Sim) AddStore(name, keyID string, created time.Time) error {
	value, err := json.Marshal(map[string]string{"AccessKeyId": keyID, "SecretAccessKey": secretOf(s.opt.Salt, keyID)})
	if err != nil {
		return err
	}
	sec := s.addSecret(name, created)
	s.live.Counter++
	if _, aerr := s.addVersion(sec, uuid(s.opt.Salt, "version", s.live.Counter), append([]byte("s"), value...), []string{current}, created); aerr != nil {
		return aerr
	}
	return nil
}

// PastCall puts a call into the log that happened before the lab started. Calls must be given in
// order of time.
func (s *Sim) PastCall(a Actor, service, action string, at time.Time) {
	k := s.live.Keys[a.KeyID]
	if k == nil {
		return
	}
	s.seq++
	region := a.Region
	if region == "" || service == "iam" {
		region = s.opt.Region
	}
	r := &Record{Seq: s.seq, At: at.UTC(), LoggedAt: at.UTC(), EventID: uuid(s.opt.Salt, "event", s.seq), RequestID: uuid(s.opt.Salt, "request", s.seq),
		KeyID: a.KeyID, Identity: s.identity(s.userPrincipal(k.User), a.KeyID), User: k.User, Username: k.User, Service: service, Action: action, Region: region,
		SourceIP: a.SourceIP, ASN: a.ASN, UserAgent: a.UserAgent, ReadOnly: readLooking(action), Label: a.Label, Source: a.Source}
	s.append(r, s.opt.Journal.Append(r, nil))
}

// Secret gives the secret of a key id and, for sessions, its token. Only for the owner's own use:
// the drill driver feeds it to rekey, tests configure clients.
func (s *Sim) Secret(keyID string) (secret, token string, ok bool) {
	if s.live.Keys[keyID] != nil {
		return secretOf(s.opt.Salt, keyID), "", true
	}
	if s.live.Sessions[keyID] != nil {
		return secretOf(s.opt.Salt, keyID), tokenOf(s.opt.Salt, keyID), true
	}
	return "", "", false
}

// StoredKey reads the access key id a store holds now, as its consumer does: any of the spellings
// tools use. ok is false where the store or the id is missing or the secret is not that key's.
func (s *Sim) StoredKey(name string) (keyID string, ok bool) {
	sec := s.secret(name)
	if sec == nil || sec.staged(current) == nil {
		return "", false
	}
	plain, err := open(s.opt.Salt, sec.staged(current).Sealed)
	if err != nil || len(plain) == 0 {
		return "", false
	}
	var fields map[string]any
	if json.Unmarshal(plain[1:], &fields) != nil {
		return "", false
	}
	pick := func(names ...string) string {
		for _, n := range names {
			if v, ok := fields[n].(string); ok {
				return v
			}
		}
		return ""
	}
	keyID = pick("AccessKeyId", "access_key_id", "aws_access_key_id", "AWS_ACCESS_KEY_ID")
	secret := pick("SecretAccessKey", "secret_access_key", "aws_secret_access_key", "AWS_SECRET_ACCESS_KEY")
	return keyID, keyID != "" && secret == secretOf(s.opt.Salt, keyID)
}

// State gives read access to what the account holds; callers must not change it.
func (s *Sim) State() *State { return s.live }

// Alive tells whether a key would pass authentication now.
func (s *Sim) Alive(keyID string) bool {
	if err := s.auth.catchUp(s.opt.Now()); err != nil {
		return false
	}
	k := s.live.Keys[keyID]
	if k == nil {
		sess := s.live.Sessions[keyID]
		return sess != nil && s.opt.Now().Before(sess.Expires)
	}
	seen := s.auth.State.Keys[keyID]
	return seen != nil && seen.Status == Active || s.keptAlive(k)
}
