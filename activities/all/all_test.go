package all_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/activities/activitytest"
	"rekey/activities/all"
	"rekey/internal/gen/providerdocs/page"
	"rekey/internal/httpx"
	"rekey/internal/secret"
)

// TestProviders holds every provider to the same promises.
func TestProviders(t *testing.T) {
	require.NotEmpty(t, all.Providers())
	_, err := all.Default()
	require.NoError(t, err)
	for _, p := range all.Providers() {
		t.Run(p.Descriptor.Code, func(t *testing.T) {
			t.Run("descriptor", func(t *testing.T) { descriptor(t, p.Descriptor) })
			t.Run("code keeps what the descriptor promises", func(t *testing.T) { promises(t, p) })
			t.Run("policies", func(t *testing.T) { policies(t, p.Descriptor) })
			t.Run("page is current", func(t *testing.T) { current(t, p.Descriptor) })
			t.Run("no secret in it", func(t *testing.T) { noSecret(t, p.Descriptor) })
		})
	}
}

func descriptor(t *testing.T, d activities.Descriptor) {
	require.Regexp(t, `^[a-z][a-z0-9]{1,31}$`, d.Code)
	require.NotEmpty(t, d.Name)
	require.True(t, strings.HasPrefix(d.Docs, "https://"), "say where the vendor documents it")
	require.NotEmpty(t, d.Kinds)
	require.NotNil(t, d.CheckID)
	apis := map[string]bool{}
	for _, l := range d.Limits {
		require.Positive(t, l.Value, l.API)
		require.NotEmpty(t, l.Per, l.API)
		apis[l.API] = true
	}
	seen := map[string]bool{}
	for _, k := range d.Kinds {
		require.False(t, seen[k.Kind], "kind %s twice", k.Kind)
		seen[k.Kind] = true
		require.NotEmpty(t, k.Recogniser)
		_, err := regexp.Compile(k.Pattern)
		require.NoError(t, err)
		require.Positive(t, k.Propagation, "say how long a change takes")
		for v, info := range k.Verbs {
			require.Contains(t, activities.Verbs(), v)
			switch info.Support {
			case activities.ByAPI:
				require.Contains(t, []activities.Proof{activities.ForeignServer, activities.PublishedFixtures, activities.LabOnly}, info.Proof, "%s: say how it was proven", v)
				require.NotEmpty(t, info.Calls, "%s: name the calls, they go into plans", v)
				require.True(t, apis[info.API], "%s counts against %q, which has no limit", v, info.API)
			case activities.ByHuman:
				require.NotEmpty(t, info.Steps, "%s: say where the steps are", v)
			default:
				t.Fatalf("%s: support %q; leave out what there is not", v, info.Support)
			}
			if v == activities.Revoke {
				require.False(t, info.Reversible)
			}
			if v == activities.Issue {
				require.False(t, info.Idempotent, "a create is settled by reconciliation, never promised idempotent")
			}
		}
		if _, ok := k.Verbs[activities.Probe]; ok {
			require.True(t, k.ProbeAction != "" || !k.SessionsOutlive, "under EndSessions authentication alone still answers")
		}
		if k.SessionsOutlive {
			_, ends := k.Verbs[activities.EndSessions]
			_, denies := k.Verbs[activities.Deny]
			require.True(t, ends || denies, "sessions outlive the key and nothing ends them")
		}
	}
	for rung, v := range d.RungVerbs {
		require.Contains(t, []string{"key", "sessions", "principal", "parent-deny", "network-bind"}, rung)
		require.True(t, slices.ContainsFunc(d.Kinds, func(k activities.KindInfo) bool { _, ok := k.Verbs[v]; return ok }), "rung %s", rung)
	}
	for _, s := range d.Secrets {
		_, err := regexp.Compile(s)
		require.NoError(t, err)
	}
	malformed := []string{"", " ", "x", strings.Repeat("A", 40), strings.Repeat("k", 5000)}
	if d.FreeForm {
		malformed = slices.DeleteFunc(malformed, func(s string) bool { return s == "x" })
	}
	for _, bad := range malformed {
		_, err := d.CheckID(bad)
		require.Error(t, err)
		if len(bad) > 2 {
			require.NotContains(t, err.Error(), bad, "what may be a secret is not repeated")
		}
	}
}

// promises compares what the client can do, by type, with what is promised.
func promises(t *testing.T, p activities.Provider) {
	promised := map[activities.Verb]bool{}
	for _, k := range p.Descriptor.Kinds {
		for v, info := range k.Verbs {
			if info.Support == activities.ByAPI {
				promised[v] = true
			}
		}
	}
	base := "" // the vendor's own
	if p.Descriptor.Code == "postgres" {
		base = "postgres://db.example.com/app" // there is no such thing as the vendor's own server
	}
	c, err := p.Open(account(base), deps())
	require.NoError(t, err, "Open makes no call and needs no credential")
	for _, v := range activities.Verbs() {
		require.Equal(t, promised[v], activities.Implements(c, v), "%s: the descriptor promises one thing, the code does another", v)
	}
	if promised[activities.Issue] {
		require.Implements(t, (*activities.Lister)(nil), c, "Issue needs the keys before it")
		require.Implements(t, (*activities.Reconciler)(nil), c, "a lost Issue must be settled")
	}
	if promised[activities.Distribute] {
		require.NotEmpty(t, p.Descriptor.Stores)
	}
}

func policies(t *testing.T, d activities.Descriptor) {
	for name, policy := range map[string]string{"read": d.ReadPolicy, "write": d.WritePolicy} {
		if sql := strings.HasPrefix(policy, "-- "); !sql {
			require.True(t, json.Valid([]byte(policy)), "%s policy is neither JSON nor SQL", name)
		}
		require.NotRegexp(t, `"Action":\s*"\*"|\[your|<[a-z]+>`, policy, "%s policy", name)
	}
	// Every right a verb needs is given by a policy ready to paste, and by the right
	// one: what reads must not need the rights to act.
	for _, k := range d.Kinds {
		for v, info := range k.Verbs {
			for _, right := range info.Permissions {
				if v.Mutates() {
					require.True(t, strings.Contains(d.WritePolicy, `"`+right+`"`) || strings.Contains(d.ReadPolicy, `"`+right+`"`), "%s needs %s", v, right)
				} else {
					require.Contains(t, d.ReadPolicy, `"`+right+`"`, v)
					require.NotContains(t, d.WritePolicy, `"`+right+`"`, v)
				}
			}
		}
	}
}

func current(t *testing.T, d activities.Descriptor) {
	dir := filepath.Join("..", "..", "docs", "providers")
	notes, err := page.Notes(dir, d.Code)
	require.NoError(t, err)
	got, err := os.ReadFile(page.Path(dir, d.Code))
	require.NoError(t, err, "run: go run ./internal/gen/providerdocs")
	require.Equal(t, page.Render(d, notes), string(got), "stale; run: go run ./internal/gen/providerdocs")
	for _, k := range d.Kinds {
		for _, info := range k.Verbs {
			if _, anchor, ok := strings.Cut(info.Steps, "#"); ok {
				require.Contains(t, strings.ToLower(string(got)), "### "+anchor)
			}
		}
	}
}

func noSecret(t *testing.T, d activities.Descriptor) {
	r, err := all.NewRegistry(activities.Provider{Descriptor: d})
	require.NoError(t, err)
	raw, err := json.Marshal(d)
	require.NoError(t, err)
	for _, re := range r.Redactions() {
		require.False(t, re.Match(raw))
	}
	require.Empty(t, r.Recognise(string(raw)))
}

func account(base string) activities.Account {
	return activities.Account{Name: "test", Settings: map[string]string{"account_id": "123456789012", "base_url": base, "user": "rekey"},
		Credential: func(string) (secret.Value, error) { return secret.Value{}, errors.New("none") }}
}

func deps() activities.Deps {
	return activities.Deps{Secrets: activitytest.NewStore(), Agent: "rekey/test",
		HTTP: func(a activities.Account) (*http.Client, error) { return httpx.ForAccount(a) },
		Now:  func(context.Context) time.Time { return time.Unix(0, 0) }}
}

func TestRegistry(t *testing.T) {
	r, err := all.Default()
	require.NoError(t, err)
	_, ok := r.Lookup("awsiam")
	require.True(t, ok)
	_, ok = r.Lookup("AWSIAM")
	require.False(t, ok)

	const user, session = "AKIAIOSFODNN7EXAMPLE", "ASIAIOSFODNN7EXAMPLE"
	got := r.Recognise("found " + session + " and, in config: key=" + user + "; not X" + user + ", not " + user + "X")
	require.Equal(t, []string{session, user}, []string{got[0].ID, got[1].ID})
	require.Len(t, got, 2)
	require.Equal(t, "sts-session", got[0].Kind)

	kind, err := r.Kind("awsiam", "", user)
	require.NoError(t, err)
	require.Equal(t, "user-access-key", kind)
	_, err = r.Kind("awsiam", "sts-session", user)
	require.ErrorContains(t, err, "is a user-access-key, not a sts-session")
	_, err = r.Kind("aws", "", user)
	require.ErrorContains(t, err, `unknown provider "aws"; there is awsiam`)

	_, err = all.NewRegistry(append(all.Providers(), all.Providers()...)...)
	require.ErrorContains(t, err, "used twice")
}

// TestPostgresSecretsAreRecognised: the role is the id, the password is taken out.
func TestPostgresSecretsAreRecognised(t *testing.T) {
	r, err := all.Default()
	require.NoError(t, err)
	password := activitytest.Canary()[:20]
	url := "postgres://payments_api:" + strings.NewReplacer("/", "x", "+", "y").Replace(password) + "@db.example.com:5432/app"
	got := r.Recognise("seen in a log: " + url)
	require.Len(t, got, 1)
	require.Equal(t, []string{"postgres", "role-password", "payments_api"}, []string{got[0].Provider, got[0].Kind, got[0].ID})
	for _, text := range []string{
		url, "postgresql+psycopg://app:" + password[:8] + "@db/x", "export PGPASSWORD='" + password + "'", "PGPASSWORD: " + password,
		"host=db user=app dbname=x password=" + password, "db.example.com:5432:*:app:" + password + "\n", "CREATE ROLE a PASSWORD '" + password + "'",
	} {
		left := text
		for _, re := range r.Redactions() {
			left = re.ReplaceAllString(left, "[redacted]")
		}
		require.NotContains(t, left, password[:8], "%q", text)
	}
	for _, plain := range []string{"at 12:30:45: done: yes: all", "the password was changed", "postgres://db.example.com/app"} {
		for _, re := range r.Redactions() {
			require.False(t, re.MatchString(plain), "%s: %s", re, plain)
		}
	}
}
