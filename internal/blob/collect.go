package blob

import (
	"context"
	"time"
)

// Names are small documents by name beside the blobs, such as the index of chapters:
// lists of where to look, not evidence. A name has the form of a journal's; its first
// segment is its owner's.
type Names interface {
	// WriteName replaces the document, durably.
	WriteName(ctx context.Context, name string, content []byte) error
	// ReadName fails with fs.ErrNotExist where there is none.
	ReadName(ctx context.Context, name string) ([]byte, error)
	// EachName gives the names below a prefix of whole segments, sorted.
	EachName(ctx context.Context, prefix string, f func(name string) error) error
}

// A Stored is one blob as a store lists it.
type Stored struct {
	Hash string
	Size int64 // stored bytes
	// Age is the time since it was put, by the clock of the store.
	Age time.Duration
}

// Inspected is everything that a journal holds.
type Inspected struct {
	// Records are those that the next holder would read, Late those of former holders
	// that it would not.
	Records, Late [][]byte
	// Sealed is the blob that the first of Records are in; "" where they are here.
	Sealed string
}

// A Collectable is a store that a collector can go through. Only a collector removes
// anything from a store.
type Collectable interface {
	Store
	Journals
	Names
	// EachBlob lists all blobs.
	EachBlob(ctx context.Context, f func(Stored) error) error
	// RemoveBlobs deletes those that are still older than age, and tells which. It
	// takes SweepLock. age must be more than Fresh.
	RemoveBlobs(ctx context.Context, hashes []string, age time.Duration) (removed []Stored, err error)
	// EachJournal lists all journals, with the time since their last record.
	EachJournal(ctx context.Context, f func(name string, age time.Duration) error) error
	// Inspect reads a journal without opening it.
	Inspect(ctx context.Context, name string) (Inspected, error)
	// RemoveJournal deletes a journal that is still older than age and that nobody has
	// open, and tells whether it did.
	RemoveJournal(ctx context.Context, name string, age time.Duration) (bool, error)
	// Hold is Lock; held ends when the lock is lost, and not with ctx.
	Hold(ctx context.Context, name string) (held context.Context, unlock func(), err error)
	// Tidy removes what crashes have left and nothing refers to: unfinished files,
	// locks of processes that are gone.
	Tidy(ctx context.Context, age time.Duration) error
}
