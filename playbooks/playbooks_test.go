package playbooks_test

import (
	"encoding/json"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/playbooks"
)

func TestDuration(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]struct {
		d       time.Duration
		written string
	}{
		"30s":    {30 * time.Second, "30s"},
		"90d":    {90 * day, "90d"},
		"72h":    {3 * day, "72h"},
		"3d":     {3 * day, "72h"},
		"168h":   {7 * day, "7d"},
		"1d12h":  {36 * time.Hour, "36h"},
		"60m":    {time.Hour, "1h"},
		"90m":    {90 * time.Minute, "1h30m"},
		"1h0m5s": {time.Hour + 5*time.Second, "1h0m5s"},
		"500ms":  {500 * time.Millisecond, "500ms"},
		"0s":     {0, "0s"},
	} {
		var d playbooks.Duration
		require.NoError(t, d.UnmarshalText([]byte(text)), text)
		require.Equal(t, want.d, d.Std(), text)
		require.Equal(t, want.written, d.String(), text)
		back, err := playbooks.ParseDuration(d.String())
		require.NoError(t, err)
		require.Equal(t, d, back, "what is written is read back")
	}
	for _, bad := range []string{"", "d", "72", "-1h", "-1d", "1d-1h", "1h1d", "1.5d", "1d1d", "200000d", "106751d24h", "9999999999d", "+1h", "1 h", "inf"} {
		_, err := playbooks.ParseDuration(bad)
		require.Error(t, err, bad)
	}
}

func TestRate(t *testing.T) {
	for text, want := range map[playbooks.Rate]time.Duration{"10/s": time.Second, "10/m": time.Minute, "10/h": time.Hour} {
		n, per, err := text.Parse()
		require.NoError(t, err)
		require.Equal(t, int64(10), n)
		require.Equal(t, want, per)
	}
	for _, bad := range []playbooks.Rate{"", "10", "10/d", "0/s", "-1/s", "1.5/s", "/s", "10/s/s"} {
		_, _, err := bad.Parse()
		require.Error(t, err, bad)
	}
}

func TestBind(t *testing.T) {
	values := map[string]string{"item.owner": "platform", "item.account": ""}
	value := func(n string) (string, bool) { v, ok := values[n]; return v, ok }
	got, err := playbooks.Bind("{{item.owner}}/{{ item.owner }}/aws", value)
	require.NoError(t, err)
	require.Equal(t, "platform/platform/aws", got)
	got, err = playbooks.Bind("fixed", value)
	require.NoError(t, err)
	require.Equal(t, "fixed", got)
	for _, s := range []string{"{{item.account}}/aws", "{{item.kind}}/{{item.owner}}"} {
		got, err = playbooks.Bind(s, value)
		require.ErrorContains(t, err, playbooks.PlaceholdersIn(s)[0], "it names what is missing")
		require.Empty(t, got, "never half filled")
	}
}

func TestApprovalFor(t *testing.T) {
	two := playbooks.Approval{Roles: []playbooks.Role{playbooks.RoleCommander}, Quorum: 2}
	pb := &playbooks.Playbook{Approvals: map[string]playbooks.Approval{
		playbooks.ApproveIrreversible: two, string(playbooks.RevokeNow): {Policy: true},
	}}
	require.True(t, pb.ApprovalFor(playbooks.RevokeNow).Policy)
	require.Equal(t, two, pb.ApprovalFor(playbooks.Barrier), "what moves and is not listed needs the strictest votes")
	require.True(t, pb.ApprovalFor(playbooks.NotifyOnly).Policy, "what moves nothing needs none")
	require.Equal(t, playbooks.Barrier.StandardSteps(), pb.Strategy(playbooks.Barrier).Steps)
}

func TestLadder(t *testing.T) {
	l := playbooks.Ladder{Automatic: []playbooks.Rung{playbooks.RungKey}, Approved: []playbooks.Rung{playbooks.RungPrincipal}}
	listed, automatic := l.Allows(playbooks.RungKey)
	require.True(t, listed && automatic)
	listed, automatic = l.Allows(playbooks.RungPrincipal)
	require.True(t, listed && !automatic)
	listed, _ = l.Allows(playbooks.RungNetworkBind)
	require.False(t, listed)
}

func TestFacts(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range playbooks.FactTable() {
		require.False(t, seen[f.Name], f.Name)
		seen[f.Name] = true
		variable, field, ok := strings.Cut(f.Name, ".")
		require.True(t, ok && field != "")
		require.Contains(t, playbooks.FactVariables(), variable)
		require.Contains(t, []playbooks.FactType{playbooks.TypeInt, playbooks.TypeBool, playbooks.TypeString}, f.Type)
		require.NotEmpty(t, f.Doc)
	}
	var f playbooks.Facts
	f.Set("scope.items", playbooks.IntFact(0))
	f.Set("item.owner", playbooks.StrFact(""))
	f.Set("item.admin", playbooks.UnknownFact())
	f.Set("clock.now", playbooks.IntFact(1))
	require.Equal(t, []string{"item.admin", "item.owner", "scope.items"}, f.Names(), "only the three variables")
	require.Equal(t, "0", f.Get("scope.items").String(), "zero is known")
	require.Equal(t, `""`, f.Get("item.owner").String(), "empty is known")
	require.Equal(t, "unknown", f.Get("item.admin").String())
	require.Equal(t, "unknown", f.Get("scope.customers").String(), "absent is unknown")
	require.Equal(t, playbooks.FactType(""), playbooks.Fact{Known: true}.Type(), "known without a value tells nothing")

	b, err := json.Marshal(f)
	require.NoError(t, err)
	require.JSONEq(t, `{"item":{"admin":{"known":false},"owner":{"known":true,"str":""}},"scope":{"items":{"known":true,"int":0}}}`, string(b))
	var back playbooks.Facts
	require.NoError(t, json.Unmarshal(b, &back))
	require.Equal(t, f, back)
}

func TestAccessorsAreSorted(t *testing.T) {
	pb := &playbooks.Playbook{
		Strategies: map[playbooks.StrategyName]playbooks.Strategy{playbooks.RevokeNow: {}, playbooks.Barrier: {}, playbooks.DisableAndWatch: {}},
		Approvals:  map[string]playbooks.Approval{"rung": {}, "irreversible": {}, "restore": {}},
		Rates:      map[string]playbooks.Rate{"b": "", "a": "", "c": ""},
	}
	for range 20 {
		require.Equal(t, []playbooks.StrategyName{"barrier", "disable-and-watch", "revoke-now"}, pb.StrategyNames())
		require.Equal(t, []string{"irreversible", "restore", "rung"}, pb.ApprovalNames())
		require.Equal(t, []string{"a", "b", "c"}, pb.RateNames())
	}
}

// The package is workflow input: it imports the standard library alone and nothing
// that reads a clock it could be tempted by, a file or the network.
func TestImports(t *testing.T) {
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		src, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NotContains(t, string(src), "time.Now")
		parsed, err := parser.ParseFile(token.NewFileSet(), file, src, parser.ImportsOnly)
		require.NoError(t, err)
		for _, i := range parsed.Imports {
			path := strings.Trim(i.Path.Value, `"`)
			require.NotContains(t, path, ".", "only the standard library")
			require.NotContains(t, []string{"os", "net", "net/http", "math/rand", "log", "log/slog"}, path)
			require.False(t, strings.HasPrefix(path, "rekey/"), path)
		}
	}
}
