package notify_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/activities/notify"
)

const (
	incident = "inc-7f3a9c2e41d0"
	hash     = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)

func TestAButtonNamesItsQuestion(t *testing.T) {
	for _, h := range []string{hash, ""} {
		id, approval, wave, ok := notify.ParseButton(notify.ButtonValue(incident, "a12", h))
		require.True(t, ok)
		require.Equal(t, []string{incident, "a12", h}, []string{id, approval, wave})
	}
	require.Equal(t, "v1:"+incident+":a1:"+hash, notify.ButtonValue(incident, "a1", hash), "cards that are on the wall must stay readable")
}

func TestAnythingElseIsNoButton(t *testing.T) {
	good := notify.ButtonValue(incident, "a1", hash)
	for name, value := range map[string]string{
		"empty": "", "other version": strings.Replace(good, "v1", "v2", 1), "no hash": "v1:" + incident + ":a1",
		"other incident id": "v1:inc-XYZ:a1:" + hash, "more fields": good + ":x", "line break": good + "\n",
		"upper case hash": strings.ToUpper(good), "long": strings.Repeat(good, 1000), "approval 0": "v1:" + incident + ":a0:" + hash,
	} {
		_, _, _, ok := notify.ParseButton(value)
		require.False(t, ok, name)
	}
}

func FuzzParseButton(f *testing.F) {
	f.Add(notify.ButtonValue(incident, "a1", hash))
	f.Add("v1:::")
	f.Fuzz(func(t *testing.T, value string) {
		id, approval, wave, ok := notify.ParseButton(value)
		if ok {
			require.Equal(t, value, notify.ButtonValue(id, approval, wave), "a button has one form only")
		}
	})
}
