// Package emulatetest runs emulate (npm emulate@0.11.2), a foreign implementation of
// Slack's and GitHub's web APIs, for tests that must not believe our own fakes.
//
// What emulate does not have, or does not check, is not proven by it: it refuses no
// block and no body for its form or size, has no rate limits, and a revoked token
// keeps working. See testbeds.md and docs/design/0008.
package emulatetest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities/activitytest/porttest"
)

// What the seed makes.
const (
	Team           = "T000000001" // emulate's own
	Channel        = "incidents"
	PrivateChannel = "war-room"
	Repo           = "acme/security"
	AppID          = 4711
	InstallationID = 4712
	AppSlug        = "rekey-app"
)

// A Server is a running emulate. Its tokens were made for this run.
type Server struct {
	GitHub      string // base URL, ends in /
	Slack       string // base URL of the web API, ends in /api/
	GitHubToken string // a user's, may write issues
	OtherGitHub string // another user's
	SlackToken  string // the bot's
	OtherSlack  string // another user's
	AppKey      []byte // PEM of the GitHub App's private key
}

// loopback makes emulate listen on 127.0.0.1: it has no option for it.
const loopback = `const net = require("net");
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (port, ...rest) {
  if (typeof port === "number") {
    if (typeof rest[0] !== "function") rest.shift();
    return listen.call(this, port, "127.0.0.1", ...rest);
  }
  return listen.call(this, port, ...rest);
};
`

// Tools is where .ci/servers installs emulate: outside of the tree.
func Tools() string {
	if dir := os.Getenv("REKEY_TOOLS"); dir != "" {
		return filepath.Join(dir, "emulate")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".cache", "rekey", "emulate")
}

// lookup finds emulate and a Node that runs it, of which it needs 20.
func lookup() (node, script string) {
	script = filepath.Join(Tools(), "node_modules", "emulate", "dist", "index.js")
	if _, err := os.Stat(script); err != nil {
		return "", ""
	}
	for _, node := range []string{filepath.Join(Tools(), "node_modules", "node", "bin", "node"), "node"} {
		out, err := exec.Command(node, "-p", "process.versions.node.split('.')[0]").Output()
		if err != nil {
			continue
		}
		if major, err := strconv.Atoi(strings.TrimSpace(string(out))); err == nil && major >= 20 {
			return node, script
		}
	}
	return "", ""
}

// Start runs emulate on loopback for the length of the test. Where it is absent the
// test is skipped, or fails when REKEY_REQUIRE_SERVERS=1.
func Start(t testing.TB) *Server {
	t.Helper()
	node, script := lookup()
	if node == "" {
		if os.Getenv("REKEY_REQUIRE_SERVERS") == "1" {
			t.Fatal("needs emulate: run .ci/servers")
		}
		t.Skip("skipped: needs emulate (.ci/servers installs it)")
	}
	s := &Server{GitHubToken: random("gh"), OtherGitHub: random("gh"), SlackToken: random("bot"), OtherSlack: random("user"), AppKey: appKey(t)}
	dir := t.TempDir()
	seed := filepath.Join(dir, "seed.yaml") // JSON is YAML
	body, err := json.Marshal(s.seed())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(seed, body, 0o600))
	preload := filepath.Join(dir, "loopback.js")
	require.NoError(t, os.WriteFile(preload, []byte(loopback), 0o600))
	for range 3 {
		base := porttest.Row(t, 2)
		if s.run(t, base, node, "--require", preload, script, "start", "-p", strconv.Itoa(base), "--service", "github,slack", "--seed", seed) {
			return s
		}
	}
	t.Fatal("emulate did not come up in three attempts")
	return nil
}

// run starts it and tells whether it answers.
func (s *Server) run(t testing.TB, base int, name string, args ...string) bool {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = t.TempDir()
	require.NoError(t, cmd.Start())
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	stop := func() {
		_ = cmd.Process.Kill()
		<-exited
	}
	s.GitHub = "http://127.0.0.1:" + strconv.Itoa(base) + "/"
	s.Slack = "http://127.0.0.1:" + strconv.Itoa(base+1) + "/api/"
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		if answers(s.GitHub) && answers(s.Slack) {
			t.Cleanup(stop)
			return true
		}
		select {
		case <-exited:
			return false
		case <-time.After(50 * time.Millisecond):
		}
	}
	stop()
	return false
}

func answers(url string) bool {
	resp, err := http.Get(url)
	if err == nil {
		_ = resp.Body.Close()
	}
	return err == nil
}

func (s *Server) seed() map[string]any {
	owner, repo, _ := strings.Cut(Repo, "/")
	scopes := []string{"chat:write", "channels:read", "channels:history", "groups:read", "groups:history"}
	return map[string]any{
		"tokens": map[string]any{
			s.GitHubToken: map[string]any{"login": "rekey-bot", "scopes": []string{"repo"}},
			s.OtherGitHub: map[string]any{"login": "mallory", "scopes": []string{"repo"}},
		},
		"github": map[string]any{
			"users": []any{map[string]any{"login": "rekey-bot"}, map[string]any{"login": "mallory"}, map[string]any{"login": owner}},
			"repos": []any{map[string]any{"owner": owner, "name": repo, "auto_init": true, "collaborators": []any{
				map[string]any{"login": "rekey-bot", "permission": "admin"}, map[string]any{"login": "mallory", "permission": "push"},
			}}},
			"apps": []any{map[string]any{
				"app_id": AppID, "slug": AppSlug, "name": "rekey", "private_key": string(s.AppKey),
				"permissions": map[string]string{"issues": "write", "metadata": "read"}, "events": []string{},
				"installations": []any{map[string]any{
					"installation_id": InstallationID, "account": owner, "repository_selection": "all",
					"permissions": map[string]string{"issues": "write", "metadata": "read"},
				}},
			}},
		},
		"slack": map[string]any{
			"team":          map[string]string{"name": "Acme", "domain": "acme"},
			"users":         []any{map[string]string{"name": "rekey"}, map[string]string{"name": "mallory"}},
			"channels":      []any{map[string]any{"name": Channel}, map[string]any{"name": PrivateChannel, "is_private": true}},
			"strict_scopes": true,
			"tokens": []any{
				map[string]any{"token": s.SlackToken, "type": "bot", "user": "rekey", "scopes": scopes},
				map[string]any{"token": s.OtherSlack, "type": "user", "user": "mallory", "scopes": scopes},
			},
		},
	}
}

// random gives a token for this run, in a form that no vendor's token has.
func random(prefix string) string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // it never fails, https://pkg.go.dev/crypto/rand#Read
	return prefix + "-test-" + hex.EncodeToString(b)
}

func appKey(t testing.TB) []byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
}
