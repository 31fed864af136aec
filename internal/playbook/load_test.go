package playbook_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/activities/awsiam"
	"rekey/activities/postgres"
	"rekey/internal/playbook"
	"rekey/playbooks"
)

// What ships passes its own validator without a warning, against the provider it
// is for, and has a page for the person on call.
func TestShippedPlaybooks(t *testing.T) {
	providers := playbook.Descriptors([]activities.Descriptor{awsiam.Provider().Descriptor, postgres.Provider().Descriptor})
	require.Contains(t, playbook.Shipped(), "aws-access-key")
	for _, name := range playbook.Shipped() {
		l, err := playbook.Load(name, playbook.WithProviders(providers))
		require.NoError(t, err)
		require.Empty(t, l.Warnings.String())
		require.Equal(t, name, l.Playbook.Name)
		require.Equal(t, "embedded:"+name, l.File)
		readme, err := playbook.Readme(name)
		require.NoError(t, err)
		for _, r := range l.Playbook.Decide {
			require.Contains(t, string(readme), "| "+r.ID+" |", "the README explains every rule")
		}
	}
}

func TestLoadFromDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sample")
	require.NoError(t, os.Mkdir(dir, 0o700))
	file := filepath.Join(dir, "playbook.yaml")
	require.NoError(t, os.WriteFile(file, []byte(valid(t)), 0o600))
	for _, where := range []string{dir, file} {
		l, err := playbook.Load(where)
		require.NoError(t, err)
		require.Equal(t, "sample", l.Playbook.Name)
		require.Equal(t, file, l.File)
		want, err := playbook.Digest([]byte(valid(t)))
		require.NoError(t, err)
		require.Equal(t, want, l.Digest)
	}

	require.NoError(t, os.Rename(dir, dir+"2"))
	_, err := playbook.Load(dir + "2")
	require.ErrorContains(t, err, `3:7: name: the folder is "sample2" (write "sample2")  [RK009]`)
	_, err = playbook.Load(filepath.Join(dir+"2", "playbook.yaml"))
	require.NoError(t, err, "a single file may lie anywhere")
	among := filepath.Join(t.TempDir(), "playbooks", "other")
	require.NoError(t, os.MkdirAll(among, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(among, "playbook.yaml"), []byte(valid(t)), 0o600))
	_, err = playbook.Load(filepath.Join(among, "playbook.yaml"))
	require.ErrorContains(t, err, `the folder is "other"`)
	_, err = playbook.Load(dir)
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = playbook.Load("aws-acces-key")
	require.EqualError(t, err, `no playbook "aws-acces-key": did you mean "aws-access-key"?; or give a path such as ./playbook.yaml`)

	// A folder of the working directory never stands in for a shipped playbook.
	t.Chdir(t.TempDir())
	require.NoError(t, os.Mkdir("aws-access-key", 0o700))
	require.NoError(t, os.WriteFile("aws-access-key/playbook.yaml", []byte("a: b"), 0o600))
	l, err := playbook.Load("aws-access-key")
	require.NoError(t, err)
	require.Equal(t, "embedded:aws-access-key", l.File)
	_, err = playbook.Load("./aws-access-key")
	require.ErrorContains(t, err, `unknown key "a"`)
}

func TestLoadTooLarge(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.yaml")
	require.NoError(t, os.WriteFile(file, []byte(strings.Repeat("#", 2<<20)), 0o600))
	_, err := playbook.Load(file)
	require.ErrorContains(t, err, "larger than 1 MiB")
}

func TestCeilings(t *testing.T) {
	l := shipped(t)
	sample := mustParse(t, valid(t))
	sampleDigest, err := playbook.DigestOf(sample)
	require.NoError(t, err)
	solo := mustParse(t, strings.ReplaceAll(valid(t), "quorum: 2", "quorum: 1"))
	two := playbook.Ceilings{Irreversible: playbook.Quorum{Quorum: 2, OutsideSlack: 1}}
	for name, tt := range map[string]struct {
		pb       *playbooks.Playbook
		ceilings playbook.Ceilings
		want     []string
	}{
		"none":                 {sample, playbook.Ceilings{}, nil},
		"kept":                 {sample, two, nil},
		"tighter than needed":  {sample, playbook.Ceilings{Irreversible: playbook.Quorum{Quorum: 1}}, nil},
		"one vote for two":     {solo, two, []string{"approvals.irreversible.quorum", "approvals.rung.quorum", "approvals.restore.quorum"}},
		"rate above":           {sample, playbook.Ceilings{Rates: map[string]playbooks.Rate{"testprov.write": "5/s"}}, []string{"rates.testprov.write"}},
		"rate in other units":  {sample, playbook.Ceilings{Rates: map[string]playbooks.Rate{"testprov.write": "600/m"}}, nil},
		"rate just above":      {sample, playbook.Ceilings{Rates: map[string]playbooks.Rate{"testprov.write": "599/m"}}, []string{"rates.testprov.write"}},
		"rate of another":      {sample, playbook.Ceilings{Rates: map[string]playbooks.Rate{"other.write": "1/h"}}, nil},
		"not pinned":           {sample, playbook.Ceilings{Pinned: true}, []string{""}},
		"pinned":               {sample, playbook.Ceilings{Pinned: true, Pins: map[string][]string{"sample": {sampleDigest}}}, nil},
		"pinned under another": {sample, playbook.Ceilings{Pinned: true, Pins: map[string][]string{"other": {sampleDigest}}}, []string{""}},
		"shipped is pinned":    {l.Playbook, playbook.Ceilings{Pinned: true}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, p := range playbook.CheckCeilings(tt.pb, tt.ceilings) {
				require.Contains(t, []playbook.Code{"RK061", "RK062"}, p.Code)
				require.False(t, p.Warning)
				got = append(got, p.Path)
			}
			require.Equal(t, tt.want, got)
		})
	}
	changed := *l.Playbook
	changed.Start = playbooks.StartAsk
	require.NotEmpty(t, playbook.CheckCeilings(&changed, playbook.Ceilings{Pinned: true}), "a changed copy under the shipped name is not the shipped one")
}
