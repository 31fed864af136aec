package worker

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"rekey/internal/blob"
	"rekey/internal/blob/s3blob"
	"rekey/internal/cli"
	"rekey/internal/codec/keyring"
	"rekey/internal/config"
	"rekey/internal/secret"
)

// openBlobs makes the store that rekey.yaml names. A bucket is not reached for yet.
func openBlobs(cfg *config.Config, keys *keyring.Keyring, finger *secret.Fingerprinter) (blob.Collectable, error) {
	if cfg.Blobs.Type != config.BlobsS3 {
		return blob.OpenDir(filepath.Join(cfg.Data, "blobs"), keys)
	}
	return openBucket(cfg, keys, finger)
}

func openBucket(cfg *config.Config, keys *keyring.Keyring, finger *secret.Fingerprinter) (*s3blob.Store, error) {
	// Whoever has the installation key is this installation; the name tells nothing of it.
	owner, err := finger.Public("rekey", "installation", "blob-store", "owner")
	if err != nil {
		return nil, err
	}
	b := cfg.Blobs
	return s3blob.New(s3blob.Options{
		Endpoint: b.Endpoint, Region: b.Region, Bucket: b.Bucket, Prefix: b.Prefix,
		AccessKeyFile: b.AccessKeyFile, SecretKeyFile: b.SecretKeyFile, CAFile: b.CAFile, AllowPrivate: b.AllowPrivate,
		Keys: keys, Owner: owner,
	})
}

// blobsLimit is how long a process that starts waits for its bucket.
const blobsLimit = 30 * time.Second

// readyBlobs fails when the bucket cannot be used: a worker without it could do
// nothing, and would hold its accounts.
func (r *Runtime) readyBlobs(ctx context.Context) error {
	s, ok := r.Blobs.(*s3blob.Store)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, blobsLimit)
	defer cancel()
	if err := s.Ready(ctx); err != nil {
		return fmt.Errorf("cannot start: %w", err)
	}
	return r.notInDirectory()
}

// notInDirectory refuses a bucket where a directory was used before: a pass would not
// find the journal of its first attempt, and could make a key twice.
func (r *Runtime) notInDirectory() error {
	root := filepath.Join(r.Config.Data, "blobs")
	for _, pattern := range []string{"sha256/*/*", "journals/*.log", "journals/*.d"} {
		if m, err := filepath.Glob(filepath.Join(root, pattern)); err == nil && len(m) > 0 {
			return cli.Failed("blobs-elsewhere", "go on with blobs.type: dir until no incident is open; then stop every rekey, keep that directory for what ended incidents name, and move it aside",
				"blobs.type is s3, and this installation's blobs are in %s", root)
		}
	}
	return nil
}
