package s3blob

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"strings"
	"time"

	"rekey/internal/blob"
)

// A lock is an object per holder that is renewed. Who wants it makes an object, and
// lists: it has the lock when no other object is young. Of two at once at least one
// sees the other, and whoever sees another takes back its own and waits. Ages are by the
// server's clock.
//
// A holder that stands still longer than lockAge has lost it. Journals hold against
// that by themselves: a write that came in between fails.
const (
	locks   = "locks/"
	lockAge = 15 * time.Second
	// lockSlack is for ages, which count whole seconds.
	lockSlack = 2 * time.Second
	lockRenew = 4 * time.Second
	// lockWait and as much again at random is between two tries.
	lockWait = 100 * time.Millisecond
)

func lockPrefix(name string) string { return locks + strings.ReplaceAll(name, "/", "~") + "/" }

// Lock implements blob.Journals.
func (s *Store) Lock(ctx context.Context, name string) (unlock func(), err error) {
	_, unlock, err = s.Hold(ctx, name)
	return unlock, err
}

// Hold is Lock; held ends with the lock, also when it is lost, and not with ctx.
func (s *Store) Hold(ctx context.Context, name string) (held context.Context, unlock func(), err error) {
	if err := blob.CheckJournalName(name); err != nil {
		return nil, nil, err
	}
	if err := s.Ready(ctx); err != nil {
		return nil, nil, err
	}
	prefix := lockPrefix(name)
	key := prefix + rand.Text()
	for {
		began := time.Now()
		got, err := s.tryLock(ctx, prefix, key)
		if err != nil {
			return nil, nil, fmt.Errorf("lock %s: %w", name, err)
		}
		if got {
			held, unlock := s.keepLock(ctx, prefix, key, began)
			return held, unlock, nil
		}
		select {
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("lock %s is held by another process: %w", name, ctx.Err())
		case <-time.After(lockWait + mathrand.N(lockWait)): //nolint:gosec // only to come apart
		}
	}
}

// tryLock makes our object; it takes it back when another holder is there.
func (s *Store) tryLock(ctx context.Context, prefix, key string) (bool, error) {
	if others, err := s.holders(ctx, prefix, key); err != nil || others {
		return false, err
	}
	if err := s.b.put(ctx, key, nil, false); err != nil {
		return false, errors.Join(err, s.forget(ctx, key))
	}
	others, err := s.holders(ctx, prefix, key)
	if err != nil || others {
		return false, errors.Join(err, s.forget(ctx, key))
	}
	return true, nil
}

// forget removes our object, also when ctx has ended: others wait for it.
func (s *Store) forget(ctx context.Context, key string) error {
	return s.b.remove(context.WithoutCancel(ctx), key)
}

// holders tells whether somebody else holds or wants the lock. What is long dead is
// removed.
func (s *Store) holders(ctx context.Context, prefix, mine string) (others bool, err error) {
	var dead []string
	err = s.b.list(ctx, prefix, func(o object) error {
		switch {
		case o.key == mine:
		case o.age > 4*s.lockAge:
			dead = append(dead, o.key)
		case o.age <= s.lockAge:
			others = true
		}
		return nil
	})
	if err == nil && len(dead) > 0 {
		err = s.b.remove(ctx, dead...)
	}
	return others, err
}

// keepLock renews until unlock. held ends before another could take the lock: its age
// is counted from before the renewal was sent.
func (s *Store) keepLock(ctx context.Context, prefix, key string, since time.Time) (context.Context, func()) {
	held, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer cancel()
		for {
			select {
			case <-held.Done():
				return
			case <-time.After(s.lockRenew):
			}
			// A suspended machine sees only the wall clock go on, a stopped process both.
			now := time.Now()
			left := s.lockAge - lockSlack - max(now.Sub(since), now.Round(0).Sub(since.Round(0)))
			if left <= 0 {
				return
			}
			limit, stop := context.WithTimeout(held, left)
			err := s.b.put(limit, key, nil, false)
			others := false
			if err == nil {
				others, err = s.holders(limit, prefix, key)
			}
			stop()
			// Who only asks is gone at the next renewal; who took it for dead is not.
			if err == nil && !others {
				since = now
			}
		}
	}()
	return held, func() {
		cancel()
		<-done
		_ = s.forget(ctx, key) // else it ends by its age
	}
}

// awaitNoSweep returns when no collector is deleting.
func (s *Store) awaitNoSweep(ctx context.Context) error {
	for {
		others, err := s.holders(ctx, lockPrefix(blob.SweepLock), "")
		if err != nil || !others {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lockWait):
		}
	}
}
