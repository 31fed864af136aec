package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"rekey/internal/canon"
)

// Redact writes the form of a full bundle that audience (customer, public) may
// see: hidden events are replaced by their leaf hash, so that the tree still
// verifies, and files that speak of more than the visible events are dropped. Both
// are listed in redaction.json, whose digest was fixed in the signed manifest at
// sealing: no key is needed to redact, and any other selection fails to verify.
//
// Limits: hashes are not salted, so who can guess a hidden event or file byte for
// byte can confirm it; the number and places of hidden events and the names and
// sizes of dropped files stay visible; text inside visible events is not changed.
//
// It verifies the bundle first and refuses one that does not, or that is redacted
// already. The same bundle and audience give the same bytes.
func Redact(w io.Writer, r io.ReaderAt, size int64, audience string) (Sealed, error) {
	if !slices.Contains(Audiences(), audience) {
		return Sealed{}, fmt.Errorf("no audience is named %q: use customer or public", audience)
	}
	res := Verify(r, size, Options{})
	if res.Result != Verified {
		return Sealed{}, errors.New("the bundle does not verify, so it is not redacted: run rekey audit verify on it")
	}
	if res.Redaction.Audience != "" {
		return Sealed{}, fmt.Errorf("the bundle is redacted for %s already: take the full one", res.Redaction.Audience)
	}
	b, err := Open(r, size)
	if err != nil {
		return Sealed{}, err
	}
	lines, err := b.File(fileEvents)
	if err != nil {
		return Sealed{}, err
	}
	var classes []string
	var leaves []tlog.Hash
	for line := range bytes.Lines(lines) {
		line = bytes.TrimSuffix(line, []byte{'\n'})
		e, err := Decode(line)
		if err != nil {
			return Sealed{}, fmt.Errorf("event %d: %w", len(classes), err)
		}
		classes = append(classes, e.Redaction)
		leaves = append(leaves, Leaf(line))
	}
	var events bytes.Buffer
	if err := writeRedacted(&events, lines, leaves, classes, audience); err != nil {
		return Sealed{}, err
	}
	list, err := canon.JSON(redactionOf(&b.manifest, audience, classes, fileOf(fileEvents, events.Bytes())))
	if err != nil {
		return Sealed{}, err
	}
	if want, ok := b.manifest.redaction(audience); !ok || want.SHA256 != hexSum(list) {
		return Sealed{}, fmt.Errorf("the bundle fixed another redaction for %s when it was sealed: redact it with the version of rekey that sealed it", audience)
	}
	files := map[string][]byte{fileEvents: events.Bytes(), fileRedaction: list}
	for _, name := range b.Names() {
		if name == fileManifest || name == fileSignature || kept(audience, name) {
			if files[name], err = b.File(name); err != nil {
				return Sealed{}, err
			}
		}
	}
	digest, n, err := writeFiles(w, files)
	if err != nil {
		return Sealed{}, err
	}
	return Sealed{Digest: digest, Root: res.Root, Size: res.Events, Bytes: n, Checkpoint: string(files[fileCheckpoint])}, nil
}
