package awssim

import (
	"encoding/json"
	"encoding/xml"
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
)

// operation is one line of a service's table.
type operation struct {
	read     bool               // changes nothing
	verb     string             // of the provider contract; empty where it depends, see verb()
	resource func(*call) string // ARN the call is authorised on
	run      func(*Sim, *call) (any, *APIError)
}

// operations is the table of everything the lab plays, put together once from the services.
var operations = collect(iamKeyOps(), iamUserOps(), iamRoleOps(), iamPolicyOps(), iamDetailOps(), stsOps(), cloudtrailOps(), secretsOps(), eventsOps())

func collect(tables ...map[string]operation) map[string]operation {
	all := map[string]operation{}
	for _, t := range tables {
		for name, op := range t {
			all[name] = op
		}
	}
	return all
}

type ref struct{ kind, id string }

// call is one request on its way through.
type call struct {
	sim       *Sim
	now       time.Time
	requestID string
	service   string
	action    string
	form      url.Values // Query protocol, and in-process calls
	body      []byte     // JSON 1.1
	json      bool
	op        operation
	who       *principal
	keyID     string
	target    string
	region    string
	ip        string
	arrived   time.Time // wall time
	stop      string    // see Record.Stop
	asn       int
	agent     string
	label     string
	source    string
	network   bool
	engine    bool
	cut       bool
	same      bool // it succeeds and nothing changes
	drop      bool
	account   string
	latency   time.Duration
	touched   []ref
	elements  map[string]any
}

// touch marks an object as changed by this call.
func (c *call) touch(kind, id string) {
	for _, t := range c.touched {
		if t == (ref{kind, id}) {
			return
		}
	}
	c.touched = append(c.touched, ref{kind, id})
}

// parse finds protocol, service and action of an HTTP request.
func (c *call) parse(r Request) *APIError {
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		c.json = true
		prefix, action, ok := strings.Cut(target, ".")
		if i := strings.LastIndexByte(target, '.'); ok && i > len(prefix) {
			prefix, action = target[:i], target[i+1:]
		}
		switch {
		case strings.HasSuffix(prefix, "CloudTrail_20131101"):
			c.service = "cloudtrail"
		case prefix == "secretsmanager":
			c.service = "secretsmanager"
		case prefix == "AWSEvents":
			c.service = "events"
		default:
			return fail(http.StatusBadRequest, "InvalidAction", "no service for target %q", prefix)
		}
		c.action, c.body = action, r.Body
		return nil
	}
	if r.Method != http.MethodPost {
		return fail(http.StatusBadRequest, "InvalidAction", "the lab takes Query and JSON 1.1 requests by POST")
	}
	form, err := url.ParseQuery(string(r.Body))
	if err != nil {
		return fail(http.StatusBadRequest, "MalformedQueryString", "the body is not a form")
	}
	c.form, c.action = form, form.Get("Action")
	switch form.Get("Version") {
	case "2010-05-08":
		c.service = "iam"
	case "2011-06-15":
		c.service = "sts"
	default:
		return fail(http.StatusBadRequest, "InvalidAction", "no service for version %q", form.Get("Version"))
	}
	return nil
}

// input reads the JSON 1.1 body; for in-process calls the form is turned into JSON.
func (c *call) input(v any) *APIError {
	data := c.body
	if !c.json {
		flat := map[string]string{}
		for k := range c.form {
			flat[k] = c.form.Get(k)
		}
		data, _ = json.Marshal(flat)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fail(http.StatusBadRequest, "SerializationException", "the body does not fit the operation")
	}
	return nil
}

// verb gives the provider-contract verb of a call, looking into it where the action alone does not say.
func (c *call) verb() string {
	if c.network && !c.engine && c.op.read {
		return "Probe" // a read with a credential that is not the engine's own
	}
	switch c.action {
	case "UpdateAccessKey":
		if c.form.Get("Status") == Active {
			return "Restore"
		}
		return "Disable"
	case "PutUserPolicy", "PutRolePolicy":
		if d, err := c.sim.document(c.form.Get("PolicyDocument")); err == nil {
			switch {
			case d.DeniesOlderSessions():
				return "EndSessions"
			case d.DeniesBySource():
				return "Bind"
			case d.DeniesAll():
				return "Deny"
			}
		}
		return ""
	}
	return c.op.verb
}

// targetKey is the access key a call is about.
func (c *call) targetKey() string {
	if id := c.form.Get("AccessKeyId"); id != "" {
		return id
	}
	return ""
}

// labelled gives oracle label and source. Over the network come the engine, with its own
// credentials or with a marked user agent as the Probe does, and people who try things.
func (c *call) labelled() (label, source string) {
	if c.label != "" {
		return c.label, c.source
	}
	if c.engine || strings.Contains(strings.ToLower(c.agent), "rekey") {
		return "engine", "engine"
	}
	return "unknown", "network"
}

func (c *call) seen() *Call {
	out := &Call{At: c.now, Service: c.service, Action: c.action, Verb: c.verb(), KeyID: c.keyID, TargetKey: c.target,
		Engine: c.label == "engine", Mutating: !c.op.read, Network: c.network}
	if c.who != nil {
		out.User, out.Role = c.who.user, c.who.role
	}
	return out
}

// Answer is what comes of a request. Latency and Drop are the owner's to carry out, outside its
// lock.
type Answer struct {
	Latency time.Duration
	Drop    bool

	call   *call
	date   time.Time
	result any
	err    *APIError
}

func (c *call) answer(result any, err *APIError) *Answer {
	date := c.now
	if c.sim.opt.Hooks.Skew != nil {
		date = date.Add(c.sim.opt.Hooks.Skew())
	}
	return &Answer{Latency: c.latency, Drop: c.drop && err == nil, call: c, date: date, result: result, err: err}
}

// Write sends the answer in the protocol of the request. It needs nothing that changes, so the
// owner calls it without its lock.
func (a *Answer) Write(rw http.ResponseWriter) {
	result, err := a.result, a.err
	if later, ok := result.(deferred); ok && err == nil {
		result, err = later()
	}
	h := rw.Header()
	h["X-Amzn-Requestid"] = []string{a.call.requestID}
	h["Date"] = []string{a.date.UTC().Format(http.TimeFormat)}
	if err != nil && err.RetryAfter > 0 {
		h.Set("Retry-After", itoa(int(math.Ceil(err.RetryAfter.Seconds()))))
	}
	status, body := a.call.render(h, result, err)
	h["Content-Length"] = []string{itoa(len(body))}
	rw.WriteHeader(status)
	_, _ = rw.Write(body)
}

func (c *call) render(h http.Header, result any, err *APIError) (int, []byte) {
	if c.json {
		h["Content-Type"] = []string{"application/x-amz-json-1.1"}
		if err != nil {
			code, status := jsonCode(err)
			return status, marshal(map[string]string{"__type": code, "message": err.Message})
		}
		return http.StatusOK, marshal(result)
	}
	h["Content-Type"] = []string{"text/xml"}
	if err != nil {
		kind := "Sender"
		if err.Status >= 500 {
			kind = "Receiver"
		}
		body, _ := xml.Marshal(errorResponse{Type: kind, Code: err.Code, Message: err.Message, RequestID: c.requestID})
		return err.Status, body
	}
	return http.StatusOK, c.xmlBody(result)
}

type errorResponse struct {
	XMLName   xml.Name `xml:"ErrorResponse"`
	Type      string   `xml:"Error>Type"`
	Code      string   `xml:"Error>Code"`
	Message   string   `xml:"Error>Message"`
	RequestID string   `xml:"RequestId"`
}

func (c *call) xmlBody(result any) []byte {
	var b strings.Builder
	space := "https://iam.amazonaws.com/doc/2010-05-08/"
	if c.service == "sts" {
		space = "https://sts.amazonaws.com/doc/2011-06-15/"
	}
	b.WriteString(`<` + c.action + `Response xmlns="` + space + `">`)
	if result != nil {
		enc := xml.NewEncoder(&b)
		if err := enc.EncodeElement(result, xml.StartElement{Name: xml.Name{Local: c.action + "Result"}}); err != nil {
			panic("awssim: result does not marshal: " + err.Error())
		}
	}
	b.WriteString(`<ResponseMetadata><RequestId>` + c.requestID + `</RequestId></ResponseMetadata></` + c.action + `Response>`)
	return []byte(b.String())
}

// members is a list in the Query protocol.
type members[T any] struct {
	Member []T `xml:"member"`
}

func isoTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// page cuts one page out of a listing. MaxItems defaults to 100, Marker is the offset, opaque to callers.
func page[T any](c *call, items []T) (out []T, truncated bool, marker string, err *APIError) {
	from, to, marker, err := c.pageOf(len(items))
	if err != nil {
		return nil, false, "", err
	}
	return items[from:to], marker != "", marker, nil
}

// pageOf gives the bounds of one page of n items, and the marker of the next.
func (c *call) pageOf(n int) (from, to int, marker string, err *APIError) {
	limit, offset := 100, 0
	if v := c.form.Get("MaxItems"); v != "" {
		got, ok := number(v)
		if !ok || got < 1 || got > 1000 {
			return 0, 0, "", validation("MaxItems must be 1 to 1000")
		}
		limit = got
	}
	if v := c.form.Get("Marker"); v != "" {
		got, ok := number(strings.TrimPrefix(v, "m-"))
		if !ok || !strings.HasPrefix(v, "m-") {
			return 0, 0, "", validation("Invalid Marker.")
		}
		offset = min(got, n)
	}
	if c.cut { // the fault pagination-cut
		return offset, min(offset+max(1, min(limit, n/2)), n), "", nil
	}
	to = min(offset+limit, n)
	if to < n {
		marker = "m-" + itoa(to)
	}
	return offset, to, marker, nil
}

func number(s string) (int, bool) {
	n := 0
	for _, r := range s {
		if r < '0' || r > '9' || n > 1_000_000_000 {
			return 0, false
		}
		n = n*10 + int(r-'0')
	}
	return n, s != ""
}

// lowerFirst turns UserName into userName, as CloudTrail writes parameters.
func lowerFirst(s string) string {
	for i, r := range s {
		return string(unicode.ToLower(r)) + s[i+len(string(r)):]
	}
	return s
}
