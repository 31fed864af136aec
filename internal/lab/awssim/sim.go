package awssim

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"rekey/internal/lab/awssim/policy"
)

// Rungs of the kill ladder, as KeepAlive names them.
var rungLevel = map[string]int{"key": 1, "sessions": 2, "principal": 3, "network-bind": 4, "never": 9}

// Options describe the account.
type Options struct {
	Account     string
	Region      string // where global services log; us-east-1
	Salt        []byte // of this run; every secret is derived from it
	Now         func() time.Time
	Propagation func() time.Duration
	KeysPerUser int             // 2 in AWS; inactive keys count
	Limits      map[string]Rate // "iam", "iam.write" (what changes something) or "iam:ListUsers"; none = unlimited
	Retention   time.Duration   // of LookupEvents; 90 days in AWS
	EngineIP    string          // source address of what comes over the network
	Journal     Journal
	Hooks       Hooks
}

// Hooks let the owner act on calls. Any may be nil.
type Hooks struct {
	// Inject gives the faults for a call that is authenticated and about to run.
	Inject func(*Call) Injection
	// KeepAlive names the rung until which a key goes on working whatever was done to it.
	KeepAlive func(keyID string) (rung string, on bool)
	// Skew is what the account's clock is off by, in Date headers and log times.
	Skew func() time.Duration
	// LogGap tells whether the log has nothing for a time.
	LogGap func(time.Time) bool
}

// Call is what a hook sees of a call.
type Call struct {
	At                time.Time
	Service, Action   string
	Verb              string // of the provider contract, where the action belongs to one
	KeyID, User, Role string
	TargetKey         string // key the call is about
	Engine            bool   // made with the engine's own credentials or its sessions
	Mutating          bool
	Network           bool
}

// Injection is what a fault does to a call.
type Injection struct {
	Error      *APIError
	Latency    time.Duration // wall time, before the answer
	LoseAnswer bool          // the effect is made, the connection is cut
	CutPages   bool          // a listing shows a part and claims to be complete
	Account    string        // the engine's credential belongs to this account instead
}

// Sim is one simulated account.
type Sim struct {
	opt        Options
	live       *State
	auth       replica
	start      time.Time
	byUser     map[string][]string // key ids
	userNames  names
	roleNames  names
	trail      trail
	lastUsed   map[string]lastUse
	limits     limits
	docs       map[string]*policy.Document
	signing    signingKeys
	seq        int64
	engine     map[string]bool // users of the engine
	identities map[string]rendered
}

// New makes an empty account.
func New(opt Options) *Sim {
	if opt.Region == "" {
		opt.Region = "us-east-1"
	}
	if opt.KeysPerUser == 0 {
		opt.KeysPerUser = 2
	}
	if opt.Retention == 0 {
		opt.Retention = 90 * 24 * time.Hour
	}
	if opt.EngineIP == "" {
		opt.EngineIP = "203.0.113.10"
	}
	return &Sim{
		opt: opt, live: newState(), auth: replica{State: newState()}, start: opt.Now(),
		byUser: map[string][]string{}, trail: newTrail(), lastUsed: map[string]lastUse{}, limits: newLimits(opt.Limits),
		docs: map[string]*policy.Document{}, engine: map[string]bool{}, identities: map[string]rendered{},
	}
}

// Account gives the account id.
func (s *Sim) Account() string { return s.opt.Account }

// Request is one HTTP request with its body read.
type Request struct {
	*http.Request
	Body []byte
	Wall time.Time // when it arrived
}

// Incoming is a request that was read: what it asks for, and whether its signature is right.
type Incoming struct {
	call   *call
	err    *APIError // what is wrong with its form
	sig    signature
	signed time.Time
	token  string
	wall   time.Time
	genuine,
	dated bool
}

// Read reads a request and checks its signature. It needs nothing of the account's state, so the
// owner calls it without its lock, for many requests at once.
func (s *Sim) Read(r Request) *Incoming {
	in := &Incoming{call: &call{sim: s, network: true, ip: s.opt.EngineIP, agent: r.UserAgent(), arrived: r.Wall}, wall: r.Wall,
		token: r.Header.Get("X-Amz-Security-Token")}
	c := in.call
	if in.err = c.parse(r); in.err != nil {
		return in
	}
	var ok bool
	if in.sig, ok = parseAuthorization(r.Header.Get("Authorization")); !ok {
		in.err = fail(http.StatusBadRequest, "IncompleteSignature", "Authorization header is not a Signature Version 4 header")
		if r.Header.Get("Authorization") == "" {
			in.err = fail(http.StatusForbidden, "MissingAuthenticationToken", "Request is missing Authentication Token")
		}
		return in
	}
	c.region, c.keyID = in.sig.region, in.sig.keyID
	signed, err := time.Parse(amzDate, r.Header.Get("X-Amz-Date"))
	in.signed, in.dated = signed, err == nil && signed.Format("20060102") == in.sig.date
	in.genuine = in.dated && in.sig.verify(r.Request, r.Body, s.signing.key(s.opt.Salt, in.sig))
	return in
}

// Serve answers one HTTP request.
func (s *Sim) Serve(in *Incoming) *Answer {
	c := in.call
	c.now = s.opt.Now()
	s.seq++
	c.requestID = uuid(s.opt.Salt, "request", s.seq)
	if err := s.auth.catchUp(c.now); err != nil {
		return c.answer(nil, fail(http.StatusInternalServerError, "ServiceFailure", "lab state is damaged"))
	}
	if in.err != nil {
		return c.answer(nil, in.err)
	}
	if err := s.authenticate(c, in); err != nil {
		if c.who != nil {
			_ = s.finish(c, err)
		}
		return c.answer(nil, err)
	}
	result, err := s.run(c)
	return c.answer(result, err)
}

// Actor is who makes an in-process call: the simulated world's own users of keys.
type Actor struct {
	KeyID     string
	SourceIP  string
	ASN       int
	UserAgent string
	Label     string // legit, malicious
	Source    string // place or name of the consumer
	Region    string
}

// Invoke makes a call as the world's actors do: the same path as a network request from the
// status of the key on, without computing a signature. It gives the AWS error code, empty for success,
// and what the call logged as response elements.
func (s *Sim) Invoke(a Actor, service, action string, form url.Values) (code string, elements map[string]any) {
	c := &call{sim: s, now: s.opt.Now(), service: service, action: action, form: form, keyID: a.KeyID,
		ip: a.SourceIP, asn: a.ASN, agent: a.UserAgent, label: a.Label, source: a.Source, region: a.Region}
	if c.form == nil {
		c.form = url.Values{}
	}
	if c.region == "" {
		c.region = s.opt.Region
	}
	s.seq++
	c.requestID = uuid(s.opt.Salt, "request", s.seq)
	if err := s.auth.catchUp(c.now); err != nil {
		return "ServiceFailure", nil
	}
	if err := s.identify(c); err != nil {
		if c.who != nil {
			_ = s.finish(c, err)
		}
		return err.Code, nil
	}
	if _, err := s.run(c); err != nil {
		return err.Code, nil
	}
	return "", c.elements
}

// authenticate checks date, key and signature, in AWS's order: an unknown or dead key is told
// apart from a wrong secret, which proves that the key lives.
func (s *Sim) authenticate(c *call, in *Incoming) *APIError {
	if !in.dated {
		return fail(http.StatusForbidden, "IncompleteSignature", "Date in Credential scope does not match X-Amz-Date")
	}
	if in.sig.service != c.service {
		return fail(http.StatusForbidden, "SignatureDoesNotMatch", "Credential should be scoped to correct service: '%s'.", c.service)
	}
	if err := s.identify(c); err != nil {
		return err
	}
	if c.who.session != nil && in.token != tokenOf(s.opt.Salt, c.keyID) {
		return invalidToken()
	}
	if c.who.session == nil && in.token != "" {
		return invalidToken()
	}
	if !in.genuine {
		return fail(http.StatusForbidden, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method.")
	}
	if !dateAccepted(in.signed, in.wall, s.start, c.now) {
		return fail(http.StatusForbidden, "SignatureDoesNotMatch", "Signature expired: %s is not within 15 minutes of the clock", in.signed.Format(amzDate))
	}
	return nil
}

// identify finds the principal of a key id and refuses keys and sessions that are dead.
func (s *Sim) identify(c *call) *APIError {
	if sess, ok := s.live.Sessions[c.keyID]; ok {
		c.who = s.sessionPrincipal(sess)
		c.engine = sess.Engine
		if !c.now.Before(sess.Expires) {
			return fail(http.StatusForbidden, "ExpiredToken", "The security token included in the request is expired")
		}
		return nil
	}
	k, ok := s.live.Keys[c.keyID]
	if !ok {
		return invalidToken()
	}
	c.who = s.userPrincipal(k.User)
	c.engine = s.engine["user/"+k.User]
	if seen := s.auth.State.Keys[k.ID]; (seen == nil || seen.Status != Active) && !s.keptAlive(k) {
		return invalidToken()
	}
	return nil
}

// keptAlive is the fault alive-after-200: below the named rung the key works on.
func (s *Sim) keptAlive(k *Key) bool {
	if s.opt.Hooks.KeepAlive == nil {
		return false
	}
	rung, on := s.opt.Hooks.KeepAlive(k.ID)
	return on && s.rungInForce(k) < rungLevel[rung]
}

// rungInForce gives the highest rung of the kill ladder that has taken effect on a key's principal.
func (s *Sim) rungInForce(k *Key) int {
	level := 0
	if seen := s.auth.State.Keys[k.ID]; seen != nil && seen.Status == Deleted {
		level = rungLevel["key"]
	}
	if s.auth.State.Users[k.User] == nil {
		return rungLevel["principal"]
	}
	for _, d := range s.userDocuments(k.User) {
		switch {
		case d.DeniesBySource():
			level = max(level, rungLevel["network-bind"])
		case d.DeniesAll():
			level = max(level, rungLevel["principal"])
		case d.DeniesOlderSessions():
			level = max(level, rungLevel["sessions"])
		}
	}
	return level
}

// run is everything after authentication: limits, faults, authorisation, the action, the log.
func (s *Sim) run(c *call) (any, *APIError) {
	op, ok := operations[c.service+":"+c.action]
	if !ok {
		return nil, s.finish(c, s.unknownAction(c))
	}
	c.op = op
	c.target = c.targetKey()
	c.label, c.source = c.labelled()
	if err := s.overLimit(c); err != nil {
		return nil, s.finish(c, err)
	}
	var inj Injection
	if s.opt.Hooks.Inject != nil {
		inj = s.opt.Hooks.Inject(c.seen())
	}
	c.latency, c.drop, c.cut, c.account = inj.Latency, inj.LoseAnswer, inj.CutPages, inj.Account
	if inj.Error != nil {
		return nil, s.finish(c, inj.Error)
	}
	if c.account != "" && c.service == "iam" {
		return nil, s.finish(c, noSuchEntity("The entity cannot be found."))
	}
	if err := s.authorise(c); err != nil {
		return nil, s.finish(c, err)
	}
	result, err := op.run(s, c)
	return result, s.finish(c, err)
}

// unknownAction: what the lab does not play is authorised (an action of a service outside the
// lab, as dependents make them), then says so.
func (s *Sim) unknownAction(c *call) *APIError {
	if c.network {
		return fail(http.StatusBadRequest, "InvalidAction", "Could not find operation %s for version 2010-05-08: the lab does not play it", c.action)
	}
	c.op = operation{read: readLooking(c.action), resource: anything}
	c.label, c.source = c.labelled()
	return s.authorise(c)
}

func readLooking(action string) bool {
	return strings.HasPrefix(action, "Get") || strings.HasPrefix(action, "List") || strings.HasPrefix(action, "Describe") || strings.HasPrefix(action, "Lookup")
}

// finish logs the call, queues what it changed for the replica and hands both to the owner.
func (s *Sim) finish(c *call, err *APIError) *APIError {
	puts := make([]Put, 0, len(c.touched)+1)
	if err != nil {
		c.touched = nil // a refused call changes nothing
	}
	if len(c.touched) > 0 {
		c.touch("counter", "")
	}
	effective := c.now.Add(s.opt.Propagation())
	for _, t := range c.touched {
		p := s.live.object(t.kind, t.id)
		puts = append(puts, p)
		s.auth.queue(effective, p)
	}
	if aerr := s.auth.catchUp(c.now); aerr != nil {
		panic(aerr) // our own marshalled objects
	}
	if err != nil && c.network {
		s.limits.told(c, err)
	}
	rec := c.record(err)
	s.append(rec, s.opt.Journal.Append(rec, puts))
	return err
}

// Replay applies the objects of one effect that is newer than the snapshot; at is when the call
// was made, so that what had not propagated yet still has not.
func (s *Sim) Replay(at time.Time, puts []Put) error {
	for _, p := range puts {
		if err := s.live.apply(p); err != nil {
			return err
		}
		switch p.Kind {
		case "key":
			s.index(s.live.Keys[p.ID])
		case "user":
			s.userNames.drop()
		case "role":
			s.roleNames.drop()
		}
		s.auth.queue(at.Add(s.opt.Propagation()), p)
	}
	return nil
}

// Seq is the number of the last call the state knows of.
func (s *Sim) Seq() int64 { return s.seq }

// ReplayRecord notes a call that the journal has from before, and where.
func (s *Sim) ReplayRecord(r *Record, at int64) {
	s.append(r, at)
	s.seq = max(s.seq, r.Seq)
}

func itoa(n int) string { return strconv.Itoa(n) }
