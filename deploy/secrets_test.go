package deploy

import (
	"crypto/tls"
	"crypto/x509"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func needOpenSSL(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err == nil {
		return
	}
	if os.Getenv("REKEY_REQUIRE_SERVERS") == "1" {
		t.Fatal("needs openssl: apt-get install openssl")
	}
	t.Skip("skipped: needs openssl (apt-get install openssl)")
}

func makeSecrets(t *testing.T, dir string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "./make-secrets", dir).CombinedOutput()
	require.NoError(t, err, string(out))
	return string(out)
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, f := range files {
		out[f.Name()] = read(t, dir, f.Name())
	}
	return out
}

func TestMakeSecrets(t *testing.T) {
	needOpenSSL(t)
	dir := filepath.Join(t.TempDir(), "secrets")
	makeSecrets(t, dir)
	first := contents(t, dir)
	info, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o700), info.Mode().Perm())
	for name := range first {
		info, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), info.Mode().Perm(), name)
	}
	p := loaded(t)
	for name, s := range p.Secrets {
		require.Equal(t, name, filepath.Base(s.File))
		require.NotEmpty(t, first[name], "make-secrets does not make it")
	}
	for _, ca := range []string{"db-ca.key", "temporal-ca.key"} {
		require.NotEmpty(t, first[ca])
		require.NotContains(t, p.Secrets, ca, "who has it can be anybody")
	}

	require.Empty(t, makeSecrets(t, dir), "what is there stays")
	require.Equal(t, first, contents(t, dir))

	other := filepath.Join(t.TempDir(), "secrets")
	makeSecrets(t, other)
	for name, text := range contents(t, other) {
		if text != "" {
			require.NotEqual(t, first[name], text, "%s is the same for everybody", name)
		}
	}

	// Rotation of one, and of an authority with all that it signed.
	require.NoError(t, os.Remove(filepath.Join(dir, "rekey.crt")))
	makeSecrets(t, dir)
	second := contents(t, dir)
	require.Equal(t, []string{"rekey.crt", "rekey.key"}, changed(first, second))
	require.NoError(t, os.Remove(filepath.Join(dir, "db-ca.key")))
	makeSecrets(t, dir)
	require.Equal(t, []string{"db-ca.crt", "db-ca.key", "postgres.crt", "postgres.key", "temporal-db.crt", "temporal-db.key"}, changed(second, contents(t, dir)))
}

func changed(a, b map[string]string) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(b)) {
		if a[name] != b[name] {
			out = append(out, name)
		}
	}
	return out
}

// TestCertificates: each proves what its service needs and nothing else.
func TestCertificates(t *testing.T) {
	needOpenSSL(t)
	dir := t.TempDir()
	makeSecrets(t, dir)
	for _, c := range []struct {
		name, authority, other, host string
		use                          x509.ExtKeyUsage
	}{
		{"postgres", "db-ca", "temporal-ca", "postgresql", x509.ExtKeyUsageServerAuth},
		{"temporal-db", "db-ca", "temporal-ca", "", x509.ExtKeyUsageClientAuth},
		{"temporal", "temporal-ca", "db-ca", "temporal", x509.ExtKeyUsageServerAuth},
		{"temporal-system", "temporal-ca", "db-ca", "", x509.ExtKeyUsageClientAuth},
		{"rekey", "temporal-ca", "db-ca", "", x509.ExtKeyUsageClientAuth},
		{"temporal-ui", "temporal-ca", "db-ca", "", x509.ExtKeyUsageClientAuth},
	} {
		pair, err := tls.LoadX509KeyPair(filepath.Join(dir, c.name+".crt"), filepath.Join(dir, c.name+".key"))
		require.NoError(t, err)
		verify := func(authority string, use x509.ExtKeyUsage) error {
			roots := x509.NewCertPool()
			require.True(t, roots.AppendCertsFromPEM([]byte(read(t, dir, authority+".crt"))))
			_, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: c.host, KeyUsages: []x509.ExtKeyUsage{use}})
			return err
		}
		require.NoError(t, verify(c.authority, c.use), c.name)
		require.Error(t, verify(c.other, c.use), "%s opens a door that it is not for", c.name)
		for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
			if use != c.use {
				require.Error(t, verify(c.authority, use), c.name)
			}
		}
		if c.name == "temporal-db" {
			require.Equal(t, "temporal", pair.Leaf.Subject.CommonName, "PostgreSQL takes it for its user")
		}
	}
}

// TestSecretsAreMountedWhereTheyAreUsed, and nowhere else.
func TestSecretsAreMountedWhereTheyAreUsed(t *testing.T) {
	p := loaded(t)
	used := map[string]bool{}
	for _, name := range p.ServiceNames() {
		s := p.Services[name]
		text := strings.Join(s.Command, " ")
		for _, v := range s.Environment {
			text += " " + *v
		}
		for _, v := range s.Volumes {
			if info, err := os.Stat(v.Source); err == nil && info.Mode().IsRegular() {
				text += " " + read(t, v.Source)
			}
		}
		if name == "temporal" {
			_, rendered := temporalServer(t)
			text += rendered
		}
		for _, path := range secretPaths(s) {
			require.Contains(t, text, path, "%s has a secret that it does not use", name)
			used[filepath.Base(path)] = true
		}
	}
	for name := range p.Secrets {
		require.True(t, used[name], "%s is for nobody", name)
	}
}

// TestNoSecretInTheFiles: a value that is a secret is a file's name.
func TestNoSecretInTheFiles(t *testing.T) {
	secretive := regexp.MustCompile(`(?i)(password|passwd|pwd|secret|token|api_?key)`)
	for name, s := range loaded(t).Services {
		for variable, value := range s.Environment {
			if secretive.MatchString(variable) && variable != "GF_SECURITY_ADMIN_USER" {
				require.Regexp(t, `^/run/secrets(/[a-z.-]+)?$`, *value, "%s: %s", name, variable)
			}
		}
	}
	literal := regexp.MustCompile(`(?i)(password|passwd|secret|token)\s*[:=]\s*["']?[^\s"'#{}]+`)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, ".go") || strings.HasPrefix(path, "secrets") || strings.HasPrefix(path, "local/") {
			return err
		}
		require.NotRegexp(t, literal, read(t, path), path)
		require.NotContains(t, read(t, path), "PRIVATE KEY", path)
		return nil
	})
	require.NoError(t, err)
}
