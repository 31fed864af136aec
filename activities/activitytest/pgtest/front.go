package pgtest

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities/activitytest"
)

// A Front is a proxy before a [Server] that knows where a request of PostgreSQL's
// protocol ends and its answer begins
// (https://www.postgresql.org/docs/current/protocol-message-formats.html).
type Front struct {
	l      net.Listener
	server string

	mu      sync.Mutex
	trouble activitytest.Trouble
	n, cut  int
	conns   map[net.Conn]bool
	wg      sync.WaitGroup
}

var _ activitytest.Front = (*Front)(nil)

// NewFront starts a proxy before the server, without TLS.
func NewFront(t *testing.T, s *Server) *Front {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f := &Front{l: l, server: net.JoinHostPort(s.Host, s.Port), conns: map[net.Conn]bool{}}
	f.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if f.hold(c) {
				f.wg.Go(func() { f.serve(c) })
			}
		}
	})
	return f
}

// URL implements activitytest.Front.
func (f *Front) URL() string {
	return "postgres://" + f.l.Addr().String() + "/postgres?sslmode=disable"
}

// Count implements activitytest.Front.
func (f *Front) Count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

// CutAfter implements activitytest.Front.
func (f *Front) CutAfter(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut = f.n + n
}

// Trouble implements activitytest.Front.
func (f *Front) Trouble(trouble activitytest.Trouble) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trouble = trouble
}

// The answers of an endpoint that is not PostgreSQL, or not well.
const (
	webPage   = "a web server"
	hangsUp   = "hangs up"
	cutShort  = "a message that is cut"
	hugeFrame = "a message without end"
	otherRole = "lets in whoever asks, and talks of something else"
	loops     = "asks for the password for ever"
	notices   = "says nothing but notices"
	oddCode   = "an error of no known code"
)

// Hostile implements activitytest.Front.
func (f *Front) Hostile() []string {
	return []string{webPage, hangsUp, cutShort, hugeFrame, otherRole, loops, notices, oddCode}
}

// Close implements activitytest.Front.
func (f *Front) Close() {
	_ = f.l.Close()
	f.mu.Lock()
	for c := range f.conns {
		_ = c.Close()
	}
	f.conns = nil
	f.mu.Unlock()
	f.wg.Wait()
}

func (f *Front) hold(c net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conns == nil {
		_ = c.Close()
		return false
	}
	f.conns[c] = true
	return true
}

func (f *Front) drop(c net.Conn) {
	_ = c.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.conns, c)
}

// asked counts a request and tells what becomes of it.
func (f *Front) asked() (trouble activitytest.Trouble, cut bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	return f.trouble, f.n == f.cut
}

func (f *Front) serve(client net.Conn) {
	defer f.drop(client)
	first, err := message(client, false)
	if err != nil {
		return
	}
	trouble, cut := f.asked()
	if trouble.Name != "" {
		if trouble.Asked != nil {
			trouble.Asked()
		}
		f.misbehave(client, trouble)
		return
	}
	server, err := net.Dial("tcp", f.server)
	if err != nil || !f.hold(server) {
		return
	}
	defer f.drop(server)
	for request := first; ; {
		if _, err := server.Write(request); err != nil {
			return
		}
		if answered := request[0] == 0 || slices.Contains([]byte("QSp"), request[0]); answered {
			if !f.answer(client, server, cut) {
				return
			}
			cut = false
		}
		if request, err = message(client, true); err != nil {
			return
		}
		if slices.Contains([]byte("QSp"), request[0]) {
			if trouble, cut = f.asked(); trouble.Name != "" {
				f.misbehave(client, trouble)
				return
			}
		}
	}
}

// answer passes on what the server says to a request, or lets it be lost.
func (f *Front) answer(client, server net.Conn, cut bool) bool {
	for {
		m, err := message(server, true)
		if err != nil {
			return false
		}
		if !cut {
			if _, err := client.Write(m); err != nil {
				return false
			}
		}
		// The server waits for us after these: a challenge, and the end of an answer.
		// After AuthenticationOk and SASLFinal it goes on by itself.
		if m[0] == 'Z' || m[0] == 'R' && slices.Contains([]uint32{3, 5, 10, 11}, binary.BigEndian.Uint32(m[5:])) {
			return !cut
		}
	}
}

// message reads one message: its type, where it has one, its length, and the rest.
func message(r io.Reader, typed bool) ([]byte, error) {
	head := make([]byte, 5)
	if !typed {
		head = head[1:]
	}
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint32(head[len(head)-4:])) - 4
	if n < 0 || n > 1<<24 {
		return nil, errors.New("no message of PostgreSQL")
	}
	out := make([]byte, len(head)+n)
	copy(out, head)
	_, err := io.ReadFull(r, out[len(head):])
	return out, err
}

func frame(kind byte, body string) []byte {
	out := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4))
	return append(out, body...)
}

// failure is an ErrorResponse that says the canary in every field that takes text.
func failure(code, canary string) []byte {
	return frame('E', "SFATAL\x00VFATAL\x00C"+code+"\x00M"+canary+"\x00D"+canary+"\x00H"+canary+"\x00R"+canary+"\x00\x00")
}

var letIn = string(frame('R', "\x00\x00\x00\x00")) + string(frame('K', "\x00\x00\x00\x01\x00\x00\x00\x01")) + string(frame('Z', "I"))

// misbehave answers a client in the place of the server until it leaves.
func (f *Front) misbehave(client net.Conn, trouble activitytest.Trouble) {
	say := func(b []byte) bool { _, err := client.Write(b); return err == nil }
	each := func(reply string) {
		for say([]byte(reply)) {
			for {
				m, err := message(client, true)
				if err != nil || m[0] == 'X' {
					return
				}
				if m[0] == 'Q' || m[0] == 'S' || m[0] == 'p' {
					break
				}
			}
		}
	}
	switch trouble.Name {
	case activitytest.Throttled:
		say(failure("53300", trouble.Canary))
	case activitytest.Refused:
		if say([]byte(letIn)) {
			if _, err := message(client, true); err == nil {
				each(string(failure("42501", trouble.Canary)) + string(frame('Z', "I")))
			}
		}
	case activitytest.Silent:
		_, _ = io.Copy(io.Discard, client)
	case webPage:
		say([]byte("HTTP/1.1 400 Bad Request\r\nServer: " + trouble.Canary + "\r\nConnection: close\r\n\r\n" + trouble.Canary))
	case hangsUp:
	case cutShort:
		say(failure("42501", trouble.Canary)[:20])
	case hugeFrame:
		say([]byte{'E', 0x7f, 0xff, 0xff, 0xff})
		for say([]byte(trouble.Canary)) {
			time.Sleep(time.Millisecond)
		}
	case otherRole:
		if say([]byte(letIn)) {
			each(string(frame('C', trouble.Canary+"\x00")) + string(frame('Z', "I")))
		}
	case loops:
		each(string(frame('R', "\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00")))
	case notices:
		for say(frame('N', "SNOTICE\x00C00000\x00M"+trouble.Canary+"\x00\x00")) {
			time.Sleep(time.Millisecond)
		}
	case oddCode:
		say(failure(trouble.Canary[:5], trouble.Canary))
	}
}
