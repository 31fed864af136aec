package slackapp_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"rekey/activities/notify"
	"rekey/internal/slackapp"
)

// hub speaks the server's side of Socket Mode, after
// https://docs.slack.dev/apis/events-api/using-socket-mode: hello, envelopes that
// want an acknowledgement, disconnect.
type hub struct {
	mu    sync.Mutex
	conns []*websocket.Conn
	acks  map[string]int
	n     int
}

func (h *hub) serve(w http.ResponseWriter, r *http.Request) {
	up := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	c, err := up.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	h.mu.Lock()
	h.conns = append(h.conns, c)
	_ = c.WriteJSON(map[string]any{"type": "hello", "num_connections": len(h.conns), "connection_info": map[string]any{"app_id": "A0123"},
		"debug_info": map[string]any{"host": "applink-1", "approximate_connection_time": 18060}})
	h.mu.Unlock()
	for {
		var ack struct {
			EnvelopeID string `json:"envelope_id"`
		}
		if c.ReadJSON(&ack) != nil {
			return
		}
		h.mu.Lock()
		h.acks[ack.EnvelopeID]++
		h.mu.Unlock()
	}
}

func (h *hub) open() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.conns)
}

func (h *hub) acked(id string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.acks[id]
}

// push sends an envelope down the newest connection, and gives its id.
func (h *hub) push(t *testing.T, kind string, payload any) string {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.n++
	id := "envelope-" + strconv.Itoa(h.n)
	require.NoError(t, h.conns[len(h.conns)-1].WriteJSON(map[string]any{"envelope_id": id, "type": kind, "accepts_response_payload": true, "payload": payload}))
	return id
}

// raw sends a message that is no envelope.
func (h *hub) raw(t *testing.T, text string) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	require.NoError(t, h.conns[len(h.conns)-1].WriteMessage(websocket.TextMessage, []byte(text)))
}

// payload is a slash command as it comes in an envelope: the form's fields as JSON.
func payload(t *testing.T, c call) map[string]any {
	t.Helper()
	f, err := url.ParseQuery(c.body)
	require.NoError(t, err)
	if p := f.Get("payload"); p != "" {
		var out map[string]any
		require.NoError(t, json.Unmarshal([]byte(p), &out))
		return out
	}
	out := map[string]any{}
	for k := range f {
		out[k] = f.Get(k)
	}
	return out
}

func newSocket(t *testing.T) (*world, *hub) {
	t.Helper()
	w := newWorld(t, func(o *slackapp.Options) { o.Config.Channels.Slack.AppTokenFile = "app" })
	h := &hub{acks: map[string]int{}}
	w.vendor.socket = h.serve
	running(t, w.App)
	require.Eventually(t, func() bool { return h.open() == 1 }, time.Minute, time.Millisecond)
	return w, h
}

func TestSocketMode(t *testing.T) {
	w, h := newSocket(t)
	c := w.slash(alice, "report awsiam "+keyID)
	id := h.push(t, "slash_commands", payload(t, c))
	require.Contains(t, w.later(t, 1), "Reported")
	require.Eventually(t, func() bool { return h.acked(id) == 1 }, time.Minute, time.Millisecond)

	again := h.push(t, "slash_commands", payload(t, c)) // Slack sends it anew when an acknowledgement was lost
	require.Eventually(t, func() bool { return h.acked(again) == 1 }, time.Minute, time.Millisecond)
	id = h.push(t, "interactive", payload(t, w.click(bob, notify.ActionApprove, notify.ButtonValue(known, "a1", wave))))
	require.Contains(t, w.later(t, 2), "Your vote for a1 is counted")
	require.Eventually(t, func() bool { return h.acked(id) == 1 }, time.Minute, time.Millisecond)
	require.Len(t, w.reports(), 1)
	require.Len(t, w.decisions(), 1)
	w.bySlack(t, w.decisions()[0], "bob")

	for name, p := range map[string]any{
		"another workspace": payload(t, w.slash(alice, "report awsiam "+keyID, func(f url.Values) { f.Set("team_id", "T0OTHER") })),
		"no user":           payload(t, w.slash(alice, "report awsiam "+keyID, func(f url.Values) { f.Del("user_id") })),
	} {
		id := h.push(t, "slash_commands", p)
		require.Eventually(t, func() bool { return h.acked(id) == 1 }, time.Minute, time.Millisecond, name)
	}
	require.Equal(t, int64(1), w.Refusals()["wrong-team"])
	require.Equal(t, int64(1), w.Refusals()["malformed"])
	require.Len(t, w.reports(), 1)
}

func TestSocketModeIsOpenedAgain(t *testing.T) {
	w, h := newSocket(t)
	h.raw(t, `{"type":"disconnect","reason":"refresh_requested","debug_info":{"host":"applink-1"}}`)
	require.Eventually(t, func() bool { return h.open() == 2 }, time.Minute, time.Millisecond, "Slack refreshes its connections")
	h.mu.Lock()
	require.NoError(t, h.conns[1].Close()) // and loses some
	h.mu.Unlock()
	require.Eventually(t, func() bool { return h.open() == 3 }, time.Minute, time.Millisecond)
	for _, text := range []string{`{"type":"a type of tomorrow"}`, `{"type":`, `[]`} {
		h.raw(t, text)
	}
	h.push(t, "slash_commands", payload(t, w.slash(alice, "list")))
	require.Contains(t, w.later(t, 1), known)
}

func TestSocketModeAcknowledgesWhatIsDurableAndNotWhatIsDone(t *testing.T) {
	w, h := newSocket(t)
	w.set(func() { w.down = errors.New("connection refused") })
	id := h.push(t, "slash_commands", payload(t, w.slash(alice, "report awsiam "+keyID)))
	require.Eventually(t, func() bool { return h.acked(id) == 1 }, time.Minute, time.Millisecond)
	require.Contains(t, w.later(t, 1), "kept")
	w.set(func() { w.down = nil })
	require.Contains(t, w.later(t, 2), "Reported")
}

func TestSocketModeGoesToSlackAlone(t *testing.T) {
	asked := make(chan struct{}, 100)
	elsewhere := newVendor(t)
	elsewhere.socket = func(http.ResponseWriter, *http.Request) { asked <- struct{}{} }
	w := newWorld(t, func(o *slackapp.Options) { o.Config.Channels.Slack.AppTokenFile = "app" })
	w.vendor.mu.Lock()
	w.vendor.elsewhere = elsewhere.URL
	w.vendor.mu.Unlock()
	running(t, w.App)
	require.Eventually(t, func() bool { return w.vendor.count("/api/apps.connections.open") > 1 }, time.Minute, time.Millisecond)
	require.Empty(t, asked, "wherever apps.connections.open points")
}
