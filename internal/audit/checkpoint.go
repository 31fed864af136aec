package audit

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A Checkpoint is the signed head of one incident's tree (c2sp.org/tlog-checkpoint).
//
// Each incident is a log of its own, so its origin line is "<origin>/<incident>":
// a signer must never sign two checkpoints of one origin that do not extend each
// other. The key's name is the origin of the installation.
type Checkpoint struct {
	Origin   string
	Incident string
	Size     int64
	Root     tlog.Hash
}

func (c Checkpoint) text() string {
	return fmt.Sprintf("%s/%s\n%d\n%s\n", c.Origin, c.Incident, c.Size, c.Root)
}

// parseCheckpoint reads the text of a checkpoint; extension lines are refused,
// because rekey writes none.
func parseCheckpoint(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return Checkpoint{}, errors.New("checkpoint is not three lines: origin, size, root")
	}
	cut := strings.LastIndexByte(lines[0], '/')
	size, err := strconv.ParseInt(lines[1], 10, 64)
	root, err2 := tlog.ParseHash(lines[2])
	if cut < 1 || err != nil || err2 != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] || root.String() != lines[2] {
		return Checkpoint{}, errors.New("checkpoint is malformed")
	}
	return Checkpoint{Origin: lines[0][:cut], Incident: lines[0][cut+1:], Size: size, Root: root}, nil
}

// Manifests are signed in a note of their own: c2sp.org/tlog-checkpoint calls
// extension lines NOT RECOMMENDED (monitors cannot audit them and ML-DSA
// cosignatures do not cover them), and a manifest as a leaf would be an event that
// is none. The manifest repeats the checkpoint's size and root and holds the hash
// of its file, so that the two cannot be combined across bundles.
const manifestNote = "rekey.manifest/v1"

func manifestText(origin, incident, digest string) string {
	return manifestNote + "\n" + origin + "/" + incident + "\n" + digest + "\n"
}

func parseManifestNote(text string) (incident, digest string, err error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[0] != manifestNote || lines[3] != "" {
		return "", "", errors.New("not a signed manifest digest")
	}
	cut := strings.LastIndexByte(lines[1], '/')
	if cut < 1 {
		return "", "", errors.New("not a signed manifest digest")
	}
	return lines[1][cut+1:], lines[2], nil
}

// A signedBy says which keys signed a note.
type signedBy struct {
	text  string
	known []note.Signature
	count int
}

// openNote checks msg against verifiers. The text is given back even when no
// signature could be checked, so that further faults can be named.
func openNote(msg []byte, verifiers []note.Verifier) (signedBy, error) {
	n, err := note.Open(msg, note.VerifierList(verifiers...))
	if err == nil {
		out := signedBy{text: n.Text, known: n.Sigs, count: len(n.Sigs) + len(n.UnverifiedSigs)}
		if !strictBase64(n) {
			return out, errBadSignature
		}
		return out, nil
	}
	// The text of a note whose known signature is wrong has to be taken as it is.
	out := signedBy{text: noteText(msg)}
	var unverified *note.UnverifiedNoteError
	if errors.As(err, &unverified) {
		out.count = len(unverified.Note.UnverifiedSigs)
		return out, errUnknownKey
	}
	return out, errBadSignature
}

var (
	errUnknownKey   = errors.New("signed by none of the known keys")
	errBadSignature = errors.New("signature does not fit the text")
)

// strictBase64 refuses a second spelling of the same signature: the standard
// decoder ignores the unused bits of the last character.
func strictBase64(n *note.Note) bool {
	for _, sig := range append(append([]note.Signature{}, n.Sigs...), n.UnverifiedSigs...) {
		raw, err := base64.StdEncoding.DecodeString(sig.Base64)
		if err != nil || base64.StdEncoding.EncodeToString(raw) != sig.Base64 {
			return false
		}
	}
	return true
}

func noteText(msg []byte) string {
	text, _, ok := strings.Cut(string(msg), "\n\n")
	if !ok {
		return ""
	}
	return text + "\n"
}

// parseKeys reads note verifier keys; blank lines and lines that begin with # are
// left out.
func parseKeys(lines []string) ([]note.Verifier, error) {
	var out []note.Verifier
	seen := map[string]bool{}
	for _, entry := range lines {
		for line := range strings.Lines(entry) {
			line = strings.TrimSpace(line)
			if line == "" || line[0] == '#' {
				continue
			}
			v, err := note.NewVerifier(line)
			if err != nil {
				return nil, errors.New("not a note verifier key: it must look like name+hash+base64 (the file audit.pub)")
			}
			id := fmt.Sprintf("%s+%08x", v.Name(), v.KeyHash())
			if !seen[id] {
				seen[id] = true
				out = append(out, v)
			}
		}
	}
	return out, nil
}
