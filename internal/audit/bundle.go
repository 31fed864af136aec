package audit

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"rekey/internal/canon"
)

// Content is everything that goes into a bundle. The same content and the same key
// give the same bytes.
type Content struct {
	Incident string
	// State is the incident's state at sealing: contained or all-clear. Final says
	// that no later bundle follows (the watch has ended).
	State string
	Final bool
	// Events are all events of the incident so far, in order; Seq counts up by one
	// from 0 or 1. A later bundle's events begin with those of the one before.
	Events []Event
	// Plans are the versions of the plan in order; any JSON value without floats.
	Plans []any
	// View is `incident show --json` at sealing.
	View any
	// Approvals and Evidence (names and hashes, not content) as JSON values.
	Approvals any
	Evidence  any
	// Notices by a short name such as "1.json" or "n3-v2.txt".
	Notices map[string][]byte
	// Chapters are the raw histories of finished runs as JSON.
	Chapters []Chapter
	// Pages by their hash "sha256:<hex>", in plaintext.
	Pages map[string][]byte
	// Stored are hashes of further pages, which Page reads one at a time: those of a
	// large incident are never in memory together. Page is called twice for each.
	Stored []string
	Page   func(hash string) ([]byte, error)
	// Outside lists what belongs to the incident and is not in the bundle.
	Outside []Outside
	// Report is the HTML page of internal/audit/report.
	Report []byte
	// Previous is the bundle that this one extends; nil for the first.
	Previous *Previous
}

// A Chapter is the history of one run.
type Chapter struct {
	Workflow string
	Run      string
	History  []byte
}

// Outside is something that is not in the bundle, and why.
type Outside struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

// Previous identifies an earlier bundle of the same incident; it comes from
// [Sealed] or [PreviousOf].
type Previous struct {
	Digest     string `json:"digest"`
	Checkpoint string `json:"checkpoint"`
}

// Sealed is what is known of a bundle that was written. Digest is "sha256:<hex>" of
// its bytes, Root the base64 RFC 6962 root, Size the number of events, Checkpoint
// the signed note.
type Sealed struct {
	Digest     string `json:"digest"`
	Root       string `json:"root"`
	Size       int64  `json:"size"`
	Bytes      int64  `json:"bytes"`
	Checkpoint string `json:"checkpoint"`
}

// Write seals content and writes the bundle to w. It changes nothing else; a
// caller that wants a file writes it beside its place and renames it.
//
// It fails when the content could not be verified afterwards: events of another
// incident, a gap in Seq, a page under a wrong hash, or a previous bundle that
// these events do not extend.
func Write(w io.Writer, content Content, signer *Signer) (Sealed, error) {
	if !validName(content.Incident) || strings.Contains(content.Incident, "/") {
		return Sealed{}, fmt.Errorf("seal: %q is not an incident id", content.Incident)
	}
	lines, leaves, err := encodeAll(content)
	if err != nil {
		return Sealed{}, err
	}
	tree, err := NewTree(leaves)
	if err != nil {
		return Sealed{}, err
	}
	root, err := tree.Root()
	if err != nil {
		return Sealed{}, err
	}
	cp := Checkpoint{Origin: signer.Origin(), Incident: content.Incident, Size: tree.Size(), Root: root}
	checkpoint, err := signer.sign(cp.text())
	if err != nil {
		return Sealed{}, fmt.Errorf("seal: %w", err)
	}
	files, err := contentFiles(content, tree)
	if err != nil {
		return Sealed{}, err
	}
	files[fileEvents] = lines
	files[fileLeaves] = formatLeaves(leaves)
	files[fileCheckpoint] = checkpoint
	files[fileKeys] = []byte(strings.Join(append([]string{signer.Key}, signer.Old...), "\n") + "\n")

	stored, err := storedPages(content, files)
	if err != nil {
		return Sealed{}, err
	}
	m := manifest{
		BundleSchema: BundleSchema, Incident: content.Incident, Origin: cp.Origin, State: content.State,
		Final: content.Final, Events: cp.Size, Root: root.String(), Files: []manifestFile{}, Redactions: []manifestRedaction{},
	}
	if content.Previous != nil {
		m.Previous = content.Previous.Digest
	}
	for _, name := range sortedKeys(files) {
		m.Files = append(m.Files, fileOf(name, files[name]))
	}
	for _, page := range stored {
		m.Files = append(m.Files, manifestFile{page.name, strings.TrimSuffix(strings.TrimPrefix(page.name, dirPages), ".json"), page.size})
	}
	slices.SortFunc(m.Files, func(a, b manifestFile) int { return strings.Compare(a.Name, b.Name) })
	if err := addRedactions(&m, content.Events, lines, leaves); err != nil {
		return Sealed{}, err
	}
	if files[fileManifest], err = canon.JSON(m); err != nil {
		return Sealed{}, err
	}
	text := manifestText(cp.Origin, cp.Incident, canon.Hash(files[fileManifest]))
	if files[fileSignature], err = signer.sign(text); err != nil {
		return Sealed{}, fmt.Errorf("seal: %w", err)
	}
	digest, n, err := writeFiles(w, files, stored...)
	if err != nil {
		return Sealed{}, fmt.Errorf("seal: %w", err)
	}
	return Sealed{Digest: digest, Root: root.String(), Size: cp.Size, Bytes: n, Checkpoint: string(checkpoint)}, nil
}

// encodeAll gives events.jsonl and the leaf of each event.
func encodeAll(content Content) ([]byte, []tlog.Hash, error) {
	if len(content.Events) == 0 {
		return nil, nil, errors.New("seal: there are no events")
	}
	var lines bytes.Buffer
	leaves := make([]tlog.Hash, 0, len(content.Events))
	first := content.Events[0].Seq
	if first != 0 && first != 1 {
		return nil, nil, fmt.Errorf("seal: the first event has seq %d, it must be 0 or 1", first)
	}
	for i, e := range content.Events {
		if e.Incident != content.Incident {
			return nil, nil, fmt.Errorf("seal: event %d is of incident %q", i, e.Incident)
		}
		if e.Seq != first+int64(i) {
			return nil, nil, fmt.Errorf("seal: event %d has seq %d, want %d", i, e.Seq, first+int64(i))
		}
		line, err := Encode(e)
		if err != nil {
			return nil, nil, fmt.Errorf("seal: %w", err)
		}
		lines.Write(line)
		lines.WriteByte('\n')
		leaves = append(leaves, Leaf(line))
	}
	return lines.Bytes(), leaves, nil
}

// contentFiles gives the files that are neither events nor anchors.
func contentFiles(content Content, tree *Tree) (map[string][]byte, error) {
	files := map[string][]byte{}
	put := func(name string, b []byte) error {
		if !validName(name) {
			return fmt.Errorf("seal: %s cannot be the name of a file in a bundle", strconv.Quote(name))
		}
		if _, twice := files[name]; twice {
			return fmt.Errorf("seal: two files would be named %s", name)
		}
		files[name] = b
		return nil
	}
	putJSON := func(name string, v any) error {
		if v == nil {
			return nil
		}
		b, err := canon.JSON(v)
		if err != nil {
			return fmt.Errorf("seal: %s: %w", name, err)
		}
		if string(b) == "null" { // a nil slice in an interface: absent
			return nil
		}
		return put(name, b)
	}
	outside := content.Outside
	if outside == nil {
		outside = []Outside{}
	}
	err := errors.Join(
		putJSON(fileApprovals, content.Approvals), putJSON(fileEvidence, content.Evidence),
		putJSON(fileIncident, content.View), putJSON(fileOutside, outside))
	for i, plan := range content.Plans {
		err = errors.Join(err, putJSON(dirPlans+strconv.Itoa(i+1)+".json", plan))
	}
	for name, b := range content.Notices {
		err = errors.Join(err, put(dirNotices+name, b))
	}
	for _, c := range content.Chapters {
		zipped, zipErr := gzipped(c.History)
		err = errors.Join(err, zipErr, put(ChapterName(c.Workflow, c.Run), zipped))
	}
	for h, b := range content.Pages {
		if canon.Hash(b) != h {
			err = errors.Join(err, fmt.Errorf("seal: page %s has another hash", h))
		}
		err = errors.Join(err, put(PageName(h), b))
	}
	if content.Report != nil {
		err = errors.Join(err, put(fileReport, content.Report))
	}
	if content.Previous != nil {
		p, prevErr := extend(*content.Previous, content.Incident, tree)
		err = errors.Join(err, prevErr, putJSON(filePrevious, p))
	}
	return files, err
}

// storedPages measures the pages that are read when they are written.
func storedPages(content Content, files map[string][]byte) ([]source, error) {
	var out []source
	seen := map[string]bool{}
	for _, hash := range content.Stored {
		name := PageName(hash)
		if _, there := files[name]; there || seen[hash] {
			continue
		}
		seen[hash] = true
		b, err := content.Page(hash)
		switch {
		case err != nil:
			return nil, fmt.Errorf("seal: page %s: %w", hash, err)
		case canon.Hash(b) != hash || !validName(name):
			return nil, fmt.Errorf("seal: page %s has another hash", hash)
		}
		out = append(out, source{name, int64(len(b)), crc32.ChecksumIEEE(b), func() io.Reader { return &pageReader{read: content.Page, hash: hash} }})
	}
	return out, nil
}

// A pageReader reads a page when its first byte is asked for.
type pageReader struct {
	read func(string) ([]byte, error)
	hash string
	rest io.Reader
}

func (p *pageReader) Read(b []byte) (int, error) {
	if p.rest == nil {
		page, err := p.read(p.hash)
		if err == nil && canon.Hash(page) != p.hash {
			err = errors.New("it has changed while the bundle was written")
		}
		if err != nil {
			return 0, fmt.Errorf("page %s: %w", p.hash, err)
		}
		p.rest = bytes.NewReader(page)
	}
	return p.rest.Read(b)
}

// extend proves that tree extends the tree of an earlier bundle.
func extend(prev Previous, incident string, tree *Tree) (previous, error) {
	cp, err := parseCheckpoint(noteText([]byte(prev.Checkpoint)))
	if err != nil {
		return previous{}, fmt.Errorf("seal: previous bundle: %w", err)
	}
	root, err := tree.RootAt(cp.Size)
	if err != nil || root != cp.Root || cp.Incident != incident {
		return previous{}, fmt.Errorf("seal: these events do not extend the bundle %s with its %d events: its record would be rewritten", prev.Digest, cp.Size)
	}
	proof, err := tree.Consistency(cp.Size)
	if err != nil {
		return previous{}, fmt.Errorf("seal: previous bundle: %w", err)
	}
	p := previous{Digest: prev.Digest, Checkpoint: prev.Checkpoint, Proof: proof}
	if p.Proof == nil { // equal trees need no hashes
		p.Proof = []tlog.Hash{}
	}
	return p, nil
}

// addRedactions fixes the redacted form of each audience in the manifest.
func addRedactions(m *manifest, events []Event, lines []byte, leaves []tlog.Hash) error {
	classes := make([]string, len(events))
	for i := range events {
		classes[i] = events[i].Redaction
	}
	for _, audience := range Audiences() {
		sum := &sizedHash{Hash: sha256.New()}
		if err := writeRedacted(sum, lines, leaves, classes, audience); err != nil {
			return err
		}
		r := redactionOf(m, audience, classes, manifestFile{fileEvents, sum.hex(), sum.n})
		b, err := canon.JSON(r)
		if err != nil {
			return err
		}
		m.Redactions = append(m.Redactions, manifestRedaction{audience, r.Hidden, hexSum(b)})
	}
	return nil
}

// writeRedacted writes events.jsonl as the audience may see it.
func writeRedacted(w io.Writer, lines []byte, leaves []tlog.Hash, classes []string, audience string) error {
	for i := 0; len(lines) > 0; i++ {
		end := bytes.IndexByte(lines, '\n') + 1
		line := lines[:end]
		if !visible(audience, classes[i]) {
			line = append(hiddenLine(leaves[i]), '\n')
		}
		if _, err := w.Write(line); err != nil {
			return err
		}
		lines = lines[end:]
	}
	return nil
}

// writeFiles writes the container and gives its digest and length.
func writeFiles(w io.Writer, files map[string][]byte, more ...source) (string, int64, error) {
	sources := slices.Clone(more)
	for name, b := range files {
		sources = append(sources, bytesSource(name, b))
	}
	slices.SortFunc(sources, func(a, b source) int { return strings.Compare(a.name, b.name) })
	sum := &sizedHash{Hash: sha256.New()}
	if err := writeContainer(io.MultiWriter(w, sum), sources); err != nil {
		return "", 0, err
	}
	return "sha256:" + sum.hex(), sum.n, nil
}

// formatLeaves is leaves.txt: the leaf hash of each event in base64, one a line.
// Any inclusion proof can be made from it, and it is what names the event that was
// changed.
func formatLeaves(leaves []tlog.Hash) []byte {
	b := make([]byte, 0, leafLine*len(leaves))
	for _, h := range leaves {
		b = append(b, h.String()...)
		b = append(b, '\n')
	}
	return b
}

// leafLine is the length of a line of leaves.txt: 32 bytes in base64 and LF.
const leafLine = 45

func gzipped(b []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(b); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func fileOf(name string, b []byte) manifestFile {
	return manifestFile{name, hexSum(b), int64(len(b))}
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func sortedKeys(m map[string][]byte) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// sizedHash counts what it hashes.
type sizedHash struct {
	hash.Hash
	n int64
}

func (s *sizedHash) Write(b []byte) (int, error) {
	s.n += int64(len(b))
	return s.Hash.Write(b)
}

func (s *sizedHash) hex() string { return hex.EncodeToString(s.Sum(nil)) }
