package agestore

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/stretchr/testify/require"

	"rekey/internal/secret"
)

const inc = "inc-7f3a9c2e41d0"

var ctx = context.Background()

type fixture struct {
	*Store
	dir   string
	now   time.Time
	mu    sync.Mutex
	reads []secret.ReadRecord
}

func open(t *testing.T) *fixture {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	require.NoError(t, err)
	f := &fixture{dir: filepath.Join(t.TempDir(), "sealed"), now: time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)}
	f.reopen(t, id)
	return f
}

func (f *fixture) reopen(t *testing.T, id *age.X25519Identity) {
	t.Helper()
	s, err := Open(Options{Dir: f.dir, Identity: id, Now: func() time.Time { return f.now }, OnRead: func(r secret.ReadRecord) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.reads = append(f.reads, r)
	}})
	require.NoError(t, err)
	f.Store = s
}

func ref(handle string) secret.Ref {
	return secret.Ref{Incident: inc, Handle: handle, Provider: "awsiam", Origin: "https://iam.amazonaws.com"}
}

func random(t *testing.T) secret.Value {
	t.Helper()
	b := make([]byte, 20)
	_, err := rand.Read(b)
	require.NoError(t, err)
	return secret.New([]byte(hex.EncodeToString(b)))
}

func TestSealedSecretsComeBackAfterARestart(t *testing.T) {
	f, v := open(t), random(t)
	require.NoError(t, f.Seal(ctx, ref("old"), v))
	f.reopen(t, f.opts.Identity)
	got, err := f.Open(ctx, ref("old"), "probe")
	require.NoError(t, err)
	require.True(t, v.Equal(got))
	require.Equal(t, []secret.ReadRecord{{At: f.now, Ref: ref("old"), Purpose: "probe", Granted: true}}, f.reads)

	meta, err := f.Meta(ctx, ref("old"))
	require.NoError(t, err)
	require.Equal(t, secret.Meta{Ref: ref("old"), SealedAt: f.now}, meta)
	require.Len(t, f.reads, 1, "Meta is no read")
}

func TestNothingReadableIsOnDisk(t *testing.T) {
	f := open(t)
	var canaries [][]byte
	for i := range 20 {
		v := random(t)
		canaries = append(canaries, v.Reveal())
		require.NoError(t, f.Seal(ctx, ref(fmt.Sprint("h", i)), v))
	}
	files := 0
	require.NoError(t, filepath.WalkDir(f.dir, func(path string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := d.Info()
		require.NoError(t, err)
		require.Zero(t, info.Mode().Perm()&0o077, path)
		if d.IsDir() {
			return nil
		}
		files++
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, c := range canaries {
			require.False(t, bytes.Contains(data, c), path)
		}
		require.False(t, bytes.Contains(data, []byte("AGE-SECRET-KEY")), path)
		return nil
	}))
	require.Equal(t, 21, files)
}

func TestSealTwice(t *testing.T) {
	f, v := open(t), random(t)
	require.NoError(t, f.Seal(ctx, ref("h"), v))
	f.now = f.now.Add(time.Hour)
	require.NoError(t, f.Seal(ctx, ref("h"), v), "the same again changes nothing")
	meta, err := f.Meta(ctx, ref("h"))
	require.NoError(t, err)
	require.Equal(t, f.now.Add(-time.Hour), meta.SealedAt, "a retry does not make the secret younger")

	other := random(t)
	require.ErrorIs(t, f.Seal(ctx, ref("h"), other), secret.ErrDiffers)
	elsewhere := ref("h")
	elsewhere.Origin = "https://attacker.example"
	require.ErrorIs(t, f.Seal(ctx, elsewhere, v), secret.ErrBinding)
	require.NoError(t, f.Replace(ctx, ref("h"), other))
	got, err := f.Open(ctx, ref("h"), "probe")
	require.NoError(t, err)
	require.True(t, other.Equal(got))
}

func TestAHandleIsBoundToProviderAndOrigin(t *testing.T) {
	f := open(t)
	require.NoError(t, f.Seal(ctx, ref("h"), random(t)))
	for name, change := range map[string]func(*secret.Ref){
		"origin":   func(r *secret.Ref) { r.Origin = "https://attacker.example" },
		"provider": func(r *secret.Ref) { r.Provider = "http" },
	} {
		r := ref("h")
		change(&r)
		_, err := f.Open(ctx, r, "probe")
		require.ErrorIs(t, err, secret.ErrBinding, name)
		require.Equal(t, "binding", f.reads[len(f.reads)-1].Why)
		require.False(t, f.reads[len(f.reads)-1].Granted)
	}
	require.NoError(t, f.Seal(ctx, ref("other"), random(t)))
	require.NoError(t, os.Rename(f.path(ref("other")), f.path(ref("h"))))
	_, err := f.Open(ctx, ref("h"), "probe")
	require.ErrorContains(t, err, "was changed", "a file moved to another handle is refused")
}

func TestDestroyShredsTheKeyFirst(t *testing.T) {
	f, v := open(t), random(t)
	require.NoError(t, f.Seal(ctx, ref("h"), v))
	other := ref("h")
	other.Incident = "inc-000000000000"
	require.NoError(t, f.Seal(ctx, other, v))

	// a crash right after the data key's name went
	require.NoError(t, os.Rename(filepath.Join(f.dir, inc, keyFile), filepath.Join(f.dir, inc, deadKey)))
	_, err := f.Open(ctx, ref("h"), "probe")
	require.ErrorIs(t, err, secret.ErrGone)
	there, err := f.Exists(ctx, ref("h"))
	require.NoError(t, err)
	require.False(t, there)
	// a reopened incident seals anew over what the crash left
	fresh := random(t)
	require.NoError(t, f.Seal(ctx, ref("h"), fresh))
	got, err := f.Open(ctx, ref("h"), "probe")
	require.NoError(t, err)
	require.True(t, fresh.Equal(got))
	require.NoFileExists(t, filepath.Join(f.dir, inc, deadKey), "and the old data key is gone for good")

	for range 2 {
		require.NoError(t, f.Destroy(ctx, inc))
		require.NoDirExists(t, filepath.Join(f.dir, inc))
		_, err = f.Open(ctx, ref("h"), "probe")
		require.ErrorIs(t, err, secret.ErrGone)
	}
	there, err = f.Exists(ctx, other)
	require.NoError(t, err)
	require.True(t, there, "another incident is untouched")
}

func TestACopyOfTheFilesIsWorthNothingAfterDestroy(t *testing.T) {
	f := open(t)
	require.NoError(t, f.Seal(ctx, ref("h"), random(t)))
	stolen, err := os.ReadFile(f.path(ref("h")))
	require.NoError(t, err)
	require.NoError(t, f.Destroy(ctx, inc))
	require.NoError(t, f.Seal(ctx, ref("other"), random(t)))
	require.NoError(t, os.WriteFile(f.path(ref("h")), stolen, 0o600))
	_, err = f.Open(ctx, ref("h"), "probe")
	require.ErrorContains(t, err, "cannot be read")
}

func TestExpiry(t *testing.T) {
	f := open(t)
	start := f.now
	late := secret.Ref{Incident: "inc-000000000001", Handle: "late", Provider: "awsiam", Origin: "o"}
	require.NoError(t, f.Seal(ctx, ref("early"), random(t)))
	require.NoError(t, f.Seal(ctx, secret.Ref{Incident: "inc-000000000002", Handle: "a", Provider: "p", Origin: "o"}, random(t)))
	f.now = start.Add(time.Hour)
	require.NoError(t, f.Seal(ctx, ref("replacement"), random(t)))
	require.NoError(t, f.Seal(ctx, late, random(t)))

	gone, err := f.ExpireBefore(ctx, start)
	require.NoError(t, err)
	require.Empty(t, gone, "before t, not at t")
	gone, err = f.ExpireBefore(ctx, f.now)
	require.NoError(t, err)
	require.Len(t, gone, 2)
	require.NoDirExists(t, filepath.Join(f.dir, "inc-000000000002"))
	for r, want := range map[secret.Ref]bool{ref("early"): false, ref("replacement"): true, late: true} {
		there, err := f.Exists(ctx, r)
		require.NoError(t, err)
		require.Equal(t, want, there, r.Handle)
	}
	gone, err = f.ExpireBefore(ctx, f.now)
	require.NoError(t, err)
	require.Empty(t, gone)

	// one incident with a damaged data key is named and keeps nobody else
	require.NoError(t, os.WriteFile(filepath.Join(f.dir, late.Incident, keyFile), []byte("damaged"), 0o600))
	gone, err = f.ExpireBefore(ctx, f.now.Add(time.Second))
	require.ErrorContains(t, err, late.Incident)
	require.Len(t, gone, 1)
}

func TestCrashesLeaveNoHalfSecret(t *testing.T) {
	f, v := open(t), random(t)
	require.NoError(t, f.Seal(ctx, ref("h"), v))
	// what a crash in the middle of a write leaves
	require.NoError(t, os.WriteFile(filepath.Join(f.dir, inc, ".tmp-123"), []byte("half"), 0o600))
	got, err := f.Open(ctx, ref("h"), "probe")
	require.NoError(t, err)
	require.True(t, v.Equal(got))
	gone, err := f.ExpireBefore(ctx, f.now.Add(time.Second))
	require.NoError(t, err)
	require.Len(t, gone, 1)

	// every truncation of a sealed file is refused, none gives other bytes
	require.NoError(t, f.Seal(ctx, ref("h"), v))
	whole, err := os.ReadFile(f.path(ref("h")))
	require.NoError(t, err)
	for n := range whole {
		require.NoError(t, os.WriteFile(f.path(ref("h")), whole[:n], 0o600))
		_, err := f.Open(ctx, ref("h"), "probe")
		require.Error(t, err, "truncated to %d", n)
	}
}

func TestBadReferencesAreRefused(t *testing.T) {
	f, v := open(t), random(t)
	for name, change := range map[string]func(*secret.Ref){
		"path as incident": func(r *secret.Ref) { r.Incident = "../../etc" },
		"no incident":      func(r *secret.Ref) { r.Incident = "" },
		"no handle":        func(r *secret.Ref) { r.Handle = "" },
		"control handle":   func(r *secret.Ref) { r.Handle = "a\nb" },
		"no origin":        func(r *secret.Ref) { r.Origin = "" },
		"no provider":      func(r *secret.Ref) { r.Provider = "" },
	} {
		r := ref("h")
		change(&r)
		require.Error(t, f.Seal(ctx, r, v), name)
		_, err := f.Open(ctx, r, "probe")
		require.Error(t, err, name)
	}
	require.Error(t, f.Destroy(ctx, ".."))
	require.Error(t, f.Seal(ctx, ref("h"), secret.Value{}), "an empty secret")
	require.NoError(t, f.Seal(ctx, ref("../../x"), v), "a handle is a name, never a path")
	_, err := f.Open(ctx, ref("../../x"), "")
	require.ErrorContains(t, err, "read for")
	stopped, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, f.Seal(stopped, ref("h"), v), context.Canceled)
}

func TestConcurrentUse(t *testing.T) {
	f := open(t)
	values := make([]secret.Value, 8)
	var wg sync.WaitGroup
	for i := range values {
		values[i] = random(t)
		wg.Go(func() {
			r := ref(fmt.Sprint("h", i))
			for range 4 {
				if err := f.Seal(ctx, r, values[i]); err != nil {
					t.Error(err)
				}
				got, err := f.Open(ctx, r, "probe")
				if err != nil || !got.Equal(values[i]) {
					t.Errorf("handle %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
	require.Len(t, f.reads, 32)
}

func TestIdentity(t *testing.T) {
	const fast = 10 // scrypt work factor
	pass := secret.New([]byte("correct horse"))
	dir := t.TempDir()
	plain, protected := filepath.Join(dir, "age.txt"), filepath.Join(dir, "protected.txt")

	first, err := loadIdentity(plain, secret.Value{}, fast)
	require.NoError(t, err)
	again, err := LoadIdentity(plain, secret.Value{})
	require.NoError(t, err)
	require.Equal(t, first.String(), again.String())

	locked, err := loadIdentity(protected, pass, fast)
	require.NoError(t, err)
	again, err = LoadIdentity(protected, pass)
	require.NoError(t, err)
	require.Equal(t, locked.String(), again.String())
	onDisk, err := os.ReadFile(protected)
	require.NoError(t, err)
	require.NotContains(t, string(onDisk), "AGE-SECRET-KEY")

	for name, c := range map[string]struct {
		path string
		pass secret.Value
	}{
		"wrong passphrase":             {protected, secret.New([]byte("battery staple"))},
		"no passphrase":                {protected, secret.Value{}},
		"plain though one is expected": {plain, pass},
	} {
		_, err := LoadIdentity(c.path, c.pass)
		require.ErrorIs(t, err, secret.ErrPassphrase, name)
		require.NotContains(t, err.Error(), "staple")
	}

	whole, err := os.ReadFile(plain)
	require.NoError(t, err)
	for n := range whole {
		require.NoError(t, os.WriteFile(plain, whole[:n], 0o600))
		_, err := LoadIdentity(plain, secret.Value{})
		require.ErrorContains(t, err, "damaged", "truncated to %d", n)
	}
	require.NoError(t, os.Chmod(protected, 0o644))
	_, err = LoadIdentity(protected, pass)
	require.ErrorContains(t, err, "chmod 600")
}

func TestPassphraseFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pass")
	for content, ok := range map[string]bool{"correct horse\n": true, "correct horse": true, "correct horse\r\n": true, "": false, "\n": false, "a\nb\n": false} {
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		v, err := ReadPassphrase(path)
		require.Equal(t, ok, err == nil, "%q", content)
		if ok {
			require.Equal(t, "correct horse", string(v.Reveal()))
		}
	}
}

func TestAnotherIdentityOpensNothing(t *testing.T) {
	f := open(t)
	require.NoError(t, f.Seal(ctx, ref("h"), random(t)))
	stranger, err := age.GenerateX25519Identity()
	require.NoError(t, err)
	f.reopen(t, stranger)
	_, err = f.Open(ctx, ref("h"), "probe")
	require.ErrorIs(t, err, secret.ErrPassphrase)
	require.Equal(t, "unreadable", f.reads[len(f.reads)-1].Why)
	require.ErrorIs(t, f.Seal(ctx, ref("h2"), random(t)), secret.ErrPassphrase, "and does not replace the data key")
}
