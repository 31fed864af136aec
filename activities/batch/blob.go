package batch

import (
	"context"

	"rekey/internal/blob"
)

// BlobJournals are journals in a directory blob store.
type BlobJournals struct{ Dir *blob.Dir }

// Open implements Journals.
func (b BlobJournals) Open(_ context.Context, name string) (Journal, error) {
	j, err := b.Dir.OpenJournal(name)
	if err != nil {
		return nil, err
	}
	return blobJournal{j}, nil
}

type blobJournal struct{ *blob.Journal }

// Records implements Journal.
func (j blobJournal) Records(ctx context.Context) ([][]byte, error) { return j.ReadAll(ctx) }
