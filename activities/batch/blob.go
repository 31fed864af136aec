package batch

import (
	"bytes"
	"context"
	"fmt"

	"rekey/internal/blob"
)

// BlobJournals are journals in a directory blob store.
type BlobJournals struct{ Dir *blob.Dir }

// Open implements Journals.
func (b BlobJournals) Open(_ context.Context, name string, term uint64) (Journal, error) {
	j, err := b.Dir.OpenJournalTerm(name, term)
	if err != nil {
		return nil, err
	}
	return blobJournal{Journal: j, dir: b.Dir}, nil
}

// Lock takes a lock among all processes that share the directory, see
// [blob.Dir.Lock].
func (b BlobJournals) Lock(ctx context.Context, name string) (func(), error) {
	return b.Dir.Lock(ctx, name)
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
	// What a process wrote after it had lost its lease is on record as that.
	late, err := j.Late(ctx)
	if err != nil {
		return "", err
	}
	for _, r := range late {
		fmt.Fprintf(&b, "{\"kind\":\"late\",\"record\":%s}\n", r)
	}
	return j.dir.Put(ctx, b.Bytes())
}
