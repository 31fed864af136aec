package keyring_test

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/codec/keyring"
)

func november() time.Time { return time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC) }

func open(t *testing.T, dir string) *keyring.Keyring {
	t.Helper()
	k, err := keyring.Open(keyring.Options{Dir: dir, Create: true, Now: november})
	require.NoError(t, err)
	return k
}

func TestTheFirstStartMakesOneKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "codec")
	k := open(t, dir)
	require.Equal(t, "k2026-11", k.Current())
	id, sealed := k.Seal(keyring.Payload, "", []byte("x"))
	again := open(t, dir)
	got, err := again.Open(keyring.Payload, id, "", sealed)
	require.NoError(t, err)
	require.Equal(t, "x", string(got))
	info, err := os.Stat(filepath.Join(dir, "k2026-11.key"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

func TestACiphertextOpensOnlyAsWhatItWasSealed(t *testing.T) {
	k := open(t, t.TempDir())
	require.NoError(t, k.Add("k2"))
	id, sealed := k.Seal(keyring.Blob, "sha256:a", []byte("content"))
	require.Len(t, sealed, len("content")+keyring.Overhead)
	_, err := k.Open(keyring.Blob, id, "sha256:a", sealed)
	require.NoError(t, err)

	flipped := bytes.Clone(sealed)
	flipped[len(flipped)-1] ^= 1
	for name, c := range map[string]struct {
		u           keyring.Usage
		id, context string
		sealed      []byte
	}{
		"another usage":   {keyring.Payload, id, "sha256:a", sealed},
		"another key":     {keyring.Blob, "k2", "sha256:a", sealed},
		"another context": {keyring.Blob, id, "sha256:b", sealed},
		"changed":         {keyring.Blob, id, "sha256:a", flipped},
		"truncated":       {keyring.Blob, id, "sha256:a", sealed[:20]},
		"empty":           {keyring.Blob, id, "sha256:a", nil},
		"hostile id":      {keyring.Blob, "../../etc/passwd", "sha256:a", sealed},
	} {
		_, err := k.Open(c.u, c.id, c.context, c.sealed)
		var corrupt *keyring.CorruptError
		require.ErrorAs(t, err, &corrupt, name)
	}
}

func TestRotationInTwoPhases(t *testing.T) {
	dir := t.TempDir()
	a := open(t, dir)
	b := open(t, dir) // another process
	oldID, old := a.Seal(keyring.Payload, "", []byte("before"))

	require.NoError(t, a.Add("k2026-12"))
	require.NoError(t, a.Add("k2026-12"), "twice is once")
	require.Equal(t, "k2026-11", a.Current(), "added is not active")
	require.NoError(t, a.Activate("k2026-12"))
	newID, fresh := a.Seal(keyring.Payload, "", []byte("after"))
	require.Equal(t, "k2026-12", newID)

	// b was never told and opens both
	for id, sealed := range map[string][]byte{oldID: old, newID: fresh} {
		_, err := b.Open(keyring.Payload, id, "", sealed)
		require.NoError(t, err, id)
	}
	require.Equal(t, "k2026-12", open(t, dir).Current(), "and it lasts")
	require.Equal(t, []string{"k2026-11", "k2026-12"}, b.IDs())

	var missing *keyring.MissingKeyError
	require.ErrorAs(t, a.Activate("k2027-01"), &missing)
	require.Equal(t, "k2026-12", a.Current())
	require.NoError(t, os.Remove(filepath.Join(dir, "k2026-11.key")))
	_, err := open(t, dir).Open(keyring.Payload, oldID, "", old)
	require.ErrorAs(t, err, &missing)
	require.ErrorContains(t, err, `"k2026-11"`)
	require.ErrorContains(t, err, "backup")
}

func TestAPinnedCurrentIsTheConfigurations(t *testing.T) {
	dir := t.TempDir()
	k, err := keyring.Open(keyring.Options{Dir: dir, Current: "k1", Create: true})
	require.NoError(t, err)
	require.NoError(t, k.Add("k2"))
	require.NoError(t, k.Activate("k1"))
	require.ErrorContains(t, k.Activate("k2"), "codec.current")
	k, err = keyring.Open(keyring.Options{Dir: dir, Current: "k2"})
	require.NoError(t, err)
	require.Equal(t, "k2", k.Current())
	_, err = keyring.Open(keyring.Options{Dir: dir, Current: "k3", Create: true})
	var missing *keyring.MissingKeyError
	require.ErrorAs(t, err, &missing, "a typing error must not make a key where there are some")
	_, err = keyring.Open(keyring.Options{Dir: dir})
	require.ErrorContains(t, err, "set codec.current")
	_, err = keyring.Open(keyring.Options{Dir: t.TempDir()})
	require.Error(t, err, "a host of a cluster makes no key of its own")
}

func TestDamagedKeysAreRefused(t *testing.T) {
	dir := t.TempDir()
	k := open(t, dir)
	path := filepath.Join(dir, k.Current()+".key")
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	try := func(path string, data []byte, mode os.FileMode) error {
		require.NoError(t, os.WriteFile(path, data, 0o600))
		require.NoError(t, os.Chmod(path, mode))
		_, err := keyring.Open(keyring.Options{Dir: dir, Create: true, Now: november})
		require.NoError(t, os.Remove(path))
		return err
	}
	for n := range whole {
		var damaged *keyring.DamagedKeyError
		err := try(path, whole[:n], 0o600)
		require.ErrorAs(t, err, &damaged, "truncated to %d: %v", n, err)
		require.NotContains(t, err.Error(), string(whole[len(whole)-20:len(whole)-1]))
	}
	require.ErrorContains(t, try(path, whole, 0o644), "chmod 600")
	require.ErrorContains(t, try(filepath.Join(dir, "k9.key"), whole, 0o600), "does not name this id", "a renamed key")
	require.Error(t, k.Add("../x"))
}

func TestConcurrentRotation(t *testing.T) {
	k := open(t, t.TempDir())
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				id, sealed := k.Seal(keyring.Journal, "j", []byte("r"))
				if _, err := k.Open(keyring.Journal, id, "j", sealed); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for _, id := range []string{"a", "b", "c"} {
		require.NoError(t, k.Add(id))
		require.NoError(t, k.Activate(id))
	}
	wg.Wait()
}
