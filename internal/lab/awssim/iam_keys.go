package awssim

import (
	"net/http"
	"time"
)

func iamKeyOps() map[string]operation {
	return map[string]operation{
		"iam:GetAccessKeyLastUsed": {read: true, verb: "Inspect", resource: ownerOfKey, run: getAccessKeyLastUsed},
		"iam:ListAccessKeys":       {read: true, verb: "Inspect", resource: onUser, run: listAccessKeys},
		"iam:CreateAccessKey":      {verb: "Issue", resource: onUser, run: createAccessKey},
		"iam:UpdateAccessKey":      {resource: onUser, run: updateAccessKey}, // Disable or Restore
		"iam:DeleteAccessKey":      {verb: "Revoke", resource: onUser, run: deleteAccessKey},
	}
}

func ownerOfKey(c *call) string {
	if k := c.sim.live.Keys[c.form.Get("AccessKeyId")]; k != nil {
		return c.sim.arn("user", k.User)
	}
	return "*"
}

func getAccessKeyLastUsed(s *Sim, c *call) (any, *APIError) {
	k := s.live.Keys[c.form.Get("AccessKeyId")]
	if k == nil || k.Status == Deleted {
		return nil, noSuchEntity("The Access Key with id %s cannot be found.", c.form.Get("AccessKeyId"))
	}
	type used struct {
		LastUsedDate string `xml:",omitempty"`
		ServiceName  string
		Region       string
	}
	out := struct {
		UserName          string
		AccessKeyLastUsed used
	}{k.User, used{ServiceName: "N/A", Region: "N/A"}}
	if last, ok := s.lastUsed[k.ID]; ok {
		out.AccessKeyLastUsed = used{isoTime(time.UnixMilli(last.ms)), s.trail.text[last.service], s.trail.text[last.region]}
	}
	return out, nil
}

type keyMetadata struct {
	UserName    string
	AccessKeyId string
	Status      string
	CreateDate  string
}

func listAccessKeys(s *Sim, c *call) (any, *APIError) {
	if s.live.Users[c.userName()] == nil {
		return nil, noSuchUser(c)
	}
	keys, truncated, marker, err := page(c, s.keysOf(c.userName()))
	if err != nil {
		return nil, err
	}
	out := struct {
		AccessKeyMetadata members[keyMetadata]
		IsTruncated       bool
		Marker            string `xml:",omitempty"`
	}{IsTruncated: truncated, Marker: marker}
	for _, k := range keys {
		out.AccessKeyMetadata.Member = append(out.AccessKeyMetadata.Member, keyMetadata{k.User, k.ID, k.Status, isoTime(k.Created)})
	}
	return out, nil
}

func noSuchUser(c *call) *APIError {
	return noSuchEntity("The user with name %s cannot be found.", c.userName())
}

func createAccessKey(s *Sim, c *call) (any, *APIError) {
	user := c.userName()
	if s.live.Users[user] == nil {
		return nil, noSuchUser(c)
	}
	if len(s.keysOf(user)) >= s.opt.KeysPerUser {
		return nil, fail(http.StatusConflict, "LimitExceeded", "Cannot exceed quota for AccessKeysPerUser: %d", s.opt.KeysPerUser)
	}
	by := c.label
	k := s.addKey(user, c.now, by)
	c.touch("key", k.ID)
	c.elements = map[string]any{"accessKey": map[string]any{"userName": user, "accessKeyId": k.ID, "status": Active, "createDate": isoTime(c.now)}, "_target": k.ID}
	type accessKey struct {
		UserName, AccessKeyId, Status, SecretAccessKey, CreateDate string
	}
	return struct{ AccessKey accessKey }{accessKey{user, k.ID, Active, secretOf(s.opt.Salt, k.ID), isoTime(c.now)}}, nil
}

// addKey makes a key with a fresh id.
func (s *Sim) addKey(user string, now time.Time, by string) *Key {
	s.live.Counter++
	k := &Key{ID: accessKeyID(s.opt.Salt, "AKIA", s.opt.Account, s.live.Counter), User: user, Status: Active, Created: now.UTC(), MintedBy: by}
	s.live.Keys[k.ID] = k
	s.index(k)
	return k
}

// ownKey finds the key a change is about. AWS looks it up under the named user, or the caller's own.
func (s *Sim) ownKey(c *call) (*Key, *APIError) {
	id := c.form.Get("AccessKeyId")
	k := s.live.Keys[id]
	if k == nil || k.Status == Deleted || k.User != c.userName() {
		return nil, noSuchEntity("The Access Key with id %s cannot be found.", id)
	}
	return k, nil
}

func updateAccessKey(s *Sim, c *call) (any, *APIError) {
	k, err := s.ownKey(c)
	if err != nil {
		return nil, err
	}
	status := c.form.Get("Status")
	if status != Active && status != Inactive {
		return nil, validation("Value '%s' at 'status' failed to satisfy constraint: Member must satisfy enum value set: [Active, Inactive]", status)
	}
	if k.Status == status {
		c.same = true // the call succeeds and changes nothing
		return nil, nil
	}
	s.changeKey(c, k).Status = status
	return nil, nil
}

func deleteAccessKey(s *Sim, c *call) (any, *APIError) {
	k, err := s.ownKey(c)
	if err != nil {
		return nil, err
	}
	now := c.now.UTC()
	gone := s.changeKey(c, k)
	gone.Status, gone.Deleted = Deleted, &now
	return nil, nil
}
