package estate_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"rekey/internal/estate"
	"rekey/internal/estate/estatetest"
)

// everything is what an estate answers of all its keys.
func everything(t *testing.T, e *estate.Estate, gen estatetest.Estate) []any {
	t.Helper()
	var out []any
	for _, k := range e.Keys() {
		out = append(out, k)
	}
	for n := 0; n < gen.Keys; n += 7 {
		items, sum := closure(t, e, 2, given(t, e, gen.ID(n), "snapshot/s-1"))
		out = append(out, items, sum)
	}
	return out
}

func TestTheFormOfAFileDoesNotMatter(t *testing.T) {
	gen := estatetest.Tangled(80, 3)
	_, customers, err := gen.Files(t.TempDir(), "estate.jsonl")
	require.NoError(t, err)
	var lines, plain bytes.Buffer
	require.NoError(t, gen.WriteJSON(&lines))
	require.NoError(t, gen.WriteYAML(&plain))
	marshalled, err := yaml.Marshal(gen.File())
	require.NoError(t, err)
	whole := append([]byte("%YAML 1.1\n---\n"), marshalled...) // only the whole parser takes this
	document, err := json.MarshalIndent(gen.File(), "", "  ")
	require.NoError(t, err)
	var want []any
	for _, form := range []struct {
		name string
		text []byte
	}{
		{"lines.jsonl", lines.Bytes()}, {"lines.NDJSON", lines.Bytes()}, {"document.json", document}, {"document.yaml", document},
		{"plain.yaml", plain.Bytes()}, {"marshalled.yml", marshalled}, {"whole.yaml", whole},
	} {
		e, err := estate.Load([]string{write(t, form.name, string(form.text))}, customers, fingers(t))
		require.NoError(t, err, form.name)
		got := everything(t, e, gen)
		if want == nil {
			require.Greater(t, len(got), gen.Keys)
			want = got
		}
		require.Equal(t, want, got, form.name)
	}
	// What one file says, several can say together.
	half := bytes.IndexByte(lines.Bytes()[lines.Len()/2:], '\n') + lines.Len()/2 + 1
	e, err := estate.Load([]string{write(t, "a.jsonl", lines.String()[:half]), write(t, "b.jsonl", lines.String()[half:])}, customers, fingers(t))
	require.NoError(t, err)
	require.Equal(t, want, everything(t, e, gen))
}

func TestAMistakeInJSONIsNamedWithItsLine(t *testing.T) {
	const key = `{"id":"A","provider":"p","account":"a","kind":"k"}`
	for name, row := range map[string]struct{ text, want string }{
		"an unknown key":        {`{"keys":[` + key + "]}\n" + `{"keys":[{"id":"B","ovner":"x"}]}`, `e.jsonl:2: keys[1]: unknown key "ovner"`},
		"an unknown list":       {"\n\n" + `{"secrets":[]}`, `e.jsonl:3: unknown key "secrets"`},
		"a key named twice":     {`{"keys":[` + "\n" + key + ",\n" + key + "\n]}", "e.jsonl:3: keys[1]: key A is named twice"},
		"a list that is a text": {`{"keys":"none"}`, "e.jsonl:1: keys is a list"},
		"a list that is null":   {`{"keys":null}`, "keys is a list"},
		"a text that is a list": {`{"keys":[` + "\n\n" + `{"id":["A"]}]}`, "e.jsonl:3: keys[0]: id: an array does not belong here"},
		"an entry that is none": {`{"keys":[7]}`, "keys[0]: a number does not belong here"},
		"a time that is none":   {`{"copies":[{"key":"A","where":"w","from":"soon"}]}`, "copies[0]: "},
		"a duration":            {`{"dependents":[{"id":"x","keys":["A"],"outage_budget":"long"}]}`, "dependents[0]: "},
		"no object":             {"{}\n[]", "e.jsonl:2: an object is wanted"},
		"no end":                {`{"keys":[` + key, "the list keys does not end"},
		"no end of an entry":    {`{"keys":[` + "\n" + `{"id":"A"`, "e.jsonl:2: keys[0]: the file ends too early"},
		"no end of the object":  {`{"keys":[` + key + "]\n", "e.jsonl:2: the file ends too early"},
		"no JSON":               {"keys:\n", "e.jsonl:1: invalid character"},
		"a list never read":     {`{"owners":[{"ref":"a","contacts":[{"order":1,"channel":"email","address":"eve"}]}]}`, "e.jsonl:1: owners[0]: a: contacts[0]: not a mail address"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := estate.Load([]string{write(t, "e.jsonl", row.text)}, nil, nil)
			require.ErrorContains(t, err, "estate e.jsonl")
			require.ErrorContains(t, err, row.want)
			require.NotContains(t, err.Error(), "estate.Key")
			require.NotContains(t, err.Error(), "Go ")
		})
	}
	_, err := estate.Load([]string{write(t, "e.jsonl", "")}, nil, nil)
	require.NoError(t, err)
}

func TestTheDirectoryReadsOwnersOfAllForms(t *testing.T) {
	for name, text := range map[string]string{
		"e.jsonl": `{"keys":[{"id":"A"}]}` + "\n" + `{"owners":[{"ref":"web","contacts":[{"order":1,"channel":"email","address":"web@example.com"}]}]}`,
		"e.yaml":  "keys:\n  - {id: A}\nowners:\n  - {ref: web, contacts: [{order: 1, channel: email, address: web@example.com}]}\n",
		"w.yaml":  "keys: [{id: A}]\nowners: [{ref: web, contacts: [{order: 1, channel: email, address: web@example.com}]}]\n",
	} {
		d, err := estate.LoadDirectory([]string{write(t, name, text)}, nil)
		require.NoError(t, err, name)
		web, ok := d.Find("owner", "web")
		require.True(t, ok, name)
		require.Equal(t, []estate.Contact{{Order: 1, Channel: "email", Address: "web@example.com"}}, web.Contacts, name)
	}
	_, err := estate.LoadDirectory([]string{write(t, "e.jsonl", "{}\n"+`{"owners":[{"ref":"a"},{"ref":"a"}]}`)}, nil)
	require.ErrorContains(t, err, "e.jsonl:2: owners[1]: owner a is named twice")
}
