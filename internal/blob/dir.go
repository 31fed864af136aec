package blob

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"rekey/internal/codec/keyring"
	"rekey/internal/fsx"
)

// A Dir is a Store in a directory:
//
//	DIR/sha256/<first two hex digits>/<other 62>   blobs
//	DIR/journals/<name>.log                        journals
//	DIR/journals/<name>.d/<term>.log               journals of holders that follow each other
//	DIR/journals/<name>.lock                       locks between processes
//	DIR/<name>                                     documents by name
type Dir struct {
	root string
	keys *keyring.Keyring
	// write is fsx.WriteAtomic; tests make it fail.
	write func(path string, data []byte) error
	// openFile opens a journal's file; tests make its writes fail.
	openFile func(path string, lock bool) (file, error)
	now      func() time.Time
	// made are the directories of blobs that are known to be there, durably.
	made sync.Map

	mu   sync.Mutex
	open map[string]*logFile // journals open in this process
}

var _ Store = (*Dir)(nil)

// OpenDir prepares a directory store.
func OpenDir(root string, keys *keyring.Keyring) (*Dir, error) {
	for _, dir := range []string{root, filepath.Join(root, "sha256"), filepath.Join(root, "journals")} {
		if err := fsx.MkdirPrivate(dir); err != nil {
			return nil, fmt.Errorf("blob store: %w", err)
		}
	}
	return &Dir{root: root, keys: keys, write: fsx.WriteAtomic, openFile: openFile, now: time.Now, open: map[string]*logFile{}}, nil
}

func (d *Dir) path(hash string) (string, error) {
	if !ValidHash(hash) {
		return "", fmt.Errorf("blob store: not a blob hash: want sha256: and 64 hex digits")
	}
	digits := strings.TrimPrefix(hash, hashPrefix)
	return filepath.Join(d.root, "sha256", digits[:2], digits[2:]), nil
}

// Put implements Store. What is new costs two syncs, of the file and of its directory.
func (d *Dir) Put(ctx context.Context, plaintext []byte) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	hash, err := sized(plaintext)
	if err != nil {
		return "", err
	}
	path, err := d.path(hash)
	if err != nil {
		return "", err
	}
	stored := func() []byte { return encode(d.keys, hash, plaintext) }
	var corrupt *CorruptError
	var missing *NotFoundError
	switch _, err = d.Get(ctx, hash); {
	case err == nil:
		err = d.keep(ctx, path, stored)
	case errors.As(err, &missing):
		err = d.place(path, stored())
	case errors.As(err, &corrupt):
		if err = d.place(path, stored()); err == nil {
			err = d.outlive(ctx, path, stored)
		}
	default:
		return "", err
	}
	if err != nil {
		return "", fmt.Errorf("blob store: %w", err)
	}
	return hash, nil
}

// place writes a file into its directory, which is made where it is missing.
func (d *Dir) place(path string, stored []byte) error {
	dir := filepath.Dir(path)
	for again := false; ; again = true {
		if _, known := d.made.Load(dir); !known {
			// Whoever made it may have crashed before its name was durable.
			if err := fsx.MkdirPrivate(dir); err != nil {
				return err
			}
			d.made.Store(dir, true)
		}
		err := d.write(path, stored)
		if again || !errors.Is(err, fs.ErrNotExist) {
			return fsx.Full(path, err)
		}
		d.made.Delete(dir) // somebody has removed it
	}
}

// Get implements Store.
func (d *Dir) Get(ctx context.Context, hash string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	path, err := d.path(hash)
	if err != nil {
		return nil, err
	}
	data, err := fsx.ReadPrivate(path, int64(MaxStored))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &NotFoundError{Hash: hash}
	}
	if err != nil {
		return nil, fmt.Errorf("blob store: %w", err)
	}
	return Decode(d.keys, hash, data)
}

// Has implements Store.
func (d *Dir) Has(ctx context.Context, hash string) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	path, err := d.path(hash)
	if err != nil {
		return false, err
	}
	_, err = os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
