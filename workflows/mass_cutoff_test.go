package workflows_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/internal/page"
	"rekey/playbooks"
)

// What is not done by the cut-off does not keep the old keys alive, a person's step and a
// long wait included.
func TestTheCutOffEndsWhateverRowsWaitFor(t *testing.T) {
	tests := map[string]fault{
		"a right that nobody grants":      {class: activities.ClassDenied, outcome: activities.Denied, perm: "iam:CreateAccessKey"},
		"an account that is told to wait": {class: activities.ClassThrottled, outcome: activities.Unclear, after: 200 * time.Hour},
		"a provider that is away":         {class: activities.ClassTransient, outcome: activities.Unclear},
	}
	for name, wrong := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, large(12, func(m *massWorld) {
				m.owner = "platform"
				m.strategy = func(page.Row) playbooks.StrategyName { return playbooks.ReissueFirst }
			}))
			w.provider.always[activities.Issue] = wrong
			w.reported(0, "r1", "AKIA-1", withSecret)
			w.approving("strategy", "irreversible")
			w.at(74*time.Hour, func() {
				for _, id := range w.mass.ids {
					cut := w.provider.when("Disable " + id).Sub(t0)
					require.GreaterOrEqual(t, cut, 72*time.Hour, id)
					require.Less(t, cut, 72*time.Hour+10*time.Minute, id)
				}
				w.resolved(t, "waived")
			})
			v := w.run()
			require.Equal(t, 13, v.Totals.ByEndState["revoked-verified"])
		})
	}
}
