package batch

import (
	"context"

	"rekey/internal/blob"
)

// BlobJournals are journals beside a blob store.
type BlobJournals struct{ Journals blob.Journals }

// Open implements Journals.
func (b BlobJournals) Open(ctx context.Context, name string, term uint64) (Journal, error) {
	j, err := b.Journals.OpenJournal(ctx, name, term)
	if err != nil {
		return nil, err
	}
	return blobJournal{j}, nil
}

// Lock takes a lock among all processes that share the journals.
func (b BlobJournals) Lock(ctx context.Context, name string) (func(), error) {
	return b.Journals.Lock(ctx, name)
}

type blobJournal struct{ blob.Journal }

// Records implements Journal.
func (j blobJournal) Records(ctx context.Context) ([][]byte, error) { return j.ReadAll(ctx) }

// Seal implements Journal: JSON Lines of the records so far, under their hash. The next
// attempt at the same effect finds them and goes on.
func (j blobJournal) Seal(ctx context.Context) (string, error) {
	// What a process wrote after it had lost its lease is on record as that.
	late, err := j.Late(ctx)
	if err != nil {
		return "", err
	}
	return j.Journal.Seal(ctx, blob.LateLines(late))
}
