package audit_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/audit"
	"rekey/internal/audit/audittest"
)

// fullEvent has every field set.
func fullEvent() audit.Event {
	return audit.Event{
		V: audit.SchemaVersion, Seq: 42, Incident: "inc-7f3a9c2e41d0", Type: audit.EventProbe,
		Time: "2026-11-21T03:00:00.000Z", SourceTime: "2026-11-21T02:59:59.000Z", Phase: "act", Actor: "worker", Auth: "cli-key",
		PlanHash: "sha256:aa", WaveHash: "sha256:bb", FP: "fp1_cc", Verb: "Probe", Token: "t", Attempt: 2, RequestID: "r", Result: "refused",
		Evidence: []string{"sha256:dd"}, Rule: "abuse", Facts: map[string]string{"b": "2", "a": "1"}, Approval: "a1",
		Attrs: map[string]string{"quote\"\\": "line\nfeed <&> é \u2028"}, Redaction: audit.Customer,
		Origin: audit.Origin{Workflow: "incident/inc-7f3a9c2e41d0", Run: "run", EventID: 9, Outside: "ledger"},
	}
}

// TestEventShape pins the exported bytes. Every field must be set, so adding one to
// Event without adding it here fails before the golden file is compared.
func TestEventShape(t *testing.T) {
	e := fullEvent()
	for _, v := range []reflect.Value{reflect.ValueOf(e), reflect.ValueOf(e.Origin)} {
		for i := range v.NumField() {
			require.False(t, v.Field(i).IsZero(), "set %s in fullEvent", v.Type().Field(i).Name)
		}
	}
	line, err := audit.Encode(e)
	require.NoError(t, err)
	want, err := os.ReadFile(filepath.Join("testdata", "event.v1.json"))
	require.NoError(t, err)
	require.Equal(t, strings.TrimSuffix(string(want), "\n"), string(line),
		"the meaning of the audit line changed: that needs a new audit.SchemaVersion")
	require.Equal(t, "R+Hdi5tUuQzapCzYzLz1faUa2i+UZEUBiMG+M4Opjsg=", audit.Leaf(line).String())
	back, err := audit.Decode(line)
	require.NoError(t, err)
	require.Equal(t, e, back)
}

func TestDecodeIsStrict(t *testing.T) {
	good, err := audit.Encode(fullEvent())
	require.NoError(t, err)
	tests := map[string]string{
		"empty":           "",
		"not json":        "hello",
		"unknown version": strings.Replace(string(good), `"v":1`, `"v":2`, 1),
		"no version":      strings.Replace(string(good), `,"v":1`, ``, 1),
		"unknown key":     strings.Replace(string(good), `"v":1`, `"v":1,"zz":1`, 1),
		"key twice":       strings.Replace(string(good), `"v":1`, `"v":1,"v":1`, 1),
		"another case":    strings.Replace(string(good), `"v":1`, `"V":1`, 1),
		"white space":     strings.Replace(string(good), `"v":1`, `"v": 1`, 1),
		"another order":   `{"v":1,` + strings.Replace(string(good), `,"v":1`, ``, 1)[1:],
		"float":           strings.Replace(string(good), `"v":1`, `"v":1.0`, 1),
		"null":            strings.Replace(string(good), `"verb":"Probe"`, `"verb":null`, 1),
		"two values":      string(good) + "{}",
		"line feed":       string(good) + "\n",
	}
	for name, line := range tests {
		t.Run(name, func(t *testing.T) {
			require.NotEqual(t, string(good), line, "the row changes nothing")
			_, err := audit.Decode([]byte(line))
			require.Error(t, err)
		})
	}
}

func TestEncodeRefuses(t *testing.T) {
	tests := map[string]func(*audit.Event){
		"another version":  func(e *audit.Event) { e.V = 2 },
		"negative seq":     func(e *audit.Event) { e.Seq = -1 },
		"seq beyond 2^53":  func(e *audit.Event) { e.Seq = 1 << 53 },
		"event id beyond":  func(e *audit.Event) { e.Origin.EventID = 1<<53 + 1 },
		"line of megabyte": func(e *audit.Event) { e.Result = strings.Repeat("x", audit.MaxLine) },
	}
	for name, set := range tests {
		t.Run(name, func(t *testing.T) {
			e := fullEvent()
			set(&e)
			_, err := audit.Encode(e)
			require.Error(t, err)
		})
	}
}

func FuzzDecode(f *testing.F) {
	events, _ := audittest.Sample()
	for _, e := range append(events[:10:10], fullEvent()) {
		line, err := audit.Encode(e)
		require.NoError(f, err)
		f.Add(line)
	}
	f.Add([]byte(`{"v":1}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := audit.Decode(line)
		if err != nil {
			return
		}
		again, err := audit.Encode(e)
		require.NoError(t, err)
		require.Equal(t, string(line), string(again), "what is taken is what is written")
	})
}
