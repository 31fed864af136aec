package playbook_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/internal/playbook"
	"rekey/playbooks"
)

// testProviders has a provider with every verb and one that can do little, so that
// the validator's tests depend on no real provider.
func testProviders() playbook.Descriptors {
	all := map[activities.Verb]activities.VerbInfo{}
	for _, v := range activities.Verbs() {
		all[v] = activities.VerbInfo{Support: activities.ByAPI, Reversible: v == activities.Disable}
	}
	few := map[activities.Verb]activities.VerbInfo{
		activities.Revoke: {Support: activities.ByAPI}, activities.Probe: {Support: activities.ByAPI},
		activities.Inspect: {Support: activities.ByAPI},
	}
	return playbook.Descriptors{
		{Code: "testprov", Stores: []string{"vault"}, Kinds: []activities.KindInfo{{Kind: "key", Propagation: 15 * time.Second, Verbs: all}}},
		{Code: "bareprov", Kinds: []activities.KindInfo{{Kind: "key", Propagation: time.Second, Verbs: few}}},
	}
}

func valid(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "valid.yaml"))
	require.NoError(t, err)
	return string(b)
}

func mustParse(t *testing.T, src string) *playbooks.Playbook {
	t.Helper()
	pb, problems := playbook.Parse("playbook.yaml", []byte(src), playbook.WithProviders(testProviders()))
	require.NotNil(t, pb, problems.String())
	return pb
}

func shipped(t testing.TB) *playbook.Loaded {
	t.Helper()
	l, err := playbook.Load("aws-access-key")
	require.NoError(t, err)
	return l
}
