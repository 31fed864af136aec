package notice_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/notice"
	"rekey/playbooks"
)

var t0 = time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)

func facts(class string) notice.Facts {
	return notice.Facts{
		Incident: "inc-000000000001", Number: "inc-000000000001-n1-1", Version: 1, Class: class, Cause: "Leaked AWS IAM user access key", Since: t0,
		Keys: []notice.Key{
			{ID: "AKIAIOSFODNN7EXAMPLE", Provider: "awsiam", Account: "prod", Kind: "user-access-key", State: "still works", New: "AKIAI44QH8DHBEXAMPLE", Stores: []string{"awssm: platform/aws"}, Created: t0.Add(-time.Hour)},
			{ID: "AKIAIOSFODNN8EXAMPLE", Provider: "awsiam", Account: "prod", Kind: "user-access-key", State: "still works"},
		},
		Did: []string{"made replacements"}, Do: []string{"switch to the replacement"}, By: t0.Add(72 * time.Hour), Contact: "security@example.com", Evidence: "uses of the key id since then",
	}
}

func TestEveryTemplateSaysEverything(t *testing.T) {
	for _, name := range playbooks.Templates() {
		for _, class := range []string{notice.Warn, notice.Cut} {
			t.Run(name+" "+class, func(t *testing.T) {
				m, err := notice.Render(name, facts(class))
				require.NoError(t, err)
				for _, s := range []string{"AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN8EXAMPLE", "AKIAI44QH8DHBEXAMPLE", "awssm: platform/aws", "security@example.com", "inc-000000000001-n1-1", "cannot have begun before 2026-11-21T02:00:00.000Z"} {
					require.Contains(t, m.Text, s)
				}
				require.Equal(t, class == notice.Warn, strings.Contains(m.Text, "2026-11-24T03:00:00.000Z"))
				require.Contains(t, m.Subject, "inc-000000000001")
				b, err := m.Bytes()
				require.NoError(t, err)
				var back notice.Message
				require.NoError(t, json.Unmarshal(b, &back))
				require.Equal(t, notice.SchemaNotice, back.Data.Schema)
				require.Equal(t, m.Text, back.Text)
			})
		}
	}
}

func TestTheContentGateRefusesWhatSaysTooLittle(t *testing.T) {
	tests := map[string]struct {
		change func(*notice.Facts)
		want   string
	}{
		"no cause":       {func(f *notice.Facts) { f.Cause = "" }, "the cause"},
		"no window":      {func(f *notice.Facts) { f.Since = time.Time{} }, "since when"},
		"no keys":        {func(f *notice.Facts) { f.Keys = nil }, "which keys"},
		"a key unnamed":  {func(f *notice.Facts) { f.Keys[1].ID = "" }, "which key"},
		"nothing done":   {func(f *notice.Facts) { f.Did = nil }, "what we did"},
		"nothing to do":  {func(f *notice.Facts) { f.Do = nil }, "what the reader must do"},
		"no deadline":    {func(f *notice.Facts) { f.By = time.Time{} }, "by when"},
		"nobody to ask":  {func(f *notice.Facts) { f.Contact = "" }, "channels.email.from"},
		"no evidence":    {func(f *notice.Facts) { f.Evidence = "" }, "look for"},
		"no version":     {func(f *notice.Facts) { f.Version = 0 }, "version"},
		"hostile fact":   {func(f *notice.Facts) { f.Cause = "x\nSubject: y" }, "control characters"},
		"hostile key id": {func(f *notice.Facts) { f.Keys[0].ID = "x\x1b[2J" }, "control characters"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := facts(notice.Warn)
			tt.change(&f)
			_, err := notice.Render("key-owner", f)
			require.ErrorContains(t, err, tt.want)
		})
	}
	_, err := notice.Render("../../etc/passwd", facts(notice.Warn))
	require.ErrorContains(t, err, "no notice template")
}
