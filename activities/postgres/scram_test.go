package postgres

import (
	"encoding/base64"
	"testing"

	"github.com/stretchr/testify/require"
)

// The example of RFC 7677 section 3: user "user", password "pencil".
func TestVerifierOfTheRFC(t *testing.T) {
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	require.NoError(t, err)
	got, err := verifierOf("pencil", salt, 4096)
	require.NoError(t, err)
	const want = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
	require.Equal(t, want, got)
	for _, tt := range []struct {
		stored, password string
		match, known     bool
	}{
		{want, "pencil", true, true}, {want, "pencil2", false, true}, {"md5" + "0", "pencil", false, false},
		{"SCRAM-SHA-256$0:AA==$x:y", "pencil", false, false}, {"SCRAM-SHA-256$999999999:AA==$x:y", "pencil", false, false}, {want, "p\u00e9ncil", false, false},
	} {
		match, known := matches(tt.stored, tt.password)
		require.Equal(t, []bool{tt.match, tt.known}, []bool{match, known}, tt)
	}
}

func TestNewPasswordsDiffer(t *testing.T) {
	a, b := newPassword(), newPassword()
	require.NotEqual(t, a, b)
	require.Regexp(t, `^[A-Za-z0-9_-]{32}$`, a)
	one, err := verifier(a)
	require.NoError(t, err)
	two, err := verifier(a)
	require.NoError(t, err)
	require.NotEqual(t, one, two, "a salt of its own")
	match, _ := matches(one, a)
	require.True(t, match)
}

func TestSuccessorNames(t *testing.T) {
	require.Regexp(t, `^app_rk[0-9a-f]{8}$`, successor("app", "t"))
	require.NotEqual(t, successor("app", "t"), successor("app", "u"))
	for _, long := range []string{"a", "\u00e4"} {
		name := ""
		for len(name) < 62 {
			name += long
		}
		require.LessOrEqual(t, len(successor(name, "t")), maxName)
	}
	effect, principal, ok := madeFor(mark("t", "a b principal=c"))
	require.True(t, ok)
	require.Equal(t, []string{tokenID("t"), "a b principal=c"}, []string{effect, principal})
	_, _, ok = madeFor("a comment of somebody")
	require.False(t, ok)
}
