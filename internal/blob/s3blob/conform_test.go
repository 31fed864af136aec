package s3blob_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/blob"
	"rekey/internal/blob/blobtest"
	"rekey/internal/blob/s3blob"
	"rekey/internal/codec/keyring"
)

// credential writes the files of a key.
func credential(t testing.TB, id, key string) (idFile, keyFile string) {
	t.Helper()
	dir := t.TempDir()
	idFile, keyFile = filepath.Join(dir, "id"), filepath.Join(dir, "key")
	require.NoError(t, os.WriteFile(idFile, []byte(id+"\n"), 0o600))
	require.NoError(t, os.WriteFile(keyFile, []byte(key+"\n"), 0o600))
	return idFile, keyFile
}

func options(t testing.TB, url string, keys *keyring.Keyring) s3blob.Options {
	t.Helper()
	o := s3blob.Options{Endpoint: url, Region: "us-east-1", Bucket: blobtest.Bucket, AllowPrivate: true, Keys: keys, Owner: "fp1_test"}
	o.AccessKeyFile, o.SecretKeyFile = credential(t, "test", "test")
	return o
}

func newStore(t testing.TB, o s3blob.Options) *s3blob.Store {
	t.Helper()
	s, err := s3blob.New(o)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

// memory is a world of stores in a bucket in memory.
type memory struct{ *blobtest.S3 }

func (m memory) Open(t testing.TB, keys *keyring.Keyring) blob.Collectable {
	t.Helper()
	return newStore(t, options(t, m.URL, keys))
}

func key(hash string) string { return "sha256/" + strings.TrimPrefix(hash, "sha256:") }

func (m memory) Damage(t testing.TB, hash string, f func([]byte) []byte) {
	t.Helper()
	m.Set(key(hash), f(m.Get(key(hash))))
}

func (m memory) Age(_ testing.TB, by time.Duration) { m.S3.Age(by) }

func TestABucketKeepsThePromisesOfAStore(t *testing.T) {
	blobtest.Run(t, func(t testing.TB) blobtest.World { return memory{blobtest.NewS3(t)} })
}
