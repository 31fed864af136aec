package awsiam

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// errNotAWS: a success that AWS cannot have said: a proxy's page, a body that is
// cut off, another call's answer. Without this check such an answer would pass
// for success, because the SDK throws away the body of calls without a result.
var errNotAWS = errors.New("the answer is not AWS's")

// maxErrorBody is how much of an error body is looked at for its code.
const maxErrorBody = 64 << 10

// maxRetryAfter bounds what a server can make us wait.
const maxRetryAfter = time.Hour

// An exchange is what is kept of one call. No text of the vendor is in it except
// the code, which is shown only when it is one we know (faults.go).
type exchange struct {
	wrote        atomic.Bool // the request has left: it may have taken effect
	status       int
	code         string
	requestID    string
	retryAfter   time.Duration
	explicitDeny bool // the refusal names an explicit Deny
}

type exchangeKey struct{}

// A mark identifies our calls in CloudTrail: by incident and, where one effect
// must be told from another, by the idempotency token.
type mark struct{ incident, token string }

type markKey struct{}

// markProduct stands in every user agent of ours, and so in CloudTrail.
const markProduct = "rekey-incident/"

// tokenProduct carries the token's UUID.
const tokenProduct = "rekey-token/"

// doer sends for the SDK and keeps the exchange.
type doer struct {
	http  *http.Client
	agent string
}

// Do implements aws.HTTPClient. The body is read to its end here, so that a slow
// or cut answer fails the call and not a later reader.
func (d *doer) Do(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	if x == nil {
		x = &exchange{}
	}
	req.Header.Set("User-Agent", d.userAgent(ctx, req.Header.Get("User-Agent")))
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteHeaders: func() { x.wrote.Store(true) },
	})
	resp, err := d.http.Do(req.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	x.status = resp.StatusCode
	x.requestID = requestID(resp.Header)
	x.retryAfter = retryAfter(resp.Header.Get("Retry-After"), time.Now())
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 == 2 {
		if !isAnswer(req, body) {
			return nil, errNotAWS
		}
	} else {
		head := body[:min(len(body), maxErrorBody)]
		x.code = errorCode(resp.Header, head)
		x.explicitDeny = bytes.Contains(head, []byte("explicit deny"))
		if x.requestID == "" {
			x.requestID = bodyRequestID(head)
		}
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

func (d *doer) userAgent(ctx context.Context, sdk string) string {
	m, _ := ctx.Value(markKey{}).(mark)
	parts := []string{d.agent, markProduct + productText(m.incident)}
	if m.token != "" {
		parts = append(parts, tokenProduct+m.token)
	}
	return strings.Join(append(parts, sdk), " ")
}

// productText keeps what RFC 9110 section 5.6.2 allows in a product version.
func productText(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == '-' || r == '.' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '-'
	}, s)
	if s == "" {
		return "none"
	}
	return s[:min(len(s), 64)]
}

// isAnswer tells whether a 2xx body can be the answer to req: well-formed to its
// end, and for the Query protocol of IAM and STS with the root element
// <ActionResponse> (IAM API Reference, "Making query requests").
func isAnswer(req *http.Request, body []byte) bool {
	if strings.HasPrefix(req.Header.Get("Content-Type"), "application/x-amz-json") {
		trimmed := bytes.TrimSpace(body)
		return len(trimmed) > 0 && trimmed[0] == '{' && json.Valid(trimmed)
	}
	dec := xml.NewDecoder(bytes.NewReader(body))
	root := ""
	for {
		tok, err := dec.Token()
		if err != nil {
			return errors.Is(err, io.EOF) && root != ""
		}
		if el, ok := tok.(xml.StartElement); ok && root == "" {
			if root = el.Name.Local; !strings.HasSuffix(root, "Response") || root == "ErrorResponse" {
				return false
			}
		}
	}
}

var codeForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._]{1,63}$`)

// errorCode finds the code in an error answer: the first <Code> at whatever depth
// (IAM and STS wrap it as ErrorResponse/Error, EC2 and moto as Errors/Error), or
// __type of the JSON services, which may be prefixed "namespace#" or followed by
// ":uri" (AWS JSON 1.1, https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html).
func errorCode(h http.Header, body []byte) string {
	code := h.Get("X-Amzn-Errortype")
	if code == "" {
		code = xmlText(body, "Code")
	}
	if code == "" {
		var e struct {
			Type string `json:"__type"`
			Code string `json:"code"`
		}
		if json.Unmarshal(body, &e) == nil {
			if code = e.Type; code == "" {
				code = e.Code
			}
		}
	}
	code, _, _ = strings.Cut(code, ":")
	if _, after, ok := strings.Cut(code, "#"); ok {
		code = after
	}
	if !codeForm.MatchString(code) {
		return ""
	}
	return code
}

// xmlText is the text of the first element with that name. It is lenient: what
// comes after the element may be broken.
func xmlText(body []byte, name string) string {
	dec := xml.NewDecoder(bytes.NewReader(body))
	for {
		tok, err := dec.Token()
		if err != nil {
			return ""
		}
		if el, ok := tok.(xml.StartElement); ok && el.Name.Local == name {
			if text, err := dec.Token(); err == nil {
				if data, ok := text.(xml.CharData); ok {
					return strings.TrimSpace(string(data))
				}
			}
			return ""
		}
	}
}

// idForms are what the services' request ids look like. Anything else is dropped:
// a header is a place where a hostile server could put text that we would store.
var requestIDForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

func requestID(h http.Header) string {
	for _, name := range []string{"X-Amzn-Requestid", "X-Amz-Request-Id"} {
		if id := strings.ToLower(h.Get(name)); requestIDForm.MatchString(id) {
			return id
		}
	}
	return ""
}

func bodyRequestID(body []byte) string {
	for _, name := range []string{"RequestId", "RequestID"} {
		if id := strings.ToLower(xmlText(body, name)); requestIDForm.MatchString(id) {
			return id
		}
	}
	return ""
}

// retryAfter reads RFC 9110 section 10.2.3: seconds, or a date.
func retryAfter(s string, now time.Time) time.Duration {
	var d time.Duration
	if n, err := strconv.Atoi(s); err == nil {
		d = time.Duration(min(n, int(maxRetryAfter/time.Second))) * time.Second
	} else if t, err := http.ParseTime(s); err == nil {
		d = t.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}
