package smtptest

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities/activitytest/porttest"
)

// An Aiosmtpd is a running aiosmtpd (https://aiosmtpd.aio-libs.org) that keeps its
// mail in a Maildir.
type Aiosmtpd struct {
	Host, Port string
	dir        string
	python     string
}

// StartAiosmtpd runs aiosmtpd for the length of the test. Where it is absent the
// test is skipped, or fails when REKEY_REQUIRE_SERVERS=1.
func StartAiosmtpd(t testing.TB) *Aiosmtpd {
	t.Helper()
	s := NewAiosmtpd(t)
	s.Up(t)
	return s
}

// NewAiosmtpd finds aiosmtpd and a port for it: nothing answers there before Up. It
// skips or fails as [StartAiosmtpd] does.
func NewAiosmtpd(t testing.TB) *Aiosmtpd {
	t.Helper()
	python := ""
	// Debian's package belongs to Debian's Python, which need not be the first one.
	for _, p := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(p, "-c", "import aiosmtpd").Run() == nil {
			python = p
			break
		}
	}
	if python == "" {
		if os.Getenv("REKEY_REQUIRE_SERVERS") == "1" {
			t.Fatal("needs aiosmtpd: apt-get install python3-aiosmtpd")
		}
		t.Skip("skipped: needs aiosmtpd (apt-get install python3-aiosmtpd)")
	}
	return &Aiosmtpd{Host: "127.0.0.1", Port: porttest.Free(t, 1)[0], dir: filepath.Join(t.TempDir(), "mail"), python: python}
}

// Up starts the server, for the rest of the test.
func (s *Aiosmtpd) Up(t testing.TB) {
	t.Helper()
	cmd := exec.Command(s.python, "-m", "aiosmtpd", "-n", "-l", s.Host+":"+s.Port, "-c", "aiosmtpd.handlers.Mailbox", s.dir)
	require.NoError(t, cmd.Start())
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-exited
	})
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", s.Host+":"+s.Port)
		if err != nil {
			return false
		}
		return c.Close() == nil
	}, 30*time.Second, 50*time.Millisecond, "aiosmtpd does not listen")
}

// Mails are the files that it has taken.
func (s *Aiosmtpd) Mails(t testing.TB) [][]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.dir, "new", "*"))
	require.NoError(t, err)
	var out [][]byte
	for _, f := range files {
		b, err := os.ReadFile(f)
		require.NoError(t, err)
		out = append(out, b)
	}
	return out
}
