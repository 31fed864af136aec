package awssim

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// A snapshot is a file of lines: first a head, then one object or pending change to a line, so that
// neither writing nor reading holds the account a second time. It has no secrets. What
// authentication sees is the account as it is, but for what has not propagated yet: only that is in
// it twice.
type snapshotLine struct {
	Head    *snapshotHead `json:"head,omitempty"`
	Live    *Put          `json:"live,omitempty"`
	Auth    *Put          `json:"auth,omitempty"` // as authentication sees the object of a pending change
	Pending *pending      `json:"pending,omitempty"`
}

type snapshotHead struct {
	Version int       `json:"version"`
	Seq     int64     `json:"seq"`
	Start   time.Time `json:"start"`
}

const snapshotVersion = 2

// Snapshot writes the account for resuming.
func (s *Sim) Snapshot(to io.Writer) error {
	w := bufio.NewWriterSize(to, 1<<16)
	enc := json.NewEncoder(w)
	if err := enc.Encode(snapshotLine{Head: &snapshotHead{snapshotVersion, s.seq, s.start}}); err != nil {
		return err
	}
	for kind, ids := range s.live.ids() {
		for id := range ids {
			p := s.live.object(kind, id)
			if err := enc.Encode(snapshotLine{Live: &p}); err != nil {
				return err
			}
		}
	}
	seen := map[ref]bool{}
	for i := range s.auth.Pending {
		p := &s.auth.Pending[i]
		if r := (ref{p.Put.Kind, p.Put.ID}); !seen[r] {
			seen[r] = true
			had := s.auth.State.object(r.kind, r.id)
			if err := enc.Encode(snapshotLine{Auth: &had}); err != nil {
				return err
			}
		}
		if err := enc.Encode(snapshotLine{Pending: p}); err != nil {
			return err
		}
	}
	return w.Flush()
}

// Restore loads a snapshot into an empty account.
func (s *Sim) Restore(from io.Reader) error {
	dec := json.NewDecoder(bufio.NewReaderSize(from, 1<<16))
	var first snapshotLine
	if err := dec.Decode(&first); err != nil || first.Head == nil || first.Head.Version != snapshotVersion {
		return fmt.Errorf("lab snapshot: it is of another build; its world is made up, so use another directory")
	}
	s.seq, s.start = first.Head.Seq, first.Head.Start
	for {
		var l snapshotLine
		err := dec.Decode(&l)
		if err == io.EOF { //nolint:errorlint // Decode gives it bare
			return nil
		}
		if err == nil {
			err = s.restore(l)
		}
		if err != nil {
			return fmt.Errorf("lab snapshot: %w", err)
		}
	}
}

func (s *Sim) restore(l snapshotLine) error {
	switch {
	case l.Live != nil:
		if err := s.live.apply(*l.Live); err != nil {
			return err
		}
		if l.Live.Kind == "key" {
			s.index(s.live.Keys[l.Live.ID])
		}
		if !inReplica(l.Live.Kind) {
			return nil
		}
		// The same object: see State.
		return s.auth.State.apply(s.live.share(l.Live.Kind, l.Live.ID))
	case l.Auth != nil:
		return s.auth.State.apply(*l.Auth)
	case l.Pending != nil:
		s.auth.Pending = append(s.auth.Pending, *l.Pending)
	}
	return nil
}
