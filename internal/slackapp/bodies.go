package slackapp

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Bounds of what is read before anybody is authenticated. Slack sends its bodies at
// once and wants an answer within 3 s, so a body that takes longer serves nobody.
const (
	maxBodies    = 128
	maxBodyTakes = 3 * time.Second
)

var (
	errSlowBody = errors.New("slackapp: the body came too slowly")
	errCrowded  = errors.New("slackapp: too many requests are being read")
)

// bodies reads the bodies of requests that nobody has authenticated yet, a bounded
// number at a time, each within a bounded time. When there are too many the oldest
// goes: Slack's are read in a moment, so what has lasted longest is not Slack's.
type bodies struct {
	most  int
	takes time.Duration

	mu   sync.Mutex
	open []*reading // oldest first
}

// A reading is one body on its way.
type reading struct {
	conn    *http.ResponseController
	evicted bool
}

// read gives the whole body, of at most limit bytes. It fails with a
// *http.MaxBytesError, errSlowBody, errCrowded, or as the connection does.
func (b *bodies) read(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	me := &reading{conn: http.NewResponseController(w)}
	if err := b.enter(me); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	evicted := b.leave(me, err == nil)
	switch {
	case err == nil:
		return body, nil // whole, if only just
	case evicted:
		return nil, errCrowded
	case timedOut(err):
		return nil, errSlowBody
	}
	return nil, err
}

// enter takes a place, the oldest one's where there is none.
func (b *bodies) enter(me *reading) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.open) >= b.most {
		oldest := b.open[0]
		if err := oldest.conn.SetReadDeadline(time.Unix(1, 0)); err != nil {
			return errCrowded // it cannot be told to stop
		}
		oldest.evicted = true
		b.open = b.open[1:]
	}
	if err := me.conn.SetReadDeadline(time.Now().Add(b.takes)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	b.open = append(b.open, me)
	return nil
}

// leave gives the place back. A connection whose body was read may take its time again:
// net/http ends the context of a request whose connection times out. One that failed
// stays cut off, or net/http would wait for the rest before it answers.
func (b *bodies) leave(me *reading, read bool) (evicted bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open = slices.DeleteFunc(b.open, func(x *reading) bool { return x == me })
	if read {
		_ = me.conn.SetReadDeadline(time.Time{}) // where it could be set it can be taken back
	}
	return me.evicted
}

func timedOut(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}
