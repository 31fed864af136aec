package estate

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// gather takes every entry as it is.
func gather(f *File) *reader {
	r := &reader{take: map[string]func(func(any) error) error{
		listKeys: into(&f.Keys), listCopies: into(&f.Copies), listPlaces: into(&f.Places), listSnapshots: into(&f.Snapshots),
		listDependents: into(&f.Dependents), listPlacements: into(&f.Placements), listOwners: into(&f.Owners),
	}}
	r.reset = func() { *f = File{} }
	return r
}

func into[T any](to *[]T) func(func(any) error) error {
	return func(decode func(any) error) error {
		var v T
		err := decode(&v)
		*to = append(*to, v)
		return err
	}
}

// entries are YAML in many hands. Those that begin with ! need the whole parser.
var entries = []string{
	"keys:\n  - {id: A, provider: p, account: \"123\", kind: 'k', opens: [a, b/c@2026-01-01, \"d e\"], issued: 2026-01-02, retired: 2026-01-02T03:04:05Z} # why\n",
	"keys:\n- id: A\n  provider: p # of ours\n\n  # and\n  account: 123456789012\n  kind: user-access-key\n  opens:\n  - a\n  - b\n  retired: 2026-01-02T03:04:05Z\n- id: B\n  opens:\n    - arn:aws:iam\n",
	"---\n# estate\nkeys: [] # none\ncopies:   \n    -   key: A\n        where: \"a: b\"\n        registered: true\n    - {key: B, where: x, registered: false}\n",
	"dependents:\n    - id: nightly\n      keys:\n        - A\n        - B\n      owner: team a\n      outage_budget: 1h30m\n      cutover: dual\n      proof: \"\"\n    - {id: x, keys: [ A , B ], outage_budget: 90d}\nplacements: []\n",
	"owners:\n  - ref: a\n    language: en\n    contacts:\n      - {order: 1, channel: email, address: a@example.com}\n",
	"keys:\n  - {id: A, provider: p, account: a, kind: k,\n     owner: o}\n  - id: |\n      B\n      - C\n    provider: >-\n      x\n      # y\n",
	"keys:\n  -\n    id: A\n  - {id: null, owner: ~, provider: , kind: 0x1F, account: yes}\n  - &a {id: B}\n  - ! {id: C}\n",
	"keys:\r\n  - {id: A, provider: p}\r\n  - id: B\r\n    provider: p\r\n",
	"keys:\n  - {id: \"A\\tB\", provider: 'it''s', account: ü, kind: a b c}\n  - {id: A#b, owner: 'x' , kind: \"y\"}\n",
	"copies:\n  - {key: A, where: db/main, from: 2017-09-15T00:00:00.5Z, until: 2017-09-15 00:00:00}\n",
	"", "\n# nothing\n", "keys:\n",
}

// sameBothWays reads a text entry by entry and as a whole. false: by entry it cannot
// be read.
func sameBothWays(t *testing.T, text string) bool {
	var cut, whole File
	if err := gather(&cut).entries("e.yaml", strings.NewReader(text)); err != nil {
		require.ErrorIs(t, err, errWhole, "%q", text)
		return false
	}
	require.NoError(t, gather(&whole).document("e.yaml", []byte(text)), "%q", text)
	require.Equal(t, whole, cut, "%q", text)
	return true
}

func FuzzEntries(f *testing.F) {
	for _, text := range append(slices.Clone(entries), needWhole...) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) { sameBothWays(t, text) })
}

// TestSpoiledEntriesAreReadTheSameBothWays does what the fuzzer does, without its
// long build: texts are spoiled by chance, with what matters to YAML.
func TestSpoiledEntriesAreReadTheSameBothWays(t *testing.T) {
	n := 3000
	if v := os.Getenv("REKEY_SPOIL"); v != "" {
		var err error
		n, err = strconv.Atoi(v)
		require.NoError(t, err)
	}
	r := rand.New(rand.NewPCG(uint64(n), 1))
	bits := []string{" ", "  ", "\n", "\n  ", "- ", ":", ": ", ",", "{", "}", "[", "]", "#", " #", "'", "\"", "|", ">", "&a ", "*a", "!", "?", "~", "null", "---\n", "\t", "\r", "@", "`", "%", "\\", "keys:\n", "copies:\n", "id", "key", "opens", "true", "0", "2026-01-01", "ü", "-", ".", "\u0085", "\u2028"}
	for _, text := range entries {
		require.True(t, sameBothWays(t, text), "%q", text)
	}
	read := 0
	for range n {
		text := entries[r.IntN(len(entries))]
		for range 1 + r.IntN(2) {
			at := r.IntN(len(text) + 1)
			end := at
			if r.IntN(2) == 0 {
				end = min(len(text), at+r.IntN(6))
			}
			bit := bits[r.IntN(len(bits))]
			if r.IntN(4) == 0 {
				other := entries[r.IntN(len(entries))]
				from := r.IntN(len(other) + 1)
				bit = other[from:min(len(other), from+r.IntN(20))]
			}
			text = text[:at] + bit + text[end:]
		}
		if sameBothWays(t, text) {
			read++
		}
	}
	require.Greater(t, read, n/10, "most texts must not be refused alone")
}

// needWhole cannot be read entry by entry.
var needWhole = []string{
	"keys: [{id: A}, {id: B}]\n",
	"{keys: [{id: A}]}\n",
	"keys:\n  - &a {id: A, provider: p}\n  - {<<: *a, id: B}\n",
	"keys:\n  - {id: A,\nprovider: p}\n",
	"keys:\n  - id: \"A\nkeys:\n  - B\"\n",
	"keys:\n  - {id: \"A\n  - B\"}\n",
	"\"keys\":\n  - {id: A}\n",
	"%YAML 1.1\n---\nkeys:\n  - {id: A}\n",
	"keys:\n  - {id: A}\n...\n",
	"\ufeffkeys:\n  - {id: A}\n",
}

func TestWhatCannotBeReadByEntryIsReadAsAWhole(t *testing.T) {
	for _, text := range needWhole {
		path := filepath.Join(t.TempDir(), "e.yaml")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		var f File
		r := gather(&f)
		require.ErrorIs(t, r.yaml(path), errWhole, "%q", text)
		r.reset()
		require.NoError(t, r.files([]string{path}), "%q", text)
		require.NotEmpty(t, f.Keys, "%q", text)
		require.NotEmpty(t, f.Keys[0].ID, "%q", text)
	}
}

// TestUsualEntriesNeedNoLibrary keeps the fast way open for what people, generators and
// the library itself write.
func TestUsualEntriesNeedNoLibrary(t *testing.T) {
	var s simple
	for _, text := range []string{
		"- {id: A, provider: p, account: \"123\", kind: 'k', opens: [a, b/c@2026-01-01, \"d e\"], issued: 2026-01-02, retired: 2026-01-02T03:04:05Z} # why\n",
		"- id: A\n  provider: p # of ours\n\n  # and\n  account: 123456789012\n  opens:\n  - a\n  - b\n  retired: 2026-01-02T03:04:05Z\n",
		"-   id: \"\"\n    opens:\n      - arn:aws:iam::123:user/x\n    owner: team-1\r\n",
	} {
		require.True(t, s.entry([]byte(text), 0, reflect.ValueOf(&Key{}).Elem()), "%q", text)
	}
	for _, text := range []string{
		"- {id: A, id: B}\n", "- {id: A, ids: B}\n", "- {id: a b}\n", "- {id: null}\n", "- {id: [A]}\n", "- {opens: A}\n", "- {opens: [A,]}\n", "- {id: A} x\n", "- {id: A}#\n",
		"- {id:A}\n", "- {id: A:}\n", "- {id: &a A}\n", "- {id: A\n", "- id: A\n   owner: x\n", "- id:\n", "- {}\n", "-\n", "- {issued: 2026-13-01}\n", "- {issued: '2026-01-01'}\n",
		"- id: A\n  opens:\n  -\n", "- id: ü\n", "- {id: \"a\\tb\"}\n", "- {id: -}\n", "- {opens: [a b]}\n",
	} {
		require.False(t, s.entry([]byte(text), 0, reflect.ValueOf(&Key{}).Elem()), "%q", text)
	}
	require.False(t, s.entry([]byte("- {ref: a}\n"), 0, reflect.ValueOf(&Owner{}).Elem()), "contacts are no words")
}
