package slackapp_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/slackapp"
)

func FuzzParse(f *testing.F) {
	for _, form := range slackapp.Forms() {
		f.Add(form)
	}
	for _, s := range []string{"", " ", "report awsiam " + keyID + " severity=high x", "approve " + known + " a1 " + wave, "hold " + known + " a,b until=2h why", "\xff\xfe", "“report” ‘x’", "report awsiam/ \u202e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		verb, fields, said := slackapp.Parse(text)
		if said != "" {
			require.Contains(t, said, "/rekey ", "whoever is wrong is told what to type")
			for _, w := range strings.Fields(text) { // a word that could be a secret is not repeated
				if len(w) > 24 && !slices.ContainsFunc(slackapp.Forms(), func(form string) bool { return strings.Contains(form, w) }) && !strings.Contains("PROVIDER[/KIND] command line", w) {
					require.NotContains(t, said, w)
				}
			}
			return
		}
		require.NotEmpty(t, verb)
		for _, s := range fields {
			require.NotContains(t, s, "\n")
			require.NotContains(t, s, "\u202e")
		}
	})
}
