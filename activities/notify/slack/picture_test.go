package slack_test

import (
	"context"
	"html"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	slackgo "github.com/slack-go/slack"
	"github.com/stretchr/testify/require"

	"rekey/activities/notify"
	"rekey/activities/notify/slack"
)

// The card as a person sees it, drawn from its blocks as Slack's documentation says
// they are shown, in Chromium. Slack itself cannot be had here.
//
// With REKEY_SCREENSHOTS=1 the pictures of docs/images are taken again.
func TestPicture(t *testing.T) {
	chromium := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			chromium = p
			break
		}
	}
	if chromium == "" {
		if os.Getenv("REKEY_REQUIRE_SERVERS") == "1" {
			t.Fatal("needs chromium")
		}
		t.Skip("skipped: needs chromium")
	}
	asked := waiting()
	evil := waiting()
	evil.Title, evil.Asks[0].What, evil.Tasks[0].What = hostile, hostile, hostile
	pages := map[string]notify.Card{"/slack-card-approve": asked, "/slack-card-contained": contained(), "/evil": evil}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, ok := pages[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(page(t, slack.Blocks(c, incident), r.URL.Path == "/slack-card-approve")))
	}))
	defer srv.Close()

	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(chromium), chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(900, 1000),
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.Flag("hide-scrollbars", true))
	alloc, stop := chromedp.NewExecAllocator(context.Background(), opts...)
	defer stop()
	ctx, cancel := chromedp.NewContext(alloc)
	defer cancel()
	require.NoError(t, chromedp.Do(ctx))
	show := func(path string) string {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		_, err := chromedp.Run(ctx, chromedp.Navigate(srv.URL+path))
		require.NoError(t, err)
		text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.body.innerText`))
		require.NoError(t, err)
		if os.Getenv("REKEY_SCREENSHOTS") == "1" && path != "/evil" {
			png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join("..", "..", "..", "docs", "images", path[1:]+".png"), png, 0o644))
		}
		return text
	}
	got := show("/slack-card-approve")
	for _, want := range []string{"NOT CONTAINED, WAITS FOR PEOPLE", "Approve", "Deny", "OVER its budget", waveHash, "Slack alone cannot approve this", "Temporal UI"} {
		require.Contains(t, got, want)
	}
	got = show("/slack-card-contained")
	require.Contains(t, got, "NOT all clear")
	require.NotContains(t, got, "Approve")
	show("/evil")
	n, err := chromedp.Run(ctx, chromedp.Evaluate[int](`document.querySelectorAll("a, img, script, s, [data-emoji]").length`))
	require.NoError(t, err)
	require.Equal(t, 1, n, "nothing but our own link is live")
}

// page draws blocks (https://docs.slack.dev/reference/block-kit/blocks). With dialog
// it shows the first button's confirmation below.
func page(t *testing.T, blocks []slackgo.Block, dialog bool) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(`<!doctype html><meta charset="utf-8"><style>
body{font:15px/1.46 Lato,"DejaVu Sans",Arial,sans-serif;color:#1d1c1d;background:#fff;margin:16px;max-width:720px}
.msg{display:flex;gap:10px}.av{width:36px;height:36px;border-radius:6px;background:#611f69;color:#fff;display:grid;place-items:center;font-weight:700;flex:none}
.who{font-weight:900}.app{font-size:11px;background:#e8e8e8;border-radius:3px;padding:1px 4px;margin-left:6px}
h3{font-size:18px;margin:6px 0}.s{margin:8px 0}.f{display:grid;grid-template-columns:1fr 1fr;gap:8px;margin:8px 0}
code{font:12px "DejaVu Sans Mono",monospace;color:#c01343;background:#f7f7f7;border:1px solid #ddd;border-radius:3px;padding:1px 3px;overflow-wrap:anywhere}
hr{border:0;border-top:1px solid #ddd;margin:12px 0}.c{font-size:12px;color:#616061;margin:10px 0}
button{font:700 13px sans-serif;border:1px solid #bbb;border-radius:4px;padding:5px 12px;margin-right:8px;background:#fff}
.primary{background:#007a5a;border-color:#007a5a;color:#fff}.danger{color:#e01e5a;border-color:#e01e5a}
.d{border:1px solid #bbb;border-radius:8px;box-shadow:0 2px 12px #0003;padding:14px 18px;margin:18px 0 0 46px;max-width:440px}.d h4{margin:0 0 8px;font-size:18px}.d div{margin:10px 0}</style>
<div class="msg"><div class="av">rk</div><div><span class="who">rekey</span><span class="app">APP</span>`)
	confirm := ""
	for _, block := range blocks {
		switch x := block.(type) {
		case *slackgo.HeaderBlock:
			b.WriteString("<h3>" + html.EscapeString(x.Text.Text) + "</h3>")
		case *slackgo.DividerBlock:
			b.WriteString("<hr>")
		case *slackgo.SectionBlock:
			if x.Text != nil {
				b.WriteString(`<div class="s">` + shownAs(t, x.Text) + "</div>")
			}
			if len(x.Fields) > 0 {
				b.WriteString(`<div class="f">`)
				for _, f := range x.Fields {
					b.WriteString("<div>" + shownAs(t, f) + "</div>")
				}
				b.WriteString("</div>")
			}
		case *slackgo.ContextBlock:
			b.WriteString(`<div class="c">`)
			for _, e := range x.ContextElements.Elements {
				b.WriteString(shownAs(t, e.(*slackgo.TextBlockObject)))
			}
			b.WriteString("</div>")
		case *slackgo.ActionBlock:
			for _, e := range x.Elements.ElementSet {
				button := e.(*slackgo.ButtonBlockElement)
				b.WriteString(`<button class="` + string(button.Style) + `">` + html.EscapeString(button.Text.Text) + "</button>")
				if confirm == "" {
					c := button.Confirm
					confirm = `<div class="d"><h4>` + html.EscapeString(c.Title.Text) + "</h4>" + html.EscapeString(c.Text.Text) +
						`<div><button>` + html.EscapeString(c.Deny.Text) + `</button><button class="` + string(c.Style) + `">` + html.EscapeString(c.Confirm.Text) + "</button></div></div>"
				}
			}
		default:
			t.Fatalf("a block that is not drawn: %T", block)
		}
	}
	b.WriteString("</div></div>")
	if dialog {
		b.WriteString(confirm)
	}
	return b.String()
}

var (
	linkMark = regexp.MustCompile(`<(https?://[^|>]+)\|([^>]+)>`)
	anyLink  = regexp.MustCompile(`<([!@#][^>]*|https?:[^>]*)>`)
	codeMark = regexp.MustCompile("`([^`]+)`")
	boldMark = regexp.MustCompile(`\*([^*\n]+)\*`)
	goneMark = regexp.MustCompile(`~([^~\n]+)~`)
	pictMark = regexp.MustCompile(`:[a-z0-9_+-]+:`)
)

// shownAs draws a text object: mrkdwn with what Slack makes of it, plain text as it is.
func shownAs(t *testing.T, o *slackgo.TextBlockObject) string {
	t.Helper()
	if o.Type == slackgo.PlainTextType {
		return html.EscapeString(o.Text)
	}
	var codes []string
	s := codeMark.ReplaceAllStringFunc(o.Text, func(m string) string {
		codes = append(codes, "<code>"+strings.Trim(m, "`")+"</code>")
		return "\x00"
	})
	s = linkMark.ReplaceAllString(s, `<a href="$1">$2</a>`)
	s = anyLink.ReplaceAllString(s, `<a>$1</a>`)
	s = boldMark.ReplaceAllString(s, "<b>$1</b>")
	s = goneMark.ReplaceAllString(s, "<s>$1</s>")
	s = pictMark.ReplaceAllStringFunc(s, func(m string) string {
		if strings.HasPrefix(m, "://") {
			return m
		}
		return `<i data-emoji>` + m + `</i>`
	})
	for _, c := range codes {
		s = strings.Replace(s, "\x00", c, 1)
	}
	return strings.ReplaceAll(s, "\n", "<br>")
}
