package worker

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/blob"
	"rekey/internal/blob/blobtest"
	"rekey/internal/blob/s3blob"
)

// bucket has the installation keep its blobs in a bucket.
func (i *install) bucket() *blobtest.S3 {
	w := blobtest.NewS3(i.t)
	// A directory in which something was kept is not left for a bucket.
	require.NoError(i.t, os.RemoveAll(filepath.Join(i.data, "blobs")))
	half := i.write("half", "test\n")
	i.yaml["blobs"] = fmt.Sprintf("blobs: {type: s3, endpoint: %q, bucket: %s, allow_private: true, access_key_file: %s, secret_key_file: %s}", w.URL, blobtest.Bucket, half, half)
	return w
}

func (i *install) open() *Runtime {
	i.t.Helper()
	cfg, err := loadFile(i.common(), nil)
	require.NoError(i.t, err)
	r, err := Open(cfg, NewLog(os.Stderr, "error", ""), true)
	require.NoError(i.t, err)
	return r
}

func TestDoctorTriesTheBucket(t *testing.T) {
	i := healthy(t)
	w := i.bucket()
	hash, err := i.open().Blobs.Put(t.Context(), []byte("a page"))
	require.NoError(t, err)
	checks := i.examine(false)
	require.Empty(t, brokenIn(checks))
	for _, id := range []string{"blobs.bucket", "blobs", "clock.blobs", "files.blobs.access_key_file"} {
		_, ok := find(checks, id, stateOK)
		require.True(t, ok, id)
	}
	require.Equal(t, []string{"sha256/" + strings.TrimPrefix(hash, "sha256:"), "store.json"}, w.Keys(""), "nothing is left of it")

	for name, c := range map[string]struct {
		broken func(i *install, w *blobtest.S3, hash string)
		id     string
		say    string
	}{
		"a blob that was changed": {func(_ *install, w *blobtest.S3, hash string) {
			w.Set("sha256/"+strings.TrimPrefix(hash, "sha256:"), []byte("x"))
		}, "blobs", "1 of 1"},
		"a right that is missing": {func(_ *install, w *blobtest.S3, _ string) {
			w.Fail(func(c blobtest.Call) blobtest.Fault {
				if c.Op == "delete" {
					return blobtest.Denied
				}
				return blobtest.None
			})
		}, "blobs.bucket", "s3:DeleteObject"},
		"a clock that is off": {func(_ *install, w *blobtest.S3, _ string) {
			w.At(func() time.Time { return time.Now().Add(-10 * time.Minute) })
		}, "clock.blobs", "behind ours"},
		"another installation's": {func(_ *install, w *blobtest.S3, _ string) { w.Set("store.json", []byte(`{"v":1,"owner":"fp1_other"}`)) }, "blobs.bucket", "another rekey installation's"},
		"no such bucket": {func(i *install, _ *blobtest.S3, _ string) {
			i.yaml["blobs"] = strings.Replace(i.yaml["blobs"], blobtest.Bucket, "other", 1)
		}, "blobs.bucket", "blobs.bucket"},
		"writes that are not as agreed": {func(_ *install, w *blobtest.S3, _ string) { w.Ignore() }, "blobs.bucket", "MinIO"},
	} {
		t.Run(name, func(t *testing.T) {
			i := healthy(t)
			w := i.bucket()
			hash, err := i.open().Blobs.Put(t.Context(), []byte("a page"))
			require.NoError(t, err)
			c.broken(i, w, hash)
			checks := i.examine(false)
			require.Equal(t, []string{c.id}, brokenIn(checks))
			got, _ := find(checks, c.id, stateFault)
			require.Contains(t, got.Detail+got.Do, c.say)
			require.NotContains(t, got.Detail+got.Do, "words of a server")
		})
	}
}

// TestNothingStartsWithoutItsBucket: a worker that could not write a journal would hold
// its accounts and do nothing.
func TestNothingStartsWithoutItsBucket(t *testing.T) {
	i := healthy(t)
	w := i.bucket()
	r := i.open()
	w.Fail(func(blobtest.Call) blobtest.Fault { return blobtest.Denied })
	require.ErrorContains(t, r.readyBlobs(t.Context()), "s3:GetObject")
	w.Fail(nil)
	require.NoError(t, r.readyBlobs(t.Context()))
	other := i.open()
	require.NoError(t, other.readyBlobs(t.Context()), "another process of the same installation")
	stranger := healthy(t)
	stranger.yaml["blobs"] = i.yaml["blobs"]
	var owner *s3blob.OwnerError
	require.ErrorAs(t, stranger.open().readyBlobs(t.Context()), &owner)

	_, ok := healthy(t).open().Blobs.(*blob.Dir)
	require.True(t, ok, "without a word about it blobs are in a directory")
	require.NoError(t, healthy(t).open().readyBlobs(context.Background()))
}
