package awssim

import (
	"encoding/json"
	"maps"
	"time"
)

// Record is one call as the log has it. It is what the trail file holds, CloudTrail events are
// rendered from it, and the oracle counts it. It never carries a secret.
type Record struct {
	Seq       int64          `json:"seq"`
	At        time.Time      `json:"at"`
	LoggedAt  time.Time      `json:"logged_at"` // with the provider's clock skew
	EventID   string         `json:"event_id"`
	RequestID string         `json:"request_id"`
	KeyID     string         `json:"key_id"`
	Identity  map[string]any `json:"identity,omitempty"`
	User      string         `json:"user,omitempty"`
	Service   string         `json:"service"`
	Action    string         `json:"action"`
	Region    string         `json:"region"`
	SourceIP  string         `json:"source_ip"`
	ASN       int            `json:"asn,omitempty"`
	UserAgent string         `json:"user_agent,omitempty"`
	ReadOnly  bool           `json:"read_only,omitempty"`
	Params    map[string]any `json:"params,omitempty"`
	Elements  map[string]any `json:"elements,omitempty"`
	Code      string         `json:"code,omitempty"`
	Message   string         `json:"message,omitempty"`
	Label     string         `json:"label"`
	Source    string         `json:"source,omitempty"`
	Verb      string         `json:"verb,omitempty"`
	TargetKey string         `json:"target_key,omitempty"`
	Lost      bool           `json:"lost,omitempty"` // the effect was made, the answer was cut
	Same      bool           `json:"same,omitempty"` // it succeeded and changed nothing: the state was there
}

// Result is ok, denied, throttled or failed, as the oracle says it.
func (r *Record) Result() string {
	switch r.Code {
	case "":
		return "ok"
	case "Throttling", "ThrottlingException", "ServiceUnavailable":
		return "throttled"
	case "AccessDenied", "InvalidClientTokenId", "SignatureDoesNotMatch", "ExpiredToken":
		return "denied"
	default:
		return "failed"
	}
}

type lastUse struct {
	At      time.Time
	Service string
	Region  string
}

func (c *call) record(err *APIError) *Record {
	s := c.sim
	label, source := c.labelled()
	r := &Record{
		Seq: s.seq, At: c.now, LoggedAt: c.now, EventID: uuid(s.opt.Salt, "event", s.seq), RequestID: c.requestID, KeyID: c.keyID,
		Service: c.service, Action: c.action, Region: c.region, SourceIP: c.ip, ASN: c.asn, UserAgent: c.agent,
		ReadOnly: c.op.read, Params: c.params(), Label: label, Source: source, Verb: c.verb(), TargetKey: c.target, Lost: c.drop && err == nil, Same: c.same,
	}
	if r.TargetKey == "" {
		r.TargetKey, _ = c.elements["_target"].(string)
	}
	if c.service == "iam" || c.region == "" {
		r.Region = s.opt.Region // global services log in one region
	}
	if s.opt.Hooks.Skew != nil {
		r.LoggedAt = c.now.Add(s.opt.Hooks.Skew())
	}
	if c.who != nil {
		r.Identity, r.User = s.identity(c.who, c.keyID), c.who.user
	}
	if err != nil {
		r.Code, r.Message = err.Code, err.Message
		return r
	}
	if !c.op.read {
		r.Elements = maps.Clone(c.elements)
		delete(r.Elements, "_target")
	}
	return r
}

// identity is CloudTrail's userIdentity
// (https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-user-identity.html).
// Records of one key share one value: an attacker tries it a hundred thousand times.
func (s *Sim) identity(p *principal, keyID string) map[string]any {
	if id, ok := s.identities[keyID]; ok && id["principalId"] == p.id {
		return id
	}
	id := s.newIdentity(p, keyID)
	s.identities[keyID] = id
	return id
}

func (s *Sim) newIdentity(p *principal, keyID string) map[string]any {
	id := map[string]any{"type": "IAMUser", "principalId": p.id, "arn": p.arn, "accountId": s.opt.Account, "accessKeyId": keyID}
	if p.user != "" {
		id["userName"] = p.user
	}
	sess := p.session
	if sess == nil {
		return id
	}
	context := map[string]any{"attributes": map[string]any{"creationDate": isoTime(sess.Issued), "mfaAuthenticated": "false"}}
	switch sess.Kind {
	case AssumedRole:
		id["type"] = "AssumedRole"
		issuer := map[string]any{"type": "Role", "arn": p.base, "accountId": s.opt.Account, "userName": p.role}
		if r := s.live.Roles[p.role]; r != nil {
			issuer["principalId"] = r.ID
		}
		context["sessionIssuer"] = issuer
	case FederatedToken:
		id["type"] = "FederatedUser"
		delete(id, "userName")
		context["sessionIssuer"] = map[string]any{"type": "IAMUser", "arn": p.base, "accountId": s.opt.Account, "userName": p.user}
	}
	id["sessionContext"] = context
	return id
}

// params gives requestParameters; secret values are left out, as CloudTrail does.
func (c *call) params() map[string]any {
	out := map[string]any{}
	if c.json {
		var raw map[string]any
		if json.Unmarshal(c.body, &raw) != nil {
			return nil
		}
		for k, v := range raw {
			out[lowerFirst(k)] = v
		}
	} else {
		for k := range c.form {
			out[lowerFirst(k)] = c.form.Get(k)
		}
	}
	for _, k := range []string{"action", "version", "secretString", "secretBinary", "password"} {
		delete(out, k)
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// append adds a record to the trail and its indexes. Records come in world order, except the past
// a scenario starts with, which is put in before anything else.
func (s *Sim) append(r *Record) {
	if r.Identity == nil {
		return // a caller nobody knows leaves no event
	}
	s.trail = append(s.trail, r)
	s.byKey[r.KeyID] = append(s.byKey[r.KeyID], r)
	if r.Code == "InvalidClientTokenId" || r.Code == "SignatureDoesNotMatch" {
		return // not authenticated: last-used does not move
	}
	if last := s.lastUsed[r.KeyID]; r.At.After(last.At) {
		s.lastUsed[r.KeyID] = lastUse{r.At, r.Service, r.Region}
	}
}
