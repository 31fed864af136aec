// Package porttest gives tests ports for servers that must be told theirs: those
// that others wrote, and those that are killed and started again on the same one.
// A port that is merely free when one looks is somebody else's a moment later, on
// a machine where several test binaries start servers at the same time.
package porttest

import (
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// first and end bound the ports: below what the system gives to outgoing connections
// and to listeners on port 0 (32768 and up on Linux), and below what rekey itself
// takes for the inner services of Temporal (internal/loopback).
const first, end = 11_000, 20_000

// Free gives n ports of 127.0.0.1 on which nobody listens. They belong to the test
// until its clean-up is over: no other call, in this process or in another one on this
// machine, is given the same.
func Free(t testing.TB, n int) []string {
	t.Helper()
	out := make([]string, n)
	for i, p := range row(t, n, 1) {
		out[i] = strconv.Itoa(p)
	}
	return out
}

// Row is as [Free] and gives the first of n ports that follow each other.
func Row(t testing.TB, n int) int {
	t.Helper()
	return row(t, 1, n)[0]
}

// Addresses is as [Free] and gives host:port.
func Addresses(t testing.TB, n int) []string {
	t.Helper()
	out := Free(t, n)
	for i, p := range out {
		out[i] = net.JoinHostPort("127.0.0.1", p)
	}
	return out
}

// row claims n times length ports that follow each other and gives the first of each.
func row(t testing.TB, n, length int) []int {
	t.Helper()
	dir := claims(t)
	var out []int
	at := first + rand.IntN(end-first)
	for range end - first {
		if at+length > end {
			at = first
		}
		var held []*os.File
		for p := at; p < at+length; p++ {
			c, ok := claim(t, dir, p)
			if !ok {
				break
			}
			held = append(held, c)
		}
		if len(held) == length {
			for _, c := range held {
				t.Cleanup(func() { _ = c.Close() })
			}
			if out = append(out, at); len(out) == n {
				return out
			}
			at += length
			continue
		}
		for _, c := range held {
			_ = c.Close()
		}
		at++
	}
	require.FailNow(t, "no free port", "between %d and %d; %s holds the claims of running tests", first, end, dir)
	return nil
}

// claims is the folder that all tests of this machine share.
func claims(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(os.TempDir(), "rekey-test-ports")
	if err := os.Mkdir(dir, 0o700); err == nil {
		require.NoError(t, os.Chmod(dir, os.ModeSticky|0o777)) // tests of other users claim here too
	}
	return dir
}

// claim locks the file of a port. The lock ends with the file or with the process.
func claim(t testing.TB, dir string, port int) (*os.File, bool) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(port)), os.O_CREATE|os.O_RDWR, 0o666)
	if errors.Is(err, os.ErrPermission) {
		return nil, false // another user's
	}
	require.NoError(t, err)
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, false
	}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		_ = f.Close()
		return nil, false
	}
	_ = l.Close()
	return f, true
}
