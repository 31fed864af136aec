package s3blob_test

import (
	"bytes"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	"rekey/activities/activitytest/mototest"
	"rekey/internal/blob"
	"rekey/internal/blob/blobtest"
	"rekey/internal/blob/s3blob"
	"rekey/internal/codec/keyring"
)

// foreign is a world of stores in a bucket of a server that others wrote.
type foreign struct {
	url, id, key, prefix string
	s3                   *s3.Client
}

func (f foreign) Open(t testing.TB, keys *keyring.Keyring) blob.Collectable {
	t.Helper()
	o := options(t, f.url, keys)
	o.Prefix = f.prefix
	o.AccessKeyFile, o.SecretKeyFile = credential(t, f.id, f.key)
	return newStore(t, o)
}

func (f foreign) Damage(t testing.TB, hash string, change func([]byte) []byte) {
	t.Helper()
	name := aws.String(f.prefix + key(hash))
	out, err := f.s3.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(blobtest.Bucket), Key: name})
	require.NoError(t, err)
	b, err := io.ReadAll(out.Body)
	require.NoError(t, err)
	_, err = f.s3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String(blobtest.Bucket), Key: name, Body: bytes.NewReader(change(b))})
	require.NoError(t, err)
}

func (f foreign) Age(t testing.TB, _ time.Duration) {
	t.Helper()
	t.Skip("skipped: its clock cannot be set; the bucket in memory has this test")
}

// moto is a foreign whose conditional puts are not atomic.
type moto struct{ foreign }

// NotAtomic says why nothing that rests on it is tried.
func (moto) NotAtomic() string {
	return "moto looks for If-None-Match and writes then, and another request may come between"
}

// TestMoto holds the store to its promises against moto's S3.
func TestMoto(t *testing.T) {
	m := mototest.Start(t)
	c := s3.NewFromConfig(m.Config(m.AdminID, m.AdminSecret), func(o *s3.Options) { o.UsePathStyle = true })
	_, err := c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(blobtest.Bucket)})
	require.NoError(t, err)
	t.Run("credentials", func(t *testing.T) {
		o := options(t, m.URL, blobtest.Keys(t))
		o.Prefix = "credentials/"
		put := func(id, key string) error {
			o.AccessKeyFile, o.SecretKeyFile = credential(t, id, key)
			_, err := newStore(t, o).Put(t.Context(), []byte("page"))
			return err
		}
		require.NoError(t, put(m.AdminID, m.AdminSecret))
		require.ErrorContains(t, put("test", "test"), "blobs.access_key_file")
		require.ErrorContains(t, put(m.AdminID, "test"), "blobs.access_key_file")
		require.ErrorContains(t, put(m.User(t, "weak", "")), "s3:GetObject")
		o.Bucket = "none-such"
		err := put(m.AdminID, m.AdminSecret)
		require.ErrorContains(t, err, "blobs.bucket")
		var fault *s3blob.Fault
		require.ErrorAs(t, err, &fault)
		require.Equal(t, "NoSuchBucket", fault.Code)
	})
	m.Trust(t)
	var n atomic.Int64
	blobtest.Run(t, func(testing.TB) blobtest.World {
		return moto{foreign{m.URL, m.AdminID, m.AdminSecret, fmt.Sprintf("world-%d/", n.Add(1)), c}}
	})
}
