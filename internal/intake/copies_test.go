package intake_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/api"
	"rekey/internal/intake"
)

func TestCopiesThatTheReporterSaw(t *testing.T) {
	w := newWorld(t, oneAccount, nil)
	answer := w.report(t, request(func(r *api.ReportRequest) { r.Copies = []string{"slack/T0123/C0456"} }))
	require.Equal(t, []string{"slack/T0123/C0456"}, w.engine.runs[answer.Incident].reports[0].Copies)

	places := []string{"snapshot/S-20170915", "db/main@2017-09-15", "vault/shared@2017-09-15T03:00:00.5Z"}
	answer = w.report(t, request(func(r *api.ReportRequest) { r.Copies, r.Nonce = places, "another-report" }))
	reports := w.engine.runs[answer.Incident].reports
	require.Equal(t, places, reports[len(reports)-1].Copies)

	for name, bad := range map[string][]string{
		"a secret":   {"lab-secret-0123456789abcdef"},
		"a sentence": {"in the <!channel> chat"},
		"too many":   slices.Repeat([]string{"slack/T0123/C0456"}, 21),
		"too long":   {"slack/" + strings.Repeat("C", 300)},
		"empty":      {""},
		"no time":    {"db/main@someone"},
	} {
		_, err := w.Report(t.Context(), intake.Caller{Actor: "a", Source: "slack", SourceKind: "chat"},
			request(func(r *api.ReportRequest) { r.Copies = bad }))
		require.ErrorContains(t, err, "a copy's place cannot be used", name)
	}
}
