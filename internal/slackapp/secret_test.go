package slackapp_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/activities/notify"
	"rekey/internal/slackapp"
)

// canary makes a secret of a form that a provider knows.
func canary(t *testing.T) string { return "lab-secret-" + random(t)[:16] }

// awsLike makes one as AWS does: 40 characters of base64 over random bytes.
func awsLike(t *testing.T) string {
	t.Helper()
	b := make([]byte, 30)
	_, err := rand.Read(b)
	require.NoError(t, err)
	return base64.StdEncoding.EncodeToString(b)
}

// spelled makes one of whose pieces of n characters none reads as a word, or it could not
// be told from text: that is the limit which broken.go names.
func spelled(t *testing.T, n int) string {
	t.Helper()
	for {
		s, good := awsLike(t), true
		for i := 0; i < len(s); i += n {
			good = good && strings.ContainsAny(s[i:i+n], "0123456789/+")
		}
		if good {
			return s
		}
	}
}

func TestASecretBesideAReportIsACopyInScope(t *testing.T) {
	for name, make := range map[string]func(*testing.T) (secret, text string){
		"behind the id": func(t *testing.T) (string, string) {
			s := awsLike(t)
			return s, "report awsiam " + keyID + " " + s + " on a paste site"
		},
		"before the id": func(t *testing.T) (string, string) {
			s := canary(t)
			return s, "report awsiam " + s + " " + keyID + " on a paste site"
		},
		"with a name": func(t *testing.T) (string, string) {
			s := awsLike(t)
			return s, "report awsiam " + keyID + " aws_secret_access_key=" + s + " on a paste site"
		},
		"in backticks": func(t *testing.T) (string, string) {
			s := canary(t)
			return s, "report awsiam `" + keyID + "` `" + s + "` on a paste site"
		},
		"split invisibly": func(t *testing.T) (string, string) {
			s := canary(t)
			return s, "report awsiam " + keyID + " " + s[:9] + "\u200b" + s[9:] + " on a paste site"
		},
		"split by a letter that shows nothing": func(t *testing.T) (string, string) {
			s := canary(t)
			return s, "report awsiam " + keyID + " " + s[:9] + "\u3164" + s[9:] + " on a paste site"
		},
		"escaped for a URL": func(t *testing.T) (string, string) {
			s := awsLike(t)
			s = s[:12] + "/" + s[13:]
			return s[13:], "report awsiam " + keyID + " " + url.QueryEscape(s) + " on a paste site"
		},
		"broken by a line": func(t *testing.T) (string, string) {
			s := awsLike(t)
			return s[21:], "report awsiam " + keyID + " " + s[:21] + "\n" + s[21:] + " on a paste site"
		},
		"broken into three": func(t *testing.T) (string, string) {
			s := awsLike(t)
			return s[:13], "report awsiam " + keyID + " " + s[:13] + "\n" + s[13:27] + "\n" + s[27:] + " on a paste site"
		},
		"broken into eight": func(t *testing.T) (string, string) {
			s := spelled(t, 5)
			text := "report awsiam " + keyID
			for i := 0; i < len(s); i += 5 {
				text += " " + s[i:i+5]
			}
			return s[5:10], text + " on a paste site"
		},
		"broken before its last letters": func(t *testing.T) (string, string) {
			s := awsLike(t)
			return s[:37], "report awsiam " + keyID + " " + s[:37] + "\n" + s[37:] + " on a paste site"
		},
		"broken behind its name": func(t *testing.T) (string, string) {
			s := awsLike(t)
			return s[14:28], "report awsiam " + keyID + " aws_secret_access_key=" + s[:14] + "\n" + s[14:28] + "\n" + s[28:] + " on a paste site"
		},
		"a broken token that is longer than it must be": func(t *testing.T) (string, string) {
			s := strings.Repeat(strings.ToUpper(random(t)[:9])+"x9", 6) // of odd pieces, whatever was drawn
			return s[44:], "report awsiam " + keyID + " github_pat_" + s[:11] + " " + s[11:44] + " " + s[44:] + " on a paste site"
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(o *slackapp.Options) {
				o.Upload = func(_ context.Context, l slackapp.UploadLink) (string, error) {
					return "https://rekey.example.com/upload/" + l.Key.Provider, nil
				}
			})
			hidden, text := make(t)
			got := w.typed(t, alice, text)
			require.NotContains(t, got, hidden)
			require.Contains(t, got, "aaaaaaaaaaaa", "answered by its fingerprint")
			require.Contains(t, got, "Delete message", "with how to remove it")
			require.Contains(t, got, "https://rekey.example.com/upload/awsiam", "and a link for next time")
			require.Contains(t, got, "thrown away")
			require.Len(t, w.reports(), 1)
			r := w.reports()[0]
			require.Equal(t, keyID, r.KeyID)
			require.Equal(t, []string{"slack/" + team + "/" + channel}, r.Copies)
			require.Empty(t, r.Secret, "the id suffices for the verbs of this kind")
			require.Equal(t, "on a paste site", strings.Join(strings.Fields(r.Reason), " "))
			require.NotContains(t, fmt.Sprint(w.reports()), hidden)
			w.idle(t)
			w.nowhere(t, hidden)
		})
	}
}

// TestTextIsNoSecret: what people write is left as it is, beside a key id too.
func TestTextIsNoSecret(t *testing.T) {
	for _, reason := range []string{
		"found by Trufflehog 3 days ago in the public repository of our Payments team",
		"AWS GuardDuty says UnauthorizedAccess on 2026-11-21 at 03:00 UTC from TOR exits; see INC-4711 and the runbook",
		"seen in Jenkins job build-42 on host ip-10-0-0-1 of CI2, uses S3 and EC2 in eu-central-1 and us-east-1",
		"internationalization misconfigurations responsibilities", // 20 + 17 + 16
		"commit da39a3ee5e6b4b0d3255bfef95601890afd80709 of github.com/acme/payments",
		"j.doe@example.com told PagerDuty 8842 about OpenSearch2 and MySQL8",
	} {
		w := newWorld(t)
		got := w.typed(t, alice, "report awsiam "+keyID+" "+reason)
		require.NotContains(t, got, "Delete message", reason)
		require.Len(t, w.reports(), 1)
		require.Equal(t, reason, w.reports()[0].Reason)
		require.Empty(t, w.reports()[0].Copies)
	}
}

func TestASecretIsHandedOnOnlyWhereTheKindNeedsIt(t *testing.T) {
	w := newWorld(t)
	hidden := canary(t)
	got := w.typed(t, alice, "report vault/token acc-1 "+hidden)
	require.Contains(t, got, "was sealed")
	require.NotContains(t, got, hidden)
	raw, err := base64.StdEncoding.DecodeString(w.reports()[0].Secret)
	require.NoError(t, err)
	require.Equal(t, hidden, string(raw))
	w.idle(t)
	w.nowhere(t, hidden)
}

func TestASecretAnywhereElseStopsTheCommand(t *testing.T) {
	w := newWorld(t)
	hidden := canary(t)
	for _, text := range []string{
		hidden, "report " + hidden, "report awsiam " + hidden, "deny " + known + " a1 because " + hidden, "hold " + known + " all " + hidden, "status " + hidden,
		"plan awsiam " + hidden, "upload awsiam " + hidden, "release " + known + " hold1 token=" + hidden,
	} {
		got := w.typed(t, alice, text)
		require.Contains(t, got, "Nothing was done", text)
		require.Contains(t, got, "Delete message", text)
		require.NotContains(t, got, hidden)
	}
	require.Empty(t, w.reports())
	require.Empty(t, w.decisions())
	require.Positive(t, w.Refusals()["secret"])

	w.send(w.App, w.click(bob, notify.ActionDeny, notify.ButtonValue(known, "a1", wave)))
	w.idle(t)
	w.send(w.App, w.submit(t, bob, w.vendor.modals()[0], "it is "+hidden))
	require.Contains(t, w.later(t, 1), "Nothing was done", "in a modal too")
	require.Empty(t, w.decisions())
	for _, field := range []string{"user_name", "channel_name", "team_domain", "command", "token"} {
		w.send(w.App, w.slash(alice, "list", func(f url.Values) { f.Set(field, hidden) }))
	}
	w.idle(t)
	w.nowhere(t, hidden)
}

func TestASecretWaitsEncrypted(t *testing.T) {
	w := newWorld(t)
	w.set(func() { w.down = context.DeadlineExceeded })
	hidden := canary(t)
	require.Contains(t, w.typed(t, alice, "report awsiam "+keyID+" "+hidden), "kept")
	w.nowhere(t, hidden)
	require.Len(t, mustPending(t, w), 1)
}
