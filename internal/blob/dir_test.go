package blob

import (
	"bytes"
	"context"
	"crypto/rand"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/codec/keyring"
	"rekey/internal/fsx"
)

var ctx = context.Background()

func keys(t testing.TB) *keyring.Keyring {
	t.Helper()
	k, err := keyring.Open(keyring.Options{Dir: t.TempDir(), Create: true, Now: time.Now})
	require.NoError(t, err)
	return k
}

func dir(t testing.TB) *Dir {
	t.Helper()
	d, err := OpenDir(filepath.Join(t.TempDir(), "blobs"), keys(t))
	require.NoError(t, err)
	return d
}

func TestContentComesBackByItsHash(t *testing.T) {
	d := dir(t)
	for name, content := range map[string][]byte{"empty": nil, "text": []byte("page"), "large": bytes.Repeat([]byte("0123456789abcdef"), 1<<16)} {
		hash, err := d.Put(ctx, content)
		require.NoError(t, err, name)
		require.Equal(t, Hash(content), hash)
		again, err := d.Put(ctx, content)
		require.NoError(t, err)
		require.Equal(t, hash, again)
		got, err := d.Get(ctx, hash)
		require.NoError(t, err)
		require.True(t, bytes.Equal(content, got), name)
		has, err := d.Has(ctx, hash)
		require.NoError(t, err)
		require.True(t, has)
	}
	require.Equal(t, "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", Hash(nil))
	absent := Hash([]byte("absent"))
	var missing *NotFoundError
	_, err := d.Get(ctx, absent)
	require.ErrorAs(t, err, &missing)
	has, err := d.Has(ctx, absent)
	require.NoError(t, err)
	require.False(t, has)
	for _, bad := range []string{"", "sha256:", "../../etc/passwd", "sha256:../../../../etc/passwd", absent + "0"} {
		_, err := d.Get(ctx, bad)
		require.ErrorContains(t, err, "not a blob hash")
	}
}

func TestBlobsAreEncryptedAndPrivate(t *testing.T) {
	d := dir(t)
	canary := make([]byte, 64)
	_, err := rand.Read(canary)
	require.NoError(t, err)
	_, err = d.Put(ctx, canary)
	require.NoError(t, err)
	j, err := d.openJournal(ctx, "b/1", 0)
	require.NoError(t, err)
	require.NoError(t, j.Append(ctx, bytes.ReplaceAll(canary, []byte{'\n'}, []byte{' '}), true))
	require.NoError(t, filepath.WalkDir(d.root, func(path string, e fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := e.Info()
		require.NoError(t, err)
		require.Zero(t, info.Mode().Perm()&0o077, path)
		if !e.IsDir() {
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			require.False(t, bytes.Contains(data, canary[:16]), path)
		}
		return nil
	}))
}

func TestDamageIsFoundAndMended(t *testing.T) {
	for name, pages := range map[string][2][]byte{
		"as it is": {[]byte("the page"), []byte("another page")},
		"packed":   {bytes.Repeat([]byte("the page"), 100), bytes.Repeat([]byte("another page"), 100)},
	} {
		t.Run(name, func(t *testing.T) { damageIsFoundAndMended(t, pages[0], pages[1]) })
	}
}

func damageIsFoundAndMended(t *testing.T, page, another []byte) {
	t.Helper()
	d := dir(t)
	hash, err := d.Put(ctx, page)
	require.NoError(t, err)
	other, err := d.Put(ctx, another)
	require.NoError(t, err)
	path, err := d.path(hash)
	require.NoError(t, err)
	otherPath, err := d.path(other)
	require.NoError(t, err)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	swapped, err := os.ReadFile(otherPath)
	require.NoError(t, err)

	damages := [][]byte{swapped, append(bytes.Clone(whole), 0)}
	for i := range whole {
		flipped := bytes.Clone(whole)
		flipped[i] ^= 0x40
		damages = append(damages, whole[:i], flipped)
	}
	// one form said to be the other
	damages = append(damages, append([]byte(plainMagic), whole[len(plainMagic):]...), append([]byte(packedMagic), whole[len(packedMagic):]...))
	damages = slices.DeleteFunc(damages, func(b []byte) bool { return bytes.Equal(b, whole) })
	for i, damage := range damages {
		require.NoError(t, os.WriteFile(path, damage, 0o600))
		_, err := d.Get(ctx, hash)
		require.Error(t, err, "damage %d", i)
		require.ErrorContains(t, err, hash, "the blob is named")
	}
	require.NoError(t, os.WriteFile(path, swapped, 0o600))
	_, err = d.Put(ctx, page)
	require.NoError(t, err)
	got, err := d.Get(ctx, hash)
	require.NoError(t, err)
	require.True(t, bytes.Equal(page, got))
}

func TestRotationKeepsOldBlobsReadable(t *testing.T) {
	d := dir(t)
	before, err := d.Put(ctx, []byte("before"))
	require.NoError(t, err)
	j, err := d.openJournal(ctx, "j", 0)
	require.NoError(t, err)
	require.NoError(t, j.Append(ctx, []byte("one"), false))
	require.NoError(t, d.keys.Add("next"))
	require.NoError(t, d.keys.Activate("next"))
	after, err := d.Put(ctx, []byte("after"))
	require.NoError(t, err)
	require.NoError(t, j.Append(ctx, []byte("two"), true))
	require.NoError(t, j.Close())
	for hash, want := range map[string]string{before: "before", after: "after"} {
		got, err := d.Get(ctx, hash)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
	require.Equal(t, []string{"one", "two"}, contents(t, d, "j"))

	stranger, err := OpenDir(d.root, keys(t))
	require.NoError(t, err)
	require.NoError(t, stranger.keys.Add("unrelated"))
	_, err = stranger.Get(ctx, after)
	var missing *keyring.MissingKeyError
	require.ErrorAs(t, err, &missing, "a missing key is not damage")
	require.Equal(t, "next", missing.ID)
	_, err = stranger.Put(ctx, []byte("after"))
	require.ErrorAs(t, err, &missing, "and what it cannot read it does not replace")
}

func TestAFullDisk(t *testing.T) {
	d := dir(t)
	real := d.write
	d.write = func(path string, _ []byte) error {
		return &fs.PathError{Op: "write", Path: path, Err: syscall.ENOSPC}
	}
	_, err := d.Put(ctx, []byte("page"))
	var full *fsx.DiskFullError
	require.ErrorAs(t, err, &full)
	require.ErrorContains(t, err, "free space")
	has, err := d.Has(ctx, Hash([]byte("page")))
	require.NoError(t, err)
	require.False(t, has)
	d.write = real
	_, err = d.Put(ctx, []byte("page"))
	require.NoError(t, err)
}

func TestConcurrentPutsOfTheSame(t *testing.T) {
	d := dir(t)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			content := []byte{byte(i % 4)}
			hash, err := d.Put(ctx, content)
			if err != nil {
				t.Error(err)
				return
			}
			if got, err := d.Get(ctx, hash); err != nil || !bytes.Equal(got, content) {
				t.Errorf("got %q: %v", got, err)
			}
		})
	}
	wg.Wait()
	stopped, cancel := context.WithCancel(ctx)
	cancel()
	_, err := d.Put(stopped, []byte("x"))
	require.ErrorIs(t, err, context.Canceled)
}
