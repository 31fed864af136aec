package audit

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A Tree is the RFC 6962 Merkle tree over the leaves of one incident, oldest
// first. It only grows. The zero Tree is empty.
type Tree struct {
	stored []tlog.Hash
	n      int64
}

// NewTree builds the tree over leaves.
func NewTree(leaves []tlog.Hash) (*Tree, error) {
	t := &Tree{stored: make([]tlog.Hash, 0, 2*len(leaves))}
	for _, leaf := range leaves {
		if err := t.Append(leaf); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// Append adds one leaf hash.
func (t *Tree) Append(leaf tlog.Hash) error {
	hashes, err := tlog.StoredHashesForRecordHash(t.n, leaf, t)
	if err != nil {
		return fmt.Errorf("append leaf %d: %w", t.n, err)
	}
	t.stored = append(t.stored, hashes...)
	t.n++
	return nil
}

// ReadHashes is what tlog asks of a tree.
func (t *Tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if index < 0 || index >= int64(len(t.stored)) {
			return nil, errors.New("tree node does not exist")
		}
		out[i] = t.stored[index]
	}
	return out, nil
}

// Size is the number of leaves.
func (t *Tree) Size() int64 { return t.n }

// RootAt is the root of the first n leaves.
func (t *Tree) RootAt(n int64) (tlog.Hash, error) {
	if n < 0 || n > t.n {
		return tlog.Hash{}, fmt.Errorf("a tree of %d leaves has no root at %d", t.n, n)
	}
	return tlog.TreeHash(n, t)
}

// Root is the root of all leaves.
func (t *Tree) Root() (tlog.Hash, error) { return t.RootAt(t.n) }

// Inclusion proves that leaf index is in the tree (RFC 6962 section 2.1.1).
func (t *Tree) Inclusion(index int64) (tlog.RecordProof, error) {
	if index < 0 || index >= t.n {
		return nil, fmt.Errorf("there is no event with index %d: the tree has %d", index, t.n)
	}
	return tlog.ProveRecord(t.n, index, t)
}

// Consistency proves that the tree extends its first n leaves (RFC 6962 section
// 2.1.2).
func (t *Tree) Consistency(n int64) (tlog.TreeProof, error) {
	if n < 1 || n > t.n {
		return nil, fmt.Errorf("a tree of %d leaves does not extend one of %d", t.n, n)
	}
	return tlog.ProveTree(t.n, n, t)
}

const proofHeader = "c2sp.org/tlog-proof@v1"

// FormatProof writes the proof of one event in the form of c2sp.org/tlog-proof,
// which needs nothing but the event's line and the signer's verifier key.
func FormatProof(index int64, proof tlog.RecordProof, checkpoint []byte) []byte {
	var b strings.Builder
	b.WriteString(proofHeader + "\nindex " + strconv.FormatInt(index, 10) + "\n")
	for _, h := range proof {
		b.WriteString(h.String() + "\n")
	}
	b.WriteString("\n")
	b.Write(checkpoint)
	return []byte(b.String())
}

// CheckProof checks that line (without LF) is the event that proof is about, in a
// tree whose checkpoint is signed by one of keys. It gives the event's index.
func CheckProof(line, proof []byte, keys []string) (int64, error) {
	bad := errors.New("not a proof in the form of " + proofHeader)
	head, checkpoint, ok := strings.Cut(string(proof), "\n\n")
	lines := strings.Split(head, "\n")
	if !ok || len(lines) < 2 || len(lines) > 66 || lines[0] != proofHeader {
		return 0, bad
	}
	digits, ok := strings.CutPrefix(lines[1], "index ")
	index, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || strconv.FormatInt(index, 10) != digits {
		return 0, bad
	}
	var path tlog.RecordProof
	for _, l := range lines[2:] {
		h, err := tlog.ParseHash(l)
		if err != nil {
			return 0, bad
		}
		path = append(path, h)
	}
	verifiers, err := parseKeys(keys)
	if err != nil {
		return 0, err
	}
	n, err := note.Open([]byte(checkpoint), note.VerifierList(verifiers...))
	if err != nil {
		return 0, errors.New("checkpoint is not signed by any of the given keys")
	}
	cp, err := parseCheckpoint(n.Text)
	if err != nil {
		return 0, err
	}
	if err := tlog.CheckRecord(path, cp.Size, cp.Root, index, Leaf(line)); err != nil {
		return 0, errors.New("event is not in the signed tree at this index")
	}
	return index, nil
}
