package audit_test

import (
	"archive/zip"
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"

	"rekey/internal/audit"
	"rekey/internal/audit/audittest"
)

// member is one file of a bundle under attack.
type member struct {
	name string
	body []byte
}

func unzip(t testing.TB, b []byte) []member {
	t.Helper()
	r, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	require.NoError(t, err)
	var out []member
	for _, f := range r.File {
		rc, err := f.Open()
		require.NoError(t, err)
		body, err := io.ReadAll(rc)
		require.NoError(t, err)
		out = append(out, member{f.Name, body})
	}
	return out
}

// rezip writes members exactly as a bundle is written, so that only the content can
// give an attack away. It is an implementation of its own.
func rezip(members []member) []byte {
	var b, dir bytes.Buffer
	u16 := func(w *bytes.Buffer, v ...uint16) { _ = binary.Write(w, binary.LittleEndian, v) }
	u32 := func(w *bytes.Buffer, v ...uint32) { _ = binary.Write(w, binary.LittleEndian, v) }
	for _, m := range members {
		offset := uint32(b.Len())
		common := func(w *bytes.Buffer) {
			u16(w, 10, 0, 0, 0, 0x21)
			u32(w, crc32.ChecksumIEEE(m.body), uint32(len(m.body)), uint32(len(m.body)))
			u16(w, uint16(len(m.name)), 0)
		}
		u32(&b, 0x04034b50)
		common(&b)
		b.WriteString(m.name)
		b.Write(m.body)
		u32(&dir, 0x02014b50)
		u16(&dir, 0x0314)
		common(&dir)
		u16(&dir, 0, 0, 0)
		u32(&dir, 0o100644<<16, offset)
		dir.WriteString(m.name)
	}
	start := uint32(b.Len())
	n := uint32(dir.Len())
	_, _ = dir.WriteTo(&b)
	u32(&b, 0x06054b50)
	u16(&b, 0, 0, uint16(len(members)), uint16(len(members)))
	u32(&b, n, start)
	u16(&b, 0)
	return b.Bytes()
}

func edit(members []member, name string, change func([]byte) []byte) []member {
	out := slices.Clone(members)
	for i := range out {
		if out[i].name == name {
			out[i].body = change(slices.Clone(out[i].body))
		}
	}
	return out
}

func lines(body []byte) []string {
	return strings.SplitAfter(strings.TrimSuffix(string(body), ""), "\n")
}

func onLines(change func([]string) []string) func([]byte) []byte {
	return func(body []byte) []byte {
		l := lines(body)
		return []byte(strings.Join(change(l[:len(l)-1]), ""))
	}
}

func TestEveryFlippedByteIsFound(t *testing.T) {
	s := signer(t)
	c := audittest.Content(audittest.Many("inc-1", 3), nil)
	b, first := seal(t, audit.Content{Incident: "inc-1", Events: c.Events[:2]}, s)
	require.NotEmpty(t, b)
	c.Previous = &audit.Previous{Digest: first.Digest, Checkpoint: first.Checkpoint}
	full, _ := seal(t, c, s)
	var redacted bytes.Buffer
	_, err := audit.Redact(&redacted, bytes.NewReader(full), int64(len(full)), audit.AudienceCustomer)
	require.NoError(t, err)
	for name, b := range map[string][]byte{"full": full, "redacted": redacted.Bytes()} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, audit.Verified, verify(b, s.Key).Result, verify(b, s.Key).Faults)
			for i := range b {
				keys := []string{s.Key}
				if i%2 == 1 { // every other byte as somebody without the key
					keys = nil
				}
				for _, bit := range []byte{1 << (i % 8), 0x20} { // 0x20 is another case
					b[i] ^= bit
					res := verify(b, keys...)
					if res.Result != audit.Failed || len(res.Faults) == 0 {
						t.Fatalf("byte %d of %d flipped by %#x passed: %s %v", i, len(b), bit, res.Result, res.NotProved)
					}
					if res.Faults[0].File == "" && !strings.Contains(res.Faults[0].Detail, "byte") {
						t.Fatalf("byte %d: the fault does not say where: %+v", i, res.Faults[0])
					}
					b[i] ^= bit
				}
			}
		})
	}
}

func TestFlipsInALargerBundle(t *testing.T) {
	s := signer(t)
	b, _ := sample(t, s)
	for i := 0; i < len(b); i += 97 {
		b[i] ^= 0x04
		require.Equal(t, audit.Failed, verify(b, s.Key).Result, "byte %d", i)
		b[i] ^= 0x04
	}
}

func TestTruncatedAtEveryLength(t *testing.T) {
	s := signer(t)
	b, _ := seal(t, audittest.Content(audittest.Many("inc-1", 6), nil), s)
	for n := range b {
		res := verify(b[:n], s.Key)
		if n < 4 {
			require.Equal(t, audit.Unreadable, res.Result, "length %d", n)
			require.Equal(t, 1, res.ExitCode())
			continue
		}
		require.Equal(t, audit.Failed, res.Result, "length %d: %v", n, res.NotProved)
		require.Contains(t, codes(res), audit.Truncated, "length %d", n)
	}
	require.Contains(t, codes(verify(append(slices.Clone(b), 0), s.Key)), audit.ManifestDiffers, "one byte too many")
}

func TestTamperedEventsAreNamed(t *testing.T) {
	s := signer(t)
	b, _ := seal(t, audittest.Content(audittest.Many("inc-1", 20), nil), s)
	other, _ := seal(t, audittest.Content(audittest.Many("inc-2", 20), nil), s)
	otherEvents := lines(unzip(t, other)[slices.IndexFunc(unzip(t, other), func(m member) bool { return m.name == "events.jsonl" })].body)

	type named struct {
		code        string
		index, line int64
	}
	tests := map[string]struct {
		change func([]string) []string
		want   []named
	}{
		"one changed": {func(l []string) []string { l[7] = strings.Replace(l[7], "done", "gone", 1); return l },
			[]named{{audit.EventChanged, 7, 8}}},
		"two changed": {func(l []string) []string {
			l[0] = strings.Replace(l[0], "done", "gone", 1)
			l[19] = strings.Replace(l[19], "done", "gone", 1)
			return l
		}, []named{{audit.EventChanged, 0, 1}, {audit.EventChanged, 19, 20}}},
		"first dropped":  {func(l []string) []string { return l[1:] }, []named{{audit.EventMissing, 0, 0}}},
		"middle dropped": {func(l []string) []string { return slices.Delete(l, 9, 11) }, []named{{audit.EventMissing, 9, 0}, {audit.EventMissing, 10, 0}}},
		"last dropped":   {func(l []string) []string { return l[:19] }, []named{{audit.EventMissing, 19, 0}}},
		"one twice":      {func(l []string) []string { return slices.Insert(l, 5, l[4]) }, []named{{audit.EventAdded, 5, 6}}},
		"one invented":   {func(l []string) []string { return slices.Insert(l, 5, strings.Replace(l[4], "done", "gone", 1)) }, []named{{audit.EventAdded, 5, 6}}},
		"two swapped":    {func(l []string) []string { l[3], l[12] = l[12], l[3]; return l }, []named{{audit.EventReordered, 12, 4}, {audit.EventReordered, 3, 13}}},
		"one moved":      {func(l []string) []string { m := l[15]; return slices.Insert(slices.Delete(l, 15, 16), 2, m) }, []named{{audit.EventReordered, 15, 3}}},
		"changed and dropped": {func(l []string) []string {
			l[4] = strings.Replace(l[4], "done", "gone", 1)
			return slices.Delete(l, 10, 11)
		}, []named{{audit.EventChanged, 4, 5}, {audit.EventMissing, 10, 0}}},
		"blank line":           {func(l []string) []string { return slices.Insert(l, 6, "\n") }, []named{{audit.EventAdded, 6, 7}}},
		"last line feed lost":  {func(l []string) []string { l[19] = strings.TrimSpace(l[19]); return l }, []named{{audit.EventChanged, 19, 20}}},
		"carriage returns":     {func(l []string) []string { l[2] = strings.Replace(l[2], "\n", "\r\n", 1); return l }, []named{{audit.EventChanged, 2, 3}}},
		"spliced from another": {func(l []string) []string { l[6] = otherEvents[6]; return l }, []named{{audit.EventChanged, 6, 7}, {audit.Spliced, 6, 7}}},
		"hidden without leave": {func(l []string) []string {
			l[3] = `{"leaf":"` + audit.Leaf([]byte(strings.TrimSpace(l[3]))).String() + "\"}\n"
			return l
		}, []named{{audit.RedactionDiffers, 3, 4}}},
		"all dropped":           {func([]string) []string { return nil }, nil},
		"everything of another": {func([]string) []string { return slices.Clone(otherEvents[:20]) }, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			res := verify(rezip(edit(unzip(t, b), "events.jsonl", onLines(tt.change))), s.Key)
			require.Equal(t, audit.Failed, res.Result)
			require.NotContains(t, res.Proved, "every event is in the signed tree")
			var got []named
			for _, f := range res.Faults {
				if f.Index != nil {
					require.Equal(t, "events.jsonl", f.File)
					got = append(got, named{f.Code, *f.Index, f.Line})
				}
			}
			if tt.want == nil {
				require.GreaterOrEqual(t, len(got), 20, "each event is named")
				return
			}
			require.ElementsMatch(t, tt.want, got, res.Faults)
		})
	}
}

func TestTamperedFilesAreNamed(t *testing.T) {
	s := signer(t)
	events, seen := audittest.Sample()
	c := audittest.Content(events, seen)
	b, _ := seal(t, c, s)
	plain, _ := seal(t, audit.Content{Incident: "inc-2", Events: audittest.Many("inc-2", len(events))}, s)
	stranger, _ := seal(t, c, signer(t))
	shorter, sealed := seal(t, audittest.Content(events[:30], seen), s)
	c.Previous = &audit.Previous{Digest: sealed.Digest, Checkpoint: sealed.Checkpoint}
	chained, _ := seal(t, c, s)

	with := func(m []member, from []byte, names ...string) []member {
		for _, f := range unzip(t, from) {
			if slices.Contains(names, f.name) {
				m = edit(m, f.name, func([]byte) []byte { return f.body })
			}
		}
		return m
	}
	add := func(m []member, f member) []member {
		m = append(m, f)
		slices.SortFunc(m, func(a, b member) int { return strings.Compare(a.name, b.name) })
		return m
	}
	drop := func(m []member, name string) []member {
		return slices.DeleteFunc(m, func(f member) bool { return f.name == name })
	}
	flip := func(b []byte) []byte { b[len(b)/2] ^= 1; return b }
	page := func(m []member) string {
		return m[slices.IndexFunc(m, func(f member) bool { return strings.HasPrefix(f.name, "pages/") })].name
	}
	tests := map[string]struct {
		bundle []byte
		change func([]member) []member
		code   string
		file   string
	}{
		"plan changed":   {b, func(m []member) []member { return edit(m, "plans/1.json", flip) }, audit.ManifestDiffers, "plans/1.json"},
		"report changed": {b, func(m []member) []member { return edit(m, "report.html", flip) }, audit.ManifestDiffers, "report.html"},
		"chapter emptied": {b, func(m []member) []member {
			return edit(m, "chapters/incident-inc-7f3a9c2e41d0-0f4a7c52.json.gz", func([]byte) []byte { return nil })
		}, audit.ManifestDiffers, "chapters/incident-inc-7f3a9c2e41d0-0f4a7c52.json.gz"},
		"page changed":      {b, func(m []member) []member { return edit(m, page(m), flip) }, audit.PageChanged, ""},
		"page dropped":      {b, func(m []member) []member { return drop(m, page(m)) }, audit.PageChanged, ""},
		"plan dropped":      {b, func(m []member) []member { return drop(m, "plans/2.json") }, audit.ManifestDiffers, "plans/2.json"},
		"plan added":        {b, func(m []member) []member { return add(m, member{"plans/3.json", []byte("{}")}) }, audit.ManifestDiffers, "plans/3.json"},
		"page added":        {b, func(m []member) []member { return add(m, member{"pages/x.json", []byte("{}")}) }, audit.PageChanged, "pages/x.json"},
		"manifest changed":  {b, func(m []member) []member { return edit(m, "manifest.json", flip) }, audit.ManifestDiffers, "manifest.json"},
		"manifest dropped":  {b, func(m []member) []member { return drop(m, "manifest.json") }, audit.ManifestDiffers, "manifest.json"},
		"signature dropped": {b, func(m []member) []member { return drop(m, "manifest.sig") }, audit.ManifestDiffers, "manifest.sig"},
		"signature twice": {b, func(m []member) []member {
			return edit(m, "manifest.sig", func(b []byte) []byte { return append(b, "— other.example/x AAAAAAAA\n"...) })
		}, audit.SignatureBad, "manifest.sig"},
		"checkpoint dropped": {b, func(m []member) []member { return drop(m, "checkpoint") }, audit.ManifestDiffers, "checkpoint"},
		"leaf changed":       {b, func(m []member) []member { return edit(m, "leaves.txt", flip) }, audit.ManifestDiffers, "leaves.txt"},
		"leaves dropped":     {b, func(m []member) []member { return drop(m, "leaves.txt") }, audit.ManifestDiffers, "leaves.txt"},
		"events dropped":     {b, func(m []member) []member { return drop(m, "events.jsonl") }, audit.EventMissing, "events.jsonl"},
		"key dropped":        {b, func(m []member) []member { return drop(m, "key.pub") }, audit.ManifestDiffers, "key.pub"},
		"size raised": {b, func(m []member) []member {
			return edit(m, "checkpoint", func(b []byte) []byte { return bytes.Replace(b, []byte("\n"), []byte("\n9"), 1) })
		}, audit.SignatureBad, "checkpoint"},
		"leaves and events of a shorter one": {b, func(m []member) []member { return with(m, shorter, "events.jsonl", "leaves.txt") }, audit.RootDiffers, "events.jsonl"},
		"checkpoint of another incident":     {b, func(m []member) []member { return with(m, plain, "checkpoint") }, audit.Spliced, "checkpoint"},
		"manifest of another incident":       {b, func(m []member) []member { return with(m, plain, "manifest.json", "manifest.sig") }, audit.Spliced, "checkpoint"},
		"tree of another incident":           {b, func(m []member) []member { return with(m, plain, "checkpoint", "events.jsonl", "leaves.txt") }, audit.Spliced, "checkpoint"},
		"tree of an earlier bundle":          {b, func(m []member) []member { return with(m, shorter, "checkpoint", "events.jsonl", "leaves.txt") }, audit.Spliced, "checkpoint"},
		"signed by a stranger":               {stranger, func(m []member) []member { return m }, audit.KeyUnknown, "checkpoint"},
		"previous dropped":                   {chained, func(m []member) []member { return drop(m, "previous.json") }, audit.ManifestDiffers, "previous.json"},
		"previous changed":                   {chained, func(m []member) []member { return edit(m, "previous.json", flip) }, audit.ManifestDiffers, "previous.json"},
		"file in upper case":                 {b, func(m []member) []member { return append([]member{{"EVENTS.JSONL", nil}}, m...) }, audit.ManifestDiffers, `"EVENTS.JSONL"`},
		"file above":                         {b, func(m []member) []member { return append([]member{{"../x", nil}}, m...) }, audit.ManifestDiffers, `"../x"`},
		"name twice":                         {b, func(m []member) []member { return add(m, member{"events.jsonl", []byte("{}\n")}) }, audit.ManifestDiffers, "events.jsonl"},
		"another order":                      {b, func(m []member) []member { slices.Reverse(m); return m }, audit.ManifestDiffers, "plans/1.json"},
		"redaction invented": {b, func(m []member) []member {
			return add(m, member{"redaction.json", []byte(`{"bundle_schema":1,"incident":"x","audience":"public","hidden":0,"ranges":[],"dropped":["plans/1.json"],"replaced":[]}`)})
		}, audit.RedactionDiffers, "redaction.json"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tt.bundle, rezip(unzip(t, tt.bundle)), "the test's own zip writer does as the bundle's")
			res := verify(rezip(tt.change(unzip(t, tt.bundle))), s.Key)
			require.Equal(t, audit.Failed, res.Result, res.NotProved)
			require.True(t, slices.ContainsFunc(res.Faults, func(f audit.Fault) bool {
				return f.Code == tt.code && (tt.file == "" || f.File == tt.file)
			}), "%s of %s not in %+v", tt.code, tt.file, res.Faults)
		})
	}
}

// TestContainerTricks are attacks that leave each file's content as it was.
func TestContainerTricks(t *testing.T) {
	s := signer(t)
	b, _ := sample(t, s)
	rewrite := func(set func(*zip.FileHeader)) []byte {
		var out bytes.Buffer
		w := zip.NewWriter(&out)
		for _, m := range unzip(t, b) {
			h := &zip.FileHeader{Name: m.name, Method: zip.Store}
			set(h)
			f, err := w.CreateHeader(h)
			require.NoError(t, err)
			_, err = f.Write(m.body)
			require.NoError(t, err)
		}
		require.NoError(t, w.Close())
		return out.Bytes()
	}
	end := len(b) - 22
	start := int(binary.LittleEndian.Uint32(b[end+16:]))
	between := slices.Concat(b[:start], []byte("smuggled"), b[start:])
	binary.LittleEndian.PutUint32(between[end+8+16:], uint32(start+8))
	comment := append(slices.Clone(b), "hi"...)
	binary.LittleEndian.PutUint16(comment[end+20:], 2)

	tests := map[string][]byte{
		"written anew by another tool": rewrite(func(*zip.FileHeader) {}),
		"compressed":                   rewrite(func(h *zip.FileHeader) { h.Method = zip.Deflate }),
		"symlinks":                     rewrite(func(h *zip.FileHeader) { h.SetMode(fs.ModeSymlink | 0o777) }),
		"with comments":                rewrite(func(h *zip.FileHeader) { h.Comment = "x" }),
		"data before":                  append([]byte("MZ not a zip "), b...),
		"data between":                 between,
		"data behind":                  append(slices.Clone(b), "trailer"...),
		"a comment":                    comment,
		"two bundles in a row":         append(slices.Clone(b), b...),
	}
	for name, tricked := range tests {
		t.Run(name, func(t *testing.T) {
			require.NotEqual(t, b, tricked)
			res := verify(tricked, s.Key)
			require.Equal(t, audit.Failed, res.Result, res.NotProved)
			require.NotContains(t, res.Proved, "manifest complete")
			_, err := audit.Open(bytes.NewReader(tricked), int64(len(tricked)))
			require.Error(t, err)
		})
	}
	t.Run("no zip at all", func(t *testing.T) {
		for _, junk := range []string{"", "P", "hello", strings.Repeat("\x00", 100)} {
			require.Equal(t, audit.Unreadable, verify([]byte(junk)).Result)
		}
	})
	t.Run("some other zip", func(t *testing.T) {
		require.Equal(t, audit.Unreadable, verify(rezip([]member{{"a.txt", []byte("a")}, {"b.txt", []byte("b")}})).Result)
	})
}

func TestFaultsAreBounded(t *testing.T) {
	s := signer(t)
	b, _ := seal(t, audit.Content{Incident: "inc-1", Events: audittest.Many("inc-1", 1000)}, s)
	res := verify(rezip(edit(unzip(t, b), "events.jsonl", func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("done"), []byte("gone")) })), s.Key)
	require.Equal(t, audit.Failed, res.Result)
	require.Len(t, res.Faults, 100)
	require.GreaterOrEqual(t, res.FaultsMore, 900)
}

// TestRandomDamage cuts, doubles, overwrites and flips: nothing that differs from
// what was sealed verifies, whoever's key is asked for.
func TestRandomDamage(t *testing.T) {
	s := signer(t)
	b, _ := seal(t, audittest.Content(audittest.Many("inc-1", 3), nil), s)
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		d := slices.Clone(b)
		for range 1 + r.IntN(6) {
			i, j := r.IntN(len(d)-8), r.IntN(len(d)-8)
			switch r.IntN(5) {
			case 0:
				d[i] ^= byte(1 + r.IntN(255))
			case 1:
				d = slices.Delete(d, i, i+r.IntN(8))
			case 2:
				d = slices.Insert(d, i, d[j])
			case 3:
				binary.LittleEndian.PutUint32(d[i:], r.Uint32())
			case 4:
				copy(d[i:], d[j:])
			}
		}
		if !bytes.Equal(d, b) {
			require.NotEqual(t, audit.Verified, verify(d).Result)
		}
	}
}

// fixedSigner has the same key in every process, so that the seeds of one fuzzing
// process are those of all.
func fixedSigner(t testing.TB) *audit.Signer {
	t.Helper()
	seed := make([]byte, ed25519.SeedSize)
	pub, ok := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	require.True(t, ok)
	vkey, err := note.NewEd25519VerifierKey(origin, pub)
	require.NoError(t, err)
	skey := "PRIVATE+KEY+" + origin + "+" + strings.Split(vkey, "+")[1] + "+" + base64.StdEncoding.EncodeToString(append([]byte{1}, seed...))
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "audit.key"), []byte(skey), 0o600))
	s, err := audit.LoadOrCreateSigner(dir, origin)
	require.NoError(t, err)
	require.Equal(t, vkey, s.Key)
	return s
}

func FuzzVerify(f *testing.F) {
	s := fixedSigner(f)
	b, _ := seal(f, audittest.Content(audittest.Many("inc-1", 3), nil), s)
	var redacted bytes.Buffer
	_, err := audit.Redact(&redacted, bytes.NewReader(b), int64(len(b)), audit.AudiencePublic)
	require.NoError(f, err)
	f.Add(b)
	f.Add(redacted.Bytes())
	f.Add(b[:len(b)/2])
	f.Add([]byte("PK\x05\x06" + strings.Repeat("\xff", 18)))
	f.Fuzz(func(t *testing.T, data []byte) {
		if res := verify(data); res.Result == audit.Verified && !bytes.Equal(data, b) && !bytes.Equal(data, redacted.Bytes()) {
			t.Fatal("something that was never sealed verifies")
		}
	})
}
