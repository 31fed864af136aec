package webhook_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities/notify/webhook"
)

// TestTheGuidesCodeChecksARequest runs the code that docs/notices.md gives to
// customers, as it stands there.
func TestTheGuidesCodeChecksARequest(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("REKEY_REQUIRE_SERVERS") == "1" {
			t.Fatal("needs python3")
		}
		t.Skip("skipped: needs python3")
	}
	guide, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "notices.md"))
	require.NoError(t, err)
	_, code, ok := strings.Cut(string(guide), "```python\n")
	require.True(t, ok)
	code, _, ok = strings.Cut(code, "```")
	require.True(t, ok)

	raw := strings.Repeat("k", 32)
	keys, err := webhook.Keys([]byte(strings.Repeat("n", 32) + "\n" + raw + "\n"))
	require.NoError(t, err)
	body := []byte(`{"schema":"rekey.notice/v1","cause":"ümlaut"}`)
	sign := func(at time.Time, ref string) map[string]string {
		stamp, both := strconv.FormatInt(at.Unix(), 10), []string{}
		for _, k := range keys {
			both = append(both, webhook.Sign(k.For(ref), "inc-1-n1-1-c1", stamp, body))
		}
		return map[string]string{webhook.HeaderID: "inc-1-n1-1-c1", webhook.HeaderTimestamp: stamp, webhook.HeaderSignature: strings.Join(both, " ")}
	}
	with := func(h map[string]string, name, value string) map[string]string { h[name] = value; return h }
	now := time.Now()
	for name, tt := range map[string]struct {
		secret  string
		headers map[string]string
		body    string
		want    string
	}{
		"ours":                {keys[0].Secret("C033"), sign(now, "C033"), string(body), "True"},
		"ours, older key":     {keys[1].Secret("C033"), sign(now, "C033"), string(body), "True"},
		"another customer's":  {keys[0].Secret("C034"), sign(now, "C033"), string(body), "False"},
		"another body":        {keys[0].Secret("C033"), sign(now, "C033"), string(body) + " ", "False"},
		"another id":          {keys[0].Secret("C033"), with(sign(now, "C033"), webhook.HeaderID, "inc-2"), string(body), "False"},
		"played again":        {keys[0].Secret("C033"), sign(now.Add(-10*time.Minute), "C033"), string(body), "False"},
		"an unknown version":  {keys[0].Secret("C033"), with(sign(now, "C033"), webhook.HeaderSignature, "v9,"+strings.TrimPrefix(sign(now, "C033")[webhook.HeaderSignature], "v1,")), string(body), "False"},
		"without a signature": {keys[0].Secret("C033"), with(sign(now, "C033"), webhook.HeaderSignature, ""), string(body), "False"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "an unknown version" { // one signature alone
				tt.headers[webhook.HeaderSignature], _, _ = strings.Cut(tt.headers[webhook.HeaderSignature], " ")
			}
			in, err := json.Marshal(map[string]any{"secret": tt.secret, "headers": tt.headers, "body": tt.body})
			require.NoError(t, err)
			cmd := exec.Command(python, "-c", code+"\nimport json, sys\nx = json.load(sys.stdin)\nprint(verified(x['secret'], x['headers'], x['body'].encode()))\n")
			cmd.Stdin = strings.NewReader(string(in))
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, string(out))
			require.Equal(t, tt.want, strings.TrimSpace(string(out)))
		})
	}
}
