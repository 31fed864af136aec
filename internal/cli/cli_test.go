package cli

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"rekey/internal/audit"
	"rekey/internal/audit/audittest"
	"rekey/internal/people"
	"rekey/internal/statement"
	"rekey/internal/view"
)

// now is the wall clock of every script.
func now() time.Time { return time.Date(2026, 11, 21, 3, 10, 0, 0, time.UTC) }

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"rekey": func() {
		s := System()
		s.Now = now
		if w, err := strconv.Atoi(os.Getenv("TEST_TTY")); err == nil {
			s.OutTTY, s.ErrTTY = true, true
			s.Size = func() (int, int) { return w, 40 }
		}
		ctx := context.Background()
		if d, err := time.ParseDuration(os.Getenv("TEST_INTERRUPT")); err == nil {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, d)
			defer cancel()
		}
		os.Exit(Run(ctx, os.Args[1:], s, fakeEngine(os.Getenv("TEST_ENGINE"))))
	}})
}

// TestScripts runs every script below testdata/script. Besides the commands of
// testscript they have:
//
//	serve               a fake server of the files below api/, see fakeServer
//	code N rekey ARGS   runs rekey and wants exactly this exit code
//	bundle FILE [break] writes a sealed sample bundle, or one with a changed byte
//
// UPDATE=1 rewrites the golden parts.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		UpdateScripts:       os.Getenv("UPDATE") != "",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			data := filepath.Join(e.WorkDir, "data")
			if _, err := people.LoadOrCreateToken(data); err != nil {
				return err
			}
			if _, err := people.LoadOrCreate(people.LocalKeyFile(data)); err != nil {
				return err
			}
			// 40 characters, as AWS secrets have; known to nobody.
			e.Setenv("SECRET", (rand.Text() + rand.Text())[:40])
			e.Setenv("REKEY_DATA", data)
			e.Setenv("XDG_CONFIG_HOME", filepath.Join(e.WorkDir, "config"))
			e.Setenv("TERM", "xterm")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve": serveCommand, "code": codeCommand, "bundle": bundleCommand,
		},
	})
}

func codeCommand(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	path, err := exec.LookPath("rekey")
	if err != nil { // the script's PATH has it, not ours
		path = filepath.Join(strings.Split(ts.Getenv("PATH"), string(os.PathListSeparator))[0], "rekey")
	}
	cmd := exec.Command(path, args[2:]...)
	cmd.Dir, cmd.Env = ts.MkAbs("."), environ(ts)
	cmd.Stdout, cmd.Stderr = ts.Stdout(), ts.Stderr()
	if file := ts.Getenv("STDIN"); file != "" {
		f, err := os.Open(ts.MkAbs(file))
		ts.Check(err)
		ts.Defer(func() { _ = f.Close() })
		cmd.Stdin = f
	}
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		ts.Fatalf("%v", err)
	}
	if got := cmd.ProcessState.ExitCode(); (got == want) == neg {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func environ(ts *testscript.TestScript) []string {
	var out []string
	for _, name := range []string{
		"PATH", "HOME", "TMPDIR", "WORK", "XDG_CONFIG_HOME", "TERM", "NO_COLOR", "REKEY_DATA", "REKEY_SERVER", "REKEY_CONFIG", "REKEY_IDENTITY",
		"REKEY_TOKEN_FILE", "REKEY_LISTEN_HTTP", "TEST_TTY", "TEST_ENGINE", "TEST_INTERRUPT", "http_proxy", "GOCOVERDIR", "TESTSCRIPT_COMMAND",
	} {
		if v := ts.Getenv(name); v != "" {
			out = append(out, name+"="+v)
		}
	}
	return out
}

func bundleCommand(ts *testscript.TestScript, _ bool, args []string) {
	signer, err := audit.NewSigner("example.com/rekey")
	ts.Check(err)
	events, seen := audittest.Sample()
	var b strings.Builder
	_, err = audit.Write(&b, audittest.Content(events, seen), signer)
	ts.Check(err)
	raw := []byte(b.String())
	if len(args) > 1 && args[1] == "break" {
		at := strings.Index(b.String(), `"actor":"`)
		if at < 0 {
			ts.Fatalf("the sample bundle has no event in clear")
		}
		raw[at+len(`"actor":"`)] ^= 1
	}
	ts.Check(os.MkdirAll(filepath.Dir(ts.MkAbs(args[0])), 0o700))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), raw, 0o600))
}

func serveCommand(ts *testscript.TestScript, _ bool, _ []string) {
	data := ts.Getenv("REKEY_DATA")
	token, err := people.ReadToken(data)
	ts.Check(err)
	key, err := people.LoadIdentity(people.LocalKeyFile(data))
	ts.Check(err)
	f := &fakeServer{dir: ts.MkAbs("api"), log: ts.MkAbs("requests"), token: token, key: people.Public(key), calls: map[string]int{}}
	s := httptest.NewServer(f)
	ts.Defer(s.Close)
	ts.Setenv("REKEY_SERVER", s.URL)
	ts.Check(os.WriteFile(f.log, nil, 0o600))
}

// fakeServer answers from files: the nth GET of /api/v1/incidents/x is
// api/incidents/x.n.json if it is there, else api/incidents/x.json. A file that
// holds an error is answered with the status that its code has. Each request is
// appended to the file "requests", statements with the word whether their
// signature is the local user's.
type fakeServer struct {
	dir, log, token string
	key             []byte

	mu    sync.Mutex
	calls map[string]int
}

func (f *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/api/v1/")
	if q := r.URL.Query(); q.Get("after") != "" {
		path += "-after-" + q.Get("after")
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	mark := ""
	if strings.HasSuffix(path, "/statements") {
		mark = " bad-signature"
		var s statement.Signed
		if json.Unmarshal(body, &s) == nil && s.Verify(f.key) == nil {
			mark = " signed"
		}
	}
	f.record(fmt.Sprintf("%s %s?%s%s %s\n", r.Method, path, r.URL.RawQuery, mark, body))
	if r.Header.Get("Authorization") != "Bearer "+f.token {
		refuse(w, http.StatusUnauthorized, "unauthorised")
		return
	}
	key := r.Method + path
	f.calls[key]++
	for _, name := range []string{fmt.Sprintf("%s.%d.json", path, f.calls[key]), path + ".json", path + ".zip"} {
		raw, err := os.ReadFile(filepath.Join(f.dir, filepath.FromSlash(name)))
		if err != nil {
			continue
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(statusOf(raw))
		_, _ = w.Write(raw)
		return
	}
	refuse(w, http.StatusNotFound, view.CodeNotFound)
}

func (f *fakeServer) record(text string) {
	out, err := os.OpenFile(f.log, os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	defer func() { _ = out.Close() }()
	_, _ = out.WriteString(text)
}

func statusOf(raw []byte) int {
	var e view.Error
	if json.Unmarshal(raw, &e) != nil || e.Error.Code == "" {
		return http.StatusOK
	}
	switch e.Error.Code {
	case view.CodeInvalid:
		return http.StatusBadRequest
	case view.CodeNotFound:
		return http.StatusNotFound
	case "unavailable":
		return http.StatusServiceUnavailable
	}
	return http.StatusConflict
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(view.Error{Error: view.ErrorBody{Code: code, Message: "refused: " + code}})
}
