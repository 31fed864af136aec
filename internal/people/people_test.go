package people_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"rekey/internal/config"
	"rekey/internal/people"
	"rekey/internal/statement"
)

func TestLoadOrCreate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "server.key")
	var wg sync.WaitGroup
	keys := make([]ed25519.PrivateKey, 8)
	for i := range keys {
		wg.Go(func() { keys[i], _ = people.LoadOrCreate(path) })
	}
	wg.Wait()
	for _, k := range keys {
		require.Equal(t, keys[0], k, "processes that start at once agree on one key")
	}
	require.Len(t, keys[0], ed25519.PrivateKeySize)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())

	require.NoError(t, os.Chmod(path, 0o644))
	_, err = people.LoadOrCreate(path)
	require.ErrorContains(t, err, "is open to others")
	require.NoError(t, os.Chmod(path, 0o600))
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, text[:40], 0o600))
	_, err = people.LoadOrCreate(path)
	var bad *people.KeyFileError
	require.ErrorAs(t, err, &bad, "a damaged key is never replaced by itself")
	require.NotContains(t, err.Error(), strings.TrimSpace(string(text[30:40])))
}

func TestIdentityVotes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "me.key")
	encoded, err := people.GenerateIdentity(path)
	require.NoError(t, err)
	_, err = people.GenerateIdentity(path)
	require.ErrorIs(t, err, fs.ErrExist)

	key, err := people.LoadIdentity(path)
	require.NoError(t, err)
	pub, err := people.LoadPublic(path + ".pub")
	require.NoError(t, err)
	require.Equal(t, encoded, people.Encode(pub))
	signed, err := statement.Sign(statement.Statement{Action: statement.Note}, key)
	require.NoError(t, err)
	require.NoError(t, signed.Verify(pub))
}

func TestOpenSSHKeys(t *testing.T) {
	dir := t.TempDir()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	line, err := ssh.NewPublicKey(pub)
	require.NoError(t, err)
	file := filepath.Join(dir, "id.pub")
	require.NoError(t, os.WriteFile(file, []byte(strings.TrimSpace(string(ssh.MarshalAuthorizedKey(line)))+" alice@example.com\n"), 0o644))
	got, err := people.LoadPublic(file)
	require.NoError(t, err)
	require.Equal(t, pub, got)

	block, err := ssh.MarshalPrivateKey(key, "alice")
	require.NoError(t, err)
	private := filepath.Join(dir, "id")
	require.NoError(t, os.WriteFile(private, pem.EncodeToMemory(block), 0o600))
	loaded, err := people.LoadIdentity(private)
	require.NoError(t, err)
	require.Equal(t, key, loaded)

	block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "alice", []byte("x"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(private, pem.EncodeToMemory(block), 0o600))
	_, err = people.LoadIdentity(private)
	require.ErrorContains(t, err, "has a passphrase")
}

func TestPublicKeysThatAreRefused(t *testing.T) {
	dir := t.TempDir()
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	ecDER, err := x509.MarshalPKIXPublicKey(ec.Public())
	require.NoError(t, err)
	private := filepath.Join(dir, "private")
	_, err = people.GenerateIdentity(private)
	require.NoError(t, err)
	privateText, err := os.ReadFile(private)
	require.NoError(t, err)
	for name, tt := range map[string]struct {
		text []byte
		mode fs.FileMode
		want string
	}{
		"another algorithm": {pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: ecDER}), 0o644, "is not an Ed25519 public key"},
		"the private half":  {privateText, 0o644, "holds something else than a public key"},
		"nonsense":          {[]byte("hello"), 0o644, "is not an Ed25519 public key"},
		"others write it":   {[]byte("hello"), 0o666, "may be written by everyone"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "k.pub")
			require.NoError(t, os.WriteFile(file, tt.text, 0o600))
			require.NoError(t, os.Chmod(file, tt.mode))
			_, err := people.LoadPublic(file)
			require.ErrorContains(t, err, tt.want)
		})
	}
	_, err = people.LoadPublic(filepath.Join(dir, "none"))
	require.ErrorContains(t, err, "cannot be read")
}

func TestPinned(t *testing.T) {
	t.Run("nobody named: the local user", func(t *testing.T) {
		data := t.TempDir()
		c, err := config.Parse([]byte("ceilings: {irreversible: {quorum: 1, outside_slack: 0}}"), data)
		require.NoError(t, err)
		v, err := people.Pinned(c, data)
		require.NoError(t, err)
		require.True(t, v.Solo)
		require.Len(t, v.People, 1)
		require.Equal(t, people.LocalActor(), v.People[0].Actor)
		require.Equal(t, []string{"commander", "security", "approver", "admin"}, v.People[0].Roles)
		key, err := people.LoadIdentity(people.LocalKeyFile(data))
		require.NoError(t, err)
		require.Equal(t, []string{people.Encode(people.Public(key))}, v.People[0].Keys)
		server, err := people.LoadIdentity(people.ServerKeyFile(data))
		require.NoError(t, err)
		require.Equal(t, []string{people.Encode(people.Public(server))}, v.ServerKeys)
		require.NotContains(t, v.People[0].Keys, v.ServerKeys[0], "the server votes for nobody")

		again, err := people.Pinned(c, data)
		require.NoError(t, err)
		require.Equal(t, v, again)
	})
	named := func(t *testing.T, files ...string) (people.Voters, string, error) {
		data := t.TempDir()
		text := "people:\n"
		for i, f := range files {
			text += fmt.Sprintf("  p%d: {roles: [commander], cli_key_file: %s}\n", i, f)
		}
		c, err := config.Parse([]byte(text), data)
		require.NoError(t, err)
		v, err := people.Pinned(c, data)
		return v, data, err
	}
	key := func(t *testing.T) string {
		path := filepath.Join(t.TempDir(), "k")
		_, err := people.GenerateIdentity(path)
		require.NoError(t, err)
		return path + ".pub"
	}
	t.Run("named people replace the local user", func(t *testing.T) {
		a, b := key(t), key(t)
		v, data, err := named(t, a, b)
		require.NoError(t, err)
		require.False(t, v.Solo)
		require.Equal(t, []string{"p0", "p1"}, []string{v.People[0].Actor, v.People[1].Actor})
		require.NotEqual(t, v.People[0].Keys, v.People[1].Keys)
		_, err = os.Stat(people.LocalKeyFile(data))
		require.ErrorIs(t, err, fs.ErrNotExist)
	})
	t.Run("one key for two people would be two votes", func(t *testing.T) {
		a := key(t)
		text, err := os.ReadFile(a)
		require.NoError(t, err)
		b := filepath.Join(t.TempDir(), "copy.pub")
		require.NoError(t, os.WriteFile(b, text, 0o600))
		_, _, err = named(t, a, b)
		require.ErrorContains(t, err, "people.p1.cli_key_file: the key is also p0's")
	})
	t.Run("a key that is missing", func(t *testing.T) {
		_, _, err := named(t, "/nowhere/k.pub")
		require.ErrorContains(t, err, "people.p0.cli_key_file: /nowhere/k.pub cannot be read")
	})
}

func TestReporterIsThePersonOfTheLocalUser(t *testing.T) {
	user := strings.TrimPrefix(people.LocalActor(), "local:")
	require.Equal(t, people.LocalActor(), people.Reporter(&config.Config{}))
	require.Equal(t, people.LocalActor(), people.Reporter(&config.Config{People: map[string]config.Person{"ana": {Local: "somebody-else"}, "ben": {}}}))
	require.Equal(t, "ana", people.Reporter(&config.Config{People: map[string]config.Person{"ana": {Local: user}, "ben": {}}}))
}

func TestToken(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	_, err := people.ReadToken(data)
	require.ErrorIs(t, err, fs.ErrNotExist)
	token, err := people.LoadOrCreateToken(data)
	require.NoError(t, err)
	text, err := people.ReadToken(data)
	require.NoError(t, err)
	require.Len(t, text, 43)
	require.True(t, token.Matches(text))
	require.False(t, token.Matches(text+"x"))
	require.False(t, token.Matches(""))
	require.False(t, people.Token{}.Matches(""), "no token lets nobody in")
	require.NotContains(t, fmt.Sprintf("%v %s", token, token), text)
	again, err := people.LoadOrCreateToken(data)
	require.NoError(t, err)
	require.True(t, again.Matches(text))

	require.NoError(t, os.WriteFile(people.TokenFile(data), []byte("short\n"), 0o600))
	_, err = people.LoadOrCreateToken(data)
	require.ErrorContains(t, err, "holds no token")
	require.NoError(t, os.Chmod(people.TokenFile(data), 0o644))
	_, err = people.LoadOrCreateToken(data)
	require.ErrorContains(t, err, "is open to others")
}
