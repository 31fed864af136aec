package s3blob

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"rekey/internal/blob"
)

var _ blob.Collectable = (*Store)(nil)

// EachBlob implements blob.Collectable.
func (s *Store) EachBlob(ctx context.Context, f func(blob.Stored) error) error {
	if err := s.Ready(ctx); err != nil {
		return err
	}
	return s.b.list(ctx, "sha256/", func(o object) error {
		hash := "sha256:" + strings.TrimPrefix(o.key, "sha256/")
		if !blob.ValidHash(hash) {
			return fmt.Errorf("blob store: %s%s is not a blob: move it away", s.b.prefix, o.key)
		}
		return f(blob.Stored{Hash: hash, Size: o.size, Age: o.age})
	})
}

// sweepMost is how many blobs are removed under one hold of the lock: Put waits for it.
const sweepMost = 200

// RemoveBlobs implements blob.Collectable.
func (s *Store) RemoveBlobs(ctx context.Context, hashes []string, age time.Duration) ([]blob.Stored, error) {
	if age <= blob.Fresh {
		return nil, fmt.Errorf("blob store: blobs younger than %s are never removed", blob.Fresh)
	}
	var out []blob.Stored
	for len(hashes) > 0 {
		n := min(len(hashes), sweepMost)
		removed, err := s.sweep(ctx, hashes[:n], age)
		if out = append(out, removed...); err != nil {
			return out, fmt.Errorf("blob store: %w", err)
		}
		hashes = hashes[n:]
	}
	return out, nil
}

func (s *Store) sweep(ctx context.Context, hashes []string, age time.Duration) ([]blob.Stored, error) {
	held, unlock, err := s.Hold(ctx, blob.SweepLock)
	if err != nil {
		return nil, err
	}
	defer unlock()
	limit, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(held, cancel)() // without the lock nothing is deleted any more
	var mu sync.Mutex
	var found []blob.Stored
	var keys []string
	g, gctx := errgroup.WithContext(limit)
	g.SetLimit(readers)
	for _, hash := range hashes {
		g.Go(func() error {
			key, err := blobKey(hash)
			if err != nil {
				return err
			}
			o, err := s.b.head(gctx, key)
			if errors.Is(err, errAbsent) || (err == nil && o.age <= age) {
				return nil
			}
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			found, keys = append(found, blob.Stored{Hash: hash, Size: o.size, Age: o.age}), append(keys, key)
			return nil
		})
	}
	if err := g.Wait(); err != nil || len(keys) == 0 {
		return nil, err
	}
	if err := s.b.remove(limit, keys...); err != nil {
		return nil, err
	}
	return found, nil
}

// EachJournal implements blob.Collectable.
func (s *Store) EachJournal(ctx context.Context, f func(name string, age time.Duration) error) error {
	if err := s.Ready(ctx); err != nil {
		return err
	}
	name, youngest := "", time.Duration(0)
	tell := func() error {
		if name == "" {
			return nil
		}
		return f(name, youngest)
	}
	err := s.b.list(ctx, journals, func(o object) error {
		dir, _, ok := strings.Cut(strings.TrimPrefix(o.key, journals), "/")
		this := strings.ReplaceAll(dir, "~", "/")
		if !ok || blob.CheckJournalName(this) != nil {
			return fmt.Errorf("blob store: %s%s is not a journal's: remove it", s.b.prefix, o.key)
		}
		if this == name {
			youngest = min(youngest, o.age)
			return nil
		}
		if err := tell(); err != nil {
			return err
		}
		name, youngest = this, o.age
		return nil
	})
	if err != nil {
		return err
	}
	return tell()
}

// Inspect implements blob.Collectable.
func (s *Store) Inspect(ctx context.Context, name string) (blob.Inspected, error) {
	if err := s.Ready(ctx); err != nil {
		return blob.Inspected{}, err
	}
	have, err := s.logs(ctx, name)
	if err != nil {
		return blob.Inspected{}, err
	}
	var out blob.Inspected
	for _, term := range slices.Backward(have.terms) {
		last := have.last(term)
		if last == 0 {
			continue
		}
		l, err := s.readLog(ctx, name, term, last)
		if err != nil {
			return blob.Inspected{}, err
		}
		if l.start == 0 {
			continue // closed before anything was written
		}
		out.Sealed = l.sealed.Hash
		if out.Records, err = blob.AllRecords(ctx, s, name, l.sealed.Hash, l.sealed.N, l.records); err != nil {
			return blob.Inspected{}, err
		}
		break
	}
	out.Late, err = s.late(ctx, name, math.MaxUint64)
	return out, err
}

// RemoveJournal implements blob.Collectable.
func (s *Store) RemoveJournal(ctx context.Context, name string, age time.Duration) (bool, error) {
	if err := blob.CheckJournalName(name); err != nil {
		return false, err
	}
	s.mu.Lock()
	for _, j := range s.open {
		if j.name == name {
			s.mu.Unlock()
			return false, nil
		}
	}
	s.mu.Unlock()
	var keys []string
	young := false
	err := s.b.list(ctx, journalPrefix(name), func(o object) error {
		keys, young = append(keys, o.key), young || o.age <= age
		return nil
	})
	if err != nil || young || len(keys) == 0 {
		return false, err
	}
	return true, s.b.remove(ctx, keys...)
}

// Tidy implements blob.Collectable.
func (s *Store) Tidy(ctx context.Context, age time.Duration) error {
	if err := s.Ready(ctx); err != nil {
		return err
	}
	var dead []string
	err := s.b.list(ctx, locks, func(o object) error {
		if o.age > max(age, 4*lockAge) {
			dead = append(dead, o.key)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.b.remove(ctx, dead...)
}
