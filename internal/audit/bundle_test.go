package audit_test

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/audit"
	"rekey/internal/audit/audittest"
)

const origin = "example.com/rekey"

func signer(t testing.TB) *audit.Signer {
	t.Helper()
	s, err := audit.NewSigner(origin)
	require.NoError(t, err)
	return s
}

func seal(t testing.TB, c audit.Content, s *audit.Signer) ([]byte, audit.Sealed) {
	t.Helper()
	var b bytes.Buffer
	sealed, err := audit.Write(&b, c, s)
	require.NoError(t, err)
	return b.Bytes(), sealed
}

func sample(t testing.TB, s *audit.Signer) ([]byte, audit.Sealed) {
	t.Helper()
	events, seen := audittest.Sample()
	return seal(t, audittest.Content(events, seen), s)
}

func verify(b []byte, keys ...string) audit.Result {
	return audit.Verify(bytes.NewReader(b), int64(len(b)), audit.Options{TrustedKeys: keys, File: "x.zip"})
}

func codes(r audit.Result) []string {
	var out []string
	for _, f := range r.Faults {
		out = append(out, f.Code)
	}
	return out
}

func TestSealAndVerify(t *testing.T) {
	s := signer(t)
	b, sealed := sample(t, s)
	events, _ := audittest.Sample()

	res := verify(b, s.Key)
	require.Equal(t, audit.Verified, res.Result, res.Faults)
	require.Equal(t, 0, res.ExitCode())
	require.Equal(t, int64(len(events)), res.Events)
	require.Equal(t, sealed.Root, res.Root)
	require.Equal(t, sealed.Size, res.Checkpoint.Size)
	require.Equal(t, origin, res.Origin)
	require.Equal(t, audittest.IncidentID, res.Incident)
	require.Equal(t, []audit.ResultKey{{Name: origin, Hash: strings.Split(s.Key, "+")[1], Trusted: true}}, res.Checkpoint.Keys)
	require.Equal(t, []string{"every event is in the signed tree", "pages match their hashes", "manifest complete"}, res.Proved)
	require.Contains(t, res.NotProved, "time is not anchored by a third party")
	require.Equal(t, int64(len(b)), sealed.Bytes)

	t.Run("without a key it is whole, but nobody's", func(t *testing.T) {
		res := verify(b)
		require.Equal(t, audit.Verified, res.Result)
		require.False(t, res.Checkpoint.Keys[0].Trusted)
		require.Contains(t, strings.Join(res.NotProved, "\n"), "who signed this")
	})
	t.Run("another key is unknown", func(t *testing.T) {
		res := verify(b, signer(t).Key)
		require.Equal(t, audit.Failed, res.Result)
		require.Equal(t, 4, res.ExitCode())
		require.Equal(t, []string{audit.KeyUnknown, audit.KeyUnknown}, codes(res))
		require.NotContains(t, res.Proved, "every event is in the signed tree")
	})
	t.Run("any zip tool can open it", func(t *testing.T) {
		r, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
		require.NoError(t, err)
		var names []string
		for _, f := range r.File {
			rc, err := f.Open()
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, rc) // checks the CRC
			require.NoError(t, err)
			require.Equal(t, os.FileMode(0o644), f.Mode())
			names = append(names, f.Name)
		}
		require.Equal(t, []string{"approvals.json", "chapters/incident-inc-7f3a9c2e41d0-0f4a7c52.json.gz", "checkpoint", "events.jsonl", "evidence.json", "incident.json",
			"key.pub", "leaves.txt", "manifest.json", "manifest.sig", "notices/1.json", "outside.json"}, names[:12])
	})
	t.Run("the same content gives the same bytes", func(t *testing.T) {
		again, other := sample(t, s)
		require.Equal(t, sealed, other)
		require.Equal(t, b, again)
	})
	t.Run("what went in comes out", func(t *testing.T) {
		bundle, err := audit.Open(bytes.NewReader(b), int64(len(b)))
		require.NoError(t, err)
		back, hidden, err := bundle.Events()
		require.NoError(t, err)
		require.Zero(t, hidden)
		require.Equal(t, events, back)
		require.Contains(t, string(bundle.View()), audittest.IncidentID)
	})
}

func TestInclusionProofStandsAlone(t *testing.T) {
	s := signer(t)
	for _, n := range []int{1, 2, 7, 64, 65} {
		b, _ := seal(t, audit.Content{Incident: "inc-1", Events: audittest.Many("inc-1", n)}, s)
		bundle, err := audit.Open(bytes.NewReader(b), int64(len(b)))
		require.NoError(t, err)
		for i := range int64(n) {
			line, proof, err := bundle.Proof(i)
			require.NoError(t, err)
			index, err := audit.CheckProof(line, proof, []string{s.Key})
			require.NoError(t, err)
			require.Equal(t, i, index)

			_, err = audit.CheckProof(append(line, ' '), proof, []string{s.Key})
			require.Error(t, err, "another event")
			_, err = audit.CheckProof(line, proof, []string{signer(t).Key})
			require.Error(t, err, "another key")
			_, err = audit.CheckProof(line, bytes.Replace(proof, []byte("index "), []byte("index 1"), 1), []string{s.Key})
			require.Error(t, err, "another index")
		}
		_, _, err = bundle.Proof(int64(n))
		require.Error(t, err)
	}
}

func TestEachExtendsTheLast(t *testing.T) {
	s := signer(t)
	events := audittest.Many("inc-1", 50)
	first, sealed := seal(t, audit.Content{Incident: "inc-1", State: "contained", Events: events[:20]}, s)
	prev, err := audit.PreviousOf(bytes.NewReader(first), int64(len(first)))
	require.NoError(t, err)
	require.Equal(t, audit.Previous{Digest: sealed.Digest, Checkpoint: sealed.Checkpoint}, prev)

	second, _ := seal(t, audit.Content{Incident: "inc-1", State: "all-clear", Final: true, Events: events, Previous: &prev}, s)
	res := verify(second, s.Key)
	require.Equal(t, audit.Verified, res.Result, res.Faults)
	require.Equal(t, sealed.Digest, res.Previous)
	require.True(t, res.Final)
	require.Contains(t, strings.Join(res.Proved, "\n"), "extends "+sealed.Digest+" with its 20 events")

	t.Run("sealing the same again is an extension by nothing", func(t *testing.T) {
		b, _ := seal(t, audit.Content{Incident: "inc-1", Events: events[:20], Previous: &prev}, s)
		require.Equal(t, audit.Verified, verify(b, s.Key).Result)
	})
	t.Run("a rewritten past is not sealed", func(t *testing.T) {
		changed := audittest.Many("inc-1", 50)
		changed[3].Result = "denied"
		_, err := audit.Write(io.Discard, audit.Content{Incident: "inc-1", Events: changed, Previous: &prev}, s)
		require.ErrorContains(t, err, "do not extend")
	})
	t.Run("nor a shorter one", func(t *testing.T) {
		_, err := audit.Write(io.Discard, audit.Content{Incident: "inc-1", Events: events[:19], Previous: &prev}, s)
		require.ErrorContains(t, err, "do not extend")
	})
	t.Run("nor another incident's", func(t *testing.T) {
		_, err := audit.Write(io.Discard, audit.Content{Incident: "inc-2", Events: audittest.Many("inc-2", 50), Previous: &prev}, s)
		require.ErrorContains(t, err, "do not extend")
	})
}

func TestWriteRefuses(t *testing.T) {
	good := func() audit.Content {
		return audit.Content{Incident: "inc-1", Events: audittest.Many("inc-1", 3)}
	}
	tests := map[string]struct {
		set  func(*audit.Content)
		want string
	}{
		"no events":            {func(c *audit.Content) { c.Events = nil }, "no events"},
		"not an id":            {func(c *audit.Content) { c.Incident = "../x" }, "incident id"},
		"a gap":                {func(c *audit.Content) { c.Events = append(c.Events[:1], c.Events[2:]...) }, "seq"},
		"begins late":          {func(c *audit.Content) { c.Events = c.Events[2:] }, "0 or 1"},
		"of another incident":  {func(c *audit.Content) { c.Events[1].Incident = "inc-2" }, "inc-2"},
		"page of another hash": {func(c *audit.Content) { c.Pages = map[string][]byte{"sha256:00": []byte("x")} }, "hash"},
		"name that climbs":     {func(c *audit.Content) { c.Notices = map[string][]byte{"../../etc/passwd": nil} }, "name"},
		"name in upper case":   {func(c *audit.Content) { c.Notices = map[string][]byte{"A.json": nil} }, "name"},
		"two runs of one name": {func(c *audit.Content) {
			c.Chapters = []audit.Chapter{{Workflow: "a/b", Run: "r"}, {Workflow: "a", Run: "b-r"}}
		}, "two files"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := good()
			tt.set(&c)
			_, err := audit.Write(io.Discard, c, signer(t))
			require.ErrorContains(t, err, tt.want)
		})
	}
}

func TestSignerKeys(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	a, err := audit.LoadOrCreateSigner(dir, origin)
	require.NoError(t, err)
	b, err := audit.LoadOrCreateSigner(dir, origin)
	require.NoError(t, err)
	require.Equal(t, a.Key, b.Key, "created once")
	info, err := os.Stat(filepath.Join(dir, "audit.key"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	pub, err := os.ReadFile(filepath.Join(dir, "audit.pub"))
	require.NoError(t, err)
	require.Equal(t, a.Key+"\n", string(pub))
	require.NoError(t, audit.CheckKeys([]string{string(pub)}))

	_, err = audit.LoadOrCreateSigner(dir, "example.com/other")
	require.ErrorContains(t, err, "audit.origin")
	_, err = audit.LoadOrCreateSigner(t.TempDir(), "has space")
	require.Error(t, err)

	old, sealed := seal(t, audit.Content{Incident: "inc-1", Events: audittest.Many("inc-1", 5)}, a)
	c, err := audit.RotateSigner(dir, origin)
	require.NoError(t, err)
	require.NotEqual(t, a.Key, c.Key)
	require.Equal(t, []string{a.Key}, c.Old)
	raw, err := os.ReadFile(filepath.Join(dir, "audit.key"))
	require.NoError(t, err)
	require.NotContains(t, string(raw), strings.Split(a.Key, "+")[1], "the old private key is gone")
	d, err := audit.RotateSigner(dir, origin)
	require.NoError(t, err)
	require.Equal(t, []string{c.Key, a.Key}, d.Old)

	next, _ := seal(t, audit.Content{Incident: "inc-1", Events: audittest.Many("inc-1", 9),
		Previous: &audit.Previous{Digest: sealed.Digest, Checkpoint: sealed.Checkpoint}}, d)
	require.Equal(t, audit.Verified, verify(old, a.Key).Result, "old bundles verify with the old key")
	require.Equal(t, audit.Verified, verify(next, a.Key+"\n"+d.Key).Result)
	require.Equal(t, []string{audit.KeyUnknown, audit.KeyUnknown}, codes(verify(next, a.Key)), "a rotated key is not trusted by itself")
	res := verify(next, d.Key)
	require.Equal(t, audit.Verified, res.Result)
	require.Contains(t, res.NotProved, "who signed the bundle that this one extends")

	require.NoError(t, os.Chmod(filepath.Join(dir, "audit.key"), 0o640))
	_, err = audit.LoadOrCreateSigner(dir, origin)
	require.ErrorContains(t, err, "can be read by others")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "audit.key"), []byte("junk"), 0o600))
	require.NoError(t, os.Chmod(filepath.Join(dir, "audit.key"), 0o600))
	_, err = audit.LoadOrCreateSigner(dir, origin)
	require.ErrorContains(t, err, "backup")
}

func TestVerifyFile(t *testing.T) {
	s := signer(t)
	b, _ := sample(t, s)
	path := filepath.Join(t.TempDir(), "inc.zip")
	require.NoError(t, os.WriteFile(path, b, 0o600))
	res := audit.VerifyFile(path, audit.Options{TrustedKeys: []string{s.Key}})
	require.Equal(t, audit.Verified, res.Result)
	require.Equal(t, "inc.zip", res.File)
	for _, missing := range []string{path + ".nowhere", filepath.Dir(path)} {
		res := audit.VerifyFile(missing, audit.Options{})
		require.Equal(t, audit.Unreadable, res.Result)
		require.Equal(t, 1, res.ExitCode())
		require.NotEmpty(t, res.NotProved)
	}
}

// TestResultShape pins the JSON of contracts section 4.
func TestResultShape(t *testing.T) {
	s := signer(t)
	b, sealed := seal(t, audit.Content{Incident: "inc-1", Final: true, Events: audittest.Many("inc-1", 3)}, s)
	broken := rezip(edit(unzip(t, b), "events.jsonl", func(b []byte) []byte { return bytes.Replace(b, []byte("done"), []byte("gone"), 1) }))
	out, err := json.Marshal(verify(broken, s.Key))
	require.NoError(t, err)
	require.JSONEq(t, `{"schema":"rekey.verify/v1","file":"x.zip","result":"failed","incident":"inc-1","origin":"example.com/rekey","bundle_schema":1,
		"events":3,"root":"`+sealed.Root+`","checkpoint":{"size":3,"keys":[{"name":"example.com/rekey","hash":"`+strings.Split(s.Key, "+")[1]+`","trusted":true}]},
		"final":true,"redaction":{"audience":"","hidden":0},"anchors":{"rfc3161":0,"witness":0},
		"proved":["pages match their hashes"],"not_proved":["time is not anchored by a third party"],
		"faults":[{"code":"event-changed","index":0,"file":"events.jsonl","line":1,"detail":"leaf hash differs"}]}`, string(out))
}
