package slackapp_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/internal/codec/keyring"
	"rekey/internal/config"
	"rekey/internal/httpx"
	"rekey/internal/inbox"
	"rekey/internal/people"
	"rekey/internal/secret"
	"rekey/internal/secret/redact"
	"rekey/internal/slackapp"
	"rekey/internal/view"
)

const (
	team    = "T0123ABCD"
	alice   = "U0ALICE" // commander of rekey.yaml
	bob     = "U0BOB"   // approver
	reader  = "U0READER"
	keyID   = "AKIAIOSFODNN7EXAMPLE"
	known   = "inc-0123456789ab"
	wave    = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	itemFP  = "fp1_aaaaaaaaaaaabbbbbbbbbbbbaaaaaaaaaaaabbbbbbbbbbbbaaaaaaaaaaaabbbb"
	channel = "C0456"
)

const settings = `
people:
  alice: {roles: [commander, security], slack: T0123ABCD/U0ALICE}
  bob: {roles: [approver], slack: T0123ABCD/U0BOB}
  gail: {roles: [approver], slack: T0123ABCD/U0GUEST}
channels:
  slack:
    team: T0123ABCD
    bot_token_file: bot
    signing_secret_file: sign
    readers: {user_groups: [S0SEC], email_domains: [example.com]}
`

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// world is an app with everything around it.
type world struct {
	*slackapp.App
	*engine
	vendor  *vendor
	log     *buffer
	data    string
	signing string
	server  *people.Voters
	options slackapp.Options
	skew    atomic.Int64 // of the app's clock
	n       int
}

func descriptors() []activities.Descriptor {
	return []activities.Descriptor{{
		Code: "awsiam", Name: "AWS IAM", Secrets: []string{`lab-secret-[0-9a-f]{16}`},
		Kinds: []activities.KindInfo{{Kind: "user-access-key", Pattern: `\bAKIA[A-Z0-9]{16}\b`, IDSuffices: true}},
		CheckID: func(id string) (string, error) {
			if strings.HasPrefix(id, "AKIA") {
				return "user-access-key", nil
			}
			return "", errors.New("a key id begins with AKIA")
		},
	}, {
		Code: "vault", Name: "Vault", Kinds: []activities.KindInfo{{Kind: "token"}},
	}}
}

func random(t *testing.T) string {
	t.Helper()
	b := make([]byte, 16)
	_, err := rand.Read(b)
	require.NoError(t, err)
	return hex.EncodeToString(b)
}

func newWorld(t *testing.T, change ...func(*slackapp.Options)) *world {
	t.Helper()
	w := &world{engine: &engine{}, vendor: newVendor(t), log: &buffer{}, data: t.TempDir(), signing: random(t)}
	w.view = view.Incident{
		ID: known, Severity: "high", State: "waiting", Phase: "approve", Totals: view.Totals{Items: 1, Open: 1},
		Items:     []view.Item{{FP: itemFP, Short: "aaaaaaaaaaaa", Provider: "awsiam", Account: "prod", KeyID: keyID, Strategy: "revoke-now", Step: "Probe"}},
		Approvals: []view.Approval{{ID: "a1", For: "strategy", What: "revoke-now of 1 item", WaveHash: wave, State: "open", Needed: 2, Roles: []string{"commander", "approver"}}},
	}
	cfg, err := config.Parse([]byte(settings), w.data)
	require.NoError(t, err)
	cfg.Channels.Slack.BaseURL = w.vendor.URL + "/api/"
	keys, err := keyring.Open(keyring.Options{Dir: filepath.Join(w.data, "keys", "codec"), Create: true, Now: time.Now})
	require.NoError(t, err)
	box, err := inbox.Open(filepath.Join(w.data, "inbox"), keys)
	require.NoError(t, err)
	signer, err := people.LoadOrCreate(people.ServerKeyFile(w.data))
	require.NoError(t, err)
	voters, err := people.Pinned(cfg, w.data)
	require.NoError(t, err)
	w.server = &voters
	red, err := redact.New(redact.Options{})
	require.NoError(t, err)
	hc, err := httpx.New(httpx.Options{AllowPrivate: true})
	require.NoError(t, err)
	bot := "xoxb-" + random(t)
	w.options = slackapp.Options{
		Config: cfg, Reports: w.engine, Incidents: w.engine, Providers: descriptors(), Signer: signer, Inbox: box, Redact: red, HTTP: hc,
		Log: slog.New(slog.NewJSONHandler(w.log, nil)), Now: func() time.Time { return time.Now().Add(time.Duration(w.skew.Load())) },
		Account: activities.Account{Name: "slack", AllowPrivate: true, Settings: map[string]string{"team": team, "base_url": w.vendor.URL + "/api/"},
			Credential: func(name string) (secret.Value, error) {
				return secret.New([]byte(map[string]string{"bot_token": bot, "signing_secret": w.signing, "app_token": "xapp-" + bot}[name])), nil
			}},
	}
	for _, c := range change {
		c(&w.options)
	}
	w.App = w.start(t)
	return w
}

// start makes another process over the same data.
func (w *world) start(t *testing.T) *slackapp.App {
	t.Helper()
	a, err := slackapp.New(w.options)
	require.NoError(t, err)
	a.Pace(time.Minute, 10*time.Second) // an answer comes in time on a busy machine too
	return a
}

// running runs an app until the test, or the returned function, ends it.
func running(t *testing.T, a *slackapp.App) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { a.Run(ctx); close(done) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

func (w *world) idle(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { p, err := w.options.Inbox.Pending(); return err == nil && len(p) == 0 }, time.Minute, 5*time.Millisecond)
}

// nowhere checks that a secret is in no log, no answer, no file, no request of ours.
func (w *world) nowhere(t *testing.T, canary string) {
	t.Helper()
	require.NotContains(t, w.log.String(), canary)
	w.vendor.mu.Lock()
	defer w.vendor.mu.Unlock()
	require.NotContains(t, fmt.Sprint(w.vendor.answers, w.vendor.posts, w.vendor.views), canary)
	require.NoError(t, filepath.WalkDir(w.data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		require.NotContains(t, string(raw), canary, path)
		return err
	}))
}
