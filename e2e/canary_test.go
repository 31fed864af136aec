package e2e

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/view"
)

// A canary is a secret that was planted somewhere and must be found nowhere.
type canary struct{ planted, value string }

// canaries hands them out and looks for them.
type canaries struct {
	t     *testing.T
	all   []canary
	looks int
	seen  []string
}

// random gives n characters of an alphabet that needs no escaping in JSON or
// YAML; the shape around them is the caller's.
func random(t *testing.T, n int) string {
	t.Helper()
	b := make([]byte, n)
	_, err := rand.Read(b)
	require.NoError(t, err)
	s := strings.NewReplacer("+", "x", "/", "y", "=", "z").Replace(base64.StdEncoding.EncodeToString(b))[:n-3]
	return s + "aB7" // of every class
}

// aws plants a secret access key, token one of another vendor.
func (c *canaries) aws(where string) string   { return c.plant(where, random(c.t, 40)) }
func (c *canaries) token(where string) string { return c.plant(where, "ghp_"+random(c.t, 36)) }

func (c *canaries) plant(where, value string) string {
	c.all = append(c.all, canary{where, value})
	return value
}

// forms are the ways in which a value can lie in bytes.
func forms(value string) [][]byte {
	out := [][]byte{[]byte(value), []byte(hex.EncodeToString([]byte(value))), []byte(url.QueryEscape(value))}
	for shift := range 3 {
		padded := append(bytes.Repeat([]byte{'.'}, shift), value...)
		for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			text := e.EncodeToString(padded)
			out = append(out, []byte(text[4:len(text)-4])) // the ends share bits with their neighbours
		}
	}
	return out
}

// look searches data for every canary, in archives and compressed members too.
func (c *canaries) look(where string, data []byte) {
	c.looks++
	for _, k := range c.all {
		for _, f := range forms(k.value) {
			if i := bytes.Index(data, f); i >= 0 {
				c.seen = append(c.seen, fmt.Sprintf("the secret given as %s is in %s: …%s", k.planted, where, strings.ToValidUTF8(string(data[max(0, i-60):i]), "?")))
				break
			}
		}
	}
	if z, err := zip.NewReader(bytes.NewReader(data), int64(len(data))); err == nil {
		for _, f := range z.File {
			r, err := f.Open()
			require.NoError(c.t, err)
			member, err := io.ReadAll(r)
			require.NoError(c.t, err)
			c.look(where+"!"+f.Name, member)
		}
	}
	if z, err := gzip.NewReader(bytes.NewReader(data)); err == nil {
		if plain, err := io.ReadAll(z); err == nil {
			c.look(where+"!gunzipped", plain)
		}
	}
}

// tree searches every file and every file name below dir.
func (c *canaries) tree(dir string) {
	c.t.Helper()
	require.NoError(c.t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		c.look("a file name", []byte(path))
		if d.IsDir() {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		c.look(path, b)
		return nil
	}))
}

// processes searches the arguments and the environment of every process below the
// one with the id, and of itself.
func (c *canaries) processes(pid int) {
	c.t.Helper()
	for _, what := range []string{"cmdline", "environ"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, what))
		if err != nil {
			continue // it has just ended
		}
		c.look(fmt.Sprintf("/proc/%d/%s", pid, what), b)
	}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	require.NoError(c.t, err)
	for _, t := range tasks {
		b, _ := os.ReadFile(t)
		for _, child := range strings.Fields(string(b)) {
			var n int
			if _, err := fmt.Sscan(child, &n); err == nil {
				c.processes(n)
			}
		}
	}
}

// A tap is a proxy that keeps everything that goes through it.
type tap struct {
	mu   sync.Mutex
	data bytes.Buffer
	url  string
}

func newTap(t *testing.T, target string) *tap {
	t.Helper()
	to, err := url.Parse(target)
	require.NoError(t, err)
	tp := &tap{}
	proxy := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(to); p.Out.Host = p.In.Host }}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		dump, err := httputil.DumpRequest(r, true)
		if err == nil {
			tp.mu.Lock()
			tp.data.Write(dump)
			tp.mu.Unlock()
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	tp.url = s.URL
	return tp
}

func (tp *tap) bytes() []byte {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	return bytes.Clone(tp.data.Bytes())
}

// outsider counts the connections to it: rekey is told that it is the proxy to the
// world.
func outsider(t *testing.T) (string, *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	var n atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n.Add(1)
			_ = c.Close()
		}
	}()
	return "http://" + l.Addr().String(), &n
}

// TestCanaries plants secrets in every input and looks for them wherever rekey
// writes, says or sends something.
func TestCanaries(t *testing.T) {
	t.Parallel()
	world, connections := outsider(t)
	r := newRig(t, "", "HTTP_PROXY="+world, "HTTPS_PROXY="+world, "ALL_PROXY="+world, "NO_PROXY=")
	l := startLab(t, r, votesScenario)
	tp := newTap(t, l.addrs.Provider)
	account := strings.Replace(l.account, l.addrs.Provider, tp.url, 1)
	r.configure("providers: {awsiam: {lab: " + account + "}}\nceilings: {irreversible: {quorum: 1, outside_slack: 0}}\n")
	estateOf(r, l, map[string]string{"SOLO": "platform", "ONE": "platform", "TWO": "billing"})
	c := &canaries{t: t}
	run := func(code int, stdin string, args ...string) outcome {
		t.Helper()
		o := r.rekey(stdin, args...)
		require.Contains(t, []int{code}, o.code, "%s\n%s", o.out, o.errOut)
		c.look("the answer to "+strings.Join(args[:min(2, len(args))], " "), []byte(o.out+o.errOut))
		return o
	}
	key := func(alias string) string { return l.info.Aliases[alias] }

	// Configuration that is refused, before anything runs.
	for _, bad := range []string{
		"providers: {awsiam: {lab: {credentials: {secret_access_key: " + c.aws("a value in rekey.yaml") + "}}}}\n",
		"listen: {http: " + c.token("an address in rekey.yaml") + "}\n",
		c.aws("a key of rekey.yaml") + ": 1\n",
	} {
		file := r.write("bad.yaml", bad)
		run(2, "", "--config", file, "plan", "awsiam", key("ONE"))
		require.NoError(t, os.Remove(file))
	}
	r.up()
	r.mu.Lock()
	pid := r.cmd.Process.Pid
	r.mu.Unlock()

	// The right place: standard input and a file. Both are sealed.
	secretFile := r.write("secret.txt", c.aws("--secret-file")+"\n")
	run(0, c.aws("--secret-stdin")+"\n", "report", "awsiam", key("ONE"), "--secret-stdin", "--json")
	run(0, "", "report", "awsiam", key("SOLO"), "--secret-file", secretFile, "--json")
	require.NoError(t, os.Remove(secretFile))
	c.processes(pid)

	// Evidence holds what it holds; it is kept sealed. Its name is taken as a name.
	evidence := r.write("paste.txt", "found: "+key("ONE")+","+c.aws("the content of evidence")+"\n")
	named := r.write(c.token("the name of an evidence file"), "x\n")
	twice := c.aws("a secret that is in the evidence and given")
	both := r.write("both.txt", "it says "+twice+"\n")
	id := ""
	for _, args := range [][]string{{"--evidence", evidence}, {"--evidence", both}} {
		o := run(0, "", append([]string{"report", "awsiam", key("ONE"), "--json"}, args...)...)
		id = decode[struct{ Incident string }](t, o.out).Incident
	}
	o := r.rekey("", "report", "awsiam", key("ONE"), "--evidence", named, "--json")
	c.look("the answer to a named file", []byte(o.out+o.errOut))
	for _, f := range []string{evidence, named, both} {
		require.NoError(t, os.Remove(f))
	}

	// The wrong places, one after another.
	run(2, "", "report", "awsiam", c.aws("the key id"))
	run(2, "", "report", "awsiam", key("ONE"), c.aws("a further argument"))
	run(2, "", "report", "awsiam", key("ONE"), "--secret", c.aws("--secret"))
	run(2, "", "report", c.token("the provider"), key("ONE"))
	run(2, "", "report", "awsiam", key("ONE"), "--reason", "it was "+c.aws("the reason"))
	run(2, "", "report", "awsiam", key("ONE"), "--source", c.token("the source"))
	run(2, "", "report", "awsiam", key("ONE"), "--account", c.token("the account"))
	run(2, "", "report", "awsiam", key("ONE"), "--playbook", c.token("the playbook's name"))
	book := r.write("book.yaml", strings.Replace(revokeNow, "title: Cut at once", "title: "+c.aws("the playbook's title"), 1))
	run(1, "", "report", "awsiam", key("ONE"), "--playbook", book, "--json")
	book = r.write("book.yaml", strings.Replace(revokeNow, "start: auto", "start: "+c.token("a playbook's value"), 1))
	run(2, "", "report", "awsiam", key("ONE"), "--playbook", book, "--json")
	require.NoError(t, os.Remove(book))
	run(2, "", "incident", "note", id, "it is "+c.aws("a note"))
	run(2, "it is "+c.token("a note on standard input"), "incident", "note", id)
	run(2, "", "incident", "hold", id, "--item", key("ONE"), "--until", "1h", "--reason", "password: "+c.plant("a hold's reason", "p"+random(t, 20)))
	run(1, "", "incident", "hold", id, "--item", c.token("an item"), "--until", "1h", "--reason", "x")
	run(2, "", "incident", "show", c.token("an incident's id"))
	r.rekey("", "incident", "note", id, "x", "--actor", c.token("an actor"), "--json")

	// The same past the command line, by a program.
	for _, path := range []string{"/api/v1/incidents/" + c.token("a path"), "/api/v1/incidents?state=" + c.token("a query"), "/" + c.token("another path")} {
		c.look("the answer to a path", r.call(t, http.MethodGet, path, ""))
	}
	for where, body := range map[string]string{
		"a reason by API":         `{"provider":"awsiam","key_id":"` + key("TWO") + `","nonce":"nonce-0001","reason":"it was %s"}`,
		"an unknown key by API":   `{"provider":"awsiam","key_id":"` + key("TWO") + `","nonce":"nonce-0002","%s":1}`,
		"a severity by API":       `{"provider":"awsiam","key_id":"` + key("TWO") + `","nonce":"nonce-0003","severity":"%s"}`,
		"a source by API":         `{"provider":"awsiam","key_id":"` + key("TWO") + `","nonce":"nonce-0004","source":"%s"}`,
		"a nonce by API":          `{"provider":"awsiam","key_id":"` + key("TWO") + `","nonce":"%s"}`,
		"a secret in bad base64":  `{"provider":"awsiam","key_id":"` + key("TWO") + `","nonce":"nonce-0005","secret":"%s!"}`,
		"a body that is no JSON":  `%s`,
		"a key id by API":         `{"provider":"awsiam","key_id":"%s","nonce":"nonce-0006"}`,
		"an evidence name by API": `{"provider":"awsiam","key_id":"` + key("TWO") + `","nonce":"nonce-0007","evidence":[{"name":"%s","data":"eA=="}]}`,
	} {
		c.look("the answer to "+where, r.call(t, http.MethodPost, "/api/v1/reports", fmt.Sprintf(body, c.token(where))))
	}
	require.GreaterOrEqual(t, len(c.all), 20)

	// Let it end, so that everything is written that will be.
	v := r.until(id, "a question", func(v view.Incident) bool { _, ok := open(v, "strategy"); return ok })
	items := []string{}
	for _, it := range v.Items {
		items = append(items, "--item", it.Short)
	}
	run(0, "", append([]string{"incident", "resolve", id, "--as", "accepted-risk", "--until", "30d", "--reason", "test keys"}, items...)...)
	r.until(id, "a sealed bundle", func(v view.Incident) bool { return v.Times.Sealed != "" })
	bundle := filepath.Join(r.dir, "incident.zip")
	run(0, "", "audit", "export", id, "-o", bundle)
	run(0, "", "audit", "report", bundle)
	raw, err := os.ReadFile(bundle)
	require.NoError(t, err)
	c.look("bundle", raw)
	for _, args := range [][]string{{"show", id}, {"show", id, "--json"}, {"list", "--json"}, {"plan", id, "--json"}, {"items", id, "--json"}} {
		run(0, "", append([]string{"incident"}, args...)...)
	}
	c.look("the metrics", r.call(t, http.MethodGet, "/metrics", ""))
	c.processes(pid)
	r.stop()
	c.tree(r.data())
	c.look("the log", []byte(r.logged()))
	c.look("traffic to the provider", tp.bytes())
	require.NotEmpty(t, tp.bytes())
	require.Zero(t, connections.Load(), "rekey spoke to somebody else than its provider")
	require.Empty(t, c.seen)
	require.Greater(t, c.looks, 100)

	// The search itself can find: in a file, in an archive, in base64.
	var z bytes.Buffer
	w := zip.NewWriter(&z)
	member, err := w.Create("a")
	require.NoError(t, err)
	_, err = member.Write([]byte(base64.StdEncoding.EncodeToString([]byte("ab" + c.all[0].value + "cd"))))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	c.look("archive", z.Bytes())
	require.Len(t, c.seen, 1)
}

// call sends a request with the token of this machine and gives the whole answer.
func (r *rig) call(t *testing.T, method, path, body string) []byte {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(r.data(), "cli-token"))
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+r.http+path, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	dump, err := httputil.DumpResponse(resp, true)
	require.NoError(t, err)
	return dump
}
