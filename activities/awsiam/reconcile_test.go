package awsiam_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/activities/activitytest"
	"rekey/activities/awsiam"
)

// A key is deleted only when both the principal and the token are ours.
func TestReconcileKillsOnProofAlone(t *testing.T) {
	const token = "inc-1/issue"
	// The mark that a call with this token carries, as CloudTrail shows it.
	ours := markOf(t, token)
	tests := map[string]struct {
		agent, arn string
		logged     bool
		age        time.Duration
		killed     bool
		settled    bool
	}{
		"our principal, our token":            {ours, engineARN, true, time.Hour, true, true},
		"our principal, another effect":       {markOf(t, "inc-1/other"), engineARN, true, time.Hour, false, true},
		"our principal by hand":               {"aws-cli/2.15", engineARN, true, time.Hour, false, true},
		"our token copied by somebody else":   {ours, "arn:aws:iam::123456789012:user/mallory", true, time.Hour, false, true},
		"no event, and it may still come":     {"", "", false, time.Minute, false, false},
		"no event, and none will come":        {"", "", false, time.Hour, false, true},
		"proof at once does not wait for lag": {ours, engineARN, true, time.Minute, true, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			v := newVendor()
			old := v.addKey("ci")
			before := v.state()
			fresh := v.addKey("ci")
			if tt.logged {
				v.log(&http.Request{Header: http.Header{"User-Agent": {tt.agent}}}, "CreateAccessKey", engineID, tt.arn,
					map[string]any{"userName": "ci"}, map[string]any{"accessKey": map[string]any{"accessKeyId": fresh.ID}})
			}
			srv := httptest.NewServer(v)
			defer srv.Close()
			c := open(t, account(srv.URL, vendorAccount, engineID, activitytest.Canary()), activitytest.NewStore())
			now := time.Now()
			rec, err := c.ReconcileIssue(t.Context(), activities.ReconcileRequest{Started: now.Add(-tt.age), Now: now, IssueRequest: activities.IssueRequest{
				Handle: "new/1", Before: before,
				Ref: activities.Ref{Incident: incident, Token: token, Key: activities.Key{Provider: awsiam.Code, Kind: awsiam.KindUser, ID: old.ID, Principal: "ci"}},
			}})
			require.NoError(t, err)
			require.Equal(t, tt.settled, rec.Settled, rec.Detail)
			if tt.killed {
				require.Equal(t, before, v.state())
				require.Equal(t, fresh.ID, rec.Killed[0].ID)
				return
			}
			require.Len(t, v.state(), 2)
			require.Empty(t, rec.Killed)
			if tt.settled {
				require.Equal(t, fresh.ID, rec.Unattributed[0].ID)
			} else {
				require.Empty(t, rec.Unattributed, "not called a stranger's before the lag is over")
			}
		})
	}
}

// markOf takes the user agent off a call with the token.
func markOf(t *testing.T, token string) string {
	t.Helper()
	agent := ""
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		agent = r.UserAgent()
		w.WriteHeader(http.StatusBadGateway)
	}))
	defer srv.Close()
	c := open(t, account(srv.URL, vendorAccount, engineID, activitytest.Canary()), activitytest.NewStore())
	_, err := c.Disable(t.Context(), activities.Ref{Incident: incident, Token: token, Key: activities.Key{ID: newID("AKIA"), Principal: "ci"}})
	require.Error(t, err)
	require.Contains(t, agent, "rekey-token/")
	return agent
}

// What belongs to another account is refused: there IAM would say that it is gone.
func TestForeignKeysAreRefused(t *testing.T) {
	called := false
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called = true }))
	defer srv.Close()
	c := open(t, account(srv.URL, "999999999999", engineID, activitytest.Canary()), activitytest.NewStore())
	ref := activities.Ref{Incident: incident, Token: "t", Key: activities.Key{ID: newID("AKIA"), Principal: "ci"}}
	_, err := c.Disable(t.Context(), ref)
	require.ErrorContains(t, err, "belongs to AWS account "+vendorAccount)
	_, err = c.Revoke(t.Context(), ref)
	require.ErrorContains(t, err, "belongs to AWS account")
	_, err = c.Probe(t.Context(), activities.ProbeRequest{Ref: ref, Mode: activities.ProbeState})
	require.ErrorContains(t, err, "belongs to AWS account")
	require.False(t, called)
}

// A thief who renames the user does not make the key look gone.
func TestRenamedUsersAreFollowed(t *testing.T) {
	v := newVendor()
	k := v.addKey("renamed")
	srv := httptest.NewServer(v)
	defer srv.Close()
	c := open(t, account(srv.URL, vendorAccount, engineID, activitytest.Canary()), activitytest.NewStore())
	ref := activities.Ref{Incident: incident, Token: "t", Key: activities.Key{ID: k.ID, Principal: "ci"}}
	p, err := c.Probe(t.Context(), activities.ProbeRequest{Ref: ref, Mode: activities.ProbeState})
	require.NoError(t, err)
	require.Equal(t, activities.ProbeAlive, p.Saw)
	res, err := c.Disable(t.Context(), ref)
	require.NoError(t, err)
	require.Equal(t, activities.Done, res.Outcome)
	require.False(t, v.state()[0].Active)
	res, err = c.Revoke(t.Context(), ref)
	require.NoError(t, err)
	require.Equal(t, activities.Done, res.Outcome)
	require.Empty(t, v.state())
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	for want, change := range map[string]func(*activities.Account){
		"account_id must be the 12-digit": func(a *activities.Account) { a.Settings["account_id"] = "12345" },
		"scheme, host and port alone":     func(a *activities.Account) { a.Settings["base_url"] = "https://user:pw@example.com" },
		"is for test servers":             func(a *activities.Account) { a.AllowPrivate = false },
		"whole number per second":         func(a *activities.Account) { a.Settings["rate.cloudtrail"] = "2/m" },
		"timeout must be":                 func(a *activities.Account) { a.Settings["timeout"] = "soon" },
	} {
		a := account("http://127.0.0.1:1", vendorAccount, engineID, "")
		change(&a)
		_, err := awsiam.Provider().Open(a, deps(activitytest.NewStore()))
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "user:pw")
	}
	c := open(t, account("http://127.0.0.1:1", vendorAccount, engineID, ""), activitytest.NewStore())
	_, err := c.Disable(t.Context(), activities.Ref{Incident: incident, Key: activities.Key{ID: newID("AKIA"), Principal: "ci"}})
	f := activities.AsFault("", err)
	require.Equal(t, activities.ClassDenied, f.Class)
	require.Contains(t, f.Detail, "no credential secret_access_key for account test")
}
