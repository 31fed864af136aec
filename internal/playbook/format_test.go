package playbook_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"rekey/internal/playbook"
	"rekey/playbooks"
)

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err, "run: go test ./internal/playbook -update")
	require.Equal(t, string(want), got, "run go test ./internal/playbook -update and read the difference")
}

// A pinned digest must not change because rekey was built again. When this fails
// without a change of the playbook, the format broke every pin there is.
func TestDigestOfShipped(t *testing.T) {
	golden(t, "aws-access-key.digest", shipped(t).Digest+"\n")
}

func TestDigestSeesMeaningOnly(t *testing.T) {
	base := valid(t)
	want, err := playbook.Digest([]byte(base))
	require.NoError(t, err)
	require.Regexp(t, `^sha256:[0-9a-f]{64}$`, want)
	for name, src := range map[string]string{
		"a comment":         "# hello\n" + base,
		"order of keys":     strings.Replace(strings.Replace(base, "start: auto\n", "", 1), "apiVersion", "start: auto\napiVersion", 1),
		"block for flow":    strings.Replace(base, "watch: {for: 90d}", "watch:\n  for: 90d", 1),
		"the same duration": strings.Replace(base, "expires: 1h, on", "expires: 60m, on", 1),
		"quotes":            strings.Replace(base, "start: auto", `start: "auto"`, 1),
		"true unquoted":     strings.Replace(base, `disable-and-watch, when: "true"`, `disable-and-watch, when: true`, 1),
	} {
		got, err := playbook.Digest([]byte(src))
		require.NoError(t, err, name)
		require.NotEqual(t, base, src, name)
		require.Equal(t, want, got, name)
	}
	for name, src := range map[string]string{
		"another wait":     strings.Replace(base, "quiet: 24h", "quiet: 25h", 1),
		"another order":    strings.Replace(base, "[Disable, EndSessions, Probe, Issue", "[EndSessions, Disable, Probe, Issue", 1),
		"another quorum":   strings.Replace(base, "quorum: 1", "quorum: 2", 1),
		"another version":  strings.Replace(base, "1.0.0", "1.0.1", 1),
		"without a sweep":  strings.Replace(base, "sweep: true", "sweep: false", 1),
		"a space in a cel": strings.Replace(base, "when: item.held", "when: item.held  == true", 1),
	} {
		got, err := playbook.Digest([]byte(src))
		require.NoError(t, err, name)
		require.NotEqual(t, want, got, name)
	}
	_, err = playbook.Digest([]byte("a: b"))
	require.ErrorContains(t, err, "invalid playbook:")
}

// A playbook goes through workflow input as JSON and comes back the same.
func TestPlaybookSurvivesJSON(t *testing.T) {
	for _, pb := range []*playbooks.Playbook{shipped(t).Playbook, mustParse(t, valid(t))} {
		b, err := json.Marshal(pb)
		require.NoError(t, err)
		require.NotContains(t, string(b), "null")
		var back playbooks.Playbook
		require.NoError(t, json.Unmarshal(b, &back))
		require.Equal(t, pb, &back)
	}
}

func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	raw, err := playbook.Schema()
	require.NoError(t, err)
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	require.NoError(t, c.AddResource(playbook.SchemaID, doc))
	s, err := c.Compile(playbook.SchemaID)
	require.NoError(t, err)
	return s
}

func yamlValue(t *testing.T, src string) any {
	t.Helper()
	var v any
	require.NoError(t, yaml.Unmarshal([]byte(src), &v))
	b, err := json.Marshal(v)
	require.NoError(t, err)
	out, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	require.NoError(t, err)
	return out
}

func TestSchema(t *testing.T) {
	s := schema(t)
	require.NoError(t, s.Validate(yamlValue(t, string(shipped(t).Source))))
	require.NoError(t, s.Validate(yamlValue(t, valid(t))))
	require.NoError(t, s.Validate(yamlValue(t, strings.Replace(valid(t), `medium, when: "true"`, `medium, when: true`, 1))))
	// What an editor must show while it is typed.
	for name, m := range mistakes {
		switch m.want[len(m.want)-len("[RK000]"):] {
		case "[RK003]", "[RK006]", "[RK008]", "[RK020]", "[RK021]", "[RK022]", "[RK025]", "[RK026]", "[RK028]", "[RK034]":
		default:
			continue
		}
		if name == "harden scope" || name == "zero duration" { // the validator's
			continue
		}
		src := strings.Replace(strings.Replace(valid(t), m.from, m.to, 1), "¦", "", 1)
		require.Error(t, s.Validate(yamlValue(t, src)), name)
	}
}

// Every key has a description: an editor shows it, and it is the documentation.
func TestSchemaDescribesEverything(t *testing.T) {
	raw, err := playbook.Schema()
	require.NoError(t, err)
	var root map[string]any
	require.NoError(t, json.Unmarshal(raw, &root))
	require.Equal(t, "https://json-schema.org/draft/2020-12/schema", root["$schema"])
	seen := 0
	var walk func(path string, v any)
	walk = func(path string, v any) {
		m, ok := v.(map[string]any)
		if !ok {
			return
		}
		if props, ok := m["properties"].(map[string]any); ok {
			require.Equal(t, false, m["additionalProperties"], path)
			for k, p := range props {
				seen++
				require.NotEmpty(t, p.(map[string]any)["description"], "%s.%s", path, k)
				walk(path+"."+k, p)
			}
		}
		walk(path+"[]", m["items"])
		walk(path+".*", m["additionalProperties"])
	}
	walk("", root)
	require.Greater(t, seen, 60)
}

func TestMermaid(t *testing.T) {
	got := playbook.Mermaid(shipped(t).Playbook)
	golden(t, "aws-access-key.mmd", got)
	require.Equal(t, got, playbook.Mermaid(shipped(t).Playbook))
	// Every node that an arrow names is drawn.
	drawn := map[string]bool{}
	for _, line := range strings.Split(got, "\n") {
		line = strings.TrimSpace(line)
		if i := strings.IndexAny(line, "([{"); i > 0 && !strings.Contains(line[:i], " ") {
			drawn[line[:i]] = true
		}
		if rest, ok := strings.CutPrefix(line, "subgraph "); ok {
			drawn[strings.Fields(rest)[0]] = true
		}
	}
	for _, line := range strings.Split(got, "\n") {
		f := strings.Fields(line)
		if len(f) < 3 || !strings.Contains(line, "->") {
			continue
		}
		require.True(t, drawn[f[0]], "%s in %q", f[0], line)
		require.True(t, drawn[f[len(f)-1]], "%s in %q", f[len(f)-1], line)
	}
}

// Text of a playbook cannot break out of its node.
func TestMermaidQuotes(t *testing.T) {
	src := strings.Replace(valid(t), "when: item.held", `when: 'item.owner == "#1 <b>]; x & y"'`, 1)
	got := playbook.Mermaid(mustParse(t, src))
	require.Contains(t, got, `r0{"held<br/>item.owner == #quot;#35;1 #lt;b#gt;]; x #amp; y#quot;"}`)
}

func TestPagesAreCurrent(t *testing.T) {
	for name, want := range map[string]string{
		"playbook-problems.md": playbook.ProblemsPage(),
		"playbook-facts.md":    playbook.FactsPage(),
	} {
		got, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
		require.NoError(t, err)
		require.Equal(t, want, string(got), "run: go generate ./internal/playbook")
	}
}
