package batch

import (
	"bytes"
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
	return blobJournal{Journal: j, dir: b.Dir}, nil
}

type blobJournal struct {
	*blob.Journal
	dir *blob.Dir
}

// Records implements Journal.
func (j blobJournal) Records(ctx context.Context) ([][]byte, error) { return j.ReadAll(ctx) }

// Seal implements Journal: JSON Lines of the records so far, under their hash. The
// journal itself stays open, unlike after [blob.Journal.Seal]: the next attempt at
// the same effect goes on writing it.
func (j blobJournal) Seal(ctx context.Context) (string, error) {
	recs, err := j.ReadAll(ctx)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	for _, r := range recs {
		b.Write(r)
		b.WriteByte('\n')
	}
	return j.dir.Put(ctx, b.Bytes())
}
