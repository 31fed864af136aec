package audit

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"golang.org/x/mod/sumdb/tlog"
)

// A Bundle gives access to the content of a bundle. It checks nothing: use
// [Verify] first.
type Bundle struct {
	r        io.ReaderAt
	size     int64
	entries  []entry
	manifest manifest
}

// Open reads the list of files of a bundle. It fails on what [Verify] calls
// unreadable and on a container that is not in order.
func Open(r io.ReaderAt, size int64) (*Bundle, error) {
	if size > maxBundle {
		return nil, errors.New("the file is larger than any bundle (4 GiB)")
	}
	entries, faults, err := readContainer(r, size)
	if err != nil {
		return nil, fmt.Errorf("not a rekey bundle: %w", err)
	}
	if len(faults) > 0 {
		return nil, fmt.Errorf("the bundle is damaged (%s): run rekey audit verify on it", faults[0].Detail)
	}
	b := &Bundle{r: r, size: size, entries: entries}
	raw, err := b.File(fileManifest)
	if err != nil {
		return nil, errors.New("not a rekey bundle: it has no manifest")
	}
	if err := json.Unmarshal(raw, &b.manifest); err != nil {
		return nil, errors.New("the manifest of the bundle is damaged: run rekey audit verify on it")
	}
	return b, nil
}

// Incident is the incident's id; State its state at sealing; Final tells whether
// no later bundle follows.
func (b *Bundle) Incident() string { return b.manifest.Incident }

// State is the incident's state at sealing.
func (b *Bundle) State() string { return b.manifest.State }

// Final tells whether no later bundle follows.
func (b *Bundle) Final() bool { return b.manifest.Final }

// Names lists the files, sorted.
func (b *Bundle) Names() []string {
	names := make([]string, len(b.entries))
	for i, e := range b.entries {
		names[i] = e.name
	}
	return names
}

// File gives the content of one file.
func (b *Bundle) File(name string) ([]byte, error) {
	for _, e := range b.entries {
		if e.name == name {
			out := readAt(b.r, e.data(), e.size, b.size)
			if int64(len(out)) != e.size {
				return nil, fmt.Errorf("%s cannot be read", name)
			}
			return out, nil
		}
	}
	return nil, fmt.Errorf("the bundle holds no file %s", name)
}

// View gives incident.json, or nil where the bundle has none (it is redacted).
func (b *Bundle) View() []byte {
	view, err := b.File(fileIncident)
	if err != nil {
		return nil
	}
	return view
}

// Events gives the events that are not hidden, in order, and how many are hidden.
func (b *Bundle) Events() (events []Event, hidden int64, err error) {
	err = b.lines(func(index int64, line []byte) error {
		if _, ok := parseHidden(line); ok {
			hidden++
			return nil
		}
		e, err := Decode(line)
		if err != nil {
			return fmt.Errorf("event %d: %w", index, err)
		}
		events = append(events, e)
		return nil
	})
	return events, hidden, err
}

// Proof gives the line of one event and its inclusion proof in the form of
// c2sp.org/tlog-proof, which [CheckProof] checks without the bundle. Index counts
// from 0.
func (b *Bundle) Proof(index int64) (line, proof []byte, err error) {
	tree := &Tree{}
	err = b.lines(func(i int64, l []byte) error {
		leaf, ok := parseHidden(l)
		if !ok {
			leaf = Leaf(l)
		}
		if i == index {
			line = append([]byte{}, l...)
		}
		return tree.Append(leaf)
	})
	if err != nil {
		return nil, nil, err
	}
	var path tlog.RecordProof
	if path, err = tree.Inclusion(index); err != nil {
		return nil, nil, err
	}
	checkpoint, err := b.File(fileCheckpoint)
	if err != nil {
		return nil, nil, err
	}
	return line, FormatProof(index, path, checkpoint), nil
}

func (b *Bundle) lines(f func(index int64, line []byte) error) error {
	for _, e := range b.entries {
		if e.name != fileEvents {
			continue
		}
		in := bufio.NewReaderSize(io.NewSectionReader(b.r, e.data(), e.size), 64<<10)
		for index := int64(0); ; index++ {
			line, err := readLine(in)
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err == nil {
				err = f(index, line)
			}
			if err != nil {
				return err
			}
		}
	}
	return errors.New("the bundle holds no events.jsonl")
}

// PreviousOf identifies a bundle for [Content].Previous of the next one.
func PreviousOf(r io.ReaderAt, size int64) (Previous, error) {
	b, err := Open(r, size)
	if err != nil {
		return Previous{}, err
	}
	checkpoint, err := b.File(fileCheckpoint)
	if err != nil {
		return Previous{}, err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(r, 0, size)); err != nil {
		return Previous{}, fmt.Errorf("read the bundle: %w", err)
	}
	return Previous{Digest: "sha256:" + hex.EncodeToString(sum.Sum(nil)), Checkpoint: string(checkpoint)}, nil
}
