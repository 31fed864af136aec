package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	driller "rekey/internal/drill"
	"rekey/internal/lab/control"
	"rekey/internal/view"
)

// A voter is a person with a key of their own.
type voter struct {
	name     string
	roles    []string
	identity string // file of the private key
}

// newVoters makes keys with `rekey identity new` and gives the people section of
// rekey.yaml; who is given as name: roles.
func newVoters(t *testing.T, r *rig, who ...voter) (map[string]voter, string) {
	t.Helper()
	out := map[string]voter{}
	yaml := "people:\n"
	for _, v := range who {
		v.identity = filepath.Join(r.dir, v.name+".key")
		o := r.rekey("", "identity", "new", v.identity)
		require.Zero(t, o.code, o.errOut)
		out[v.name] = v
		yaml += fmt.Sprintf("  %s: {roles: [%s], cli_key_file: %s.pub}\n", v.name, strings.Join(v.roles, ", "), v.identity)
	}
	return out, yaml
}

// write makes a file of the rig, for its user alone.
func (r *rig) write(name, text string) string {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	require.NoError(r.t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// configure adds lines to rekey.yaml.
func (r *rig) configure(yaml string) {
	r.t.Helper()
	f, err := os.OpenFile(r.config(), os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(r.t, err)
	_, err = f.WriteString(yaml)
	require.NoError(r.t, err)
	require.NoError(r.t, f.Close())
}

// show is `rekey incident show --json`.
func (r *rig) show(id string) view.Incident {
	r.t.Helper()
	o := r.rekey("", "incident", "show", id, "--json")
	require.Zero(r.t, o.code, o.errOut)
	return decode[view.Incident](r.t, o.out)
}

func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	require.NoError(t, json.Unmarshal([]byte(text), &v), text)
	return v
}

// patience is how long the tests wait for what must come, on a machine that is busy
// with other things. Nothing is asserted about how long it takes.
const patience = 4 * time.Minute

// until waits until the incident is as the test wants it and gives it, as `rekey
// incident show` does. It looks by the API that the command speaks: a process for each
// look takes more of a small machine than what is tested.
func (r *rig) until(id, what string, cond func(view.Incident) bool) view.Incident {
	r.t.Helper()
	var v view.Incident
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		status, answer := r.ask("/incidents/" + id)
		if status != http.StatusOK {
			v = view.Incident{}
			continue // it is being started, or too busy to answer
		}
		if v = decode[view.Incident](r.t, string(answer)); !cond(v) {
			continue
		}
		if o := r.rekey("", "incident", "show", id, "--json"); o.code == 0 {
			if v = decode[view.Incident](r.t, o.out); cond(v) {
				return v
			}
		}
	}
	b, err := json.MarshalIndent(v, "", " ")
	require.NoError(r.t, err)
	require.FailNow(r.t, "the incident never had "+what, string(b))
	return v
}

// first waits for the first incident and gives its id.
func (r *rig) first() (id string) {
	r.t.Helper()
	require.Eventually(r.t, func() bool {
		status, answer := r.ask("/incidents")
		if status != http.StatusOK {
			return false
		}
		if l := decode[view.List](r.t, string(answer)); len(l.Incidents) > 0 {
			id = l.Incidents[0].ID
		}
		return id != ""
	}, patience, 100*time.Millisecond, "no incident came")
	o := r.rekey("", "incident", "list", "--json")
	require.Zero(r.t, o.code, o.errOut)
	require.Equal(r.t, id, decode[view.List](r.t, o.out).Incidents[0].ID)
	return id
}

// ask reads from the API with the token of this machine; status 0: nobody answers.
func (r *rig) ask(path string) (status int, answer []byte) {
	r.t.Helper()
	token, err := os.ReadFile(filepath.Join(r.data(), "cli-token"))
	require.NoError(r.t, err)
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, "http://"+r.http+"/api/v1"+path, nil)
	require.NoError(r.t, err)
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	resp, err := (&http.Client{Timeout: time.Minute}).Do(req)
	if err != nil {
		return 0, nil
	}
	defer func() { _ = resp.Body.Close() }()
	if answer, err = io.ReadAll(resp.Body); err != nil {
		return 0, nil
	}
	return resp.StatusCode, answer
}

// open is the question for name that waits for votes.
func open(v view.Incident, name string) (view.Approval, bool) {
	for _, a := range v.Approvals {
		if a.For == name && a.State == "open" {
			return a, true
		}
	}
	return view.Approval{}, false
}

// refused asserts that a command was refused with the code, as JSON on standard
// output and as text on standard error.
func refused(t *testing.T, o outcome, exit int, code string) view.ErrorBody {
	t.Helper()
	require.Equal(t, exit, o.code, "stdout %s stderr %s", o.out, o.errOut)
	e := decode[view.Error](t, o.out).Error
	require.Equal(t, code, e.Code, o.out)
	require.NotEmpty(t, e.Message)
	require.NotEmpty(t, e.Do, "an error says what to do: %s", o.out)
	return e
}

// A labProcess is `rekey lab` in a process of its own.
type labProcess struct {
	dir     string
	addrs   driller.Addrs
	control *control.Client
	info    control.Info
	// account is the line of rekey.yaml that makes it the only provider.
	account string
}

// startLab starts a lab that plays the scenario for the length of the test.
func startLab(t *testing.T, r *rig, scenario string) *labProcess {
	t.Helper()
	l := &labProcess{dir: filepath.Join(r.dir, "world")}
	require.NoError(t, os.MkdirAll(l.dir, 0o700))
	file := r.write("scenario.yaml", scenario)
	cmd := r.command(t.Context(), "lab", "--dir", l.dir, "--scenario", file)
	log := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = log, log
	// The context of a test ends before its clean-up.
	cmd = detached(cmd)
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		select {
		case <-ended:
		case <-time.After(time.Minute):
			_ = cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("log of the lab:\n%s", log)
		}
	})
	require.Eventually(t, func() bool {
		select {
		case <-ended:
			return true
		default:
		}
		b, err := os.ReadFile(filepath.Join(l.dir, "lab", driller.AddrsFile))
		return err == nil && json.Unmarshal(b, &l.addrs) == nil
	}, patience, 10*time.Millisecond)
	require.NotEmpty(t, l.addrs.Provider, "the lab did not start")
	token, err := os.ReadFile(filepath.Join(l.dir, "lab", control.TokenFile))
	require.NoError(t, err)
	l.control = control.New(l.addrs.Control, strings.TrimSpace(string(token)))
	require.Eventually(t, func() bool { l.info, err = l.control.Info(t.Context()); return err == nil }, patience, 10*time.Millisecond)
	l.account = fmt.Sprintf("{account_id: %q, regions: [us-east-1], base_url: %q, allow_private: true, credentials: {access_key_id_file: %s, secret_access_key_file: %s}}",
		l.info.Account, l.addrs.Provider, filepath.Join(l.dir, "lab", "engine-id"), filepath.Join(l.dir, "lab", "engine-key"))
	return l
}

// detached is the same command without a context that would kill it.
func detached(cmd *exec.Cmd) *exec.Cmd {
	out := exec.Command(cmd.Path, cmd.Args[1:]...)
	out.Env, out.Dir, out.Stdout, out.Stderr = cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr
	return out
}

// keep copies a bundle into the folder that REKEY_KEEP_BUNDLES names: its chapters are
// the raw histories, for testdata/histories and for counting.
func keep(t *testing.T, bundle string) {
	t.Helper()
	dir := os.Getenv("REKEY_KEEP_BUNDLES")
	if dir == "" {
		return
	}
	raw, err := os.ReadFile(bundle)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, t.Name()+".zip"), raw, 0o600))
}
