package lab

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"rekey/internal/lab/awssim"
	"rekey/internal/lab/scenario"
)

// consumer uses a key on a period: a dependent, a copy that came back, a scripted use.
type consumer struct {
	ID        string        `json:"id"`
	Dependent bool          `json:"dependent,omitempty"` // reported in the oracle with its outage
	Source    string        `json:"source"`
	Label     string        `json:"label"`
	IP        string        `json:"ip"`
	ASN       int           `json:"asn"`
	Agent     string        `json:"agent"`
	Calls     []string      `json:"calls"`
	Every     time.Duration `json:"every"`
	Next      time.Time     `json:"next"` // zero = done
	Left      int           `json:"left"` // rounds left; below zero = without end
	Until     time.Time     `json:"until,omitzero"`
	KeyID     string        `json:"key_id"`

	Cutover  string        `json:"cutover,omitempty"`
	Store    string        `json:"store,omitempty"`
	Stale    time.Duration `json:"stale,omitempty"`  // how long a cache keeps the old key
	Noticed  time.Time     `json:"noticed,omitzero"` // when the store first held another key
	Reload   bool          `json:"reload,omitempty"` // restarted: read the store at the next use
	Moves    time.Time     `json:"moves,omitzero"`   // until then it goes on with the key it has
	Failing  time.Time     `json:"failing,omitzero"` // first failure of the outage that is going on
	OutageMS int64         `json:"outage_ms"`
	Uses     int           `json:"uses"`
	Failures int           `json:"failures"`

	n     int  // place in the scenario
	moved bool // the file of consumers is behind
}

// harmless are the calls of those who only want to know whether a key works.
func harmless() []string { return []string{"sts:GetCallerIdentity", "ec2:DescribeInstances"} }

// consume makes one round of calls and sets the next time.
func (w *world) consume(c *consumer) {
	w.moved(c)
	if c.Left > 0 {
		c.Left--
	}
	due := c.Next
	if c.Left == 0 || c.Every <= 0 {
		c.Next = time.Time{}
	} else {
		c.Next = due.Add(c.Every)
		if !c.Until.IsZero() && c.Next.After(c.Until) {
			c.Next = time.Time{}
		}
	}
	cutover := c.Cutover
	if !c.Moves.IsZero() {
		if cutover = "dual"; w.now().Before(c.Moves) {
			cutover = ""
		}
	}
	if c.Store != "" && (cutover == "dual" || c.Reload) {
		w.readStore(c)
	}
	ok := w.useKey(c)
	if !ok && c.Store != "" && cutover == "hot" && w.readStore(c) {
		ok = w.useKey(c) // a refusal makes it look again
	}
	c.Uses++
	switch {
	case ok && !c.Failing.IsZero():
		c.OutageMS += w.now().Sub(c.Failing).Milliseconds()
		c.Failing = time.Time{}
	case !ok:
		c.Failures++
		if c.Failing.IsZero() {
			c.Failing = w.now()
		}
	}
}

// readStore takes over the key the store holds, and tells whether that is another one than before.
func (w *world) readStore(c *consumer) bool {
	c.Reload = false
	id, ok := w.sim.StoredKey(c.Store)
	if !ok || id == c.KeyID {
		return false
	}
	if c.Noticed.IsZero() {
		c.Noticed = w.now()
	}
	if w.now().Before(c.Noticed.Add(c.Stale)) {
		return false // the fault stale-cache
	}
	c.KeyID, c.Noticed = id, time.Time{}
	return true
}

func (w *world) useKey(c *consumer) bool {
	actor := awssim.Actor{KeyID: c.KeyID, SourceIP: c.IP, ASN: c.ASN, UserAgent: c.Agent, Label: c.Label, Source: c.Source}
	ok := true
	for _, name := range c.Calls {
		service, action := splitCall(name)
		if code, _ := w.sim.Invoke(actor, service, action, nil); code != "" && code != "InvalidAction" {
			ok = false
		}
	}
	return ok
}

// splitCall gives service and action; a bare action belongs to EC2 unless it is a well-known one.
func splitCall(name string) (service, action string) {
	if service, action, ok := strings.Cut(name, ":"); ok {
		return service, action
	}
	switch name {
	case "GetCallerIdentity", "AssumeRole", "GetSessionToken", "GetFederationToken":
		return "sts", name
	case "CreateAccessKey", "CreateUser", "CreateRole", "ListUsers", "ListRoles", "ListAccessKeys", "AttachUserPolicy", "PutUserPolicy", "CreateLoginProfile", "UpdateAssumeRolePolicy":
		return "iam", name
	case "ListBuckets", "GetObject", "ListObjects":
		return "s3", name
	case "GetSecretValue":
		return "secretsmanager", name
	case "LookupEvents", "StopLogging", "DeleteTrail":
		return "cloudtrail", name
	case "PutRule", "DeleteRule":
		return "events", name
	default:
		return "ec2", name
	}
}

// addressOf gives a documentation address (RFC 5737) for an ASN: the attacker's in TEST-NET-2.
func addressOf(asn int) string { return fmt.Sprintf("198.51.100.%d", 1+asn%250) }

// attacker retries every secret it knows and reacts to what is done to its keys.
type attacker struct {
	Knows   []string      `json:"knows"` // provider key ids
	Every   time.Duration `json:"every"`
	Next    time.Time     `json:"next"`
	ASN     int           `json:"asn"`
	Reacts  []*reaction   `json:"reacts"`
	Planned []*plannedAct `json:"planned"`
	Made    int           `json:"made"`
	Refused bool          `json:"refused"`
}

type reaction struct {
	scenario.Reaction
	Key   string `json:"key,omitempty"` // only for this key
	Fired bool   `json:"fired"`
}

// plannedAct is something the attacker will do at a time, with a key it has.
type plannedAct struct {
	At   time.Time     `json:"at"`
	Do   string        `json:"do"`
	Key  string        `json:"key"`
	Life time.Duration `json:"life,omitempty"` // of a session
	Job  string        `json:"job,omitempty"`  // name of what PutRule makes
}

func (a *attacker) knows(keyID string) bool {
	for _, k := range a.Knows {
		if k == keyID {
			return true
		}
	}
	return false
}

func (w *world) attackerAs(a *attacker, keyID string) awssim.Actor {
	return awssim.Actor{KeyID: keyID, SourceIP: addressOf(a.ASN), ASN: a.ASN, UserAgent: "Boto3/1.9.210 Python/3.7.4 Linux", Label: "malicious", Source: "attacker"}
}

// attackRound tries every secret known.
func (w *world) attackRound(a *attacker) {
	refused := false
	for _, id := range a.Knows {
		for _, name := range harmless() {
			service, action := splitCall(name)
			code, _ := w.sim.Invoke(w.attackerAs(a, id), service, action, nil)
			refused = refused || code != "" && code != "InvalidAction"
		}
	}
	if refused && !a.Refused {
		a.Refused = true
		for _, r := range a.Reacts {
			if r.On == "first-refusal" && !r.Fired {
				r.Fired = true
				for _, id := range a.Knows {
					a.Planned = append(a.Planned, &plannedAct{At: w.now(), Do: r.Do, Key: id})
				}
			}
		}
	}
}

// noticeChange plans reactions to a change of a key the attacker knows, or of that key's user.
// They fall inside the propagation of the change: half of it later, with the old credential.
func (w *world) noticeChange(r *awssim.Record) {
	a := w.st.Attacker
	if a == nil || r.Label == "malicious" {
		return
	}
	target := ""
	switch {
	case a.knows(r.TargetKey):
		target = r.TargetKey
	case r.Service == "iam":
		user, _ := r.Params["userName"].(string)
		for _, id := range a.Knows {
			if k := w.sim.State().Keys[id]; k != nil && user != "" && k.User == user && r.Action != "CreateAccessKey" {
				target = id
			}
		}
	}
	if target == "" {
		return
	}
	for _, re := range a.Reacts {
		if re.Key != "" && re.Key != target || re.On == "first-change" && re.Fired || re.On == "first-refusal" {
			continue
		}
		re.Fired, w.dirty = true, true
		a.Planned = append(a.Planned, &plannedAct{At: w.now().Add((w.propagation() / 2).Truncate(time.Millisecond)), Do: re.Do, Key: target})
	}
}

// runPlanned carries out what is due. Each act is forgotten, on disk too, before it is done: a
// killed lab may lose one, but never does one twice.
func (w *world) runPlanned(a *attacker, at time.Time) {
	var due, later []*plannedAct
	for _, p := range a.Planned {
		if p.At.After(at) {
			later = append(later, p)
		} else {
			due = append(due, p)
		}
	}
	if len(due) == 0 {
		return
	}
	a.Planned = later
	if !w.seedOnly {
		if err := w.saveWorld(); err != nil {
			w.fail(err)
			return
		}
	}
	for _, p := range due {
		w.act(a, p)
	}
}

// act is one thing an attacker does with a key; what it mints it knows from then on.
func (w *world) act(a *attacker, p *plannedAct) {
	do, keyID := p.Do, p.Key
	as := w.attackerAs(a, keyID)
	call := func(service, action string, params ...string) bool {
		form := url.Values{}
		for i := 0; i+1 < len(params); i += 2 {
			form.Set(params[i], params[i+1])
		}
		code, elements := w.sim.Invoke(as, service, action, form)
		if minted, ok := elements["_target"].(string); ok && code == "" && !a.knows(minted) {
			a.Knows = append(a.Knows, minted)
		}
		return code == ""
	}
	a.Made++
	name := fmt.Sprintf("support-%d", a.Made)
	const admin = "arn:aws:iam::aws:policy/AdministratorAccess"
	life := "129600" // the longest there is
	if p.Life > 0 {
		life = strconv.Itoa(int(p.Life / time.Second))
	}
	switch do {
	case "CreateAccessKey":
		call("iam", "CreateAccessKey")
	case "CreateUser":
		if call("iam", "CreateUser", "UserName", name) && call("iam", "AttachUserPolicy", "UserName", name, "PolicyArn", admin) {
			call("iam", "CreateAccessKey", "UserName", name)
		}
	case "CreateRole":
		// 999988887777 is an account of nobody's: the way back in is from outside.
		trust := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::999988887777:root"},"Action":"sts:AssumeRole"}]}`
		if call("iam", "CreateRole", "RoleName", name, "AssumeRolePolicyDocument", trust) {
			call("iam", "AttachRolePolicy", "RoleName", name, "PolicyArn", admin)
		}
	case "GetSessionToken":
		call("sts", "GetSessionToken", "DurationSeconds", life)
	case "GetFederationToken":
		call("sts", "GetFederationToken", "Name", name, "DurationSeconds", life, "Policy", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`)
	case "UpdateAccessKey":
		call("iam", "UpdateAccessKey", "AccessKeyId", keyID, "Status", awssim.Active)
	case "PutRule":
		job := p.Job
		if job == "" {
			job = name
		}
		call("events", "PutRule", "Name", job, "ScheduleExpression", "rate(1 day)")
	}
}

// job is work that the attacker left behind: when it is due and still there, it makes the attacker
// a new key.
type job struct {
	Name string    `json:"name"`
	User string    `json:"user"`
	Due  time.Time `json:"due"`
	Over bool      `json:"over"`         // its time has come
	Ran  time.Time `json:"ran,omitzero"` // zero: it was gone by then
}

// runJobs runs what is due. As with planned acts, it is written down before it is done.
func (w *world) runJobs(at time.Time) {
	for _, j := range w.st.Jobs {
		if j.Over || j.Due.After(at) {
			continue
		}
		j.Over, w.dirty = true, true
		if w.sim.State().Rules[j.Name] == nil {
			continue
		}
		j.Ran = at
		if err := w.saveWorld(); err != nil {
			w.fail(err)
			return
		}
		if minted, ok := w.sim.RunJob(j.User); ok && w.st.Attacker != nil {
			w.st.Attacker.Knows = append(w.st.Attacker.Knows, minted)
		}
	}
}
