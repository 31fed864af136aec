package e2e

import (
	"archive/zip"
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/event"
	"rekey/internal/people"
	"rekey/internal/statement"
	"rekey/internal/view"
)

// votesScenario has keys that are in use, so that the shipped playbook asks before
// it acts.
const votesScenario = `apiVersion: rekey/v1
kind: Drill
name: votes
seed: 7
clock: {mode: real}
estate:
  providers: {awsiam/lab: {propagation: 1s}}
  keys:
    - {id: SOLO, user: solo, policy: ReadOnlyAccess, issued: T0-60d, owner: platform}
    - {id: ONE, user: one, policy: ReadOnlyAccess, issued: T0-60d, owner: platform}
    - {id: TWO, user: two, policy: ReadOnlyAccess, issued: T0-60d, owner: billing}
  dependents:
    - {id: solo, keys: [SOLO], owner: platform, outage_budget: 30m, cutover: dual, proof: last-used, store: solo/aws}
    - {id: nightly, keys: [ONE], owner: platform, outage_budget: 30m, cutover: dual, proof: last-used}
    - {id: invoices, keys: [TWO], owner: billing, outage_budget: 30m, cutover: dual, proof: last-used}
trigger: {at: T0, report: {provider: awsiam, kind: user-access-key, key: ONE, source: cli, confidence: confirmed}}
expect: [{id: there, expr: 'lab.keys.size() > 0'}]
`

// onLab is a rig whose only provider is a lab that plays the scenario, with an
// estate that knows its keys and dependents.
func onLab(t *testing.T, scenario string) (*rig, *labProcess) {
	t.Helper()
	r := newRig(t, "")
	l := startLab(t, r, scenario)
	r.configure("providers: {awsiam: {lab: " + l.account + "}}\n")
	return r, l
}

// estateOf writes an estate with a key and a dependent each.
func estateOf(r *rig, l *labProcess, keys map[string]string) {
	text := "keys:\n"
	for alias, owner := range keys {
		parent := ""
		if alias == "TWO" {
			parent = ", parent: " + l.info.Aliases["ONE"] // who has ONE has TWO
		}
		text += fmt.Sprintf("  - {id: %s, provider: awsiam, account: lab, kind: user-access-key, owner: %s%s}\n", l.info.Aliases[alias], owner, parent)
	}
	text += "dependents:\n"
	for alias, owner := range keys {
		text += fmt.Sprintf("  - {id: of-%s, keys: [%s], owner: %s, outage_budget: 30m, cutover: dual, proof: last-used}\n", strings.ToLower(alias), l.info.Aliases[alias], owner)
	}
	r.configure(fmt.Sprintf("estate: {files: [%s]}\n", r.write("estate.yaml", text)))
}

// report opens an incident and gives its id.
func (r *rig) report(args ...string) string {
	r.t.Helper()
	o := r.rekey("", append([]string{"report", "awsiam", "--json"}, args...)...)
	require.Zero(r.t, o.code, o.out+o.errOut)
	return decode[struct{ Incident string }](r.t, o.out).Incident
}

// post sends a statement as a program would, with the token of this machine.
func (r *rig) post(s statement.Signed) (int, view.Error) {
	r.t.Helper()
	body, err := json.Marshal(s)
	require.NoError(r.t, err)
	token, err := os.ReadFile(filepath.Join(r.data(), "cli-token"))
	require.NoError(r.t, err)
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, "http://"+r.http+"/api/v1/incidents/"+s.Statement.Incident+"/statements", bytes.NewReader(body))
	require.NoError(r.t, err)
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(r.t, err)
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(r.t, err)
	var e view.Error
	require.NoError(r.t, json.Unmarshal(raw, &e), string(raw))
	return resp.StatusCode, e
}

// sign signs a statement with the voter's key.
func (v voter) sign(t *testing.T, s statement.Statement) statement.Signed {
	t.Helper()
	key, err := people.LoadIdentity(v.identity)
	require.NoError(t, err)
	signed, err := statement.Sign(s, key)
	require.NoError(t, err)
	return signed
}

// events reads the events of an exported bundle.
func events(t *testing.T, bundle string) []event.Event {
	t.Helper()
	z, err := zip.OpenReader(bundle)
	require.NoError(t, err)
	defer func() { _ = z.Close() }()
	f, err := z.Open("events.jsonl")
	require.NoError(t, err)
	var out []event.Event
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		out = append(out, decode[event.Event](t, lines.Text()))
	}
	require.NoError(t, lines.Err())
	return out
}

// TestVotesThatDoNotCount plays everybody who may not decide: each is told why, and
// each refusal is in the sealed record.
func TestVotesThatDoNotCount(t *testing.T) {
	t.Parallel()
	r, l := onLab(t, votesScenario)
	estateOf(r, l, map[string]string{"SOLO": "platform", "ONE": "platform", "TWO": "billing"})
	asked := func(id string) view.Approval {
		t.Helper()
		v := r.until(id, "a question", func(v view.Incident) bool { _, ok := open(v, "strategy"); return ok })
		a, _ := open(v, "strategy")
		return a
	}

	// A rekey.yaml without people: the local user reports and may not decide alone.
	r.up()
	solo := r.report(l.info.Aliases["SOLO"])
	q := asked(solo)
	refused(t, r.rekey("", "incident", "approve", solo, "--wave", q.WaveHash, "--json"), 1, view.CodeSelfApproval)
	o := r.rekey("", "incident", "approve", solo, "--wave", q.WaveHash)
	require.Equal(t, 1, o.code)
	require.Empty(t, o.out)
	require.Contains(t, o.errOut, "reported this and may not approve")
	r.stop()

	folk, yaml := newVoters(t, r,
		voter{name: "ann", roles: []string{"commander"}}, voter{name: "bob", roles: []string{"security"}}, voter{name: "eve", roles: []string{"viewer"}})
	r.configure(yaml)
	stranger, _ := newVoters(t, r, voter{name: "mallory"})
	r.up()
	id := r.report(l.info.Aliases["ONE"])
	q = asked(id)
	approve := func(who, hash string, more ...string) outcome {
		return r.rekey("", append([]string{"incident", "approve", id, "--wave", hash, "--identity", filepath.Join(r.dir, who+".key"), "--json"}, more...)...)
	}
	type want struct{ actor, code string }
	var wants []want
	expect := func(actor, code string, o outcome) {
		t.Helper()
		refused(t, o, 1, code)
		wants = append(wants, want{actor, code})
	}
	expect("eve", view.CodeWrongRole, approve("eve", q.WaveHash))
	expect("ann", view.CodeWrongRole, approve("ann", q.WaveHash, "--role", "security"))
	expect("mallory", view.CodeWrongRole, approve("mallory", q.WaveHash, "--actor", "mallory"))
	expect("ann", view.CodeForged, approve("mallory", q.WaveHash, "--actor", "ann"))
	expect("ann", view.CodeStalePlan, approve("ann", "sha256:"+strings.Repeat("ab", 32)))
	require.Zero(t, approve("ann", q.WaveHash).code)
	expect("ann", view.CodeAlreadyVoted, approve("ann", q.WaveHash))

	// A hold changes the plan: the vote that was given is void, and so is the hash
	// that people still have before them.
	o = r.rekey("", "incident", "hold", id, "--item", l.info.Aliases["TWO"], "--until", "2h", "--reason", "invoices run tonight", "--identity", folk["ann"].identity)
	require.Zero(t, o.code, o.errOut)
	v := r.until(id, "a plan without the held key", func(v view.Incident) bool {
		a, ok := open(v, "strategy")
		return ok && a.WaveHash != q.WaveHash && len(a.Items) == 1
	})
	expect("bob", view.CodeStalePlan, approve("bob", q.WaveHash))
	old := q
	q, _ = open(v, "strategy")
	require.Empty(t, q.Votes, "nobody voted for this plan")
	for _, a := range v.Approvals {
		if a.ID == old.ID {
			require.Equal(t, "voided", a.State)
		}
	}

	// What a program can send that the command line never would.
	now := time.Now().UTC().Truncate(time.Millisecond)
	base := statement.Statement{Action: statement.Note, Incident: id, Actor: "bob", Method: people.MethodCLIKey, Text: "called the vendor", Nonce: "nonce-0001", Issued: now, Expires: now.Add(10 * time.Minute)}
	send := func(actor, code string, s statement.Signed) {
		t.Helper()
		status, e := r.post(s)
		require.GreaterOrEqual(t, status, 400)
		require.Equal(t, code, e.Error.Code)
		require.NotEmpty(t, e.Error.Do)
		wants = append(wants, want{actor, code})
	}
	note := folk["bob"].sign(t, base)
	status, _ := r.post(note)
	require.Equal(t, http.StatusOK, status)
	send("bob", view.CodeReplayed, note)
	changed := base
	changed.Nonce, changed.Action, changed.WaveHash = "nonce-0002", statement.Approve, q.WaveHash
	tampered := folk["bob"].sign(t, changed)
	tampered.Statement.Text = "something else"
	send("bob", view.CodeForged, tampered)
	as := changed
	as.Actor = "ann"
	send("ann", view.CodeForged, stranger["mallory"].sign(t, as))
	send("ann", view.CodeForged, folk["bob"].sign(t, as))
	// Clocks that jump: signed long ago, or not yet.
	past, future := changed, changed
	past.Nonce, past.Issued, past.Expires = "nonce-0003", now.Add(-time.Hour), now.Add(-50*time.Minute)
	send("bob", view.CodeExpired, folk["bob"].sign(t, past))
	future.Nonce, future.Issued, future.Expires = "nonce-0004", now.Add(time.Hour), now.Add(70*time.Minute)
	send("bob", view.CodeExpired, folk["bob"].sign(t, future))
	other := base
	other.Incident, other.Nonce = solo, "nonce-0005"
	moved := folk["bob"].sign(t, other)
	moved.Statement.Incident = id
	send("bob", view.CodeForged, moved)

	v = r.show(id)
	require.Empty(t, v.Scope.Unseen, "the lab has everything that Inspect asks for")
	a, ok := open(v, "strategy")
	require.True(t, ok)
	require.Empty(t, a.Votes, "none of it counted")
	oracle, err := l.control.Oracle(t.Context())
	require.NoError(t, err)
	for _, c := range oracle.Calls {
		require.False(t, c.Effect, "%s changed something at the provider", c.Action)
	}

	// Who waits is told that people are waited for.
	waiting := []string{"report", "awsiam", l.info.Aliases["ONE"], "--wait", "--interval", "100ms", "--json", "--timeout"}
	o = r.rekey("", append(waiting, "1s")...)
	require.Equal(t, 3, o.code, o.errOut)
	require.Equal(t, "waiting", decode[view.Incident](t, o.out).State)
	waited := make(chan outcome, 1)
	go func() { waited <- r.rekey("", append(waiting, patience.String())...) }()

	// Two people accept the risk; what is sealed then holds every refusal.
	for _, decision := range [][]string{
		{"release", id, "--item", l.info.Aliases["TWO"]},
		{"resolve", id, "--item", l.info.Aliases["ONE"], "--item", l.info.Aliases["TWO"], "--as", "accepted-risk", "--until", "30d", "--reason", "test keys"},
	} {
		o := r.rekey("", append(append([]string{"incident"}, decision...), "--identity", folk["ann"].identity)...)
		require.Zero(t, o.code, o.errOut)
	}
	a, ok = open(r.show(id), "accept-risk")
	require.True(t, ok)
	o = r.rekey("", "incident", "approve", id, "--approval", a.ID, "--wave", a.WaveHash, "--identity", folk["bob"].identity)
	require.Zero(t, o.code, o.errOut)
	r.until(id, "a sealed bundle", func(v view.Incident) bool { return v.Times.Sealed != "" })
	o = <-waited
	require.Equal(t, 3, o.code, "an accepted risk is contained, not all-clear: %s", o.errOut)
	require.Equal(t, "contained", decode[view.Incident](t, o.out).State)
	bundle := filepath.Join(r.dir, "votes.zip")
	require.Zero(t, r.rekey("", "audit", "export", id, "-o", bundle).code)
	var got []want
	for _, e := range events(t, bundle) {
		if e.Type == event.EventRefused {
			require.NotEmpty(t, e.Attrs["why"])
			got = append(got, want{e.Actor, e.Result})
		}
	}
	require.Equal(t, wants, got)
	require.Zero(t, r.rekey("", "audit", "verify", bundle).code)
}
