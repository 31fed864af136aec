package awssim

import (
	"encoding/json"
	"maps"
	"strings"
	"time"
)

// Record is one call as the log has it. It is what the trail file holds, CloudTrail events are
// rendered from it, and the oracle counts it. It never carries a secret. A field that is added is
// written by AppendJSON too.
type Record struct {
	Seq       int64           `json:"seq"`
	At        time.Time       `json:"at"`
	LoggedAt  time.Time       `json:"logged_at"` // with the provider's clock skew
	EventID   string          `json:"event_id"`
	RequestID string          `json:"request_id"`
	KeyID     string          `json:"key_id"`
	Identity  json.RawMessage `json:"identity,omitempty"`
	User      string          `json:"user,omitempty"`
	Username  string          `json:"username,omitempty"` // as CloudTrail shows it: the user, or the session name of a role
	Service   string          `json:"service"`
	Action    string          `json:"action"`
	Region    string          `json:"region"`
	SourceIP  string          `json:"source_ip"`
	ASN       int             `json:"asn,omitempty"`
	UserAgent string          `json:"user_agent,omitempty"`
	ReadOnly  bool            `json:"read_only,omitempty"`
	Params    map[string]any  `json:"params,omitempty"`
	Elements  map[string]any  `json:"elements,omitempty"`
	Code      string          `json:"code,omitempty"`
	Message   string          `json:"message,omitempty"`
	Label     string          `json:"label"`
	Source    string          `json:"source,omitempty"`
	Verb      string          `json:"verb,omitempty"`
	TargetKey string          `json:"target_key,omitempty"`
	Lost      bool            `json:"lost,omitempty"` // the effect was made, the answer was cut
	Same      bool            `json:"same,omitempty"` // it succeeded and changed nothing: the state was there
	Stop      string          `json:"stop,omitempty"` // in-flight or during: it came while its caller was told to wait, see stops
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

// lastUse is the last use of a key; service and region are words of the trail.
type lastUse struct {
	ms              int64
	service, region uint32
}

func (c *call) record(err *APIError) *Record {
	s := c.sim
	label, source := c.labelled()
	r := &Record{
		Seq: s.seq, At: c.now, LoggedAt: c.now, EventID: uuid(s.opt.Salt, "event", s.seq), RequestID: c.requestID, KeyID: c.keyID,
		Service: c.service, Action: c.action, Region: c.region, SourceIP: c.ip, ASN: c.asn, UserAgent: c.agent,
		ReadOnly: c.op.read, Params: c.params(), Label: label, Source: source, Verb: c.verb(), TargetKey: c.target, Lost: c.drop && err == nil, Same: c.same, Stop: c.stop,
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
		r.Identity, r.User, r.Username = s.identity(c.who, c.keyID), c.who.user, c.who.username()
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

// username is what CloudTrail shows: the IAM user, or the session name of a role.
func (p *principal) username() string {
	if p.user != "" {
		return p.user
	}
	return p.arn[strings.LastIndexByte(p.arn, '/')+1:]
}

func (r *Record) username() string {
	if r.Username != "" {
		return r.Username
	}
	return r.User
}

// rendered is the userIdentity of a key in JSON, for the principal it was made for.
type rendered struct {
	id   string
	json json.RawMessage
}

// cached bounds what is kept only to save work: the identities of keys that call, and parsed
// policies. At the bound it is dropped as a whole.
const cached = 4096

// identity is CloudTrail's userIdentity
// (https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-user-identity.html).
func (s *Sim) identity(p *principal, keyID string) json.RawMessage {
	if got, ok := s.identities[keyID]; ok && got.id == p.id {
		return got.json
	}
	if len(s.identities) >= cached {
		clear(s.identities)
	}
	out := rendered{p.id, marshal(s.newIdentity(p, keyID))}
	s.identities[keyID] = out
	return out.json
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
