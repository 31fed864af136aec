package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"rekey/internal/view"
)

// The Temporal UI in a browser, as the person on call has it open: what it shows of
// an incident to somebody who has not signed in, and to somebody who has.
//
// With REKEY_SCREENSHOTS=1 the pictures of docs/images are taken again.
func TestTemporalUI(t *testing.T) {
	t.Parallel()
	chromium := lookChromium()
	needServer(t, chromium != "", "chromium")
	r := newRig(t, "audit: {origin: ui.invalid/rekey}\n")
	r.upArgs = []string{"--lab"}
	r.up()

	var keys map[string]string
	b, err := os.ReadFile(filepath.Join(r.data(), "lab", "aliases.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &keys))
	key := keys["AK-OLD"]
	o := r.rekey("", "report", "awsiam", key, "--confidence", "confirmed", "--exposure", "public", "--reason", "seen in a public repository")
	require.Zero(t, o.code, o.errOut)
	id := strings.Fields(o.out)[0]
	inc := r.until(id, "a key that is disabled", func(v view.Incident) bool { return disabled(v) != nil })

	ui := newBrowser(t, chromium)
	base := "http://" + r.ui + "/namespaces/rekey-drill/workflows"
	page := base + "/" + url.PathEscape("incident/"+id) + "/" + inc.RunID
	list := func(query string) string { return base + "?query=" + url.QueryEscape(query) }

	// A list that is filtered by what rekey says of each incident. Search attributes
	// are not encrypted, so this works without signing in.
	ui.open(list(fmt.Sprintf("RekeySeverity=%q", inc.Severity)))
	ui.until("incident/" + id)
	ui.open(list(fmt.Sprintf("RekeyPhase!=%q AND RekeyOpenItems>0", "watch")))
	ui.until("incident/" + id)
	ui.open(list(fmt.Sprintf("RekeySeverity=%q", "low")))
	ui.until("No Workflows Found")
	require.NotContains(t, ui.text(), id)

	// Whoever has not signed in sees that there is an incident, and nothing of it.
	ui.open(page + "/timeline")
	ui.until("Request Cancellation")
	require.Eventually(t, func() bool { return ui.answered("/codec/decode", 401) }, patience, 100*time.Millisecond, "the UI did not ask the codec endpoint")
	ui.open(page + "/user-metadata")
	ui.until("Current Details")
	for _, hidden := range []string{key, "seen in a public repository", "aws-access-key", "in an end state", "awsiam/lab"} {
		require.NotContains(t, ui.html()+ui.text(), hidden, "readable without signing in")
	}
	require.False(t, ui.answered("/codec/decode", 200))
	ui.shot("temporal-ui-locked")

	// The link that `rekey up` prints, once.
	link := regexp.MustCompile(`http://\S+/codec/login\?token=\S+`).FindString(r.logged())
	require.NotEmpty(t, link, r.logged())
	ui.open(link)
	ui.until("Workflows")
	ui.open(page + "/user-metadata")
	ui.until("severity " + inc.Severity) // the current details, kept as a short status
	ui.until("in an end state")
	ui.until("Leaked AWS IAM user access key")
	ui.shot("temporal-ui-status")
	item := disabled(inc)
	ui.open(base + "/" + url.PathEscape(fmt.Sprintf("incident/%s/wave/%d", id, item.Wave)))
	ui.until("Disable awsiam/lab " + item.Short) // each activity says what it does, to which item
	ui.shot("temporal-ui-timeline")
	ui.open(page + "/history?sort=ascending")
	ui.until("Workflow Execution Started")
	require.True(t, ui.answered("/codec/decode", 200))
	ui.until(`"name": "aws-access-key"`) // the input: the playbook as it was pinned
	ui.open(list(fmt.Sprintf("RekeySeverity=%q", inc.Severity)))
	ui.until("incident/" + id)
	ui.shot("temporal-ui-list")

	// The link is used up, also for the next browser.
	other := newBrowser(t, chromium)
	other.open(link)
	other.until("not valid any more")
}

// disabled is the first item whose Disable was done.
func disabled(inc view.Incident) *view.Item {
	for i, it := range inc.Items {
		for _, o := range it.Outcomes {
			if o.Verb == "Disable" && o.Outcome == "done" {
				return &inc.Items[i]
			}
		}
	}
	return nil
}

func lookChromium() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			return p
		}
	}
	return ""
}

// A browser is one page of a Chromium with a profile of its own.
type browser struct {
	t   *testing.T
	ctx context.Context

	mu      sync.Mutex
	answers map[string]map[int64]bool // URL without its query -> status
}

func newBrowser(t *testing.T, chromium string) *browser {
	t.Helper()
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(chromium), chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1280, 1200),
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, // no sandbox: tests run as root in CI
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true))
	alloc, stop := chromedp.NewExecAllocator(context.Background(), opts...)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(cancel)
	b := &browser{t: t, ctx: ctx, answers: map[string]map[int64]bool{}}
	require.NoError(t, chromedp.Do(ctx)) // starts it, without a time-out that would end it
	require.NoError(t, chromedp.Listen(ctx, func(ev any) {
		if e, ok := ev.(*network.EventResponseReceived); ok {
			at, _, _ := strings.Cut(e.Response.URL, "?")
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.answers[at] == nil {
				b.answers[at] = map[int64]bool{}
			}
			b.answers[at][e.Response.Status] = true
		}
	}))
	return b
}

func run[T any](b *browser, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, action)
	require.NoError(b.t, err)
	return v
}

func (b *browser) open(u string) { b.t.Helper(); run(b, chromedp.Navigate(u)) }

// text is what the page shows. Summary and details of a workflow are Markdown, which
// the UI has rendered in frames without rights, from their address.
func (b *browser) text() string {
	b.t.Helper()
	return run(b, chromedp.Evaluate[string](`[document.body.innerText, ...[...document.querySelectorAll("iframe")].map(
		f => decodeURIComponent(f.src.replaceAll("+", " ")))].join("\n")`))
}

func (b *browser) html() string {
	b.t.Helper()
	return run(b, chromedp.Evaluate[string](`document.documentElement.outerHTML`))
}

// until waits for a text on the page.
func (b *browser) until(want string) {
	b.t.Helper()
	last, reloaded := "", time.Now()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if last = b.text(); strings.Contains(last, want) {
			return
		}
		if time.Since(reloaded) > 20*time.Second { // what is found by a search is there a moment later
			run(b, chromedp.Reload())
			reloaded = time.Now()
		}
	}
	require.FailNow(b.t, "the page does not show it", "%q is not on the page:\n%.3000s", want, last)
}

// answered tells whether a URL that ends so was answered with a status.
func (b *browser) answered(suffix string, status int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for u, seen := range b.answers {
		if strings.HasSuffix(u, suffix) && seen[status] {
			return true
		}
	}
	return false
}

// shot takes a picture for the documentation, when asked to.
func (b *browser) shot(name string) {
	b.t.Helper()
	if os.Getenv("REKEY_SCREENSHOTS") != "1" {
		return
	}
	run(b, chromedp.Sleep(time.Second))
	png := run(b, chromedp.CaptureScreenshot())
	require.NoError(b.t, os.WriteFile(filepath.Join("..", "docs", "images", name+".png"), png, 0o644))
}
