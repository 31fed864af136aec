package workflows_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/playbooks"
)

// What the playbook proposes for a replacement is asked of its owner, and keeps
// the incident from all-clear until somebody answers.
func TestHardeningIsAskedFor(t *testing.T) {
	for name, proposed := range map[string]bool{"the playbook proposes networks": true, "the playbook proposes nothing": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(w *world) {
				if proposed {
					w.set.Playbook.Harden = playbooks.Harden{AllowFrom: []string{"198.51.100.0/24"}}
				}
			})
			w.used("AKIA-1", "billing")
			w.reported(0, "r1", "AKIA-1", withSecret)
			w.approving("strategy", "irreversible")
			w.resolving()
			w.moves(2*time.Hour, "AKIA-1", "10.0.0.1")
			v := w.run()
			require.Equal(t, "all-clear", v.State)
			asked := 0
			for _, h := range v.NeedsHuman {
				if strings.HasPrefix(h.What, "harden the replacement NEW-AKIA-1") {
					asked++
					require.Contains(t, h.What, "198.51.100.0/24")
					require.Equal(t, "done", h.State)
				}
			}
			require.Equal(t, map[bool]int{true: 1, false: 0}[proposed], asked)
		})
	}
}
