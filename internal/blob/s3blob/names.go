package s3blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"rekey/internal/blob"
	"rekey/internal/codec/keyring"
)

// A document is stored like a blob, bound to its name.
const (
	names     = "names/"
	nameMagic = "rekeyn1\n"
	maxName   = 256 << 20
)

// WriteName implements blob.Names.
func (s *Store) WriteName(ctx context.Context, name string, content []byte) error {
	if err := blob.CheckJournalName(name); err != nil {
		return err
	}
	if err := s.Ready(ctx); err != nil {
		return err
	}
	id, sealed := s.keys.Seal(keyring.Blob, "name\x00"+name, content)
	out := append(append([]byte(nameMagic), byte(len(id))), id...) //nolint:gosec // a key id is at most 64 bytes
	if err := s.b.put(ctx, names+name, append(out, sealed...), false); err != nil {
		return fmt.Errorf("blob store: %w", err)
	}
	return nil
}

// ReadName implements blob.Names.
func (s *Store) ReadName(ctx context.Context, name string) ([]byte, error) {
	if err := blob.CheckJournalName(name); err != nil {
		return nil, err
	}
	if err := s.Ready(ctx); err != nil {
		return nil, err
	}
	data, _, err := s.b.get(ctx, names+name, maxName)
	if errors.Is(err, errAbsent) {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist}
	}
	if err != nil {
		return nil, fmt.Errorf("blob store: %w", err)
	}
	body, ok := bytes.CutPrefix(data, []byte(nameMagic))
	if !ok || len(body) == 0 || len(body) < 1+int(body[0]) {
		return nil, fmt.Errorf("blob store: %s%s is damaged: restore it from backup", names, name)
	}
	n := 1 + int(body[0])
	plain, err := s.keys.Open(keyring.Blob, string(body[1:n]), "name\x00"+name, body[n:])
	if err != nil {
		return nil, fmt.Errorf("blob store: %s%s: %w", names, name, err)
	}
	return plain, nil
}

// EachName implements blob.Names.
func (s *Store) EachName(ctx context.Context, prefix string, f func(name string) error) error {
	if err := blob.CheckJournalName(prefix); err != nil {
		return err
	}
	if err := s.Ready(ctx); err != nil {
		return err
	}
	return s.b.list(ctx, names+prefix+"/", func(o object) error {
		name := strings.TrimPrefix(o.key, names)
		if blob.CheckJournalName(name) != nil {
			return fmt.Errorf("blob store: %s is not a document of rekey: remove it", o.key)
		}
		return f(name)
	})
}
