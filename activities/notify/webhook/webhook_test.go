package webhook_test

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/activities/notify"
	"rekey/activities/notify/webhook"
	"rekey/internal/httpx"
	"rekey/internal/secret"
)

var now = time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)

// a receiver is the customer's side: it knows its own secret and the public scheme,
// and uses no code of rekey.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	secret string // whsec_…
	status int
	header http.Header
	seen   map[string]string // webhook-id -> body
	calls  int
	forged int
}

func start(t *testing.T, secured bool) *receiver {
	t.Helper()
	r := &receiver{status: http.StatusNoContent, header: http.Header{}, seen: map[string]string{}}
	h := http.HandlerFunc(r.take)
	if secured {
		r.Server = httptest.NewTLSServer(h)
	} else {
		r.Server = httptest.NewServer(h)
	}
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) take(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls++
	body, _ := io.ReadAll(q.Body)
	key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(r.secret, "whsec_"))
	m := hmac.New(sha256.New, key)
	fmt.Fprintf(m, "%s.%s.%s", q.Header.Get("webhook-id"), q.Header.Get("webhook-timestamp"), body)
	good := false
	for _, s := range strings.Fields(q.Header.Get("webhook-signature")) {
		version, sum, _ := strings.Cut(s, ",")
		raw, err := base64.StdEncoding.DecodeString(sum)
		good = good || version == "v1" && err == nil && hmac.Equal(raw, m.Sum(nil))
	}
	if !good {
		r.forged++
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	for k, v := range r.header {
		w.Header()[k] = v
	}
	r.seen[q.Header.Get("webhook-id")] = string(body)
	w.WriteHeader(r.status)
}

func random(t *testing.T) string {
	t.Helper()
	b := make([]byte, 24)
	_, err := rand.Read(b)
	require.NoError(t, err)
	return hex.EncodeToString(b)
}

func opened(t *testing.T, keys string, change ...func(*activities.Account)) notify.Sender {
	t.Helper()
	a := activities.Account{Name: webhook.Code, AllowPrivate: true, Credential: func(name string) (secret.Value, error) {
		require.Equal(t, "signing_key", name)
		return secret.New([]byte(keys)), nil
	}}
	for _, c := range change {
		c(&a)
	}
	c, err := webhook.Channel().Open(a, activities.Deps{HTTP: httpx.ForAccount, Now: func(context.Context) time.Time { return now }, Agent: "rekey/1"})
	require.NoError(t, err)
	return c.(notify.Sender)
}

func notice(r *receiver) notify.SendRequest {
	return notify.SendRequest{ID: "inc-000000000001-n1-1-c1", Ref: "C033", To: r.URL + "/hooks", Subject: "s", Text: "t", Data: []byte(`{"incident":"inc-000000000001"}`)}
}

func secretOf(t *testing.T, key, ref string) string {
	t.Helper()
	k, err := webhook.NewKey([]byte(key))
	require.NoError(t, err)
	return k.Secret(ref)
}

func TestTheReceiverVerifiesANotice(t *testing.T) {
	r := start(t, true)
	file := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate().Raw}), 0o600))
	key := random(t)
	r.secret = secretOf(t, key, "C033")
	c := opened(t, key, func(a *activities.Account) { a.CAFile = file })
	for range 2 { // a second attempt is the same webhook
		res, err := c.Send(t.Context(), notice(r))
		require.NoError(t, err)
		require.Equal(t, activities.Done, res.Outcome)
	}
	require.Equal(t, 2, r.calls)
	require.Equal(t, map[string]string{"inc-000000000001-n1-1-c1": `{"incident":"inc-000000000001"}`}, r.seen)
	require.Zero(t, r.forged)
}

func TestWhatOneCustomerHoldsSignsNothingForAnother(t *testing.T) {
	r := start(t, false)
	key := random(t)
	r.secret = secretOf(t, key, "C071")
	_, err := opened(t, key).Send(t.Context(), notice(r))
	var f *activities.Fault
	require.ErrorAs(t, err, &f)
	require.Equal(t, 1, r.forged)
	require.Empty(t, r.seen)
}

func TestAKeyRotatesWithoutAGap(t *testing.T) {
	r := start(t, false)
	old, fresh := random(t), random(t)
	c := opened(t, fresh+"\n"+old+"\n")
	for _, k := range []string{old, fresh} {
		r.secret = secretOf(t, k, "C033")
		_, err := c.Send(t.Context(), notice(r))
		require.NoError(t, err, "signed with both")
	}
}

func TestTheAnswerClassesAFailure(t *testing.T) {
	tests := map[string]struct {
		status int
		header map[string]string
		class  activities.Class
		after  time.Duration
	}{
		"gone":               {status: 410, class: activities.ClassInvalid},
		"not found":          {status: 404, class: activities.ClassInvalid},
		"bad request":        {status: 400, class: activities.ClassInvalid},
		"redirect elsewhere": {status: 307, header: map[string]string{"Location": "https://attacker.example/"}, class: activities.ClassInvalid},
		"redirect within":    {status: 302, header: map[string]string{"Location": "/other"}, class: activities.ClassInvalid},
		"too many, seconds":  {status: 429, header: map[string]string{"Retry-After": "17"}, class: activities.ClassThrottled, after: 17 * time.Second},
		"too many, a date":   {status: 429, header: map[string]string{"Retry-After": now.Add(time.Minute).Format(http.TimeFormat)}, class: activities.ClassThrottled, after: time.Minute},
		"too many, for ever": {status: 429, header: map[string]string{"Retry-After": "99999999"}, class: activities.ClassThrottled, after: time.Hour},
		"too many, and more": {status: 429, header: map[string]string{"Retry-After": "9223372037"}, class: activities.ClassThrottled, after: time.Hour},
		"too many":           {status: 429, class: activities.ClassThrottled},
		"failed":             {status: 500, class: activities.ClassUnclear},
		"proxy":              {status: 502, class: activities.ClassUnclear},
		"too slow":           {status: 408, class: activities.ClassUnclear},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := start(t, false)
			key := random(t)
			r.secret, r.status = secretOf(t, key, "C033"), tt.status
			for k, v := range tt.header {
				r.header.Set(k, v)
			}
			_, err := opened(t, key).Send(t.Context(), notice(r))
			var f *activities.Fault
			require.ErrorAs(t, err, &f)
			require.Equal(t, tt.class, f.Class, f.Error())
			require.Equal(t, tt.after, f.After)
			require.Equal(t, tt.status, f.Status)
			require.NotContains(t, f.Error(), r.URL)
			require.NotContains(t, f.Error(), key)
			require.Equal(t, 1, r.calls, "no redirect is followed")
		})
	}
}

func TestNothingIsSentThatCannotBeSigned(t *testing.T) {
	r := start(t, false)
	key := random(t)
	tests := map[string]struct {
		key    string
		change func(*notify.SendRequest)
		open   func(*activities.Account)
		class  activities.Class
		want   string
	}{
		"clear to the world":  {key: key, open: func(a *activities.Account) { a.AllowPrivate = false }, class: activities.ClassInvalid, want: "not https"},
		"private address":     {key: key, open: func(a *activities.Account) { a.AllowPrivate = false }, change: func(q *notify.SendRequest) { q.To = "https://127.0.0.1:1/" }, class: activities.ClassInvalid, want: "private"},
		"metadata service":    {key: key, open: func(a *activities.Account) { a.AllowPrivate = false }, change: func(q *notify.SendRequest) { q.To = "https://169.254.169.254/" }, class: activities.ClassInvalid, want: "private"},
		"a password in it":    {key: key, change: func(q *notify.SendRequest) { q.To = "https://user:x@example.com/" }, class: activities.ClassInvalid, want: "not that of a webhook"},
		"no address":          {key: key, change: func(q *notify.SendRequest) { q.To = "" }, class: activities.ClassInvalid, want: "not that of a webhook"},
		"dot in the id":       {key: key, change: func(q *notify.SendRequest) { q.ID = "a.1" }, class: activities.ClassInvalid, want: "signed"},
		"nothing to say":      {key: key, change: func(q *notify.SendRequest) { q.Data = nil }, class: activities.ClassInvalid, want: "body"},
		"key is too short":    {key: "short", class: activities.ClassDenied, want: "at least 24 bytes"},
		"key file is empty":   {key: "\n", class: activities.ClassDenied, want: "openssl rand"},
		"nobody listens":      {key: key, change: func(q *notify.SendRequest) { q.To = "http://127.0.0.1:1/" }, class: activities.ClassTransient, want: "cannot be reached"},
		"a second key is bad": {key: key + "\nshort", class: activities.ClassDenied, want: "at least 24 bytes"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			req := notice(r)
			if tt.change != nil {
				tt.change(&req)
			}
			var open []func(*activities.Account)
			if tt.open != nil {
				open = append(open, tt.open)
			}
			_, err := opened(t, tt.key, open...).Send(t.Context(), req)
			var f *activities.Fault
			require.ErrorAs(t, err, &f)
			require.Equal(t, tt.class, f.Class, f.Error())
			require.Contains(t, f.Detail, tt.want)
			require.Zero(t, r.calls)
		})
	}
}

func TestABrokenConnectionIsUnclear(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_ = c.Close()
		}
	}))
	t.Cleanup(s.Close)
	_, err := opened(t, random(t)).Send(t.Context(), notice(&receiver{Server: s}))
	var f *activities.Fault
	require.ErrorAs(t, err, &f)
	require.Equal(t, activities.ClassUnclear, f.Class)
	require.NotContains(t, f.Error(), s.URL)
}
