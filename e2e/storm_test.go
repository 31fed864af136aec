package e2e

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/api"
	"rekey/internal/event"
	"rekey/internal/view"
)

// stormScenario is a lab of n idle keys, each of its own user.
func stormScenario(n int) string {
	return fmt.Sprintf(`apiVersion: rekey/v1
kind: Drill
name: storm
seed: 4
clock: {mode: real}
estate:
  providers: {awsiam/lab: {propagation: 1s}}
  keys: [{id: bystander, user: bystander, policy: ReadOnlyAccess}]
  generate: [{kind: key, count: %d, id: "KEY-{n}", user: "user-{n}"}]
trigger: {at: T0, report: {provider: awsiam, kind: user-access-key, key: bystander, source: cli, confidence: confirmed}}
expect: [{id: bystander, expr: 'lab.keys.exists(k, k.alias == "bystander" && k.state == "active")'}]
`, n)
}

// An apiClient speaks to a rig's server as a program does.
type apiClient struct {
	base, token string
	http        *http.Client
}

func (r *rig) api() *apiClient {
	r.t.Helper()
	token, err := os.ReadFile(filepath.Join(r.data(), "cli-token"))
	require.NoError(r.t, err)
	return &apiClient{"http://" + r.http + "/api/v1", strings.TrimSpace(string(token)), &http.Client{
		Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 128},
	}}
}

func (c *apiClient) do(ctx context.Context, method, path string, in any) (int, []byte, error) {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return 0, nil, err
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	return resp.StatusCode, raw, err
}

// report sends a report until it is taken; a server that is busy says so.
func (c *apiClient) report(ctx context.Context, req api.ReportRequest) (answer api.ReportResponse, busy int, err error) {
	for {
		status, raw, err := c.do(ctx, http.MethodPost, "/reports", req)
		switch {
		case err != nil:
			return answer, busy, err
		case status == http.StatusAccepted:
			return answer, busy, json.Unmarshal(raw, &answer)
		case status != http.StatusServiceUnavailable:
			return answer, busy, fmt.Errorf("%d %s", status, raw)
		}
		busy++
		time.Sleep(50*time.Millisecond + rand.N(200*time.Millisecond))
	}
}

// storm says how large the storm is: reports and keys. REKEY_STORM=10000x50 is the
// one of the budget.
func storm(t *testing.T) (reports, keys int) {
	t.Helper()
	reports, keys = 1200, 24
	if size := os.Getenv("REKEY_STORM"); size != "" {
		_, err := fmt.Sscanf(size, "%dx%d", &reports, &keys)
		require.NoError(t, err)
	}
	return reports, keys
}

// TestAStormOfReports: thousands of reports of few keys, many of them sent twice, are
// one incident per key; each report is in its incident's record exactly once, and no
// history grows beyond its bounds.
func TestAStormOfReports(t *testing.T) {
	t.Parallel()
	reports, keys := storm(t)
	r, l := onLab(t, stormScenario(keys))
	r.up()
	c := r.api()
	var order []int
	for n := range reports {
		order = append(order, n)
		if n%10 == 0 {
			order = append(order, n) // its answer was lost: it is sent again
		}
	}
	rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	var mu sync.Mutex
	taken := map[string]map[string]bool{} // incident -> reports
	of := map[string]string{}             // key -> incident
	took := make([]time.Duration, 0, len(order))
	busy := 0
	jobs := make(chan int)
	var all sync.WaitGroup
	began := time.Now()
	for range 48 {
		all.Go(func() {
			for n := range jobs {
				key := l.info.Aliases[fmt.Sprintf("KEY-%d", 1+n%keys)]
				at := time.Now()
				answer, waited, err := c.report(t.Context(), api.ReportRequest{
					Provider: "awsiam", KeyID: key, Nonce: fmt.Sprintf("storm-%08d", n), Source: []string{"scanner", "mail", "cli"}[n%3], Reason: "found by the nightly scan",
				})
				if err != nil {
					t.Error(err)
					continue
				}
				mu.Lock()
				busy += waited
				took = append(took, time.Since(at))
				if of[key] == "" {
					of[key], taken[answer.Incident] = answer.Incident, map[string]bool{}
				}
				if of[key] != answer.Incident {
					t.Errorf("%s is in %s and %s", key, of[key], answer.Incident)
				}
				taken[answer.Incident][answer.Report] = true
				mu.Unlock()
			}
		})
	}
	for _, n := range order {
		jobs <- n
	}
	close(jobs)
	all.Wait()
	wall := time.Since(began)
	slices.Sort(took)
	t.Logf("%d reports (%d sent) of %d keys in %.1f s: %.0f/s, answered in p50 %d ms, p99 %d ms, max %d ms; %d times busy", reports, len(order), keys, wall.Seconds(), float64(len(order))/wall.Seconds(),
		took[len(took)/2].Milliseconds(), took[len(took)*99/100].Milliseconds(), took[len(took)-1].Milliseconds(), busy)
	require.Len(t, taken, keys)

	runs, events, largest := 0, 0, 0
	for id, want := range taken {
		require.Eventually(t, func() bool {
			status, raw, err := c.do(t.Context(), http.MethodGet, "/incidents/"+id, nil)
			var v view.Incident
			return err == nil && status == http.StatusOK && json.Unmarshal(raw, &v) == nil && v.ReportsTotal == len(want)
		}, time.Minute, 100*time.Millisecond, "every report is in the incident")
		got, chapters := c.bundle(t, id)
		all := len(got)
		require.Equal(t, len(want), all, id)
		for rep, n := range got {
			require.True(t, want[rep], "%s has %s, which was answered with another incident", id, rep)
			require.Equal(t, 1, n, "%s is in %s", rep, id)
		}
		for _, h := range chapters {
			runs++
			events, largest = max(events, h.events), max(largest, h.size)
			require.LessOrEqual(t, h.events, 10_240, "a history below what Temporal warns of")
			require.LessOrEqual(t, h.size, 10<<20)
		}
	}
	t.Logf("%d histories; the longest has %d events, the largest %d KiB as JSON", runs, events, largest>>10)
}

type historySize struct{ events, size int }

// bundle exports an incident; it gives how often each report is in the record, and
// how large the histories are.
func (c *apiClient) bundle(t *testing.T, id string) (map[string]int, []historySize) {
	t.Helper()
	status, raw, err := c.do(t.Context(), http.MethodGet, "/incidents/"+id+"/bundle", nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status)
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	require.NoError(t, err)
	reports := map[string]int{}
	var sizes []historySize
	for _, f := range z.File {
		b, err := readAll(f)
		require.NoError(t, err)
		switch {
		case f.Name == "events.jsonl":
			for line := range bytes.Lines(b) {
				var e event.Event
				require.NoError(t, json.Unmarshal(line, &e))
				if e.Type == event.EventTrigger {
					reports[e.Attrs["report"]]++
				}
			}
		case strings.HasPrefix(f.Name, "chapters/"):
			plain, err := gzip.NewReader(bytes.NewReader(b))
			require.NoError(t, err)
			text, err := io.ReadAll(plain)
			require.NoError(t, err)
			var h struct{ Events []json.RawMessage }
			require.NoError(t, json.Unmarshal(text, &h))
			sizes = append(sizes, historySize{len(h.Events), len(text)})
		}
	}
	return reports, sizes
}

// A ledger stands before the provider and keeps what each request says.
type ledger struct {
	url   string
	mu    sync.Mutex
	calls []ledgerCall
}

type ledgerCall struct{ agent, body string }

func newLedger(t *testing.T, target string) *ledger {
	t.Helper()
	to, err := url.Parse(target)
	require.NoError(t, err)
	l := &ledger{}
	proxy := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(to); p.Out.Host = p.In.Host }}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			http.Error(w, "cut off", http.StatusBadRequest)
			return
		}
		l.mu.Lock()
		l.calls = append(l.calls, ledgerCall{r.UserAgent(), string(body)})
		l.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	l.url = s.URL
	return l
}

var (
	// Every request says for which incident it is made (activities/awsiam/transport.go).
	ofIncident = regexp.MustCompile(`rekey-incident/(inc-[0-9a-f]{12})`)
	keyOrUser  = regexp.MustCompile(`\bAKIA[A-Z0-9]{16}\b|\buser-\d+\b`)
)

// TestEveryCallCarriesItsOwnIncidentsKey: 64 incidents at once, each of one key. Every
// request that reaches the provider names only the key and the user of the incident in
// whose name it is made, and no other key is touched.
func TestEveryCallCarriesItsOwnIncidentsKey(t *testing.T) {
	t.Parallel()
	const many = 64
	r := newRig(t, "")
	l := startLab(t, r, stormScenario(many))
	book := newLedger(t, l.addrs.Provider)
	r.configure("providers: {awsiam: {lab: " + strings.Replace(l.account, l.addrs.Provider, book.url, 1) + "}}\n")
	r.up()
	c := r.api()
	var mu sync.Mutex
	incident := map[string]string{} // key or user -> incident
	var all sync.WaitGroup
	start := make(chan struct{})
	for n := range many {
		all.Go(func() {
			<-start
			key := l.info.Aliases[fmt.Sprintf("KEY-%d", n+1)]
			answer, _, err := c.report(t.Context(), api.ReportRequest{Provider: "awsiam", KeyID: key, Nonce: fmt.Sprintf("each-%08d", n)})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			incident[key], incident[fmt.Sprintf("user-%d", n+1)] = answer.Incident, answer.Incident
			mu.Unlock()
		})
	}
	close(start)
	all.Wait()
	require.Len(t, incident, 2*many)
	require.Eventually(t, func() bool {
		oracle, err := l.control.Oracle(t.Context())
		if err != nil {
			return false
		}
		n := 0
		for _, k := range oracle.Keys {
			if k.State == "inactive" {
				n++
			}
		}
		return n == many
	}, 2*time.Minute, 200*time.Millisecond, "every key is disabled")

	book.mu.Lock()
	calls := slices.Clone(book.calls)
	book.mu.Unlock()
	named, own := 0, map[string]int{}
	for _, call := range calls {
		keys := keyOrUser.FindAllString(call.body, -1)
		if len(keys) == 0 {
			continue // who am I; a page of the log
		}
		by := ofIncident.FindStringSubmatch(call.agent)
		require.NotNil(t, by, "a call about %v is made for no incident: %s", keys, call.agent)
		for _, k := range keys {
			require.Equal(t, by[1], incident[k], "a call about %s is made for another incident: %s", k, call.body)
			named++
		}
		own[by[1]]++
	}
	require.Len(t, own, many)
	oracle, err := l.control.Oracle(t.Context())
	require.NoError(t, err)
	changes := map[string]int{}
	for _, call := range oracle.Calls {
		if call.Verb == "Disable" && call.Effect {
			changes[call.Key]++
		}
	}
	for _, k := range oracle.Keys {
		require.Equal(t, map[bool]int{true: 1}[incident[k.ID] != ""], changes[k.ID], "changes of %s", k.Alias)
	}
	t.Logf("%d requests, %d names in them, every one of its own incident", len(calls), named)
}
