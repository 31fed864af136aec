package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities/activitytest/mototest"
	"rekey/activities/activitytest/porttest"
	"rekey/internal/view"
)

// aKeyID is AWS's own example; nothing has it.
const aKeyID = "AKIAIOSFODNN7EXAMPLE"

// TestNothingIsStarted: what can be seen to be wrong is said at once, with the
// place and the fix, and leaves nothing behind.
func TestNothingIsStarted(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		yaml  string // of rekey.yaml
		files map[string]string
		args  []string
		code  int
		says  []string
		never string // must not be said
	}{
		"unknown provider":     {args: []string{"report", "awsiamm", aKeyID}, code: 2, says: []string{"unknown provider", `"awsiam"`}},
		"unknown kind":         {args: []string{"plan", "awsiam/user-acces-key", aKeyID}, code: 2, says: []string{"no kind", "user-access-key"}},
		"malformed key id":     {args: []string{"report", "awsiam", "AKIA123"}, code: 2, says: []string{"malformed key id", "20 characters"}},
		"a secret for an id":   {args: []string{"report", "awsiam", "wJalrXUtnFEMIzK7MDENGzbPxRfiCYEXAMPLEKEY"}, code: 2, says: []string{"secret"}, never: "wJalr"},
		"a secret besides":     {args: []string{"report", "awsiam", aKeyID, "wJalrXUtnFEMIzK7MDENGzbPxRfiCYEXAMPLEKEY"}, code: 2, says: []string{"--secret-stdin", "exposed"}, never: "wJalr"},
		"a secret by flag":     {args: []string{"report", "awsiam", aKeyID, "--secret", "hunter2"}, code: 2, says: []string{"--secret-stdin"}, never: "hunter2"},
		"unknown flag":         {args: []string{"report", "awsiam", aKeyID, "--reson", "x"}, code: 2, says: []string{"--reson"}},
		"unknown command":      {args: []string{"raport"}, code: 2, says: []string{"report"}},
		"unknown playbook":     {args: []string{"report", "awsiam", aKeyID, "--playbook", "./none.yaml"}, code: 2, says: []string{"none.yaml"}},
		"invalid playbook":     {files: map[string]string{"p.yaml": strings.Replace(revokeNow, `when: "true"}]`+"\nstrategies", `when: item.hedl}]`+"\nstrategies", 1)}, args: []string{"report", "awsiam", aKeyID, "--playbook", "./p.yaml"}, code: 2, says: []string{"p.yaml:10:", `"item.held"`, "RK012"}},
		"dangerous playbook":   {files: map[string]string{"p.yaml": strings.Replace(revokeNow, "EndSessions, Probe, Issue", "EndSessions, Issue", 1)}, args: []string{"playbook", "validate", "./p.yaml"}, code: 2, says: []string{"p.yaml:", "RK05"}},
		"unknown setting":      {yaml: "listn: {}\n", args: []string{"plan", "awsiam", aKeyID}, code: 2, says: []string{"rekey.yaml:3:1", `"listen"`}},
		"setting of a kind":    {yaml: "listen_: 1\n", args: []string{"up"}, code: 2, says: []string{"rekey.yaml:3:1"}},
		"no YAML":              {yaml: "people: {\n", args: []string{"up"}, code: 2, says: []string{"rekey.yaml:"}},
		"a secret in a file":   {yaml: "providers: {awsiam: {prod: {credentials: {secret_access_key: hunter2}}}}\n", args: []string{"up"}, code: 2, says: []string{"secret_access_key_file"}, never: "hunter2"},
		"no such estate":       {yaml: "estate: {files: [./none.yaml]}\n", args: []string{"plan", "awsiam", aKeyID}, code: 2, says: []string{"none.yaml"}},
		"invalid estate":       {yaml: "estate: {files: [./estate.yaml]}\n", files: map[string]string{"estate.yaml": "keys: [{idd: x}]\n"}, args: []string{"plan", "awsiam", aKeyID}, code: 2, says: []string{"estate.yaml", "idd"}},
		"no such voter key":    {yaml: "people: {ann: {roles: [commander], cli_key_file: ./ann.pub}}\n", args: []string{"up"}, code: 2, says: []string{"ann.pub", "cli_key_file"}},
		"no server":            {args: []string{"report", "awsiam", aKeyID}, code: 1, says: []string{"rekey up"}},
		"no server, as JSON":   {args: []string{"incident", "list", "--json"}, code: 1, says: []string{`"unreachable"`}},
		"no Temporal, worker":  {yaml: "temporal: {address: 127.0.0.1:1}\n", args: []string{"worker"}, code: 1, says: []string{"Temporal", "127.0.0.1:1", "temporal.address"}},
		"no Temporal, serve":   {yaml: "temporal: {address: 127.0.0.1:1}\n", args: []string{"serve"}, code: 1, says: []string{"Temporal", "127.0.0.1:1", "temporal.address"}},
		"provider unreachable": {yaml: `providers: {awsiam: {prod: {account_id: "123456789012", regions: [us-east-1], base_url: "http://127.0.0.1:1", allow_private: true, credentials: {access_key_id_env: E2E_ID, secret_access_key_env: E2E_KEY}}}}` + "\n", args: []string{"plan", "awsiam", aKeyID}, code: 1, says: []string{"base_url"}},
		"private address":      {yaml: `providers: {awsiam: {prod: {account_id: "123456789012", regions: [us-east-1], base_url: "http://127.0.0.1:1", credentials: {access_key_id_env: E2E_ID, secret_access_key_env: E2E_KEY}}}}` + "\n", args: []string{"plan", "awsiam", aKeyID}, code: 1, says: []string{"allow_private"}},
		"no credential":        {yaml: `providers: {awsiam: {prod: {account_id: "123456789012", regions: [us-east-1], credentials: {access_key_id_env: E2E_NONE, secret_access_key_env: E2E_NONE}}}}` + "\n", args: []string{"plan", "awsiam", aKeyID}, code: 1, says: []string{"E2E_NONE"}},
		"no bundle":            {args: []string{"audit", "verify", "none.zip"}, code: 1, says: []string{"none.zip"}},
		"no zip":               {files: map[string]string{"a.zip": "this is no archive"}, args: []string{"audit", "verify", "a.zip"}, code: 1, says: []string{"UNREADABLE"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, tt.yaml, "E2E_ID="+aKeyID, "E2E_KEY="+random(t, 40))
			for file, text := range tt.files {
				r.write(file, text)
			}
			o := r.rekey("", tt.args...)
			require.Equal(t, tt.code, o.code, "%s\n%s", o.out, o.errOut)
			for _, s := range tt.says {
				require.Contains(t, o.out+o.errOut, s)
			}
			if tt.never != "" {
				require.NotContains(t, o.out+o.errOut, tt.never)
			}
			require.NotContains(t, o.errOut, "goroutine ")
			_, err := os.Stat(filepath.Join(r.data(), "temporal.db"))
			require.ErrorIs(t, err, os.ErrNotExist, "nothing was started")
		})
	}
}

// kept runs rekey once on a lab, opens an incident and stops: a data directory with
// something to lose.
func kept(t *testing.T, yaml string, env ...string) (r *rig, id string) {
	t.Helper()
	r = newRig(t, yaml, env...)
	l := startLab(t, r, votesScenario)
	r.configure("providers: {awsiam: {lab: " + l.account + "}}\n")
	estateOf(r, l, map[string]string{"ONE": "platform"})
	r.up()
	id = r.report(l.info.Aliases["ONE"])
	r.until(id, "a question", func(v view.Incident) bool { _, ok := open(v, "strategy"); return ok })
	r.stop()
	return r, id
}

// refuses asserts that `rekey up` does not start and says why, and that it changed
// nothing in the files given.
func (r *rig) refuses(why []string, files ...string) {
	r.t.Helper()
	before := map[string][]byte{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err == nil {
			before[f] = b
		}
	}
	o := r.rekey("", "up")
	require.Equal(r.t, 1, o.code, "%s\n%s", o.out, o.errOut)
	for _, w := range why {
		require.Contains(r.t, o.errOut, w)
	}
	require.NotContains(r.t, o.errOut, "goroutine ", "it says why, and does not crash")
	for f, b := range before {
		now, err := os.ReadFile(f)
		require.NoError(r.t, err)
		require.True(r.t, bytes.Equal(b, now), "%s was changed", f)
	}
}

// TestDamagedDataDirectory: what is damaged is named and left as it is; mended,
// everything is there again.
func TestDamagedDataDirectory(t *testing.T) {
	t.Parallel()
	r, id := kept(t, "")
	for name, tt := range map[string]struct {
		file string
		to   func([]byte) []byte
		says []string
	}{
		"database overwritten":       {"temporal.db", func(b []byte) []byte { return append(bytes.Repeat([]byte("x"), 4096), b[4096:]...) }, []string{"temporal.db"}},
		"database is something else": {"temporal.db", func([]byte) []byte { return []byte("this is no database, but a long enough text to look like one\n") }, []string{"temporal.db"}},
		"installation key cut":       {"keys/installation.key", func(b []byte) []byte { return b[:len(b)/2] }, []string{"installation.key"}},
		"sealed store's key emptied": {"keys/age.txt", func([]byte) []byte { return nil }, []string{"age.txt"}},
		"server key overwritten":     {"keys/server.key", func([]byte) []byte { return []byte("no key") }, []string{"server.key"}},
		"audit key overwritten":      {"keys/audit/audit.key", func([]byte) []byte { return []byte("no key") }, []string{"audit.key"}},
	} {
		path := filepath.Join(r.data(), tt.file)
		good, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, tt.to(good), 0o600))
		t.Log(name)
		r.refuses(tt.says, path)
		require.NoError(t, os.WriteFile(path, good, 0o600))
	}
	// Keys that others can read are not secret any more: it says so.
	path := filepath.Join(r.data(), "keys", "installation.key")
	require.NoError(t, os.Chmod(path, 0o644))
	r.refuses([]string{"installation.key", "chmod"}, path)
	require.NoError(t, os.Chmod(path, 0o600))

	r.up()
	_, ok := open(r.show(id), "strategy")
	require.True(t, ok, "the incident goes on")
	// One directory, one process.
	o := r.rekey("", "up")
	require.Equal(t, 1, o.code)
	require.Contains(t, o.errOut, "listen.http", "the port is taken, and which")
	ports := porttest.Addresses(t, 4)
	o = r.rekey("", "up", "--listen-http", ports[0], "--listen-temporal", ports[1], "--listen-ui", ports[2], "--listen-metrics", ports[3])
	require.Equal(t, 1, o.code, o.errOut)
	require.Contains(t, o.errOut, r.data())
}

// TestWrongPassphrase: the sealed store of one passphrase does not open with
// another, and no passphrase is shown.
func TestWrongPassphrase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pass := filepath.Join(dir, "passphrase")
	right, wrong := random(t, 20), random(t, 20)
	require.NoError(t, os.WriteFile(pass, []byte(right+"\n"), 0o600))
	r, id := kept(t, "sealed: {passphrase_file: "+pass+"}\n")
	require.NoError(t, os.WriteFile(pass, []byte(wrong+"\n"), 0o600))
	age := filepath.Join(r.data(), "keys", "age.txt")
	r.refuses([]string{"passphrase"}, age)
	o := r.rekey("", "up")
	require.NotContains(t, o.out+o.errOut, right)
	require.NotContains(t, o.out+o.errOut, wrong)
	require.NoError(t, os.Remove(pass))
	r.refuses([]string{pass}, age)
	require.NoError(t, os.WriteFile(pass, []byte(right+"\n"), 0o600))
	r.up()
	_, ok := open(r.show(id), "strategy")
	require.True(t, ok)
}

// TestFullDisk: with no room left a report is either taken for good or refused; with
// room again rekey goes on, and nothing that was taken is lost.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	l := startLab(t, r, votesScenario)
	r.configure("providers: {awsiam: {lab: " + l.account + "}}\n")
	estateOf(r, l, map[string]string{"ONE": "platform", "TWO": "billing"})
	require.NoError(t, os.Mkdir(r.data(), 0o700))
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size=112m,mode=700", "none", r.data()).CombinedOutput(); err != nil {
		t.Skipf("skipped: no small file system can be mounted here: %s", out)
	}
	t.Cleanup(func() {
		r.stop()
		require.NoError(t, syscall.Unmount(r.data(), syscall.MNT_DETACH))
	})
	r.up()
	first := r.report(l.info.Aliases["ONE"])
	r.until(first, "a question", func(v view.Incident) bool { _, ok := open(v, "strategy"); return ok })

	ballast := filepath.Join(r.data(), "ballast")
	f, err := os.Create(ballast)
	require.NoError(t, err)
	for _, n := range []int{1 << 20, 1 << 12, 1} {
		for err == nil {
			_, err = f.Write(make([]byte, n))
		}
		require.ErrorIs(t, err, syscall.ENOSPC)
		err = nil
	}
	require.NoError(t, f.Close())

	o := r.rekey("", "report", "awsiam", l.info.Aliases["TWO"], "--evidence", r.write("mail.txt", strings.Repeat("a long text\n", 10_000)), "--json")
	require.Equal(t, 1, o.code, "%s\n%s", o.out, o.errOut)
	e := decode[view.Error](t, o.out).Error
	t.Log(e)
	require.NotEmpty(t, e.Do)

	require.NoError(t, os.Remove(ballast))
	require.Eventually(t, func() bool {
		o = r.rekey("", "report", "awsiam", l.info.Aliases["TWO"], "--json")
		return o.code == 0
	}, patience, time.Second, "%s\n%s", o.out, o.errOut)
	second := decode[struct{ Incident string }](t, o.out).Incident
	for _, id := range []string{first, second} {
		r.until(id, "a question", func(v view.Incident) bool { _, ok := open(v, "strategy"); return ok })
	}
	oracle, err := l.control.Oracle(t.Context())
	require.NoError(t, err)
	for _, c := range oracle.Calls {
		require.False(t, c.Effect, "%s was called without a vote", c.Action)
	}
}

// TestMissingPermission: a denied call is named with the permission it needs, and
// waits for a person instead of being lost.
func TestMissingPermission(t *testing.T) {
	t.Parallel()
	m := mototest.Start(t)
	leaked, _ := m.User(t, "payments-ci", "")
	engine, secret := m.User(t, "engine", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iam:Get*","iam:List*","sts:*"],"Resource":"*"}]}`)
	r := newRig(t, "", "E2E_AWS_SECRET="+secret, "E2E_AWS_ID="+engine)
	book := r.write("playbook.yaml", revokeNow)
	o := r.rekey("", "playbook", "validate", book, "--json")
	require.Zero(t, o.code, o.out)
	digest := decode[struct{ Playbooks []struct{ Digest string } }](t, o.out).Playbooks[0].Digest
	r.configure(fmt.Sprintf(`ceilings: {playbook_digests: [%q]}
providers: {awsiam: {prod: {account_id: %q, regions: [us-east-1], base_url: %q, allow_private: true, credentials: {access_key_id_env: E2E_AWS_ID, secret_access_key_env: E2E_AWS_SECRET}}}}
`, digest, mototest.AccountID, m.URL))
	r.up()
	report := []string{"report", "awsiam", leaked, "--playbook", book, "--json"}
	o = r.rekey("", report...)
	require.Zero(t, o.code, o.out+o.errOut)
	r.until(decode[struct{ Incident string }](t, o.out).Incident, "a step for a person", func(v view.Incident) bool { return len(v.NeedsHuman) > 0 })
	o = r.rekey("", append(report, "--wait", "--timeout", "1s", "--interval", "200ms")...)
	require.Equal(t, 3, o.code, "still going: %s", o.errOut)
	v := decode[view.Incident](t, o.out)
	require.Len(t, v.NeedsHuman, 1)
	require.Contains(t, v.NeedsHuman[0].What, "iam:UpdateAccessKey")
	require.NotEmpty(t, v.NeedsHuman[0].Owner)
	require.NotEmpty(t, v.NeedsHuman[0].Due)
}
