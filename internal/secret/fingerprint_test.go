package secret_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/secret"
)

func fingerprinter(t *testing.T) (*secret.Fingerprinter, []byte) {
	t.Helper()
	key := bytes.Repeat([]byte{7}, secret.KeySize)
	f, err := secret.NewFingerprinter(key)
	require.NoError(t, err)
	return f, key
}

func TestFingerprintIsTheContract(t *testing.T) {
	f, key := fingerprinter(t)
	m := hmac.New(sha256.New, key)
	m.Write([]byte("awsiam\x00prod\x00user-access-key\x00AKIAIOSFODNN7EXAMPLE"))
	want := "fp1_" + hex.EncodeToString(m.Sum(nil))

	got, err := f.Public("awsiam", "prod", "user-access-key", "AKIAIOSFODNN7EXAMPLE")
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Equal(t, want[4:16], secret.Short(got))

	id, err := secret.IncidentID(got)
	require.NoError(t, err)
	require.Equal(t, "inc-"+want[4:16], id)
	require.True(t, secret.ValidIncident(id))

	alias, err := f.Alias("awsiam", "prod", "user-access-key", secret.New([]byte("AKIAIOSFODNN7EXAMPLE")))
	require.NoError(t, err)
	require.Equal(t, want, alias, "the secret takes the id's place")

	exposure, err := f.ExposureIncident("github", "acme/x#1")
	require.NoError(t, err)
	require.True(t, secret.ValidIncident(exposure))
}

func TestFingerprintsTellKeysApart(t *testing.T) {
	f, _ := fingerprinter(t)
	seen := map[string][]string{}
	for _, parts := range [][]string{
		{"a", "b", "c", "d"}, {"ab", "c", "d", "e"}, {"a", "bc", "d", "e"}, {"a", "b", "cd", "e"}, {"a", "b", "c", "de"}, {"a", "b", "d", "c"},
	} {
		fp, err := f.Public(parts[0], parts[1], parts[2], parts[3])
		require.NoError(t, err)
		require.Empty(t, seen[fp], "%v has the fingerprint of %v", parts, seen[fp])
		seen[fp] = parts
	}
	other, err := secret.NewFingerprinter(bytes.Repeat([]byte{8}, secret.KeySize))
	require.NoError(t, err)
	fp, err := other.Public("a", "b", "c", "d")
	require.NoError(t, err)
	require.NotContains(t, seen, fp, "the installation key counts")
}

func TestFingerprintRefusesTheAmbiguous(t *testing.T) {
	f, _ := fingerprinter(t)
	for name, p := range map[string][4]string{
		"zero byte in account": {"awsiam", "pr\x00od", "k", "id"},
		"zero byte in id":      {"awsiam", "prod", "k", "i\x00d"},
		"no provider":          {"", "prod", "k", "id"},
		"no id":                {"awsiam", "prod", "k", ""},
	} {
		_, err := f.Public(p[0], p[1], p[2], p[3])
		require.Error(t, err, name)
	}
	_, err := f.Alias("a", "b", "c", secret.Value{})
	require.ErrorContains(t, err, "empty")
	_, err = secret.NewFingerprinter(make([]byte, 31))
	require.ErrorContains(t, err, "31 bytes")
	_, err = secret.IncidentID("fp1_short")
	require.Error(t, err)
	require.Equal(t, "invalid", secret.Short("../../etc/passwd"))
	require.False(t, secret.ValidIncident("inc-../../x"))
}

func TestSPKIIsUnkeyed(t *testing.T) {
	sum := sha256.Sum256([]byte("der"))
	require.Equal(t, "spki_"+hex.EncodeToString(sum[:]), secret.SPKI([]byte("der")))
	require.True(t, secret.ValidFingerprint(secret.SPKI(nil)))
}
