package server_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/api"
	"rekey/internal/intake"
	"rekey/internal/plan"
	"rekey/internal/server"
	"rekey/internal/statement"
	"rekey/internal/view"
	"rekey/workflows"
)

func goodReport() api.ReportRequest {
	return api.ReportRequest{Provider: "awsiam", KeyID: "AKIAIOSFODNN7EXAMPLE", Nonce: "nonce-0001"}
}

func goodStatement() statement.Signed {
	return statement.Signed{KeyID: "0123456789abcdef", Signature: "c2ln", Statement: statement.Statement{
		V: 1, Action: statement.Approve, Incident: known, Actor: "local:alice", Method: "cli-key", Nonce: "nonce-0001", WaveHash: "sha256:ab",
	}}
}

func TestRoutes(t *testing.T) {
	w := newWorld(t)
	w.items = make([]view.Item, 250)
	for i := range w.items {
		w.items[i].FP = fmt.Sprint(i)
	}
	w.plan = plan.Plan{Hash: "sha256:ab", Version: 2}
	w.decide = func(statement.Signed) (workflows.Decision, error) {
		return workflows.Decision{Approval: "a1", State: "granted", Votes: 2, Needed: 2}, nil
	}
	w.export = "PK zip"
	get := func(path string, out any) {
		rec := w.call(t, "GET", path, nil)
		require.Equal(t, http.StatusOK, rec.Code, rec.Body.String())
		require.NoError(t, json.Unmarshal(rec.Body.Bytes(), out))
	}

	rec := w.call(t, "POST", "/api/v1/reports", goodReport())
	require.Equal(t, http.StatusAccepted, rec.Code)
	require.JSONEq(t, `{"schema":"rekey.report/v1","incident":"inc-0123456789ab","report":"r-1","fp":"fp1_ab","existing":false}`, rec.Body.String())
	require.Equal(t, []intake.Caller{{Actor: "local:alice", Source: "cli", SourceKind: "cli"}}, w.callers)
	dry := goodReport()
	dry.DryRun = true
	require.Equal(t, http.StatusOK, w.call(t, "POST", "/api/v1/reports", dry).Code, "nothing was accepted")

	var l view.List
	get("/api/v1/incidents?state=open&after=abc", &l)
	require.Equal(t, "more", l.Next)
	require.Equal(t, server.Filter{State: "open", After: "abc", Size: 50}, w.filters[0])

	var v view.Incident
	get("/api/v1/incidents/"+known, &v)
	require.Equal(t, "act", v.Phase)

	var items view.Items
	get("/api/v1/incidents/"+known+"/items", &items)
	require.Equal(t, "rekey.item/v1", items.Schema)
	require.Len(t, items.Items, 200)
	require.Equal(t, "200", items.Next)
	get("/api/v1/incidents/"+known+"/items?after=200", &items)
	require.Len(t, items.Items, 50)
	require.Equal(t, "200", items.Items[0].FP)
	require.Empty(t, items.Next)

	var p plan.Plan
	get("/api/v1/incidents/"+known+"/plan", &p)
	require.Equal(t, 2, p.Version)

	rec = w.call(t, "POST", "/api/v1/incidents/"+known+"/statements", goodStatement())
	require.Equal(t, http.StatusOK, rec.Code, rec.Body.String())
	require.JSONEq(t, `{"approval":"a1","state":"granted","votes":2,"needed":2}`, rec.Body.String())
	require.Equal(t, []statement.Signed{goodStatement()}, w.decided, "passed on as it was signed")

	rec = w.call(t, "GET", "/api/v1/incidents/"+known+"/bundle", nil)
	require.Equal(t, http.StatusOK, rec.Code)
	require.Equal(t, "application/zip", rec.Header().Get("Content-Type"))
	require.Equal(t, "PK zip", rec.Body.String())

	for _, path := range []string{"/healthz", "/readyz"} {
		rec = w.call(t, "GET", path, nil, func(r *http.Request) { r.Header.Del("Authorization") })
		require.Equal(t, http.StatusOK, rec.Code, path)
	}
	for header, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
		"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
	} {
		require.Equal(t, want, rec.Header().Get(header))
	}
	require.Empty(t, w.Refusals())
}

func TestNoTokenNoAnswer(t *testing.T) {
	w := newWorld(t)
	paths := map[string]string{
		"/api/v1/reports": "POST", "/api/v1/incidents": "GET", "/api/v1/incidents/" + known: "GET",
		"/api/v1/incidents/" + known + "/items": "GET", "/api/v1/incidents/" + known + "/plan": "GET",
		"/api/v1/incidents/" + known + "/statements": "POST", "/api/v1/incidents/" + known + "/bundle": "GET", "/api/v1/nothing": "GET",
	}
	headers := map[string]string{
		"none": "", "other": "Bearer " + canary(t), "longer": "Bearer " + w.token + "x", "scheme": "Basic " + w.token, "bare": w.token, "empty": "Bearer ",
	}
	for path, method := range paths {
		for name, header := range headers {
			t.Run(method+path+" "+name, func(t *testing.T) {
				body := &countingReader{}
				req := httptest.NewRequest(method, "http://127.0.0.1:8443"+path, body)
				if header != "" {
					req.Header.Set("Authorization", header)
				}
				rec := httptest.NewRecorder()
				w.Handler().ServeHTTP(rec, req)
				refused(t, rec, http.StatusUnauthorized, "unauthorized")
				require.Equal(t, `Bearer realm="rekey"`, rec.Header().Get("WWW-Authenticate"))
				require.Zero(t, body.reads, "refused before anything was read")
			})
		}
	}
	require.Equal(t, int64(len(paths)*len(headers)), w.Refusals()["unauthorized"])
	require.Empty(t, w.requests)
	require.Empty(t, w.filters)
	require.Empty(t, w.decided)
	require.NotContains(t, w.log.String(), w.token)
}

type countingReader struct{ reads int }

func (c *countingReader) Read([]byte) (int, error) { c.reads++; return 0, io.EOF }

func TestHosts(t *testing.T) {
	w := newWorld(t, func(o *server.Options) { o.Hosts = []string{"rekey.example.com"} })
	for host, ok := range map[string]bool{
		"127.0.0.1:8443": true, "localhost": true, "[::1]:8443": true, "127.0.0.2:1": true, "rekey.example.com": true, "REKEY.example.com:443": true,
		"evil.example": false, "evil.example:8443": false, "127.0.0.1.evil.example": false, "10.0.0.1:8443": false, "": false,
		"localhost.evil.example:8443": false,
	} {
		rec := w.call(t, "GET", "/healthz", nil, func(r *http.Request) { r.Host = host })
		if ok {
			require.Equal(t, http.StatusOK, rec.Code, host)
		} else {
			refused(t, rec, http.StatusForbidden, "bad-host")
		}
	}
	require.Equal(t, int64(6), w.Refusals()["bad-host"])
	rec := w.call(t, "GET", "/healthz", nil, func(r *http.Request) {
		*r = *r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1)}))
		r.Host = "10.0.0.1:8443"
	})
	require.Equal(t, http.StatusOK, rec.Code, "the address of the connection itself")
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	require.NoError(t, os.WriteFile(certFile, cert, 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))

	none, err := server.LoadTLS("", "")
	require.NoError(t, err)
	require.Nil(t, none)
	_, err = server.LoadTLS(certFile, certFile)
	require.ErrorContains(t, err, "listen.tls: ")

	w := newWorld(t)
	config, err := server.LoadTLS(certFile, keyFile)
	require.NoError(t, err)
	w.Server = mustServer(t, w, func(o *server.Options) { o.TLS = config })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- w.Serve(ctx, l) }()
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(cert))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
	resp, err := client.Get("https://" + l.Addr().String() + "/healthz")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
	stop()
	require.NoError(t, <-served)
}

func TestMalformedRequests(t *testing.T) {
	huge := `{"provider":"` + strings.Repeat("a", 2<<20)
	statements := "/api/v1/incidents/" + known + "/statements"
	change := func(f func(*statement.Signed)) statement.Signed { s := goodStatement(); f(&s); return s }
	for name, tt := range map[string]struct {
		method, path string
		body         any
		header       string
		status       int
		want         string
	}{
		"not JSON":            {"POST", "/api/v1/reports", `{"provider": xCANARY}`, "", 400, "not JSON at byte 14"},
		"cut off":             {"POST", "/api/v1/reports", `{"provider": "CANARY`, "", 400, "the body cannot be read"},
		"no body":             {"POST", "/api/v1/reports", nil, "", 400, "the body cannot be read"},
		"two documents":       {"POST", "/api/v1/reports", `{} {}`, "", 400, "more than one JSON document in the body"},
		"an unknown field":    {"POST", "/api/v1/reports", `{"playbok": "CANARY"}`, "", 400, `the field "playbok" is not known`},
		"a secret as a field": {"POST", "/api/v1/reports", `{"CANARY": 1}`, "", 400, "the body cannot be read"},
		"another type":        {"POST", "/api/v1/reports", `{"key_id": {"CANARY": 1}}`, "", 400, `the field "key_id" has a value of another type`},
		"a time that is none": {"POST", "/api/v1/reports", `{"claimed": "CANARY"}`, "", 400, "the body cannot be read"},
		"not said to be JSON": {"POST", "/api/v1/reports", `{}`, "text/plain", 415, "the body is not said to be JSON"},
		"a form":              {"POST", "/api/v1/reports", `a=b`, "application/x-www-form-urlencoded", 415, "the body is not said to be JSON"},
		"statement too large": {"POST", statements, huge, "", 413, "the body is larger than 1 MiB"},
		"report too large":    {"POST", "/api/v1/reports", `{"provider":"` + strings.Repeat("a", 41<<20), "", 413, "the body is larger than 40 MiB"},
		"action":              {"POST", statements, change(func(s *statement.Signed) { s.Statement.Action = "CANARY" }), "", 400, "there is no such action"},
		"a trigger's action":  {"POST", statements, change(func(s *statement.Signed) { s.Statement.Action = statement.Report }), "", 400, "there is no such action"},
		"another incident":    {"POST", statements, change(func(s *statement.Signed) { s.Statement.Incident = "inc-ffffffffffff" }), "", 400, "the statement is about another incident than the path"},
		"no nonce":            {"POST", statements, change(func(s *statement.Signed) { s.Statement.Nonce = "" }), "", 400, "the nonce is missing or malformed"},
		"a long text":         {"POST", statements, change(func(s *statement.Signed) { s.Statement.Text = strings.Repeat("CANARY", 1000) }), "", 400, "the statement is too long"},
		"a secret in a text":  {"POST", statements, change(func(s *statement.Signed) { s.Statement.Text = "see https://me:CANARY@host/" }), "", 400, "the text holds what looks like a secret or cannot be shown"},
		"a terminal escape":   {"POST", statements, change(func(s *statement.Signed) { s.Statement.Text = "fine\x1b[2J" }), "", 400, "the text holds what looks like a secret or cannot be shown"},
		"a state":             {"GET", "/api/v1/incidents?state=CANARY", nil, "", 400, "there is no such state"},
		"a cursor":            {"GET", "/api/v1/incidents/" + known + "/items?after=CANARY", nil, "", 400, "the cursor is not one"},
		"a path":              {"GET", "/api/v1/CANARY", nil, "", 404, "there is no such path or method"},
		"a method":            {"DELETE", "/api/v1/incidents/" + known, nil, "", 404, "there is no such path or method"},
		"another path":        {"GET", "/CANARY", nil, "", 404, "there is no such path or method"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			hidden := canary(t)
			raw, err := json.Marshal(tt.body)
			require.NoError(t, err)
			var body any = strings.ReplaceAll(string(raw), "CANARY", hidden)
			if s, ok := tt.body.(string); ok {
				body = strings.ReplaceAll(s, "CANARY", hidden)
			} else if tt.body == nil {
				body = nil
			}
			rec := w.call(t, tt.method, strings.ReplaceAll(tt.path, "CANARY", hidden), body, func(r *http.Request) {
				if tt.header != "" {
					r.Header.Set("Content-Type", tt.header)
				}
			})
			code := view.CodeInvalid
			if tt.status == 404 {
				code = view.CodeNotFound
			}
			e := refused(t, rec, tt.status, code)
			require.Equal(t, tt.want, e.Message)
			require.NotContains(t, rec.Body.String()+w.log.String(), hidden)
			require.Equal(t, int64(1), w.Refusals()[code], "counted")
			require.Contains(t, w.log.String(), fmt.Sprintf(`"status":%d`, tt.status), "logged")
			require.Empty(t, w.requests)
			require.Empty(t, w.decided)
		})
	}
}

func TestChunkedBodyIsBoundedToo(t *testing.T) {
	w := newWorld(t)
	rec := w.call(t, "POST", "/api/v1/incidents/"+known+"/statements", `{"key_id":"`+strings.Repeat("a", 2<<20)+`"}`, func(r *http.Request) { r.ContentLength = -1 })
	refused(t, rec, http.StatusRequestEntityTooLarge, view.CodeInvalid)
}

func TestRefusedByIntake(t *testing.T) {
	w := newWorld(t)
	for kind, status := range map[intake.Kind]int{intake.Malformed: 400, intake.Forbidden: 403, intake.Unavailable: 503} {
		hidden := canary(t)
		w.report = func(intake.Caller, api.ReportRequest) (api.ReportResponse, error) {
			return api.ReportResponse{}, &intake.Refusal{
				Kind: kind, Body: view.ErrorBody{Code: "x", Message: "m", Do: "d"}, Cause: fmt.Errorf("dial https://me:%s@host", hidden),
			}
		}
		refused(t, w.call(t, "POST", "/api/v1/reports", goodReport()), status, "x")
		require.NotContains(t, w.log.String(), hidden, "the cause is redacted in the log")
	}
	w.report = func(intake.Caller, api.ReportRequest) (api.ReportResponse, error) {
		return api.ReportResponse{}, errors.New("something else")
	}
	rec := w.call(t, "POST", "/api/v1/reports", goodReport())
	refused(t, rec, 503, "unreachable")
	require.Equal(t, "2", rec.Header().Get("Retry-After"))
	require.NotContains(t, rec.Body.String(), "something else")
}

func TestRefusedByTheIncident(t *testing.T) {
	w := newWorld(t)
	w.decide = func(statement.Signed) (workflows.Decision, error) {
		return workflows.Decision{}, &server.Refused{Body: view.ErrorBody{Code: view.CodeStalePlan, Message: "the plan has changed", Do: "look at the new one"}}
	}
	e := refused(t, w.call(t, "POST", "/api/v1/incidents/"+known+"/statements", goodStatement()), http.StatusConflict, view.CodeStalePlan)
	require.Equal(t, "look at the new one", e.Do)
}

func TestUnknownIncident(t *testing.T) {
	w := newWorld(t)
	for path, near := range map[string]string{
		"/api/v1/incidents/inc-0123456789ac":        "did you mean inc-0123456789ab?",
		"/api/v1/incidents/inc-0123":                "did you mean inc-0123456789ab?",
		"/api/v1/incidents/inc-ff":                  "did you mean inc-ffffffffffff?",
		"/api/v1/incidents/inc-":                    "",
		"/api/v1/incidents/inc-999999999999/items":  "",
		"/api/v1/incidents/inc-999999999999/plan":   "",
		"/api/v1/incidents/inc-999999999999/bundle": "",
	} {
		e := refused(t, w.call(t, "GET", path, nil), http.StatusNotFound, view.CodeNotFound)
		require.Equal(t, "there is no such incident", e.Message)
		require.Contains(t, e.Do, near, path)
		require.Contains(t, e.Do, "rekey incident list")
	}
	s := goodStatement()
	s.Statement.Incident = "inc-999999999999"
	refused(t, w.call(t, "POST", "/api/v1/incidents/inc-999999999999/statements", s), http.StatusNotFound, view.CodeNotFound)
	e := refused(t, w.call(t, "GET", "/api/v1/incidents/"+known+"/plan", nil), http.StatusNotFound, view.CodeNotFound)
	require.Equal(t, "this incident has no plan yet", e.Message)
}

func TestTemporalIsDown(t *testing.T) {
	w := newWorld(t)
	hidden := canary(t)
	w.down = errors.New("rpc error at https://me:" + hidden + "@10.0.0.1:7233")
	for _, path := range []string{"/readyz", "/api/v1/incidents", "/api/v1/incidents/" + known, "/api/v1/incidents/" + known + "/items", "/api/v1/incidents/" + known + "/bundle"} {
		rec := w.call(t, "GET", path, nil)
		e := refused(t, rec, http.StatusServiceUnavailable, "unreachable")
		require.Contains(t, e.Do, "rekey up")
		require.NotContains(t, rec.Body.String(), "10.0.0.1", "nothing of the error is told")
	}
	require.NotContains(t, w.log.String(), hidden)
	require.Equal(t, http.StatusOK, w.call(t, "GET", "/healthz", nil).Code, "the process is alive")
}

func TestPanic(t *testing.T) {
	w := newWorld(t)
	hidden := canary(t)
	w.report = func(intake.Caller, api.ReportRequest) (api.ReportResponse, error) { panic("secret " + hidden) }
	rec := w.call(t, "POST", "/api/v1/reports", goodReport())
	refused(t, rec, http.StatusInternalServerError, "internal")
	require.NotContains(t, rec.Body.String()+w.log.String(), hidden)
	require.Contains(t, w.log.String(), `"type":"string"`)
	w.report = nil
	require.Equal(t, http.StatusAccepted, w.call(t, "POST", "/api/v1/reports", goodReport()).Code, "the next one is served")
}

func TestNothingOfTheRequestIsLogged(t *testing.T) {
	w := newWorld(t)
	hidden := canary(t)
	r := goodReport()
	r.Secret, r.Reason, r.KeyID = hidden, hidden, hidden
	w.call(t, "POST", "/api/v1/reports?x="+hidden, r, func(r *http.Request) {
		r.Header.Set("X-Any", hidden)
		r.Header.Set("User-Agent", hidden)
	})
	require.Len(t, w.requests, 1)
	require.Equal(t, hidden, w.requests[0].Secret)
	require.Contains(t, w.log.String(), `"route":"POST /api/v1/reports"`)
	require.NotContains(t, w.log.String(), hidden)
	require.NotContains(t, w.log.String(), w.token)
}

func TestTooManyReportsAtOnce(t *testing.T) {
	w := newWorld(t)
	hold, entered := make(chan struct{}), make(chan struct{}, 64)
	w.Server = mustServer(t, w, func(o *server.Options) {
		o.Reports = reportFunc(func() { entered <- struct{}{}; <-hold })
	})
	done := make(chan int, 64)
	for range 64 {
		go func() { done <- w.call(t, "POST", "/api/v1/reports", goodReport()).Code }() //nolint:testifylint // a failed request shows as a missing answer
	}
	for range 64 {
		<-entered
	}
	refused(t, w.call(t, "POST", "/api/v1/reports", goodReport()), http.StatusServiceUnavailable, "busy")
	require.Equal(t, http.StatusOK, w.call(t, "GET", "/api/v1/incidents", nil).Code, "reading goes on")
	close(hold)
	for range 64 {
		require.Equal(t, http.StatusAccepted, <-done)
	}
}

type reportFunc func()

func (f reportFunc) Report(context.Context, intake.Caller, api.ReportRequest) (api.ReportResponse, error) {
	f()
	return api.ReportResponse{Incident: known}, nil
}

// mustServer makes another server with w's options.
func mustServer(t *testing.T, w *world, change func(*server.Options)) *server.Server {
	t.Helper()
	o := w.Options
	change(&o)
	s, err := server.New(o)
	require.NoError(t, err)
	return s
}

func TestCodecLogin(t *testing.T) {
	var seen []string
	w := newWorld(t)
	w.Server = mustServer(t, w, func(o *server.Options) {
		o.Sessions, o.UI = w.fake, "http://127.0.0.1:8233"
		o.Codec = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { seen = append(seen, r.URL.Path) })
	})
	link := strings.TrimPrefix(w.CodecLogin("http://127.0.0.1:8443"), "http://127.0.0.1:8443")
	require.True(t, strings.HasPrefix(link, "/codec/login?token="))
	noToken := func(r *http.Request) { r.Header.Del("Authorization") }

	rec := w.call(t, "GET", link, nil, noToken)
	require.Equal(t, http.StatusSeeOther, rec.Code)
	require.Equal(t, "http://127.0.0.1:8233", rec.Header().Get("Location"))
	require.Equal(t, "rekey_codec=local:alice; Path=/codec; HttpOnly; SameSite=Strict", rec.Header().Get("Set-Cookie"))
	refused(t, w.call(t, "GET", link, nil, noToken), http.StatusUnauthorized, "unauthorized")

	late := strings.TrimPrefix(w.CodecLogin("http://127.0.0.1:8443"), "http://127.0.0.1:8443")
	w.now = w.now.Add(10 * time.Minute)
	refused(t, w.call(t, "GET", late, nil, noToken), http.StatusUnauthorized, "unauthorized")
	refused(t, w.call(t, "GET", "/codec/login", nil, noToken), http.StatusUnauthorized, "unauthorized")
	for _, l := range []string{link, late} {
		require.NotContains(t, w.log.String(), strings.TrimPrefix(l, "/codec/login?token="))
	}
	w.call(t, "POST", "/codec/decode?preserveStorageRefs=true", "{}", noToken)
	require.Equal(t, []string{"/codec/decode"}, seen, "the codec endpoint authenticates by itself")
	require.Equal(t, 404, newWorld(t).call(t, "GET", link, nil).Code, "no codec, no login")
}

func TestServeStopsGracefully(t *testing.T) {
	w := newWorld(t)
	hold, entered := make(chan struct{}), make(chan struct{})
	w.Server = mustServer(t, w, func(o *server.Options) {
		o.Now = time.Now
		o.Reports = reportFunc(func() { close(entered); <-hold })
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- w.Serve(ctx, l) }()
	url := "http://" + l.Addr().String()

	answered := make(chan int, 1)
	go func() {
		body, _ := json.Marshal(goodReport())
		req, _ := http.NewRequest("POST", url+"/api/v1/reports", strings.NewReader(string(body)))
		req.Header.Set("Authorization", "Bearer "+w.token)
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			answered <- 0
			return
		}
		_ = resp.Body.Close()
		answered <- resp.StatusCode
	}()
	<-entered
	stop()
	close(hold)
	require.Equal(t, http.StatusAccepted, <-answered, "an open request is finished")
	require.NoError(t, <-served)
	_, err = http.Get(url + "/healthz")
	require.Error(t, err)
}

func TestCutOffExportIsNotAWholeOne(t *testing.T) {
	w := newWorld(t)
	w.cutOff = true
	srv := httptest.NewServer(w.Handler())
	defer srv.Close()
	req, err := http.NewRequest("GET", srv.URL+"/api/v1/incidents/"+known+"/bundle", nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+w.token)
	resp, err := srv.Client().Do(req)
	if err == nil { // the beginning may have been sent already
		_, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
	}
	require.Error(t, err)
}
