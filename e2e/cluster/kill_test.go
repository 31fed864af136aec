package cluster

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/api"
	"rekey/internal/lab/control"
	"rekey/internal/people"
	"rekey/internal/statement"
	"rekey/internal/view"
)

// A blow is what is taken away from an incident, and when: as soon as the provider
// has seen so many effects of the action.
type blow struct {
	name   string
	action string
	after  int
	// strike is not ok when there is nothing to strike at this moment.
	strike func(*cluster) bool
	// mend brings it back after pause.
	pause time.Duration
	mend  func(*cluster)
	// away tells that rekey's server has to answer 503 meanwhile.
	away bool
}

// byHand is how many votes of an incident go through a process of the command line;
// the others speak its API: this machine is busy enough.
const byHand = 2

// The calls that change a key: one each for an item.
const (
	disable = "iam:UpdateAccessKey"
	create  = "iam:CreateAccessKey"
	remove  = "iam:DeleteAccessKey"
)

func blows(t *testing.T) []blow {
	return []blow{
		{
			name: "Temporal was killed and started again", action: disable, after: 60, away: true,
			strike: func(c *cluster) bool { c.temporal.kill(); return true }, pause: 3 * time.Second, mend: func(c *cluster) { c.temporal.start() },
		},
		{
			name: "the worker that held the account was killed -9", action: create, after: 100,
			strike: func(c *cluster) bool {
				w := c.holder(t)
				if w == nil {
					return false
				}
				w.kill()
				c.killed = w
				return true
			},
		},
		{
			name: "PostgreSQL crashed and was started again", action: remove, after: 60, away: true,
			strike: func(c *cluster) bool { c.postgres.Crash(t); return true }, pause: 3 * time.Second, mend: func(c *cluster) { c.postgres.Restart(t) },
		},
	}
}

// TestIncidentsOutliveTheirCluster plays an incident of 200 keys and takes Temporal,
// the worker that calls the account, and PostgreSQL away from it, one after another,
// each in a wave. With REKEY_CLUSTER_EACH=1 each has an incident of its own. The end
// is the same each time; what it cost is printed.
func TestIncidentsOutliveTheirCluster(t *testing.T) {
	all := blows(t)
	played := [][]blow{all}
	if os.Getenv("REKEY_CLUSTER_EACH") == "1" {
		played = nil
		for _, b := range all {
			played = append(played, []blow{b})
		}
	}
	c := newCluster(t, scenario(len(played)), func(aliases map[string]string) string { return estate(len(played), aliases) })
	for n, bs := range played {
		c.survive(t, n, bs)
		for _, w := range c.workers { // `restart: unless-stopped` in the compose file
			if !w.alive() {
				w.start()
			}
		}
		c.untilReady()
	}
}

// holder is the worker that may call the account now, by its own metrics and by what
// it logged last; nil between two, and while the two do not agree.
func (c *cluster) holder(t *testing.T) *process {
	t.Helper()
	var held []*process
	for i, address := range c.metrics {
		resp, err := (&http.Client{Timeout: 10 * time.Second}).Get(address)
		if err != nil {
			continue
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err == nil && strings.Contains(string(body), `rekey_lease_held{account="lab",provider="awsiam"} 1`) && c.workers[i].holds() {
			held = append(held, c.workers[i])
		}
	}
	if len(held) != 1 { // one that was stopped may not know yet that its lease is over
		return nil
	}
	return held[0]
}

// survive plays incident n to its end with the blows in its waves, and holds the
// provider's own log to what design section 4 promises.
func (c *cluster) survive(t *testing.T, n int, bs []blow) {
	t.Helper()
	mine := c.keysOf(n)
	began := time.Now()
	id := c.report(t, mine[0])
	voted := map[string]bool{}
	var struck []time.Time
	var v view.Incident
	var looked time.Time
	for v.State != "contained" && v.State != "all-clear" {
		if len(struck) < len(bs) {
			if b := bs[len(struck)]; c.effects(t, mine, b.action) >= b.after {
				if at := time.Now(); b.strike(c) {
					struck = append(struck, at)
					c.outage(t, id, b)
				}
			}
		}
		if time.Since(looked) > 2*time.Second {
			if seen, ok := c.show(t, id); ok {
				v = seen
				c.vote(t, v, voted)
			}
			looked = time.Now()
		}
		if time.Since(began) > limit {
			require.FailNow(t, "the incident does not end", "%s %s %+v %v", v.State, v.Phase, v.Totals, v.NeedsHuman)
		}
		time.Sleep(400 * time.Millisecond)
	}
	took := time.Since(began)
	if c.killed != nil {
		for _, w := range c.workers {
			require.True(t, w == c.killed || w.holds(), "the account went to nobody, so it was not its holder that was killed")
		}
		c.killed = nil
	}
	require.Len(t, struck, len(bs), "the incident went past a blow")
	require.Positive(t, c.votes, "no vote by the command line was taken")
	c.votes = 0
	steps := len(v.NeedsHuman)
	v = c.settled(t, id, v)
	c.judge(t, v, mine)
	calls, undone := c.counted(t, mine)
	t.Logf("%d items, %d calls with an effect, %d creates that were undone, %.0f s in all, %d adoptions that were not seen yet", len(mine), calls, undone, took.Seconds(), steps)
	for i, b := range bs {
		until := time.Now()
		if i+1 < len(struck) {
			until = struck[i+1]
		}
		t.Logf("%s: nothing happened at the provider for %.1f s", b.name, c.silence(t, mine, struck[i], until).Seconds())
	}
}

// settled waits until every replacement is seen in use. An item that was replaced
// moments before the incident was contained waits for its dependent's next request: a
// step is open for its owner meanwhile, and is taken back when rekey's next look finds
// the dependent on the new key by itself.
func (c *cluster) settled(t *testing.T, id string, v view.Incident) view.Incident {
	t.Helper()
	open := func() bool {
		return slices.ContainsFunc(v.Items, func(i view.Item) bool { return i.Adoption.State != "adopted" }) ||
			slices.ContainsFunc(v.NeedsHuman, func(h view.Human) bool { return h.State == "open" })
	}
	for began := time.Now(); open(); time.Sleep(2 * time.Second) {
		require.Less(t, time.Since(began), limit, "%+v", v.NeedsHuman)
		if seen, ok := c.show(t, id); ok {
			v = seen
		}
	}
	return v
}

// outage waits the pause, in which the server says that it is not ready and what to
// do, and mends. Nobody ends because something else did.
func (c *cluster) outage(t *testing.T, id string, b blow) {
	t.Helper()
	if b.mend == nil {
		return
	}
	if b.away {
		require.Eventually(t, func() bool { return c.status() == http.StatusServiceUnavailable }, 60*time.Second, 250*time.Millisecond, "/readyz never said so")
		status, answer := c.ask(t, http.MethodGet, "/incidents/"+id, nil)
		require.Equal(t, http.StatusServiceUnavailable, status)
		require.NotEmpty(t, decode[view.Error](t, string(answer)).Error.Do)
		require.NotContains(t, string(answer), "rpc", "no text of a library reaches people")
		require.NotContains(t, string(answer), c.postgres.Port)
	}
	time.Sleep(b.pause)
	b.mend(c)
	c.untilReady()
	require.True(t, c.serve.alive(), "the server ended")
	alive := 0
	for _, w := range c.workers {
		if w.alive() {
			alive++
		}
	}
	require.Positive(t, alive, "the workers ended")
}

// keysOf are the key ids of incident n.
func (c *cluster) keysOf(n int) []string {
	var out []string
	for i := range items {
		out = append(out, c.info.Aliases[fmt.Sprintf("k%d", n*items+i)])
	}
	return out
}

// ask speaks the HTTP API as the command line does, without starting a process each
// time: this machine is busy enough.
func (c *cluster) ask(t *testing.T, method, path string, in any) (int, []byte) {
	t.Helper()
	body, err := json.Marshal(in)
	require.NoError(t, err)
	token, err := os.ReadFile(filepath.Join(c.dir, "data", "cli-token"))
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+c.http+"/api/v1"+path, bytes.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{Timeout: time.Minute}).Do(req)
	if err != nil {
		return 0, nil
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil
	}
	return resp.StatusCode, answer
}

// report opens incident n as people do. The playbook is the one of rekey.yaml.
func (c *cluster) report(t *testing.T, key string) string {
	t.Helper()
	o := run(t, c.dir, c.env, c.rekey(), "report", "awsiam/user-access-key", key, "--account", "lab", "--confidence", "confirmed", "--json")
	require.Zero(t, o.code, o.errOut)
	opened := decode[api.ReportResponse](t, o.out)
	require.NotEmpty(t, opened.Incident, o.out)
	return opened.Incident
}

// show is not ok while the cluster is away; then it says what to do.
func (c *cluster) show(t *testing.T, id string) (view.Incident, bool) {
	t.Helper()
	status, answer := c.ask(t, http.MethodGet, "/incidents/"+id, nil)
	switch status {
	case http.StatusOK:
		return decode[view.Incident](t, string(answer)), true
	case 0:
		return view.Incident{}, false
	}
	require.Equal(t, http.StatusServiceUnavailable, status, string(answer))
	require.NotEmpty(t, decode[view.Error](t, string(answer)).Error.Do, string(answer))
	return view.Incident{}, false
}

// vote has both persons approve every open question. A vote whose answer was lost is
// given again: the incident says that it has it.
func (c *cluster) vote(t *testing.T, v view.Incident, voted map[string]bool) {
	t.Helper()
	for _, a := range v.Approvals {
		for who, role := range map[string]string{"ann": "commander", "bob": "security"} {
			if a.State != "open" || voted[a.ID+who] {
				continue
			}
			if len(voted) < byHand { // the first ones by the command line
				voted[a.ID+who] = c.approve(t, v.ID, a, who)
				continue
			}
			key, err := people.LoadIdentity(filepath.Join(c.dir, who+".key"))
			require.NoError(t, err)
			now := time.Now().UTC().Truncate(time.Millisecond)
			signed, err := statement.Sign(statement.Statement{
				Action: statement.Approve, Incident: v.ID, Actor: who, Role: role, Method: people.MethodCLIKey, WaveHash: a.WaveHash, Approval: a.ID,
				Nonce: "vote-" + rand.Text(), Issued: now, Expires: now.Add(10 * time.Minute),
			}, key)
			require.NoError(t, err)
			status, answer := c.ask(t, http.MethodPost, "/incidents/"+v.ID+"/statements", signed)
			if status == http.StatusConflict {
				code := decode[view.Error](t, string(answer)).Error.Code
				require.Contains(t, []string{view.CodeAlreadyVoted, view.CodeNoOpenApproval}, code, string(answer))
			}
			voted[a.ID+who] = status == http.StatusOK || status == http.StatusConflict
			if status == 0 || status == http.StatusServiceUnavailable {
				return // away: look first
			}
		}
	}
}

// approve votes by the command line, as who, with who's own key file.
func (c *cluster) approve(t *testing.T, incident string, a view.Approval, who string) bool {
	t.Helper()
	o := run(t, c.dir, c.env, c.rekey(), "incident", "approve", incident, "--wave", a.WaveHash, "--approval", a.ID,
		"--actor", who, "--identity", filepath.Join(c.dir, who+".key"), "--json")
	if o.code == 0 {
		c.votes++
	}
	return o.code == 0 // away, or its answer was lost: look first
}

func (c *cluster) oracle(t *testing.T) control.Oracle {
	t.Helper()
	o, err := c.lab.Oracle(t.Context())
	if t.Context().Err() == nil {
		require.NoError(t, err)
	}
	return o
}

// effects counts the calls that changed something about these keys or their users.
func (c *cluster) effects(t *testing.T, mine []string, action string) int {
	n := 0
	o := c.oracle(t)
	users := usersOf(o, mine)
	for _, call := range o.Calls {
		if call.Action == action && call.Effect && (slices.Contains(mine, call.Key) || users[call.Target]) {
			n++
		}
	}
	return n
}

func usersOf(o control.Oracle, mine []string) map[string]bool {
	out := map[string]bool{}
	for _, k := range o.Keys {
		if slices.Contains(mine, k.ID) {
			out[k.User] = true
		}
	}
	return out
}
