package agestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"rekey/internal/fsx"
	"rekey/internal/secret"
)

// ExpireBefore removes every secret sealed before t (not at t) and returns what
// it removed. An incident of which nothing younger is left loses its data key;
// of a mixed one only the old files are unlinked, and what a disk may still hold
// of them becomes unreadable with the data key. A file that cannot be read is
// removed too: it serves nobody. Idempotent.
func (s *Store) ExpireBefore(ctx context.Context, t time.Time) ([]secret.Meta, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	dirs, err := os.ReadDir(s.opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("sealed store: %w", err)
	}
	var gone []secret.Meta
	var failed error // one incident that cannot be read does not keep the others
	for _, d := range dirs {
		if err := ctx.Err(); err != nil {
			return gone, errors.Join(failed, err)
		}
		if !secret.ValidIncident(d.Name()) {
			continue
		}
		metas, err := s.expireIncident(d.Name(), t)
		gone = append(gone, metas...)
		failed = errors.Join(failed, err)
	}
	return gone, failed
}

func (s *Store) expireIncident(incident string, t time.Time) ([]secret.Meta, error) {
	dir := filepath.Join(s.opts.Dir, incident)
	key, err := s.dataKey(incident)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, s.destroy(incident) // an interrupted Destroy: finish it
	}
	if err != nil {
		return nil, err
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("sealed store: %w", err)
	}
	var gone []secret.Meta
	var old []string
	kept := 0
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), suffix) {
			continue
		}
		path := filepath.Join(dir, f.Name())
		e, err := readFile(key, path)
		clear(e.Bytes)
		if err == nil && !e.SealedAt.Before(t) {
			kept++
			continue
		}
		old = append(old, path)
		if err == nil {
			gone = append(gone, secret.Meta{Ref: e.Ref, SealedAt: e.SealedAt})
		}
	}
	if kept == 0 {
		return gone, s.destroy(incident)
	}
	for _, path := range old {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("sealed store: %w", err)
		}
	}
	return gone, fsx.SyncDir(dir)
}
