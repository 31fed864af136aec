package awssim

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestAppendJSONIsWhatReflectionWrites fills every field of a record, so that one that is added and
// not written is found.
func TestAppendJSONIsWhatReflectionWrites(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 1_000_000, time.UTC)
	full := &Record{Seq: 7, At: at, LoggedAt: at.Add(-90 * time.Second), EventID: "e", RequestID: "r", KeyID: "k", Identity: json.RawMessage(`{"arn":"a"}`), User: "u",
		Username: "n", Service: "iam", Action: "PutUserPolicy", Region: "eu", SourceIP: "203.0.113.7", ASN: 64500, UserAgent: `quote " back \ tag <b> & é` + "\n\x00", ReadOnly: true,
		Params: map[string]any{"b": `{"Statement":[]}`, "a": "x", "n": 3.0, "deep": map[string]any{"z": []any{"1"}}}, Elements: map[string]any{"accessKey": map[string]any{"id": "i"}},
		Code: "AccessDenied", Message: "User: é is not", Label: "engine", Source: "s", Verb: "Deny", TargetKey: "t", Lost: true, Same: true, Stop: StopDuring}
	v := reflect.ValueOf(full).Elem()
	for i := range v.NumField() {
		require.False(t, v.Field(i).IsZero(), "%s is not filled: add it here and in AppendJSON", v.Type().Field(i).Name)
	}
	for name, r := range map[string]*Record{"full": full, "empty": {At: at, LoggedAt: at}} {
		t.Run(name, func(t *testing.T) {
			want, err := json.Marshal(r)
			require.NoError(t, err)
			require.JSONEq(t, string(want), string(r.AppendJSON(nil)))
			var back Record
			require.NoError(t, json.Unmarshal(r.AppendJSON([]byte(nil)), &back))
			require.Equal(t, *r, back)
		})
	}
}
