package lab_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/stretchr/testify/require"

	"rekey/internal/lab"
	"rekey/internal/lab/labtest"
)

func advance(t *testing.T, l *labtest.Lab, d time.Duration) {
	t.Helper()
	_, err := l.Control.Advance(t.Context(), d)
	require.NoError(t, err)
}

func TestClock(t *testing.T) {
	l := drill(t, "", knowsOld)
	c, err := l.Control.Now(t.Context())
	require.NoError(t, err)
	require.Equal(t, "virtual", c.Mode)
	require.Equal(t, "2019-08-20T00:01:00Z", c.NextEvent.Format(time.RFC3339))
	again, err := l.Control.Now(t.Context())
	require.NoError(t, err)
	require.Equal(t, c.Now, again.Now, "it moves only when told")
	to := c.Now.Add(14 * 24 * time.Hour)
	c, err = l.Control.MoveTo(t.Context(), to)
	require.NoError(t, err)
	require.Equal(t, to, c.Now.Time)
	c, err = l.Control.MoveTo(t.Context(), to.Add(-time.Hour))
	require.NoError(t, err)
	require.Equal(t, to, c.Now.Time, "time does not run backwards")
	n := 0
	for _, u := range l.Oracle(t).Uses {
		if u.Label == "malicious" && u.Call == "sts:GetCallerIdentity" {
			n += u.N
		}
	}
	require.Equal(t, 14*24*60, n, "every minute of two weeks")
	_, err = l.Control.Advance(t.Context(), -time.Second)
	require.ErrorContains(t, err, "backwards")
}

// TestClientsFollowTheClock: the SDK corrects its signing date by the Date header, here world
// time; a client that learnt it earlier still gets in after the world moved on by days.
func TestClientsFollowTheClock(t *testing.T) {
	l := drill(t, "", "")
	cfg := config(l, l.Engine)
	cfg.RetryMaxAttempts = 0 // the SDK's default behaviour
	c := iam.NewFromConfig(cfg)
	for range 3 {
		_, err := c.ListUsers(t.Context(), nil)
		require.NoError(t, err)
		advance(t, l, 72*time.Hour)
	}
	for _, u := range l.Oracle(t).Uses {
		require.False(t, u.Label == "engine" && u.Result != "ok", u)
	}
}

func TestRealClockRuns(t *testing.T) {
	text := strings.Replace(drillText("", ""), "clock: {t0: 2019-08-20T00:00:00Z, horizon: 96h}", "clock: {mode: real}", 1)
	l := labtest.Start(t, labtest.Scenario(t, text))
	before := time.Now().Truncate(time.Second)
	c, err := l.Control.Now(t.Context())
	require.NoError(t, err)
	require.WithinRange(t, c.Now.Time, before, time.Now())
	require.Eventually(t, func() bool {
		later, err := l.Control.Now(t.Context())
		return err == nil && later.Now.After(c.Now.Time)
	}, time.Minute, time.Millisecond)
	_, err = l.Control.Advance(t.Context(), time.Hour)
	require.ErrorContains(t, err, "real")
}

func TestResumes(t *testing.T) {
	dir := t.TempDir()
	d := labtest.Scenario(t, drillText(`faults: [{what: throttle, at: {verb: Inspect, nth: 3}, times: 2}]`, knowsOld))
	l := labtest.Resume(t, d, dir)
	advance(t, l, 15*time.Minute)
	issued := reissue(t, l)
	disable(t, l, "legacy-admin", "AK-OLD")
	list := func(l *labtest.Lab) string {
		_, err := iamFor(l, l.Engine).ListUsers(t.Context(), nil)
		return code(err)
	}
	require.Equal(t, []string{"", "", "Throttling"}, []string{list(l), list(l), list(l)})
	before, old, issuedSecret := l.Oracle(t), l.Secret(t, "AK-OLD"), l.Secret(t, issued)
	_, err := lab.New(lab.Options{Dir: dir, Scenario: d})
	require.ErrorContains(t, err, "in use")

	// A killed lab never writes its snapshot: take the files as they are now.
	killed := t.TempDir()
	require.NoError(t, os.CopyFS(killed, os.DirFS(dir)))
	for name, at := range map[string]string{"stopped": dir, "killed": killed} {
		t.Run(name, func(t *testing.T) {
			if name == "stopped" {
				l.Stop(t)
			} else { // and its last line may be torn
				f, err := os.OpenFile(filepath.Join(at, "lab", "trail.jsonl"), os.O_APPEND|os.O_WRONLY, 0o600)
				require.NoError(t, err)
				_, err = f.WriteString(`{"seq":99`)
				require.NoError(t, err)
				require.NoError(t, f.Close())
			}
			l := labtest.Resume(t, d, at)
			require.Equal(t, before, l.Oracle(t))
			require.Equal(t, old, l.Secret(t, "AK-OLD"))
			require.Equal(t, issuedSecret, l.Secret(t, issued))
			require.Equal(t, []string{"Throttling", ""}, []string{list(l), list(l)}, "the fault goes on where it was")
			require.Empty(t, who(t, l, old), "what had not propagated still has not")
			advance(t, l, 4*time.Second)
			require.Equal(t, "InvalidClientTokenId", who(t, l, old))
			require.Len(t, l.Oracle(t).Keys, 4, "the planned reaction came")
		})
	}
}
