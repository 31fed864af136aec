package activitytest

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"
)

// A Front stands between a provider and its vendor and makes trouble. The harness has
// one for vendors that speak HTTP; a vendor that speaks something else brings its own
// by [Subject.Front].
type Front interface {
	// URL is where the provider finds the vendor.
	URL() string
	// Count is how many requests were made so far.
	Count() int
	// CutAfter loses the answer of the nth request from now on: the vendor has acted,
	// and nobody hears of it.
	CutAfter(n int)
	// Trouble takes the vendor's place; the zero Trouble brings it back.
	Trouble(Trouble)
	// Hostile names the troubles of an endpoint that is not the vendor, or not well.
	Hostile() []string
	// Close ends all connections.
	Close()
}

// A Trouble is what answers instead of the vendor.
type Trouble struct {
	// Name is throttled, refused or silent, or one of [Front.Hostile].
	Name string
	// Canary is said wherever the vendor could say something.
	Canary string
	// Asked is called, if not nil, when a request has come.
	Asked func()
}

// Troubles that every front makes.
const (
	Throttled = "throttled" // as the vendor says that it is asked too often
	Refused   = "refused"   // as the vendor says that our credential lacks the right
	Silent    = "silent"    // takes the request and never answers
)

// front is the one for HTTP.
type front struct {
	srv     *httptest.Server
	hostile map[string]func(w http.ResponseWriter, r *http.Request, canary string)

	mu      sync.Mutex
	world   World
	instead http.HandlerFunc
	cut     int
	n       int
}

func newFront(t *testing.T) *front {
	f := &front{hostile: hostileAnswers(t)}
	f.srv = httptest.NewServer(f)
	return f
}

// ServeHTTP implements http.Handler.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.n++
	instead, vendor, cut := f.instead, f.world.Vendor, f.n == f.cut
	f.mu.Unlock()
	switch {
	case instead != nil:
		instead(w, r)
	case cut:
		vendor.ServeHTTP(httptest.NewRecorder(), r) // it happens, and nobody hears of it
		hangUp(w)
	default:
		vendor.ServeHTTP(w, r)
	}
}

// URL implements Front.
func (f *front) URL() string { return f.srv.URL }

// Trouble implements Front.
func (f *front) Trouble(trouble Trouble) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch trouble.Name {
	case "":
		f.instead = nil
	case Throttled:
		f.instead = func(w http.ResponseWriter, r *http.Request) { f.world.Throttle(w, r, trouble.Canary) }
	case Refused:
		f.instead = func(w http.ResponseWriter, r *http.Request) { f.world.Refuse(w, r, trouble.Canary) }
	case Silent:
		f.instead = func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // only then does the server notice that we left
			trouble.Asked()
			<-r.Context().Done()
		}
	default:
		f.instead = func(w http.ResponseWriter, r *http.Request) { f.hostile[trouble.Name](w, r, trouble.Canary) }
	}
}

// CutAfter implements Front.
func (f *front) CutAfter(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut = f.n + n
}

// Count implements Front.
func (f *front) Count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

// Hostile implements Front.
func (f *front) Hostile() []string { return slices.Sorted(maps.Keys(f.hostile)) }

// Close implements Front.
func (f *front) Close() {
	f.srv.CloseClientConnections()
	f.srv.Close()
}

func hangUp(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

const proxyPage = `<!DOCTYPE html><html><head><title>Access Denied</title></head><body><h1>Your organisation blocks this site</h1><p>%s</p></body></html>`

// hostileAnswers are what an endpoint that is not the vendor, or not well, may
// say. Each says the canary where it can.
func hostileAnswers(t *testing.T) map[string]func(w http.ResponseWriter, r *http.Request, canary string) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("a redirect to another host was followed")
	}))
	t.Cleanup(elsewhere.Close)
	plant := func(w http.ResponseWriter, canary string) {
		for _, h := range []string{"X-Amzn-Requestid", "X-Request-Id", "X-Amzn-Errortype", "X-Error", "Server"} {
			w.Header().Set(h, canary)
		}
	}
	page := func(status int) func(http.ResponseWriter, *http.Request, string) {
		return func(w http.ResponseWriter, _ *http.Request, canary string) {
			plant(w, canary)
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(status)
			_, _ = fmt.Fprintf(w, proxyPage, canary)
		}
	}
	text := func(kind, body string) func(http.ResponseWriter, *http.Request, string) {
		return func(w http.ResponseWriter, _ *http.Request, canary string) {
			plant(w, canary)
			w.Header().Set("Content-Type", kind)
			_, _ = fmt.Fprintf(w, body, canary)
		}
	}
	return map[string]func(http.ResponseWriter, *http.Request, string){
		"proxy page, 200":  page(http.StatusOK),
		"proxy page, 403":  page(http.StatusForbidden),
		"proxy page, 407":  page(http.StatusProxyAuthRequired),
		"proxy page, 502":  page(http.StatusBadGateway),
		"XML that is cut":  text("text/xml", "<Response><Secret>%s"),
		"JSON that is cut": text("application/json", `{"secret":"%s`),
		"another document": text("text/xml", "<note>%s</note>"),
		"nothing":          func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(http.StatusOK) },
		"no content":       func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(http.StatusNoContent) },
		"hangs up":         func(w http.ResponseWriter, _ *http.Request, _ string) { hangUp(w) },
		"body without end": func(w http.ResponseWriter, _ *http.Request, canary string) {
			chunk := bytes.Repeat([]byte(canary), 1024)
			for range 1024 {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		},
		"slow body": func(w http.ResponseWriter, r *http.Request, canary string) {
			_, _ = io.Copy(io.Discard, r.Body)
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-r.Context().Done():
					return
				case <-tick.C:
				}
				if _, err := w.Write([]byte(canary[:1])); err != nil {
					return
				}
				_ = http.NewResponseController(w).Flush()
			}
		},
		"less than announced": func(w http.ResponseWriter, _ *http.Request, canary string) {
			w.Header().Set("Content-Length", "1000")
			_, _ = fmt.Fprint(w, canary)
		},
		"redirect to another host": func(w http.ResponseWriter, r *http.Request, canary string) {
			plant(w, canary)
			http.Redirect(w, r, elsewhere.URL+"/?"+canary, http.StatusTemporaryRedirect)
		},
		"redirect for ever": func(w http.ResponseWriter, r *http.Request, _ string) {
			http.Redirect(w, r, r.URL.Path, http.StatusPermanentRedirect)
		},
	}
}
