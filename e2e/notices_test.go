package e2e

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"

	"rekey/activities/activitytest/pgtest"
	"rekey/activities/activitytest/smtptest"
	"rekey/activities/notify/webhook"
	"rekey/activities/postgres"
	"rekey/internal/devserver"
	"rekey/internal/event"
	"rekey/internal/notice"
	"rekey/internal/temporalx"
	"rekey/internal/view"
	"rekey/playbooks"
	"rekey/workflows"
)

// warnFirst is a playbook of one rule: owner and customer are told before the cut.
const warnFirst = `apiVersion: rekey/v1
kind: Playbook
name: warn-first
title: Leaked password of a role
version: 1.0.0
match: {provider: postgres, kinds: [role-password], when: "true"}
start: auto
severity: [{level: high, when: "true"}]
scope: {depth: 2, sources: [provider, estate], lookback: 30d, timeout: 1m}
decide: [{id: always, strategy: reissue-first, when: "true"}]
strategies:
  reissue-first: {cutoff: 24h, steps: [Issue, Distribute, ProbeNew, Notice, WaitCutover, Disable, EndSessions, Probe, Revoke]}
ladder: {automatic: [key, sessions]}
approvals:
  reissue-first: {roles: [commander], quorum: 1, expires: 1h, on_expiry: escalate, escalate_to: [admin]}
  irreversible:  {roles: [commander, security], quorum: 2, expires: 1h, on_expiry: escalate, escalate_to: [admin]}
  rung:          {roles: [commander, security], quorum: 2, expires: 30m, on_expiry: escalate, escalate_to: [admin]}
notices:
  - {audience: owner, template: key-owner, channel: [email], gate: warn-before-cut}
  - {audience: customer, template: customer-key, channel: [email, webhook], gate: warn-before-cut}
reissue: {stores: [{target: file, name: "{{item.owner}}/{{item.principal}}"}]}
verify: {k: 3, span: 10s, vantage: 1, sweep: true}
watch: {for: 1d}
`

// Whom the tests tell. Neither may be anywhere but in the files and in what is sent.
const (
	ownerAddress = "payments-oncall@owners.example"
	customerHook = "/hooks/of-acme-industries"
)

// A receiver is a customer's webhook, written from the standard alone: it verifies
// with the secret that the customer was given and drops what it had already.
type receiver struct {
	*httptest.Server
	secret string

	mu     sync.Mutex
	bodies map[string][]byte // by webhook-id
	bad    int
}

func newReceiver(t *testing.T, secret string) *receiver {
	t.Helper()
	c := &receiver{secret: secret, bodies: map[string][]byte{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		c.mu.Lock()
		defer c.mu.Unlock()
		if err != nil || r.URL.Path != customerHook || !verified(c.secret, r.Header, body) {
			c.bad++
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		c.bodies[r.Header.Get("webhook-id")] = body
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *receiver) got() (map[string][]byte, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string][]byte{}
	for k, v := range c.bodies {
		out[k] = v
	}
	return out, c.bad
}

// A relay stands before the mail server. While it holds, the server's answer to the
// whole mail does not come back.
type relay struct {
	port string
	hold atomic.Bool
	held chan struct{} // closed when an answer is held
	once sync.Once
}

func newRelay(t *testing.T, s *smtptest.Aiosmtpd) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	p := &relay{port: port, held: make(chan struct{})}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.pass(c, net.JoinHostPort(s.Host, s.Port))
		}
	}()
	return p
}

func (p *relay) pass(client net.Conn, to string) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	go func() { _, _ = io.Copy(server, client); _ = server.Close() }()
	data := false // 354 was said: the next line answers the mail
	buf := make([]byte, 4096)
	for {
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		if data && p.hold.Load() {
			p.once.Do(func() { close(p.held) })
			_, _ = io.Copy(io.Discard, server) // until the client is gone
			return
		}
		data = bytes.HasPrefix(buf[:n], []byte("354"))
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}

// A telling is an incident about a role of PostgreSQL whose owner and customer are told.
type telling struct {
	*rig
	pg     *pgtest.Server
	mail   *smtptest.Aiosmtpd
	hook   *receiver
	people map[string]voter
	file   string // the playbook
	leaked string
	// secrets are by what they are.
	secrets map[string]string
}

func newTelling(t *testing.T, port func(*smtptest.Aiosmtpd) string) *telling {
	t.Helper()
	s := &telling{mail: smtptest.NewAiosmtpd(t), pg: pgtest.Start(t, pgtest.Options{TLS: true})}
	read, write := pgtest.Password(), pgtest.Password()
	s.leaked = pgtest.Password()
	d := postgres.Provider().Descriptor
	for line := range strings.SplitSeq(d.ReadPolicy+"\n"+d.WritePolicy, "\n") {
		if line != "" && !strings.HasPrefix(line, "--") && !strings.HasPrefix(line, `\`) {
			s.pg.Exec(t, line)
		}
	}
	quietly(t, s.pg, fmt.Sprintf("ALTER ROLE rekey_read PASSWORD '%s'; ALTER ROLE rekey_write PASSWORD '%s'; CREATE ROLE app LOGIN PASSWORD '%s'", read, write, s.leaked))
	s.rig = newRig(t, "")
	store := filepath.Join(s.dir, "store")
	require.NoError(t, os.MkdirAll(filepath.Join(store, "payments"), 0o700))
	base := fmt.Sprintf("postgres://localhost:%s/postgres?sslmode=verify-full", s.pg.Port)
	s.write("store/payments/app.json", fmt.Sprintf(`{"url": "postgres://app:%s@%s"}`, s.leaked, strings.TrimPrefix(base, "postgres://")))
	signing := random(t, 40)
	keys, err := webhook.Keys([]byte(signing))
	require.NoError(t, err)
	s.hook = newReceiver(t, keys[0].Secret("C033"))
	people, yaml := newVoters(t, s.rig, voter{name: "ann", roles: []string{"commander"}}, voter{name: "bob", roles: []string{"security"}})
	s.people = people
	s.configure(yaml)
	s.configure(fmt.Sprintf(`providers:
  postgres:
    main: {base_url: %q, ca_file: %q, allow_private: true, settings: {user: rekey_read, write_user: rekey_write, store_dir: %q}, credentials: {password_file: %s, write_password_file: %s}}
estate: {files: [%s]}
customers: {files: [%s]}
channels:
  email: {host: %s, port: %s, tls: none, allow_private: true, from: security@rekey.example}
  webhook: {signing_key_file: %s, allow_private: true}
`, base, s.pg.CAFile, store, s.write("read", read+"\n"), s.write("write", write+"\n"),
		s.write("estate.yaml", "keys: [{id: app, provider: postgres, account: main, kind: role-password, owner: payments}]\nowners: [{ref: payments, contacts: [{order: 1, channel: email, address: "+ownerAddress+"}]}]\n"),
		s.write("customers.json", `[{"ref":"C033","name":"Acme","keys":["app"],"contacts":[{"order":1,"channel":"webhook","address":"`+s.hook.URL+customerHook+`"}]}]`),
		s.mail.Host, port(s.mail), s.write("signing", signing+"\n")))
	s.file = s.write("playbook.yaml", warnFirst)
	checked := s.rekey("", "playbook", "validate", s.file, "--json")
	require.Zero(t, checked.code, checked.out+checked.errOut)
	valid := decode[struct{ Playbooks []struct{ Digest string } }](t, checked.out)
	s.configure(fmt.Sprintf("ceilings: {playbook_digests: [%q]}\n", valid.Playbooks[0].Digest))
	s.secrets = map[string]string{"leaked": s.leaked, "read": read, "write": write, "signing key": signing, "customer's secret": keys[0].Secret("C033")}
	return s
}

// begin reports the role and has the plan approved.
func (s *telling) begin() string {
	s.t.Helper()
	o := s.rekey(s.leaked+"\n", "report", "postgres", "app", "--secret-stdin", "--playbook", s.file, "--reason", "in a public repository", "--confidence", "confirmed", "--json")
	require.Zero(s.t, o.code, o.out+o.errOut)
	id := decode[struct{ Incident string }](s.t, o.out).Incident
	s.vote(id, "strategy", "ann")
	return id
}

func (s *telling) vote(id, what string, who ...string) {
	s.t.Helper()
	v := s.until(id, "the question for "+what, func(v view.Incident) bool { _, ok := open(v, what); return ok })
	q, _ := open(v, what)
	for _, name := range who {
		o := s.rekey("", "incident", "approve", id, "--wave", q.WaveHash, "--approval", q.ID, "--identity", s.people[name].identity, "--json")
		require.Zero(s.t, o.code, o.out+o.errOut)
	}
}

// to is the notice of an audience in a view.
func to(v view.Incident, audience string) view.Notice {
	for _, n := range v.NoticesSent {
		if n.Audience == audience {
			return n
		}
	}
	return view.Notice{}
}

// only looks at the one mail that the server took, and gives its text.
func (s *telling) only() string {
	s.t.Helper()
	mails := s.mail.Mails(s.t)
	require.Len(s.t, mails, 1)
	m, err := mail.ReadMessage(bytes.NewReader(mails[0]))
	require.NoError(s.t, err)
	to, err := m.Header.AddressList("To")
	require.NoError(s.t, err)
	require.Len(s.t, to, 1)
	require.Equal(s.t, ownerAddress, to[0].Address)
	require.Contains(s.t, m.Header.Get("From"), "security@rekey.example")
	require.Equal(s.t, "auto-generated", m.Header.Get("Auto-Submitted"))
	require.Contains(s.t, m.Header.Get("Subject"), "Act before")
	b, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	require.NoError(s.t, err)
	return strings.ReplaceAll(string(b), "\r\n", "\n")
}

// nowhere exports the bundle, verifies it, and looks for addresses and secrets in
// it, in every decoded history, in rekey's log and in its data directory. rekey is
// down afterwards.
func (s *telling) nowhere(id string, said ...string) string {
	s.t.Helper()
	bundle := filepath.Join(s.dir, "incident.zip")
	require.Zero(s.t, s.rekey("", "audit", "export", id, "-o", bundle).code)
	s.stop()
	o := s.rekey("", "audit", "verify", bundle, "--key", filepath.Join(s.data(), "keys", "audit", "audit.pub"), "--json")
	require.Zero(s.t, o.code, o.out+o.errOut)
	require.Contains(s.t, o.out, `"verified"`)

	c := &canaries{t: s.t}
	c.plant("the owner's address", ownerAddress)
	c.plant("the customer's address", customerHook)
	for what, v := range s.secrets {
		c.plant(what, v)
	}
	raw, err := os.ReadFile(bundle)
	require.NoError(s.t, err)
	c.look("the bundle", raw)
	c.look("the log", []byte(s.logged()))
	for _, text := range said {
		c.look("an answer", []byte(text))
	}
	for name, history := range s.histories(id) {
		require.Greater(s.t, len(history), 1000)
		c.look("the history of "+name, history)
	}
	for _, dir := range []string{"blobs", "bundles"} {
		if _, err := os.Stat(filepath.Join(s.data(), dir)); err == nil {
			c.tree(filepath.Join(s.data(), dir))
		}
	}
	for _, m := range s.mail.Mails(s.t) {
		mailed := &canaries{t: s.t}
		for what, v := range s.secrets {
			mailed.plant(what, v)
		}
		mailed.look("the mail", m)
		require.Empty(s.t, mailed.seen)
	}
	require.Empty(s.t, c.seen)
	return bundle
}

// histories are those of the incident, its wave and its notices, decoded.
func (s *telling) histories(id string) map[string][]byte {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	srv, err := devserver.Start(ctx, devserver.Options{DataDir: s.data(), Frontend: "127.0.0.1:0"})
	require.NoError(s.t, err)
	defer func() { _ = srv.Stop(context.WithoutCancel(ctx)) }()
	c, err := temporalx.Dial(ctx, srv.DialOptions("rekey"))
	require.NoError(s.t, err)
	defer c.Close()
	out := map[string][]byte{}
	for _, w := range []string{workflows.IncidentID(id), workflows.WaveID(id, 1), workflows.NoticesID(id, 1)} {
		it := c.GetWorkflowHistory(ctx, w, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
		var b bytes.Buffer
		for it.HasNext() {
			e, err := it.Next()
			require.NoError(s.t, err)
			fmt.Fprintln(&b, e.String())
		}
		out[w] = b.Bytes()
	}
	return out
}

// noticesOf reads the notices of a bundle by id.
func noticesOf(t *testing.T, bundle string) map[string]notice.Message {
	t.Helper()
	z, err := zip.OpenReader(bundle)
	require.NoError(t, err)
	defer func() { _ = z.Close() }()
	out := map[string]notice.Message{}
	for _, f := range z.File {
		if id, ok := strings.CutPrefix(f.Name, "notices/"); ok {
			b, err := readAll(f)
			require.NoError(t, err)
			out[strings.TrimSuffix(id, ".json")] = decode[notice.Message](t, string(b))
		}
	}
	return out
}

// TestNobodyIsCutBeforeTheyAreTold is a leaked password whose owner reads mail and
// whose customer has a webhook. The mail server is down, and rekey is killed.
func TestNobodyIsCutBeforeTheyAreTold(t *testing.T) {
	t.Parallel()
	s := newTelling(t, func(m *smtptest.Aiosmtpd) string { return m.Port })
	s.up()
	id := s.begin()
	v := s.until(id, "a notice that waits for the mail server", func(v view.Incident) bool {
		return to(v, "owner").Detail != "" && to(v, "customer").State == "delivered"
	})
	require.Equal(t, "queued", to(v, "owner").State)
	require.Equal(t, 1, v.Notices.Queued)
	require.Equal(t, 1, v.Notices.Delivered, "one that is down holds up no other")
	require.NotEqual(t, "disabled", v.Items[0].Death.State)

	s.kill()
	require.True(t, s.pg.Works(t, "app", s.leaked), "nobody is cut before the owner is told")
	s.up()
	v = s.until(id, "the incident after the kill", func(v view.Incident) bool { return to(v, "owner").State != "" })
	require.Equal(t, "queued", to(v, "owner").State)
	require.True(t, s.pg.Works(t, "app", s.leaked))
	require.Empty(t, s.mail.Mails(t))

	s.mail.Up(t)
	v = s.until(id, "the mail", func(v view.Incident) bool { return v.Notices.Sent == 1 })
	require.Equal(t, 0, v.Notices.Queued)
	require.NotEmpty(t, s.mail.Mails(t), "sent means that the server has it")
	s.vote(id, "irreversible", "ann", "bob")
	v = s.until(id, "its end", func(v view.Incident) bool { return v.State == "all-clear" })
	require.Equal(t, "revoked-verified", v.Items[0].EndState)
	require.Equal(t, 1, v.Notices.Sent)
	require.Equal(t, 1, v.Notices.Delivered)
	require.False(t, s.pg.Works(t, "app", s.leaked))
	told, err := time.Parse(time.RFC3339, to(v, "owner").At)
	require.NoError(t, err)
	shown := s.rekey("", "incident", "show", id)
	require.Zero(t, shown.code)

	text := s.only()
	for _, want := range []string{"Leaked password of a role", "app (postgres, account main, role-password)", "replacement: " + v.Items[0].Adoption.NewKeyID, "payments/app", "What you must do, before ", "switch to the replacement", "security@rekey.example", id, "version 1"} {
		require.Contains(t, text, want)
	}
	bodies, bad := s.hook.got()
	require.Zero(t, bad, "every request was signed with the customer's own key")
	require.Len(t, bodies, 1)
	bundle := s.nowhere(id, shown.out, text)
	sent := noticesOf(t, bundle)
	require.Len(t, sent, 2)
	require.Equal(t, text, sent[to(v, "owner").ID].Text, "the bundle has what was mailed")
	for _, body := range bodies {
		var data notice.Data
		require.NoError(t, json.Unmarshal(body, &data))
		require.Equal(t, notice.SchemaNotice, data.Schema)
		require.Equal(t, sent[to(v, "customer").ID].Data, data, "and what was posted")
	}
	cut := time.Time{}
	for _, e := range events(t, bundle) {
		if e.Type == event.EventGate && e.Attrs["gate"] == playbooks.GateWarnBeforeCut {
			require.Equal(t, "notice sent", e.Result)
			cut, err = time.Parse(time.RFC3339, e.Time)
			require.NoError(t, err)
		}
	}
	require.NotZero(t, cut, "the gate is on record")
	require.False(t, cut.Before(told.Truncate(time.Second)), "the gate opened after the mail")
}

// TestAMailThatMayBeOutIsNeverSentAgain kills rekey when the mail server has the
// mail and its answer is on the way.
func TestAMailThatMayBeOutIsNeverSentAgain(t *testing.T) {
	t.Parallel()
	var p *relay
	s := newTelling(t, func(m *smtptest.Aiosmtpd) string { p = newRelay(t, m); return p.port })
	s.mail.Up(t)
	p.hold.Store(true)
	s.up()
	id := s.begin()
	select {
	case <-p.held:
	case <-time.After(patience):
		require.FailNow(t, "no mail came", s.logged())
	}
	s.kill()
	p.hold.Store(false)
	s.up()
	v := s.until(id, "a notice that is unclear", func(v view.Incident) bool { return v.Notices.Unclear == 1 && len(v.NeedsHuman) > 0 })
	require.True(t, s.pg.Works(t, "app", s.leaked), "unclear opens no gate")
	task := ""
	for _, h := range v.NeedsHuman {
		if strings.Contains(h.What, "look whether notice "+to(v, "owner").ID+" reached owner payments") {
			task = h.ID
		}
	}
	require.NotEmpty(t, task, "%+v", v.NeedsHuman)
	o := s.rekey("", "incident", "resolve", id, "--task", task, "--as", "done", "--reason", "she has it", "--identity", s.people["ann"].identity, "--json")
	require.Zero(t, o.code, o.out+o.errOut)
	s.vote(id, "irreversible", "ann", "bob")
	v = s.until(id, "its end", func(v view.Incident) bool { return v.State == "all-clear" })
	require.Equal(t, "sent", to(v, "owner").State)
	require.Contains(t, to(v, "owner").Detail, "by hand, says ")
	s.only()
	s.nowhere(id)
}

// verified is the check of docs/notices.md.
func verified(secret string, h http.Header, body []byte) bool {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return false
	}
	return verifiedBy(key, h, body)
}

func verifiedBy(key []byte, h http.Header, body []byte) bool {
	sent, err := strconv.ParseInt(h.Get("webhook-timestamp"), 10, 64)
	if err != nil || time.Since(time.Unix(sent, 0)).Abs() > 5*time.Minute {
		return false
	}
	m := hmac.New(sha256.New, key)
	m.Write([]byte(h.Get("webhook-id") + "." + h.Get("webhook-timestamp") + "."))
	m.Write(body)
	want := base64.StdEncoding.EncodeToString(m.Sum(nil))
	for s := range strings.FieldsSeq(h.Get("webhook-signature")) {
		if v, ok := strings.CutPrefix(s, "v1,"); ok && hmac.Equal([]byte(v), []byte(want)) {
			return true
		}
	}
	return false
}
