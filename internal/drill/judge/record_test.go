package judge

import (
	"archive/zip"
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/audit"
)

// TestTamperingChangesOneBitOfTheEvents makes sure that G8 tests what it says.
func TestTamperingChangesOneBitOfTheEvents(t *testing.T) {
	in := goodWorld(t)
	bent, err := tampered(in.Bundle)
	require.NoError(t, err)
	require.Len(t, bent, len(in.Bundle))
	var at []int
	for i := range bent {
		if bent[i] != in.Bundle[i] {
			at = append(at, i)
			require.Equal(t, byte(1), bent[i]^in.Bundle[i])
		}
	}
	require.Len(t, at, 1)

	before, err := audit.Open(bytes.NewReader(in.Bundle), int64(len(in.Bundle)))
	require.NoError(t, err)
	after, err := audit.Open(bytes.NewReader(bent), int64(len(bent)))
	require.NoError(t, err)
	for _, name := range before.Names() {
		a, err := before.File(name)
		require.NoError(t, err)
		b, err := after.File(name)
		require.NoError(t, err)
		require.Equal(t, name != eventsFile, bytes.Equal(a, b), name)
	}
	require.Equal(t, audit.Failed, verify(bent).Result)
}

func TestWhatCannotBeTamperedWith(t *testing.T) {
	zipOf := func(name string, content string) []byte {
		var out bytes.Buffer
		z := zip.NewWriter(&out)
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
		require.NoError(t, err)
		_, err = w.Write([]byte(content))
		require.NoError(t, err)
		require.NoError(t, z.Close())
		return out.Bytes()
	}
	for want, b := range map[string][]byte{
		"not a valid zip":          []byte("gone"),
		"it holds no events.jsonl": zipOf("other", "x"),
		"events.jsonl is empty":    zipOf(eventsFile, ""),
	} {
		_, err := tampered(b)
		require.ErrorContains(t, err, want)
	}
}
