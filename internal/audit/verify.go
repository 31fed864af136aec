package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Options of [Verify].
type Options struct {
	// TrustedKeys are note verifier keys (the lines of audit.pub files). Without
	// any, the keys inside the bundle are used, which proves that the bundle is
	// whole but not who made it.
	TrustedKeys []string
	// File is the name to show.
	File string
	// MaxFaults bounds the list of faults; 0 means 100.
	MaxFaults int
}

// CheckKeys tells whether keys are note verifier keys, so that a caller can refuse
// a wrong --key as a usage error.
func CheckKeys(keys []string) error {
	_, err := parseKeys(keys)
	return err
}

// Verify checks a bundle of size bytes offline. It never panics, keeps no more in
// memory than the hashes of the events and the manifest, and goes on after a fault
// to name the others.
//
// What a verified bundle proves: every byte is as it was sealed by the key named in
// the result. What it cannot prove: that the signer told the truth, that no later
// bundle exists, or when it was made.
func Verify(r io.ReaderAt, size int64, opts Options) Result {
	v := &verifier{r: r, size: size, faults: findings{max: opts.MaxFaults}, files: map[string]entry{}}
	if v.faults.max <= 0 {
		v.faults.max = maxFaults
	}
	v.res = Result{
		Schema: SchemaVerify, File: opts.File, Result: Unreadable, Checkpoint: ResultCheckpoint{Keys: []ResultKey{}},
		Proved: []string{}, NotProved: []string{}, Faults: []Fault{},
	}
	if why := v.run(opts.TrustedKeys); why != "" {
		v.res.NotProved = append(v.res.NotProved, why)
		return v.res
	}
	v.res.Result = Verified
	if v.faults.count() > 0 {
		v.res.Result = Failed
		v.res.Faults = v.faults.list
		v.res.FaultsMore = v.faults.more
	}
	return v.res
}

// VerifyFile is [Verify] of a file. What cannot be opened is unreadable.
func VerifyFile(path string, opts Options) Result {
	if opts.File == "" {
		opts.File = filepath.Base(path)
	}
	unreadable := Verify(strings.NewReader(""), 0, opts)
	f, err := os.Open(path)
	if err != nil {
		unreadable.NotProved = []string{"the file cannot be opened: " + err.Error()}
		return unreadable
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		unreadable.NotProved = []string{"it is not a regular file"}
		return unreadable
	}
	return Verify(f, info.Size(), opts)
}

type verifier struct {
	r      io.ReaderAt
	size   int64
	res    Result
	faults findings
	files  map[string]entry

	trusted  []note.Verifier
	embedded []note.Verifier

	checkpoint   Checkpoint
	checkpointOK bool // it could be read; its signature is another matter
	manifest     manifest
	manifestOK   bool // it is the one whose digest is signed
	manifestRead bool
	redaction    *redaction
}

// run gives a reason where the file is not a bundle that this build can read.
func (v *verifier) run(trusted []string) string {
	if v.size > maxBundle {
		return "the file is larger than any bundle (4 GiB)"
	}
	entries, layout, err := readContainer(v.r, v.size)
	if err != nil {
		return "the file is not a rekey bundle: " + err.Error()
	}
	for _, e := range entries {
		if _, twice := v.files[e.name]; !twice {
			v.files[e.name] = e
		}
	}
	if !v.has(fileEvents) && !v.has(fileManifest) && !v.has(fileSignature) && !v.has(fileCheckpoint) && !v.looksCut(entries, layout) {
		return "the file is a zip, but not a rekey bundle"
	}
	v.faults.add(layout...)
	if v.faults.codes[Truncated] {
		return "" // what follows would only say that the rest is missing
	}
	v.readKeys(trusted)
	v.readCheckpoint()
	if why := v.readManifest(); why != "" {
		return why
	}
	v.crossCheck()
	v.readRedaction()
	v.checkEvents()
	v.checkFiles()
	v.checkPrevious()
	v.conclude()
	return ""
}

// looksCut tells a bundle that lost its end, before any file that would tell, from
// some other zip.
func (v *verifier) looksCut(entries []entry, layout []Fault) bool {
	return len(entries) <= 1 || slices.ContainsFunc(layout, func(f Fault) bool { return f.Code == Truncated })
}

func (v *verifier) has(name string) bool { _, ok := v.files[name]; return ok }

// read gives a whole small file.
func (v *verifier) read(name string, limit int64) ([]byte, error) {
	e, ok := v.files[name]
	if !ok {
		return nil, errors.New("the file is missing")
	}
	if e.size > limit {
		return nil, fmt.Errorf("the file is larger than %d bytes", limit)
	}
	b := readAt(v.r, e.data(), e.size, v.size)
	if int64(len(b)) != e.size {
		return nil, errors.New("the file cannot be read")
	}
	return b, nil
}

const (
	maxNote     = 64 << 10
	maxManifest = 64 << 20
)

func (v *verifier) readKeys(trusted []string) {
	var err error
	if v.trusted, err = parseKeys(trusted); err != nil {
		v.faults.add(Fault{Code: KeyUnknown, Detail: "given key: " + err.Error()})
	}
	b, err := v.read(fileKeys, maxNote)
	if err == nil {
		v.embedded, err = parseKeys([]string{string(b)})
	}
	if err != nil {
		v.faults.add(Fault{Code: ManifestDiffers, File: fileKeys, Detail: err.Error()})
	}
}

// openSigned checks a signed note and gives its text.
func (v *verifier) openSigned(name string) (string, []ResultKey) {
	msg, err := v.read(name, maxNote)
	if err != nil {
		v.faults.add(Fault{Code: ManifestDiffers, File: name, Detail: err.Error()})
		return "", nil
	}
	var keys []ResultKey
	list := func(by signedBy, trusted bool) {
		for _, sig := range by.known {
			keys = append(keys, ResultKey{sig.Name, fmt.Sprintf("%08x", sig.Hash), trusted})
		}
	}
	if len(v.trusted) > 0 {
		by, err := openNote(msg, v.trusted)
		if err == nil {
			list(by, true)
			v.onlySignatures(name, by)
			return by.text, keys
		}
		if errors.Is(err, errBadSignature) {
			v.faults.add(Fault{Code: SignatureBad, File: name, Detail: err.Error()})
			return by.text, nil
		}
		v.faults.add(Fault{Code: KeyUnknown, File: name, Detail: "signed by none of the given keys"})
	}
	by, err := openNote(msg, v.embedded)
	switch {
	case errors.Is(err, errUnknownKey) && len(v.trusted) == 0:
		v.faults.add(Fault{Code: KeyUnknown, File: name, Detail: "signed by no key that the bundle holds"})
	case errors.Is(err, errBadSignature):
		v.faults.add(Fault{Code: SignatureBad, File: name, Detail: err.Error()})
	case err == nil:
		list(by, false)
		v.onlySignatures(name, by)
	}
	return by.text, keys
}

// onlySignatures: nothing else covers manifest.sig, so a line that somebody added
// to it must not pass as a signature of a key that is not known.
func (v *verifier) onlySignatures(name string, by signedBy) {
	if name == fileSignature && by.count != 1 {
		v.faults.add(Fault{Code: SignatureBad, File: name, Detail: "there is more than one signature"})
	}
}

func (v *verifier) readCheckpoint() {
	text, keys := v.openSigned(fileCheckpoint)
	v.res.Checkpoint.Keys = append(v.res.Checkpoint.Keys, keys...)
	cp, err := parseCheckpoint(text)
	if err != nil {
		v.faults.add(Fault{Code: SignatureBad, File: fileCheckpoint, Detail: err.Error()})
		return
	}
	v.checkpoint, v.checkpointOK = cp, true
	v.res.Incident, v.res.Origin = cp.Incident, cp.Origin
	v.res.Root, v.res.Checkpoint.Size = cp.Root.String(), cp.Size
}

func (v *verifier) readManifest() string {
	text, _ := v.openSigned(fileSignature)
	incident, digest, err := parseManifestNote(text)
	if err != nil {
		v.faults.add(Fault{Code: SignatureBad, File: fileSignature, Detail: err.Error()})
	}
	b, err := v.read(fileManifest, maxManifest)
	if err != nil {
		v.faults.add(Fault{Code: ManifestDiffers, File: fileManifest, Detail: err.Error()})
		return ""
	}
	v.manifestOK = digest == "sha256:"+hexSum(b)
	if !v.manifestOK {
		v.faults.add(Fault{Code: ManifestDiffers, File: fileManifest, Detail: "it is not the manifest whose digest was signed"})
	}
	if v.manifestOK && newerSchema(b) {
		return "the bundle was made by a newer rekey: verify it with that version"
	}
	if err := readStrict(b, &v.manifest); err != nil {
		v.manifestOK = false
		v.faults.add(Fault{Code: ManifestDiffers, File: fileManifest, Detail: err.Error()})
		return ""
	}
	v.manifestRead = true
	v.res.BundleSchema, v.res.Final = v.manifest.BundleSchema, v.manifest.Final
	if v.manifestOK && incident != v.manifest.Incident {
		v.faults.add(Fault{Code: Spliced, File: fileManifest, Detail: "it was signed for another incident"})
	}
	return ""
}

// crossCheck holds the two signed statements against each other.
func (v *verifier) crossCheck() {
	if !v.manifestOK || !v.checkpointOK {
		return
	}
	m, cp := v.manifest, v.checkpoint
	switch {
	case m.Incident != cp.Incident:
		v.faults.add(Fault{Code: Spliced, File: fileCheckpoint, Detail: fmt.Sprintf("checkpoint is of %s, manifest of %s", quoteName(cp.Incident), quoteName(m.Incident))})
	case m.Events != cp.Size || m.Root != cp.Root.String() || m.Origin != cp.Origin:
		v.faults.add(Fault{Code: Spliced, File: fileCheckpoint, Detail: "checkpoint and manifest are of different bundles"})
	}
}

// readRedaction checks redaction.json against what was fixed at sealing.
func (v *verifier) readRedaction() {
	if !v.has(fileRedaction) {
		return
	}
	differs := func(detail string) {
		v.faults.add(Fault{Code: RedactionDiffers, File: fileRedaction, Detail: detail})
	}
	b, err := v.read(fileRedaction, maxManifest)
	if err != nil {
		differs(err.Error())
		return
	}
	var r redaction
	if err := readStrict(b, &r); err != nil {
		differs(err.Error())
		return
	}
	v.redaction = &r
	v.res.Redaction = ResultRedaction{Audience: r.Audience, Hidden: r.Hidden}
	if want, ok := v.manifest.redaction(r.Audience); !ok || want.SHA256 != hexSum(b) || want.Hidden != r.Hidden {
		differs("it is not the redaction that was fixed for this audience when the bundle was sealed")
	}
}

// checkFiles hashes every file and holds it against the manifest.
func (v *verifier) checkFiles() {
	names := make([]string, 0, len(v.files))
	for name := range v.files {
		names = append(names, name)
	}
	slices.Sort(names)
	want := v.manifest.expected(v.redaction)
	suffix := ""
	if !v.manifestOK {
		suffix = " (the manifest is changed as well)"
	}
	eventFaults := v.faults.codes[EventChanged] || v.faults.codes[EventMissing] || v.faults.codes[EventAdded] || v.faults.codes[EventReordered]
	for _, name := range names {
		e := v.files[name]
		sum, crc := v.hash(e)
		code := ManifestDiffers
		if strings.HasPrefix(name, dirPages) {
			code = PageChanged
			if PageName(sum) != name {
				v.faults.add(Fault{Code: code, File: name, Detail: "its content does not have the hash in its name"})
				continue
			}
		}
		f, listed := want[name]
		anchor := name == fileManifest || name == fileSignature || name == fileRedaction
		switch {
		case anchor && crc == e.crc, !anchor && !v.manifestRead:
		case !anchor && !listed:
			v.faults.add(Fault{Code: ManifestDiffers, File: quoteName(name), Detail: "the manifest does not list it" + suffix})
		case !anchor && (f.SHA256 != sum || f.Size != e.size):
			if name != fileEvents || !eventFaults {
				v.faults.add(Fault{Code: code, File: name, Detail: "its hash is not the one in the manifest" + suffix})
			}
		case crc != e.crc && !v.faults.hasFile(name):
			v.faults.add(Fault{Code: code, File: name, Detail: "its checksum in the zip header differs"})
		}
	}
	for _, f := range v.manifest.Files {
		if _, expected := want[f.Name]; expected && !v.has(f.Name) && f.Name != fileEvents && f.Name != fileLeaves && f.Name != fileCheckpoint && f.Name != fileKeys {
			code := ManifestDiffers
			if strings.HasPrefix(f.Name, dirPages) {
				code = PageChanged
			}
			v.faults.add(Fault{Code: code, File: quoteName(f.Name), Detail: "the file is missing" + suffix})
		}
	}
}

func (v *verifier) hash(e entry) (sum string, crc uint32) {
	h, c := sha256.New(), crc32.NewIEEE()
	if _, err := io.Copy(io.MultiWriter(h, c), io.NewSectionReader(v.r, e.data(), e.size)); err != nil {
		return "", 0
	}
	return hex.EncodeToString(h.Sum(nil)), c.Sum32()
}

// checkPrevious proves that this bundle extends the one before.
func (v *verifier) checkPrevious() {
	if !v.has(filePrevious) {
		return
	}
	b, err := v.read(filePrevious, maxNote)
	var p previous
	if err == nil {
		err = readStrict(b, &p)
	}
	if err != nil {
		v.faults.add(Fault{Code: ManifestDiffers, File: filePrevious, Detail: err.Error()})
		return
	}
	old, err := parseCheckpoint(noteText([]byte(p.Checkpoint)))
	if err == nil && (old.Size < 1 || old.Size > v.checkpoint.Size || old.Incident != v.checkpoint.Incident || p.Digest != v.manifest.Previous) {
		err = errors.New("of another incident, or larger than this bundle")
	}
	if err == nil {
		err = tlog.CheckTree(p.Proof, v.checkpoint.Size, v.checkpoint.Root, old.Size, old.Root)
	}
	if err != nil {
		v.faults.add(Fault{Code: RootDiffers, File: filePrevious, Detail: "this bundle does not extend the one that it names"})
		return
	}
	v.res.Previous = p.Digest
	keys := v.trusted
	if len(keys) == 0 {
		keys = v.embedded
	}
	if _, err := openNote([]byte(p.Checkpoint), keys); err != nil {
		v.res.NotProved = append(v.res.NotProved, "who signed the bundle that this one extends")
	}
	v.res.Proved = append(v.res.Proved, fmt.Sprintf("extends %s with its %d events", p.Digest, old.Size))
}

// conclude says in words what holds, and what cannot be shown by this file.
func (v *verifier) conclude() {
	codes := v.faults.codes
	none := func(list ...string) bool {
		return !slices.ContainsFunc(list, func(c string) bool { return codes[c] })
	}
	proved := []string{}
	if none(EventChanged, EventMissing, EventAdded, EventReordered, RootDiffers, SizeDiffers, SignatureBad, KeyUnknown, Spliced, RedactionDiffers) {
		proved = append(proved, "every event is in the signed tree")
	}
	if none(PageChanged) {
		proved = append(proved, "pages match their hashes")
	}
	if v.faults.count() == 0 { // every fault is also one of some file in the manifest
		proved = append(proved, "manifest complete")
	}
	v.res.Proved = append(proved, v.res.Proved...)
	if v.redaction != nil {
		v.res.NotProved = append(v.res.NotProved, "what the hidden events and files say; who can guess one byte for byte can confirm it by its hash")
	}
	if len(v.trusted) == 0 {
		v.res.NotProved = append(v.res.NotProved, "who signed this: no key was given, the one inside the bundle was used")
	}
	v.res.NotProved = append(v.res.NotProved, "time is not anchored by a third party")
	if !v.res.Final {
		v.res.NotProved = append(v.res.NotProved, "that no later bundle of this incident exists")
	}
}

func newerSchema(b []byte) bool {
	var probe struct {
		BundleSchema int `json:"bundle_schema"`
	}
	return json.Unmarshal(b, &probe) == nil && probe.BundleSchema > BundleSchema
}
