package worker

import (
	"context"
	"errors"
	"path/filepath"

	"rekey/internal/blob"
	"rekey/internal/blob/s3blob"
	"rekey/internal/codec/keyring"
	"rekey/internal/config"
	"rekey/internal/fsx"
	"rekey/internal/secret/installation"
)

const (
	// sampleBlobs is how many blobs are opened; more than that takes too long to
	// wait for, and damage by a wrong key shows in each.
	sampleBlobs = 200
	// sampleBucket is as many of a bucket: each is a round trip. Their names are
	// hashes, so the first ones are as good as any.
	sampleBucket = 30
)

// blobs looks at the store of pages, journals and evidence.
func (d *doctor) blobs(ctx context.Context) {
	if d.cfg.Blobs.Type == config.BlobsS3 {
		d.bucket(ctx)
		return
	}
	d.blobDir(ctx)
}

// bucket does what a store needs to be allowed, compares clocks, and opens a sample.
func (d *doctor) bucket(ctx context.Context) {
	const id = "blobs.bucket"
	if !exists(d.codecDir()) || !exists(installationKey(d.cfg.Data)) {
		d.skipped(id, "it is looked at once the first start has made the keys")
		return
	}
	keys, err := keyring.Open(keyring.Options{Dir: d.codecDir(), Current: d.cfg.Codec.Current})
	if err != nil {
		d.skipped(id, "the codec keys cannot be opened, see keys.codec")
		return
	}
	finger, err := installation.Load(installationKey(d.cfg.Data))
	if err != nil {
		d.skipped(id, "whose bucket it is cannot be told, see keys.installation")
		return
	}
	s, err := openBucket(d.cfg, keys, finger)
	if err != nil {
		d.fault(id, "mend blobs in rekey.yaml", "%s", err)
		return
	}
	defer s.Close()
	look, cancel := context.WithTimeout(ctx, 2*lookLimit)
	defer cancel()
	skew, err := s.Probe(look)
	if err != nil {
		do, what := "mend blobs in rekey.yaml", err.Error()
		var fault *s3blob.Fault
		if errors.As(err, &fault) {
			do, what = fault.Do, fault.Where+": "+fault.What
		}
		d.fault(id, do, "%s", what)
		return
	}
	d.ok(id, "objects can be made, listed, read and deleted in %s, and conditional writes are honoured", d.cfg.Blobs.Bucket)
	d.clock("clock.blobs", "the bucket's", skew)
	var names []string
	enough := errors.New("enough")
	err = s.EachBlob(look, func(b blob.Stored) error {
		names = append(names, b.Hash)
		if len(names) == sampleBucket {
			return enough
		}
		return nil
	})
	if err != nil && !errors.Is(err, enough) {
		d.fault("blobs", "run `rekey doctor` again", "the blobs cannot be listed: %s", err)
		return
	}
	d.opened(look, s, names, len(names))
}

// opened holds blobs to their hashes; all is how many there are.
func (d *doctor) opened(ctx context.Context, s blob.Store, names []string, all int) {
	const id = "blobs"
	if len(names) == 0 {
		d.skipped(id, "nothing is stored yet")
		return
	}
	var bad []string
	looked := 0
	for _, name := range names {
		if ctx.Err() != nil {
			break
		}
		looked++
		if _, err := s.Get(ctx, name); err != nil {
			bad = append(bad, err.Error())
		}
	}
	if len(bad) > 0 {
		d.fault(id, "restore them from backup; what they prove is missing from later bundles, which will say so", "%d of %d blobs that were opened cannot be read: %s", len(bad), looked, bad[0])
		return
	}
	d.ok(id, "%d of %d blobs were opened and hold what their hash says", looked, all)
}

// blobDir opens a sample, spread over all, and holds each to its hash.
func (d *doctor) blobDir(ctx context.Context) {
	const id = "blobs"
	root := filepath.Join(d.cfg.Data, "blobs")
	names, err := filepath.Glob(filepath.Join(root, "sha256", "??", "*"))
	if err != nil || len(names) == 0 {
		d.skipped(id, "nothing is stored yet")
		return
	}
	if !exists(d.codecDir()) {
		d.fault(id, "restore the codec keys from backup", "%d blobs are stored, and the keys that open them are gone", len(names))
		return
	}
	keys, err := keyring.Open(keyring.Options{Dir: d.codecDir(), Current: d.cfg.Codec.Current})
	if err != nil {
		d.skipped(id, "the codec keys cannot be opened, see keys.codec")
		return
	}
	dir, err := blob.OpenDir(root, keys)
	if err != nil {
		d.fault(id, "mend the directory", "%s", err)
		return
	}
	step := max(1, (len(names)+sampleBlobs-1)/sampleBlobs)
	var sample []string
	for i := 0; i < len(names); i += step {
		base := filepath.Base(names[i])
		if !fsx.IsTemp(base) { // left by a crash; nothing refers to it
			sample = append(sample, "sha256:"+filepath.Base(filepath.Dir(names[i]))+base)
		}
	}
	d.opened(ctx, dir, sample, len(names))
}
