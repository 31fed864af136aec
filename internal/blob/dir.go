package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"rekey/internal/codec/keyring"
	"rekey/internal/fsx"
)

// Stored form: magic, one byte length of the key id, the key id, the ciphertext.
const blobMagic = "rekeyb1\n"

// A Dir is a Store in a directory:
//
//	DIR/sha256/<first two hex digits>/<other 62>   blobs
//	DIR/journals/<name>.log, .sealed               journals
//	DIR/journals/<name>.d/<term>.log               journals of holders that follow each other
//	DIR/journals/<name>.lock                       locks between processes
type Dir struct {
	root string
	keys *keyring.Keyring
	// write is fsx.WriteAtomic; tests make it fail.
	write func(path string, data []byte) error
	// openFile opens a journal's file; tests make its writes fail.
	openFile func(path string) (file, error)

	mu   sync.Mutex
	open map[string]*journal // journals open in this process
}

var _ Store = (*Dir)(nil)

// OpenDir prepares a directory store.
func OpenDir(root string, keys *keyring.Keyring) (*Dir, error) {
	for _, dir := range []string{root, filepath.Join(root, "sha256"), filepath.Join(root, "journals")} {
		if err := fsx.MkdirPrivate(dir); err != nil {
			return nil, fmt.Errorf("blob store: %w", err)
		}
	}
	return &Dir{root: root, keys: keys, write: fsx.WriteAtomic, openFile: openFile, open: map[string]*journal{}}, nil
}

func (d *Dir) path(hash string) (string, error) {
	if !ValidHash(hash) {
		return "", fmt.Errorf("blob store: not a blob hash: want sha256: and 64 hex digits")
	}
	digits := strings.TrimPrefix(hash, hashPrefix)
	return filepath.Join(d.root, "sha256", digits[:2], digits[2:]), nil
}

// Put implements Store.
func (d *Dir) Put(ctx context.Context, plaintext []byte) (string, error) {
	if len(plaintext) > MaxSize {
		return "", fmt.Errorf("blob store: %d bytes are more than a blob holds (%d): split it into pages", len(plaintext), MaxSize)
	}
	hash := Hash(plaintext)
	path, err := d.path(hash)
	if err != nil {
		return "", err
	}
	var corrupt *CorruptError
	var missing *NotFoundError
	switch _, err := d.Get(ctx, hash); {
	case err == nil:
		// The writer may have crashed before its name was durable.
		return hash, fsx.SyncDir(filepath.Dir(path))
	case errors.As(err, &corrupt), errors.As(err, &missing):
	default:
		return "", err
	}
	if err := fsx.MkdirPrivate(filepath.Dir(path)); err != nil {
		return "", fmt.Errorf("blob store: %w", err)
	}
	if err := d.write(path, sealFrame(d.keys, keyring.Blob, hash, []byte(blobMagic), plaintext)); err != nil {
		return "", fmt.Errorf("blob store: %w", fsx.Full(path, err))
	}
	return hash, nil
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
	data, err := fsx.ReadPrivate(path, MaxSize+1024)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &NotFoundError{Hash: hash}
	}
	if err != nil {
		return nil, fmt.Errorf("blob store: %w", err)
	}
	body, ok := bytes.CutPrefix(data, []byte(blobMagic))
	if !ok {
		return nil, &CorruptError{Hash: hash, Why: "not a blob file"}
	}
	plain, err := openFrame(d.keys, keyring.Blob, hash, body)
	var missing *keyring.MissingKeyError
	if errors.As(err, &missing) {
		return nil, fmt.Errorf("blob %s: %w", hash, err)
	}
	if err != nil {
		return nil, &CorruptError{Hash: hash, Why: "does not decrypt", Err: err}
	}
	if Hash(plain) != hash {
		return nil, &CorruptError{Hash: hash, Why: "holds other content"}
	}
	return plain, nil
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

// sealFrame appends key id and ciphertext to prefix.
func sealFrame(keys *keyring.Keyring, u keyring.Usage, context string, prefix, plain []byte) []byte {
	id, sealed := keys.Seal(u, context, plain)
	out := make([]byte, 0, len(prefix)+1+len(id)+len(sealed))
	out = append(append(append(out, prefix...), byte(len(id))), id...) //nolint:gosec // a key id is at most 64 bytes
	return append(out, sealed...)
}

func openFrame(keys *keyring.Keyring, u keyring.Usage, context string, data []byte) ([]byte, error) {
	if len(data) == 0 || len(data) < 1+int(data[0]) {
		return nil, &keyring.CorruptError{ID: "?"}
	}
	n := 1 + int(data[0])
	return keys.Open(u, string(data[1:n]), context, data[n:])
}
