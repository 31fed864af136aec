package report_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"rekey/internal/audit"
	"rekey/internal/audit/audittest"
	"rekey/internal/audit/report"
	"rekey/internal/view"
)

func render(t testing.TB, events []audit.Event, inc view.Incident, opts report.Options) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, report.Render(&b, events, inc, opts))
	return b.String()
}

func TestReportSaysWhatHappened(t *testing.T) {
	events, inc := audittest.Sample()
	page := render(t, events, inc, report.Options{File: "inc-7f3a9c2e41d0.zip", Origin: "example.com/rekey"})
	require.Equal(t, page, render(t, events, inc, report.Options{File: "inc-7f3a9c2e41d0.zip", Origin: "example.com/rekey"}), "equal input, equal bytes")
	text := textOf(t, page)
	for _, want := range []string{
		"Contained", "3 of 4 items are proven dead. 2 things are still open, listed below with owner and date.",
		"longest, AKIAI44QH8DHBEXAMPLE", "41.4 s", "2 h 08 min", // to first containment, to contained
		"expired-verified", "grade A", "rung sessions", "AKIAI44QH8DHBEXAMPL2",
		"refused: already-voted", "refused: wrong-role", "contain on report: proposed", "notice sent, says oncall-2",
		"bounced", "acknowledged", "only the customer can revoke it", "2026-11-24 03:00:00",
		"4 observed .. 5 reachable", "1 lost answer settled", "no logs from 2026-08-02 00:00:00 to 2026-08-23 00:00:00", "cloudtrail:LookupEvents",
		"rekey audit verify inc-7f3a9c2e41d0.zip --key audit.pub",
		"#incidents-sec", "C0INCIDENTS 1795230001.000100", "2026-11-21 03:30:05 to 2026-11-21 03:44:03 transient", "append: status 503",
		"open: the app may not write issues (needs issues:write)", "Show 4 of 4 lines that it was told", "oncall-2 approved the irreversible Revoke",
	} {
		require.Contains(t, text, want)
	}
	require.NotContains(t, text, "call them", "what a person has done is not open")
}

func TestReportShowsTheRowsOfALargeIncident(t *testing.T) {
	at := "2026-11-21T03:00:00.000Z"
	dead := audit.Event{Type: audit.EventItem, Time: at, FP: "fp1_aa", Result: "revoked-verified"}
	pass := audit.Event{Type: audit.EventPass, Time: at, Verb: "Disable", Attempt: 2, Attrs: map[string]string{"rows": "500", "made": "450", "outcome done": "490", "outcome unclear": "10", "failed throttled": "3"}}
	m := &audit.Mass{
		Items: 100_000, Dead: 99_990, Open: 4, Pages: 200, Lists: []string{"sha256:" + strings.Repeat("ab", 32)},
		ByEndState: map[string]int{"revoked-verified": 99_990, "customer-action-open": 6}, ByGrade: map[string]int{"B": 99_990}, ByStrategy: map[string]int{"revoke-now": 100_000},
		First: []audit.Row{{FP: "fp1_c0ffee00c0ffee", KeyID: "AKIA<b>", Provider: "awsiam", Account: "prod", Owner: "team", Strategy: "revoke-now", Rule: "idle", End: "revoked-verified", Grade: "B", Ended: at, NewKeyID: "AKIANEW"}},
	}
	events := []audit.Event{dead, pass, {Type: audit.EventClosed, Time: at, Result: "contained"}}
	text := strings.Join(strings.Fields(textOf(t, render(t, events, view.Incident{}, report.Options{Mass: m}))), " ")
	for _, want := range []string{
		"99991 of 100001 items are proven dead.", "Items100001", "Items in pages", "100000 in 200 pages, 99990 proven dead, 4 open", "99990 revoked-verified, 6 customer-action-open",
		"99990 B", "100000 revoke-now", "pages/" + strings.Repeat("ab", 32) + ".json", "Show 1 of 100000", "AKIA<b>", "AKIANEW", "99999 more items are in the pages",
		"4 items in pagesnot finished", "Disable450450490 done, 10 unclear",
	} {
		require.Contains(t, text, want)
	}
	events[2].Result = "all-clear"
	require.NotContains(t, textOf(t, render(t, events, view.Incident{}, report.Options{Mass: m})), "All clear", "not while rows are open")
	require.NotContains(t, textOf(t, render(t, events, view.Incident{}, report.Options{})), "Items in pages")
}

func TestVerdicts(t *testing.T) {
	at := "2026-11-21T03:00:00.000Z"
	dead := audit.Event{Type: audit.EventItem, Time: at, FP: "fp1_aa", Result: "revoked-verified"}
	tests := map[string]struct {
		events []audit.Event
		inc    view.Incident
		want   string
	}{
		"all clear": {[]audit.Event{dead, {Type: audit.EventClosed, Time: at, Result: "all-clear"}}, view.Incident{}, "All clear"},
		"contained": {[]audit.Event{dead, {Type: audit.EventClosed, Time: at, Result: "contained"}}, view.Incident{}, "Contained"},
		"all-clear is not believed while an item is open": {[]audit.Event{{Type: audit.EventDecision, Time: at, FP: "fp1_bb"}, {Type: audit.EventClosed, Time: at, Result: "all-clear"}}, view.Incident{}, "Contained"},
		"open":           {[]audit.Event{{Type: audit.EventTrigger, Time: at, FP: "fp1_aa"}}, view.Incident{}, "Open"},
		"reopened":       {[]audit.Event{dead, {Type: audit.EventClosed, Time: at, Result: "all-clear"}, {Type: audit.EventReopened, Time: at}}, view.Incident{State: "open"}, "Open"},
		"nothing at all": {nil, view.Incident{}, "Open"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			page := render(t, tt.events, tt.inc, report.Options{})
			require.Contains(t, page, "<h1>"+tt.want+"</h1>")
		})
	}
}

// TestHostileTextStaysText puts markup into every field that a stranger can fill.
func TestHostileTextStaysText(t *testing.T) {
	evil := `"><script>alert(1)</script><img src=x onerror=alert(1)>` + "</title></style></svg>{{.}}${x}javascript:alert(1)\x00\u202e"
	events, _ := audittest.Sample()
	for i := range events {
		e := &events[i]
		e.Actor, e.Auth, e.Result, e.RequestID, e.Phase, e.Rule, e.Approval = evil, evil, e.Result+evil, evil, e.Phase+evil, evil, evil
		if e.FP != "" {
			e.FP += evil
		}
		for k := range e.Attrs {
			e.Attrs[k] += evil
		}
		e.Facts = map[string]string{evil: evil}
		e.WaveHash = evil
	}
	inc := view.Incident{
		ID: evil, State: evil, Severity: evil, Playbook: view.Playbook{Name: evil, Version: evil},
		Reports: []view.Report{{Actor: evil, Confidence: evil, Reason: evil}},
		Scope:   view.Scope{Basis: []string{evil}, Unseen: []view.Unseen{{Source: evil, Why: evil, Permission: evil}}, Dark: []view.Dark{{From: evil, To: evil, Source: evil}}},
		Plan:    &view.Plan{Hash: evil, Breaks: []view.Break{{Dependent: evil, Owner: evil}}},
		Items:   []view.Item{{FP: evil, KeyID: evil, Open: view.Open{Why: evil, Owner: evil, Due: evil}}},
		Times:   view.Times{WatchUntil: evil}, NeedsHuman: []view.Human{{What: evil, Owner: evil, Due: evil, State: evil}},
		Holds: []view.Hold{{ID: evil, Why: evil, By: evil, Until: evil}}, Obligations: []view.Obligation{{ID: evil, What: evil, Due: evil}},
	}
	page := render(t, events, inc, report.Options{File: evil, Origin: evil, Hidden: 3})
	selfContained(t, page)
	require.Contains(t, textOf(t, page), "<script>alert(1)</script>", "it is shown as what it is")
}

func TestReportStandsAlone(t *testing.T) {
	events, inc := audittest.Sample()
	page := render(t, events, inc, report.Options{})
	selfContained(t, page)
	require.Contains(t, page, `default-src &#39;none&#39;; style-src &#39;sha256-`)
}

// selfContained parses the page as a browser does and looks for anything that
// runs or loads.
func selfContained(t *testing.T, page string) {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	require.NoError(t, err)
	allowed := strings.Fields("html head meta title style body main header footer h1 h2 h3 p div span b small br table thead tbody tr th td ul li dl dt dd pre code details summary svg g rect line path circle text")
	attributes := strings.Fields("lang charset http-equiv content name class role aria-label viewbox viewBox x y x1 y1 x2 y2 dy d cx cy r width height text-anchor colspan")
	var walk func(*html.Node)
	walk = func(n *html.Node) {
		if n.Type == html.ElementNode {
			require.Contains(t, allowed, n.Data)
			for _, a := range n.Attr {
				require.Contains(t, attributes, a.Key, n.Data)
			}
		}
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			walk(c)
		}
	}
	walk(root)
	require.NotRegexp(t, regexp.MustCompile(`@import|url\(`), page)
}

func textOf(t *testing.T, page string) string {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	require.NoError(t, err)
	var b strings.Builder
	var walk func(*html.Node)
	walk = func(n *html.Node) {
		if n.Type == html.TextNode && n.Parent.Data != "style" {
			b.WriteString(n.Data)
		}
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			walk(c)
		}
	}
	walk(root)
	return b.String()
}

func TestManyItemsAreCutNotLost(t *testing.T) {
	page := render(t, audittest.Many("inc-1", 3000), view.Incident{}, report.Options{})
	require.Contains(t, page, "2800 more items are in events.jsonl")
	require.Contains(t, page, "Show 2000 of 3000 events")
	require.Less(t, len(page), 2<<20)
}

// TestChromiumDraws lays the page out in a browser and writes the picture where
// REKEY_REPORT_OUT says, so that a person can look at it.
func TestChromiumDraws(t *testing.T) {
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("REKEY_REQUIRE_SERVERS") == "1" {
			t.Fatal("REKEY_REQUIRE_SERVERS=1 and there is no chromium")
		}
		t.Skip("skipped: needs chromium")
	}
	dir := os.Getenv("REKEY_REPORT_OUT")
	if dir == "" {
		dir = t.TempDir()
	}
	events, inc := audittest.Sample()
	page := filepath.Join(dir, "report.html")
	require.NoError(t, os.WriteFile(page, []byte(render(t, events, inc, report.Options{Origin: "example.com/rekey"})), 0o600))
	shot := filepath.Join(dir, "report.png")
	out, err := exec.Command(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--user-data-dir="+t.TempDir(), "--window-size=1280,2400", "--screenshot="+shot, "file://"+page).CombinedOutput()
	require.NoError(t, err, string(out))
	require.NotContains(t, string(out), "Refused to apply", "the policy fits the style")
	info, err := os.Stat(shot)
	require.NoError(t, err)
	require.Greater(t, info.Size(), int64(50_000), "something was drawn")
}
