package activitytest

import (
	"context"
	"slices"
	"sync"

	"rekey/internal/secret"
)

// Store is a sealed store in memory that keeps the promises of [secret.Store], so
// that providers can be tested without a file system. It records every read.
type Store struct {
	mu     sync.Mutex
	sealed map[[2]string]entry
	reads  []secret.ReadRecord
	// Fail, when set, is what Seal answers.
	Fail error
}

type entry struct {
	ref   secret.Ref
	value secret.Value
}

// NewStore makes an empty store.
func NewStore() *Store { return &Store{sealed: map[[2]string]entry{}} }

var _ secret.Store = (*Store)(nil)

// Seal implements secret.Store.
func (s *Store) Seal(_ context.Context, ref secret.Ref, v secret.Value) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Fail != nil {
		return s.Fail
	}
	if old, ok := s.sealed[name(ref)]; ok && !old.value.Equal(v) {
		return secret.ErrDiffers
	}
	s.sealed[name(ref)] = entry{ref, secret.New(v.Reveal())}
	return nil
}

// Replace implements secret.Store.
func (s *Store) Replace(_ context.Context, ref secret.Ref, v secret.Value) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealed[name(ref)] = entry{ref, secret.New(v.Reveal())}
	return nil
}

// Open implements secret.Store. The Value is a copy: the caller may destroy it.
func (s *Store) Open(_ context.Context, ref secret.Ref, why secret.Purpose) (secret.Value, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.sealed[name(ref)]
	record := secret.ReadRecord{Ref: ref, Purpose: why, Granted: ok && e.ref == ref}
	s.reads = append(s.reads, record)
	switch {
	case !ok:
		return secret.Value{}, secret.ErrGone
	case !record.Granted:
		return secret.Value{}, secret.ErrBinding
	}
	return secret.New(e.value.Reveal()), nil
}

// Exists implements secret.Store.
func (s *Store) Exists(_ context.Context, ref secret.Ref) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.sealed[name(ref)]
	return ok, nil
}

// Destroy implements secret.Store.
func (s *Store) Destroy(_ context.Context, incident string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.sealed {
		if k[0] == incident {
			delete(s.sealed, k)
		}
	}
	return nil
}

// Reads are the attempts to read so far.
func (s *Store) Reads() []secret.ReadRecord {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.reads)
}

func name(ref secret.Ref) [2]string { return [2]string{ref.Incident, ref.Handle} }
