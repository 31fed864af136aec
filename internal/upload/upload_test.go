package upload_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/activities/awsiam"
	"rekey/internal/api"
	"rekey/internal/codec/keyring"
	"rekey/internal/inbox"
	"rekey/internal/intake"
	"rekey/internal/upload"
	"rekey/internal/view"
)

const (
	keyID = "AKIAIOSFODNN7EXAMPLE"
	fp    = "fp1_aaaaaaaaaaaabbbbbbbbbbbbaaaaaaaaaaaabbbbbbbbbbbbaaaaaaaaaaaabbbb"
)

type world struct {
	*upload.Links
	mu       sync.Mutex
	requests []api.ReportRequest
	callers  []intake.Caller
	err      error
	now      time.Time
	data     string
	log      *bytes.Buffer
	options  upload.Options
}

func (w *world) Report(_ context.Context, who intake.Caller, r api.ReportRequest) (api.ReportResponse, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !r.DryRun {
		w.requests, w.callers = append(w.requests, r), append(w.callers, who)
	}
	return api.ReportResponse{Incident: "inc-0123456789ab", FP: fp}, w.err
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{now: time.Now(), data: t.TempDir(), log: &bytes.Buffer{}}
	keys, err := keyring.Open(keyring.Options{Dir: filepath.Join(w.data, "keys"), Create: true, Now: time.Now})
	require.NoError(t, err)
	box, err := inbox.Open(filepath.Join(w.data, "uploads"), keys)
	require.NoError(t, err)
	w.options = upload.Options{
		Box: box, Reports: w, Providers: []activities.Descriptor{awsiam.Provider().Descriptor, {Code: "vault"}}, URL: "https://rekey.example.com/",
		Log: slog.New(slog.NewJSONHandler(w.log, nil)), Now: func() time.Time { return w.now },
	}
	w.Links, err = upload.New(w.options)
	require.NoError(t, err)
	return w
}

// link makes a link and gives its path.
func (w *world) link(t *testing.T) string {
	t.Helper()
	u, err := w.Make(t.Context(), upload.Link{Provider: "awsiam", Account: "prod", KeyID: keyID, Who: intake.Caller{Actor: "alice", Source: "slack", SourceKind: "chat"}})
	require.NoError(t, err)
	require.Regexp(t, `^https://rekey\.example\.com/upload/[A-Za-z0-9_-]{43}$`, u)
	return strings.TrimPrefix(u, "https://rekey.example.com")
}

func (w *world) get(path string) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	w.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
	return rec
}

func (w *world) post(path, secret string) *httptest.ResponseRecorder {
	return w.postTo(w.Links, path, secret)
}

func (w *world) postTo(l *upload.Links, path, secret string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(url.Values{"secret": {secret}}.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	rec := httptest.NewRecorder()
	l.Handler().ServeHTTP(rec, r)
	return rec
}

// canary is a secret of the form that AWS gives.
func canary(t *testing.T) string {
	t.Helper()
	b := make([]byte, 20)
	_, err := rand.Read(b)
	require.NoError(t, err)
	return hex.EncodeToString(b)
}

func TestASecretIsHandedOverOnce(t *testing.T) {
	w := newWorld(t)
	path, hidden := w.link(t), canary(t)
	for range 3 {
		rec := w.get(path)
		require.Equal(t, http.StatusOK, rec.Code, "looking uses nothing up: link previews look")
		require.Contains(t, rec.Body.String(), keyID)
	}
	rec := w.post(path, " "+hidden+"\n")
	require.Equal(t, http.StatusOK, rec.Code, rec.Body.String())
	require.Contains(t, rec.Body.String(), "aaaaaaaaaaaa", "answered by the fingerprint")
	require.NotContains(t, rec.Body.String(), hidden)
	require.NotContains(t, rec.Body.String(), "inc-")

	require.Len(t, w.requests, 1)
	raw, err := base64.StdEncoding.DecodeString(w.requests[0].Secret)
	require.NoError(t, err)
	require.Equal(t, hidden, string(raw))
	require.Equal(t, []string{"awsiam", "prod", keyID}, []string{w.requests[0].Provider, w.requests[0].Account, w.requests[0].KeyID}, "bound to its key")
	require.Equal(t, intake.Caller{Actor: "alice", Source: "slack", SourceKind: "chat"}, w.callers[0], "and its reporter")

	other, err := upload.New(w.options) // another process, or the next one
	require.NoError(t, err)
	require.Equal(t, http.StatusNotFound, w.postTo(other, path, hidden).Code)
	require.Equal(t, http.StatusNotFound, w.get(path).Code)
	require.Len(t, w.requests, 1)
	w.nowhere(t, hidden, path)
}

// nowhere checks that neither secret nor token is on the disk or in the log.
func (w *world) nowhere(t *testing.T, hidden, path string) {
	t.Helper()
	token := path[strings.LastIndexByte(path, '/')+1:]
	for _, s := range []string{hidden, token} {
		require.NotContains(t, w.log.String(), s)
		require.NoError(t, filepath.WalkDir(w.data, func(file string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			require.NotContains(t, file, s)
			raw, err := os.ReadFile(file)
			require.NotContains(t, string(raw), s, file)
			return err
		}))
	}
}

func TestOfManyAtOnceOneIsTaken(t *testing.T) {
	w := newWorld(t)
	path := w.link(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	codes := map[int]int{}
	for range 10 {
		hidden := canary(t)
		wg.Go(func() {
			c := w.post(path, hidden).Code
			mu.Lock()
			codes[c]++
			mu.Unlock()
		})
	}
	wg.Wait()
	require.Equal(t, map[int]int{http.StatusOK: 1, http.StatusNotFound: 9}, codes)
	require.Len(t, w.requests, 1)
}

func TestALinkLapses(t *testing.T) {
	w := newWorld(t)
	path := w.link(t)
	w.now = w.now.Add(upload.Life)
	require.Equal(t, http.StatusNotFound, w.get(path).Code)
	require.Equal(t, http.StatusNotFound, w.post(path, canary(t)).Code)
	require.Empty(t, w.requests)
	w.link(t)
	pending, err := w.options.Box.Pending()
	require.NoError(t, err)
	require.Len(t, pending, 1, "a lapsed link is forgotten")
}

func TestWhatIsNoLink(t *testing.T) {
	w := newWorld(t)
	good := w.link(t)
	for _, path := range []string{"/upload/x", "/upload/" + strings.Repeat("A", 43), good + "A", good[:len(good)-1], "/upload/..%2Fkeys"} {
		rec := w.get(path)
		require.Equal(t, http.StatusNotFound, rec.Code, path)
		require.NotContains(t, rec.Body.String(), keyID)
		require.Equal(t, http.StatusNotFound, w.post(path, canary(t)).Code, path)
	}
	rec := httptest.NewRecorder()
	w.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodPut, good, nil))
	require.Equal(t, http.StatusMethodNotAllowed, rec.Code)
	require.Empty(t, w.requests)
}

func TestWhatIsNoSecretDoesNotUseTheLinkUp(t *testing.T) {
	w := newWorld(t)
	path := w.link(t)
	for want, secret := range map[string]string{
		"nothing in it":             " \n",
		"public id":                 keyID,
		"does not look like":        "correct horse battery staple",
		"several lines":             "id,secret\n" + keyID + "," + canary(t),
		"larger than 64 KiB":        strings.Repeat("a", 70<<10),
		"It is larger than 64 KiB.": strings.Repeat("a", 200<<10),
	} {
		rec := w.post(path, secret)
		require.GreaterOrEqual(t, rec.Code, 400)
		require.Contains(t, rec.Body.String(), want)
		require.NotContains(t, rec.Body.String(), "correct horse")
	}
	require.Empty(t, w.requests)
	require.Equal(t, http.StatusOK, w.post(path, canary(t)).Code)
}

func TestAFileIsAsGood(t *testing.T) {
	w := newWorld(t)
	path, hidden := w.link(t), canary(t)
	var body bytes.Buffer
	m := multipart.NewWriter(&body)
	require.NoError(t, m.WriteField("secret", ""))
	part, err := m.CreateFormFile("file", "<script>.txt")
	require.NoError(t, err)
	_, err = part.Write([]byte(hidden + "\n"))
	require.NoError(t, err)
	require.NoError(t, m.Close())
	r := httptest.NewRequest(http.MethodPost, path, &body)
	r.Header.Set("Content-Type", m.FormDataContentType())
	rec := httptest.NewRecorder()
	w.Handler().ServeHTTP(rec, r)
	require.Equal(t, http.StatusOK, rec.Code, rec.Body.String())
	raw, err := base64.StdEncoding.DecodeString(w.requests[0].Secret)
	require.NoError(t, err)
	require.Equal(t, hidden, string(raw))
}

func TestThePageIsClosed(t *testing.T) {
	w := newWorld(t)
	for _, rec := range []*httptest.ResponseRecorder{w.get(w.link(t)), w.get("/upload/x"), w.post(w.link(t), canary(t))} {
		h := rec.Header()
		require.Contains(t, h.Get("Content-Security-Policy"), "default-src 'none'")
		require.Contains(t, h.Get("Content-Security-Policy"), "form-action 'self'")
		require.NotContains(t, h.Get("Content-Security-Policy"), "unsafe")
		require.Equal(t, "no-store", h.Get("Cache-Control"))
		require.Equal(t, "no-referrer", h.Get("Referrer-Policy"))
		for _, bad := range []string{"<script", "http://", "https://", "src=", "<link", "onclick"} {
			require.NotContains(t, rec.Body.String(), bad, "self-contained")
		}
	}
	u, err := w.Make(t.Context(), upload.Link{Provider: "vault", KeyID: `<script>alert("1")</script>`})
	require.NoError(t, err)
	require.NotContains(t, w.get(strings.TrimPrefix(u, "https://rekey.example.com")).Body.String(), "<script")
}

func TestEngineFailures(t *testing.T) {
	w := newWorld(t)
	down := &intake.Refusal{Kind: intake.Unavailable, Body: view.ErrorBody{Code: "unreachable", Message: "m", Do: "d"}, Cause: errors.New("x")}
	w.err = down
	path := w.link(t) // an engine that is down says nothing against the key
	rec := w.post(path, canary(t))
	require.Equal(t, http.StatusServiceUnavailable, rec.Code)
	require.Contains(t, rec.Body.String(), "used up")
	require.Equal(t, http.StatusNotFound, w.post(path, canary(t)).Code, "a link is never used twice")

	w.err = &intake.Refusal{Kind: intake.Malformed, Body: view.ErrorBody{Code: "invalid", Message: "no such account", Do: "name one"}}
	_, err := w.Make(t.Context(), upload.Link{Provider: "awsiam", KeyID: keyID})
	require.ErrorContains(t, err, "no such account", "what could not be reported gets no link")
}
