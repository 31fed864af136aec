package cli

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/internal/plan"
	"rekey/playbooks"
)

func TestPlanTextShowsWavesOverRows(t *testing.T) {
	item := plan.Item{
		Key:   activities.Key{FP: "fp1_a41c09be77d2000000000000", Provider: "awsiam", Account: "prod", Kind: "user-access-key", ID: "AKIA1", Principal: "svc-1"},
		Calls: []plan.Call{{Verb: "Disable", Support: "api", Vendor: []string{"iam:UpdateAccessKey"}, Target: "AKIA1"}},
	}
	small := plan.Wave{N: 1, Hash: "sha256:11", Strategy: playbooks.RevokeNow, Items: []plan.Item{item}}
	mass := plan.Wave{
		N: 2, Hash: "sha256:22", Strategy: playbooks.ReissueFirst, Gates: []string{"irreversible"}, Batch: 500,
		List: "sha256:33", Count: 25_000, Verbs: []string{"Issue", "Disable"}, Calls: 50_000, ETAMs: 3_600_000, First: []plan.Item{item},
	}
	text := strings.Join(planText(plan.Plan{Version: 2, Hash: "sha256:44", Waves: []plan.Wave{small, mass}, Calls: 50_001, ETAMs: 3_600_000}, palette(false)), "\n")
	require.Contains(t, text, "50001 calls in 2 waves, about 1h")
	_, rest, ok := strings.Cut(text, "Wave 2: reissue-first of 25000 items\n  sha256:22\n  gate: irreversible\n")
	require.True(t, ok, text)
	require.Contains(t, rest, "  50000 calls, about 1h by itself\n  of each item, as far as it needs them: Issue, Disable\n")
	require.Contains(t, rest, "the pages of list sha256:33")
	require.Contains(t, rest, "iam:UpdateAccessKey -> AKIA1", "exact calls of the first")
	require.Contains(t, rest, "... and 24999 items under the same strategy")
	require.Equal(t, 2, strings.Count(text, "iam:UpdateAccessKey"))
}
