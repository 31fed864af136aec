package blob

import (
	"bytes"
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/codec/keyring"
	"rekey/internal/deflate"
)

// stored gives the stored form of a blob.
func stored(t testing.TB, d *Dir, hash string) []byte {
	t.Helper()
	path, err := d.path(hash)
	require.NoError(t, err)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return b
}

func TestPagesAreStoredPacked(t *testing.T) {
	d := dir(t)
	page := samplePage(t, 1)
	hash, err := d.Put(ctx, page)
	require.NoError(t, err)
	require.Less(t, len(stored(t, d, hash)), len(page)/5)
	got, err := d.Get(ctx, hash)
	require.NoError(t, err)
	require.True(t, bytes.Equal(page, got))

	noise := make([]byte, 4096)
	_, err = rand.Read(noise)
	require.NoError(t, err)
	hash, err = d.Put(ctx, noise)
	require.NoError(t, err)
	require.LessOrEqual(t, len(stored(t, d, hash)), len(plainMagic)+1+64+keyring.Overhead+len(noise), "what packing does not shorten is kept as it is")
	got, err = d.Get(ctx, hash)
	require.NoError(t, err)
	require.True(t, bytes.Equal(noise, got))
}

// TestBlobsOfBuildsBeforeStayReadable writes what they wrote.
func TestBlobsOfBuildsBeforeStayReadable(t *testing.T) {
	d := dir(t)
	page := samplePage(t, 2)
	hash := Hash(page)
	path, err := d.path(hash)
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, sealFrame([]byte(plainMagic), d.keys, keyring.Blob, hash, page), 0o600))
	got, err := d.Get(ctx, hash)
	require.NoError(t, err)
	require.True(t, bytes.Equal(page, got))
	again, err := d.Put(ctx, page)
	require.NoError(t, err)
	require.Equal(t, hash, again)
}

// TestABombIsNoBlob is what somebody with the codec keys could put into the store.
func TestABombIsNoBlob(t *testing.T) {
	k, content := keys(t), make([]byte, 1<<20)
	hash := Hash(content)
	bomb := sealFrame([]byte(packedMagic), k, keyring.Blob, packedContext(hash), deflate.Pack(content))
	require.Less(t, len(bomb), 8<<10)
	_, err := decode(k, hash, bomb, len(content)-1)
	var damaged *CorruptError
	require.ErrorAs(t, err, &damaged)
	require.ErrorIs(t, err, deflate.ErrTooLarge)
	got, err := decode(k, hash, bomb, len(content))
	require.NoError(t, err)
	require.Len(t, got, len(content))
}

func TestWhatIsTooLargeIsRefusedBeforeItIsRead(t *testing.T) {
	_, _, err := Encode(keys(t), make([]byte, MaxSize+1))
	require.ErrorContains(t, err, "split it into pages")
}

func TestADirectoryThatWasRemovedIsMadeAgain(t *testing.T) {
	d := dir(t)
	page := samplePage(t, 3)
	hash, err := d.Put(ctx, page)
	require.NoError(t, err)
	path, err := d.path(hash)
	require.NoError(t, err)
	require.NoError(t, os.RemoveAll(filepath.Dir(path)))
	_, err = d.Put(ctx, page)
	require.NoError(t, err)
	_, err = d.Get(ctx, hash)
	require.NoError(t, err)
}
