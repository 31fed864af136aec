package worker

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/cli"
	"rekey/internal/lab/control"
	"rekey/internal/lab/labtest"
	"rekey/internal/people"
)

// An install is a rekey on disk that never ran Temporal.
type install struct {
	t    *testing.T
	dir  string
	data string
	// yaml are the lines of rekey.yaml by top-level key.
	yaml map[string]string
	free uint64
}

// healthy has two people, an estate, and one blob.
func healthy(t *testing.T) *install {
	t.Helper()
	dir := t.TempDir()
	i := &install{t: t, dir: dir, data: filepath.Join(dir, "data"), free: 10 << 30, yaml: map[string]string{
		"data":   "data: ./data",
		"listen": `listen: {http: "127.0.0.1:0", temporal: "127.0.0.1:0", ui: "127.0.0.1:0", metrics: "127.0.0.1:0"}`,
		"people": "people:\n  ann: {roles: [commander, admin], cli_key_file: ann.pub}\n  ben: {roles: [security], cli_key_file: ben.pub}\n  cas: {roles: [commander, security, approver], cli_key_file: cas.pub}",
		"estate": "estate: {files: [estate.yaml]}",
	}}
	for _, name := range []string{"ann", "ben", "cas"} {
		_, err := people.GenerateIdentity(filepath.Join(dir, name))
		require.NoError(t, err)
	}
	i.write("estate.yaml", "keys: [{id: AKIAIOSFODNN7EXAMPLE, provider: awsiam, account: prod, kind: user-access-key}]\n")
	cfg, err := loadFile(i.common(), nil)
	require.NoError(t, err)
	r, err := Open(cfg, NewLog(os.Stderr, "error", ""), true)
	require.NoError(t, err)
	_, err = people.LoadOrCreateToken(cfg.Data)
	require.NoError(t, err)
	_, err = r.Blobs.Put(t.Context(), []byte("a page"))
	require.NoError(t, err)
	return i
}

func (i *install) write(name, text string) string {
	path := filepath.Join(i.dir, name)
	require.NoError(i.t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func (i *install) common() cli.Common {
	var text strings.Builder
	for _, line := range i.yaml {
		text.WriteString(line + "\n")
	}
	return cli.Common{Config: i.write("rekey.yaml", text.String())}
}

func (i *install) examine(fix bool) []cli.DoctorCheck {
	i.t.Helper()
	d := &doctor{fix: fix, now: time.Now, free: func(string) (uint64, error) { return i.free, nil }}
	if i.free == 0 {
		d.free = func(string) (uint64, error) { return 0, errors.New("no such disk") }
	}
	res, err := d.examine(i.t.Context(), i.common())
	require.NoError(i.t, err)
	return res.Checks
}

func find(checks []cli.DoctorCheck, id, state string) (cli.DoctorCheck, bool) {
	for _, c := range checks {
		if c.ID == id && c.State == state {
			return c, true
		}
	}
	return cli.DoctorCheck{}, false
}

func brokenIn(checks []cli.DoctorCheck) []string {
	var out []string
	for _, c := range checks {
		if c.State == stateFault {
			out = append(out, c.ID)
		}
	}
	return out
}

func TestDoctorFindsNothingWrongWithAHealthyInstallation(t *testing.T) {
	i := healthy(t)
	before := names(t, i.data)
	checks := i.examine(false)
	require.Empty(t, brokenIn(checks))
	for _, id := range []string{"data.modes", "data.disk", "keys.installation", "keys.codec", "keys.age", "keys.server", "keys.audit", "estate", "people.quorum", "playbooks", "blobs", "ports.http"} {
		_, ok := find(checks, id, stateOK)
		require.True(t, ok, id)
	}
	require.Equal(t, before, names(t, i.data), "looking makes nothing")
}

func TestDoctorMakesNothingBeforeTheFirstStart(t *testing.T) {
	i := &install{t: t, dir: t.TempDir(), free: 10 << 30, yaml: map[string]string{
		"data": "data: ./data", "ceilings": "ceilings: {irreversible: {quorum: 1, outside_slack: 0}}",
		"listen": `listen: {http: "127.0.0.1:0", temporal: "127.0.0.1:0", ui: "127.0.0.1:0", metrics: "127.0.0.1:0"}`,
	}}
	require.Empty(t, brokenIn(i.examine(true)))
	require.NoDirExists(t, filepath.Join(i.dir, "data"))
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	require.NoError(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		out = append(out, path)
		return err
	}))
	return out
}

// A row is an installation with one thing broken: the fault has its id, says what
// and what to do, and nothing else is reported broken but what follows from it.
func TestDoctorNamesWhatIsBroken(t *testing.T) {
	for name, c := range map[string]struct {
		broken func(*install)
		id     string
		say    string
		also   []string // faults that follow
	}{
		"an unknown key in rekey.yaml":            {func(i *install) { i.yaml["x"] = "lisen: {}" }, "config", `did you mean "listen"`, nil},
		"a port that is none":                     {func(i *install) { i.yaml["listen"] = "listen: {http: nowhere}" }, "config", "listen.http", nil},
		"a data directory that is a file":         {func(i *install) { i.yaml["data"] = "data: " + i.write("flat", "") }, "data.modes", "not a directory", nil},
		"a key that others can read":              {func(i *install) { i.chmod("data/keys/installation.key", 0o644) }, "data.modes", "installation.key", []string{"keys.installation"}},
		"a directory that others can enter":       {func(i *install) { i.chmod("data/sealed", 0o755) }, "data.modes", "sealed", nil},
		"somebody else's open directory":          {func(i *install) { i.yaml["data"] = "data: " + i.shared() }, "data.modes", "holds nothing of rekey", nil},
		"a disk that is nearly full":              {func(i *install) { i.free = 100 << 20 }, "data.disk", "100 MiB free", nil},
		"a disk that cannot be asked":             {func(i *install) { i.free = 0 }, "data.disk", "cannot be told", nil},
		"a truncated installation key":            {func(i *install) { i.cut("data/keys/installation.key") }, "keys.installation", "damaged", nil},
		"an installation key lost with data":      {func(i *install) { i.remove("data/keys/installation.key") }, "keys.installation", "recognise no earlier incident", nil},
		"codec keys lost with data":               {func(i *install) { i.remove("data/keys/codec") }, "keys.codec", "cannot be read again", []string{"blobs"}},
		"a current codec key that is not there":   {func(i *install) { i.yaml["codec"] = "codec: {current: k1999-01}" }, "keys.codec", "k1999-01", nil},
		"a damaged age identity":                  {func(i *install) { i.cut("data/keys/age.txt") }, "keys.age", "damaged", nil},
		"a passphrase for a plain identity":       {func(i *install) { i.yaml["sealed"] = "sealed: {passphrase_file: " + i.write("pass", "x\n") + "}" }, "keys.age", "not protected", nil},
		"a passphrase file that is gone":          {func(i *install) { i.yaml["sealed"] = "sealed: {passphrase_file: ./nopass}" }, "keys.age", "nopass", nil},
		"a server key that is none":               {func(i *install) { i.overwrite("data/keys/server.key", "x") }, "keys.server", "not an Ed25519 private key", nil},
		"an audit key of another origin":          {func(i *install) { i.yaml["audit"] = "audit: {origin: example.org/other}" }, "keys.audit", "example.org/other", nil},
		"an audit key under a name not looked at": {func(i *install) { i.yaml["audit"] = "audit: {key_file: data/keys/audit/mine.key}" }, "keys.audit", "not looked at", nil},
		"a token that is none":                    {func(i *install) { i.overwrite("data/cli-token", "short\n") }, "keys.cli-token", "holds no token", nil},
		"a password file that is gone": {func(i *install) {
			i.yaml["channels"] = `channels: {email: {host: smtp.example.com, from: "a@example.com", password_file: ./nopw}}`
		}, "files.channels.email.password_file", "does not exist", []string{"channels.email.unreachable"}},
		"a password file that is empty": {func(i *install) {
			i.yaml["channels"] = `channels: {webhook: {signing_key_file: ` + i.write("sign", "") + `}}`
		}, "files.channels.webhook.signing_key_file", "is empty", []string{"channels.webhook.credential"}},
		"an estate with an unknown key": {func(i *install) { i.write("estate.yaml", "kyes: []\n") }, "estate", "kyes", nil},
		"an estate that is gone":        {func(i *install) { i.remove("estate.yaml") }, "estate", "estate.yaml", nil},
		"customers that are no JSON":    {func(i *install) { i.yaml["customers"] = "customers: {files: [" + i.write("c.json", "{") + "]}" }, "customers", "c.json", nil},
		"a hold without a reason": {func(i *install) {
			i.yaml["holds"] = "holds: {file: " + i.write("h.yaml", "holds: [{key: K, by: ann}]\n") + "}"
		}, "holds", "why", nil},
		"a voter whose key is gone": {func(i *install) { i.remove("ann.pub") }, "people.ann", "cannot be read", nil},
		"a voter without a key":     {func(i *install) { i.yaml["people"] += "\n  dan: {roles: [approver]}" }, "people.dan", "cannot vote", nil},
		"two people with one key":   {func(i *install) { i.write("ben.pub", i.read("ann.pub")) }, "people.ben", "two votes", nil},
		"one person where two must agree": {func(i *install) {
			i.yaml["people"] = "people: {ann: {roles: [commander, approver], cli_key_file: ann.pub}}"
		}, "people.quorum", "irreversible needs 2 and 1 can vote", nil},
		"nobody named and a quorum of two": {func(i *install) { i.yaml["people"] = "people: {}" }, "people.quorum", "never be approved", []string{"keys.local"}},
		"a playbook that is pinned twice": {func(i *install) {
			i.yaml["ceilings"] = "ceilings: {playbook_digests: [" + digest + ", " + digest + "]}"
		}, "playbooks.pins", "twice", nil},
		"a blob that was changed":           {func(i *install) { i.spoil() }, "blobs", "1 of 1", nil},
		"a port that another program has":   {func(i *install) { i.yaml["listen"] = i.listen(i.taken()) }, "ports.http", "taken by another program", nil},
		"another web server at our address": {func(i *install) { i.yaml["listen"] = i.listen(i.stranger()) }, "server", "not rekey", []string{"ports.http"}},
		"an address of another machine": {func(i *install) {
			i.yaml["listen"] = strings.Replace(i.listen("127.0.0.1:0"), "temporal: \"127.0.0.1:0\"", "temporal: \"192.0.2.1:7233\"", 1)
		}, "ports.temporal", "cannot be listened on", nil},
		"a cluster that does not answer": {func(i *install) { i.yaml["temporal"] = "temporal: {address: \"127.0.0.1:1\"}" }, "temporal.cluster", "no Temporal frontend answers", nil},
		"a credential in an unset variable": {func(i *install) {
			i.yaml["providers"] = prod("access_key_id_env: DOCTOR_UNSET, secret_access_key_env: DOCTOR_UNSET")
		}, "providers.awsiam/prod", "DOCTOR_UNSET", nil},
		"an account number that is none":    {func(i *install) { i.yaml["providers"] = strings.Replace(prod("x_env: X"), "123456789012", "12", 1) }, "providers.awsiam/prod", "account_id", nil},
		"a provider that cannot be reached": {func(i *install) { i.yaml["providers"] = i.at("http://127.0.0.1:1") }, "providers.awsiam/prod", "cannot be reached", nil},
		"a private address that was not meant": {func(i *install) {
			i.yaml["providers"] = strings.Replace(i.at("https://127.0.0.1:1"), ", allow_private: true", "", 1)
		}, "providers.awsiam/prod", "private", nil},
		"a clock that is a quarter of an hour off": {func(i *install) { i.yaml["providers"] = i.at(i.late(-15 * time.Minute)) }, "clock.awsiam/prod", "behind ours", nil},
	} {
		t.Run(name, func(t *testing.T) {
			i := healthy(t)
			secrets := i.secrets()
			c.broken(i)
			checks := i.examine(false)
			got, ok := find(checks, c.id, stateFault)
			require.True(t, ok, "%s is not found; faults: %v", c.id, brokenIn(checks))
			require.Contains(t, got.Detail, c.say)
			for _, id := range brokenIn(checks) {
				require.Contains(t, append(c.also, c.id), id, "healthy, and reported broken")
			}
			text := fmt.Sprint(checks)
			for _, c := range checks {
				require.Equal(t, c.State == stateFault, c.Do != "", "%s: what to do belongs to a fault", c.ID)
			}
			for _, s := range secrets {
				require.NotContains(t, text, s)
			}
		})
	}
}

const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func prod(credentials string) string {
	return "providers: {awsiam: {prod: {account_id: \"123456789012\", credentials: {" + credentials + "}}}}"
}

func (i *install) path(name string) string { return filepath.Join(i.dir, name) }

func (i *install) chmod(name string, mode os.FileMode) {
	require.NoError(i.t, os.Chmod(i.path(name), mode))
}

func (i *install) remove(name string) { require.NoError(i.t, os.RemoveAll(i.path(name))) }

func (i *install) read(name string) string {
	b, err := os.ReadFile(i.path(name))
	require.NoError(i.t, err)
	return string(b)
}

func (i *install) overwrite(name, text string) {
	require.NoError(i.t, os.WriteFile(i.path(name), []byte(text), 0o600))
}

func (i *install) cut(name string) {
	text := i.read(name)
	i.overwrite(name, text[:len(text)-5])
}

// shared is a directory like /tmp.
func (i *install) shared() string {
	dir := i.path("shared")
	require.NoError(i.t, os.Mkdir(dir, 0o700))
	require.NoError(i.t, os.WriteFile(filepath.Join(dir, "theirs"), nil, 0o600))
	i.chmod("shared", 0o777)
	return dir
}

func (i *install) spoil() {
	m, err := filepath.Glob(i.path("data/blobs/sha256/*/*"))
	require.NoError(i.t, err)
	require.Len(i.t, m, 1)
	b, err := os.ReadFile(m[0])
	require.NoError(i.t, err)
	b[len(b)-1] ^= 1
	require.NoError(i.t, os.WriteFile(m[0], b, 0o600))
}

func (i *install) listen(address string) string {
	return fmt.Sprintf(`listen: {http: %q, temporal: "127.0.0.1:0", ui: "127.0.0.1:0", metrics: "127.0.0.1:0", allow_clear: true}`, address)
}

// taken is an address where somebody listens who does not speak HTTP.
func (i *install) taken() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(i.t, err)
	i.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	return l.Addr().String()
}

func (i *install) stranger() string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }))
	i.t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// at is the account prod at an endpoint.
func (i *install) at(base string) string {
	return "providers:\n  awsiam:\n" + account(i.t, i.dir, "prod", base, "123456789012", control.Secret{KeyID: "AKIAIOSFODNN7EXAMPLE", SecretKey: strings.Repeat("k", 40)})
}

// late is a provider whose clock is off.
func (i *install) late(by time.Duration) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(by).UTC().Format(http.TimeFormat))
		fmt.Fprint(w, `<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/rekey</Arn><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`)
	}))
	i.t.Cleanup(s.Close)
	return s.URL
}

// secrets are what no check may show.
func (i *install) secrets() []string {
	var out []string
	for _, name := range []string{"data/keys/installation.key", "data/keys/age.txt", "data/keys/server.key", "data/keys/audit/audit.key", "data/cli-token", "ann"} {
		lines := strings.Fields(i.read(name))
		out = append(out, lines[len(lines)-1])
	}
	return append(out, strings.Repeat("k", 40))
}

func TestDoctorClosesWhatIsOpen(t *testing.T) {
	i := healthy(t)
	i.chmod("data/keys/installation.key", 0o640)
	i.chmod("data/blobs", 0o755)
	i.chmod("data", 0o755)
	checks := i.examine(true)
	require.Empty(t, brokenIn(checks))
	got, ok := find(checks, "data.modes", stateMended)
	require.True(t, ok)
	require.Contains(t, got.Detail, "treat secrets in them as exposed")
	for name, mode := range map[string]os.FileMode{"data/keys/installation.key": 0o600, "data/blobs": 0o700, "data": 0o700, "data/keys/audit/audit.pub": 0o644} {
		info, err := os.Stat(i.path(name))
		require.NoError(t, err)
		require.Equal(t, mode, info.Mode().Perm(), name)
	}
	_, ok = find(i.examine(true), "data.modes", stateOK)
	require.True(t, ok, "a second time there is nothing to mend")
}

func TestDoctorLeavesADirectoryThatIsNotOurs(t *testing.T) {
	i := healthy(t)
	i.yaml["data"] = "data: " + i.shared()
	require.Contains(t, brokenIn(i.examine(true)), "data.modes")
	info, err := os.Stat(i.path("shared"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o777), info.Mode().Perm())
}

func TestDoctorSeesTheLab(t *testing.T) {
	l := labtest.Start(t, labtest.Scenario(t, selfDrill))
	i := healthy(t)
	i.yaml["providers"] = "providers:\n  awsiam:\n" + account(t, i.dir, "lab", l.BaseURL, l.Account, l.Engine)
	checks := i.examine(false)
	require.Empty(t, brokenIn(checks))
	got, ok := find(checks, "providers.awsiam/lab", stateOK)
	require.True(t, ok)
	require.Contains(t, got.Detail, ":user/rekey-engine")
	_, ok = find(checks, "clock.awsiam/lab", stateOK)
	require.True(t, ok)
}

// A running rekey as its HTTP side shows it.
func TestDoctorLooksAtARunningRekey(t *testing.T) {
	for name, c := range map[string]struct {
		ready int
		token func(string) string
		want  []string
	}{
		"all is well":                      {200, func(s string) string { return s }, nil},
		"it is up and cannot take reports": {503, func(s string) string { return s }, []string{"server.ready"}},
		"it has another data directory":    {200, func(string) string { return "another" }, []string{"server.token"}},
	} {
		t.Run(name, func(t *testing.T) {
			i := healthy(t)
			token, err := people.ReadToken(i.data)
			require.NoError(t, err)
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/healthz":
					fmt.Fprint(w, `{"status":"ok"}`)
				case "/readyz":
					w.WriteHeader(c.ready)
				case "/codec/decode":
					w.WriteHeader(http.StatusNotFound)
				default:
					if r.Header.Get("Authorization") != "Bearer "+c.token(token) {
						w.WriteHeader(http.StatusUnauthorized)
					}
				}
			}))
			t.Cleanup(s.Close)
			i.yaml["listen"] = i.listen(s.Listener.Addr().String())
			checks := i.examine(false)
			require.Equal(t, c.want, brokenIn(checks))
			got, ok := find(checks, "ports.http", stateOK)
			require.True(t, ok)
			require.Contains(t, got.Detail, "the running rekey has")
			_, ok = find(checks, "clock.server", stateOK)
			require.True(t, ok)
			require.NotContains(t, fmt.Sprint(checks), token)
		})
	}
}

// TestDoctorLooksAtOneArea: a set-up container asks about Temporal alone, and a
// provider that does not answer must not stop the cluster.
func TestDoctorLooksAtOneArea(t *testing.T) {
	i := healthy(t)
	d := &doctor{now: time.Now, free: func(string) (uint64, error) { return i.free, nil }, only: []cli.DoctorArea{cli.DoctorEstate}}
	r, err := d.examine(t.Context(), i.common())
	require.NoError(t, err)
	for _, c := range r.Checks {
		require.Contains(t, []string{"config", "estate", "customers", "holds"}, c.ID)
	}
	require.Len(t, cli.DoctorAreas(), 9, "an area that examine does not look at is refused by the command line")
}
