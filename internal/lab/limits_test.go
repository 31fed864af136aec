package lab_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/stretchr/testify/require"

	"rekey/internal/lab/labtest"
)

// TestMutationsAreLimitedWithARetryAfter: 60 a minute, then 429 and Retry-After; what only reads
// goes on. A caller that does not wait is refused, and every call of that time is on record.
func TestMutationsAreLimitedWithARetryAfter(t *testing.T) {
	text := strings.Replace(drillText("", ""), "propagation: 4s", "propagation: 4s, limits: {iam.write: {rate: 60/m, retry_after: 30s}}", 1)
	l := labtest.Start(t, labtest.Scenario(t, text))
	c := iamFor(l, l.Engine)
	toggles := 0
	toggle := func() (status int, after string) {
		state := iamtypes.StatusTypeInactive
		if toggles%2 == 1 {
			state = iamtypes.StatusTypeActive
		}
		toggles++
		_, err := c.UpdateAccessKey(t.Context(), &iam.UpdateAccessKeyInput{UserName: aws.String("ci"), AccessKeyId: aws.String(l.Aliases["AK-CI"]), Status: state})
		var resp *awshttp.ResponseError
		if errors.As(err, &resp) {
			return resp.HTTPStatusCode(), resp.Response.Header.Get("Retry-After")
		}
		require.NoError(t, err)
		return 200, ""
	}
	began := time.Now()
	status, after, taken := 0, "", 0
	for status, after = toggle(); status == 200; status, after = toggle() {
		taken++
		// The bucket fills by the wall clock too, so that a caller may pace itself by either.
		require.LessOrEqual(t, float64(taken), 61+time.Since(began).Seconds())
	}
	require.GreaterOrEqual(t, taken, 60)
	require.Equal(t, []any{429, "30"}, []any{status, after})
	_, err := c.ListUsers(t.Context(), nil)
	require.NoError(t, err, "reading is not limited")
	ledger, err := l.Control.Ledger(t.Context())
	require.NoError(t, err)
	require.Zero(t, ledger.Backoff.During+ledger.Backoff.InFlight)

	time.Sleep(110 * time.Millisecond) // a caller of 100 ms ago cannot have known
	advance(t, l, 10*time.Second)
	status, after = toggle()
	require.Equal(t, []any{429, "20"}, []any{status, after}, "it was told to wait; that there is room again does not help")
	ledger, err = l.Control.Ledger(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, ledger.Backoff.During)
	require.Equal(t, "during", ledger.Backoff.First[0].Stop)
	require.Equal(t, "iam:UpdateAccessKey", ledger.Backoff.First[0].Action)
	require.Equal(t, "throttled", ledger.Backoff.First[0].Result)
	require.EqualValues(t, 2, ledger.Verbs["Disable"].Results["throttled"]+ledger.Verbs["Restore"].Results["throttled"])
	require.EqualValues(t, taken, ledger.Verbs["Disable"].Results["ok"]+ledger.Verbs["Restore"].Results["ok"])

	advance(t, l, 20*time.Second)
	status, _ = toggle()
	require.Equal(t, 200, status)
	require.EqualValues(t, 1, l.Oracle(t).Backoff.During)
}

// TestLedgerCountsEffects: per key, whatever the number of calls, and only what changed something.
func TestLedgerCountsEffects(t *testing.T) {
	text := strings.Replace(drillText(`faults: [{what: lost-answer, at: {verb: Issue}}]`, ""), "trigger:", `  generate: [{kind: key, count: 3, user: "svc-{n}"}]`+"\ntrigger:", 1)
	dir := t.TempDir()
	l := labtest.Resume(t, labtest.Scenario(t, text), dir)
	c := iamFor(l, l.Engine)
	set := func(n int, s iamtypes.StatusType) {
		user := fmt.Sprintf("svc-%d", n)
		_, err := c.UpdateAccessKey(t.Context(), &iam.UpdateAccessKeyInput{UserName: &user, AccessKeyId: aws.String(l.Aliases["key-"+user]), Status: s})
		require.NoError(t, err)
	}
	set(1, iamtypes.StatusTypeInactive)
	set(1, iamtypes.StatusTypeInactive) // changes nothing
	set(2, iamtypes.StatusTypeInactive)
	set(2, iamtypes.StatusTypeActive)
	set(2, iamtypes.StatusTypeInactive) // once more after a Restore is no repeat
	_, err := c.DeleteAccessKey(t.Context(), &iam.DeleteAccessKeyInput{UserName: aws.String("svc-1"), AccessKeyId: aws.String(l.Aliases["key-svc-1"])})
	require.NoError(t, err)
	_, err = c.DeleteAccessKey(t.Context(), &iam.DeleteAccessKeyInput{UserName: aws.String("svc-1"), AccessKeyId: aws.String(l.Aliases["key-svc-1"])})
	require.Equal(t, "NoSuchEntity", code(err))
	_, err = c.CreateAccessKey(t.Context(), &iam.CreateAccessKeyInput{UserName: aws.String("svc-3")})
	require.Equal(t, "no answer", code(err))

	check := func(l *labtest.Lab) {
		ledger, err := l.Control.Ledger(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 8, ledger.Calls)
		require.EqualValues(t, 4, ledger.Verbs["Disable"].Calls)
		require.EqualValues(t, 3, ledger.Verbs["Disable"].Effects)
		require.EqualValues(t, 2, ledger.Verbs["Revoke"].Calls)
		require.EqualValues(t, 1, ledger.Verbs["Revoke"].Effects)
		require.EqualValues(t, 1, ledger.Verbs["Issue"].Lost)
		require.Empty(t, ledger.Repeated)
		require.EqualValues(t, 1, ledger.Keys["engine"].Total)
		require.EqualValues(t, 1, ledger.Keys["scenario"].Deleted)
		require.EqualValues(t, 5, ledger.Keys["scenario"].Total)
		one, err := l.Control.Key(t.Context(), "key-svc-2")
		require.NoError(t, err)
		require.Equal(t, []any{"inactive", 2, 1, 0}, []any{one.State, one.Disable, one.Restore, one.Revoke})
		_, err = l.Control.Key(t.Context(), "key-svc-9")
		require.ErrorContains(t, err, "no key")
		calls := l.Oracle(t).Calls
		require.Len(t, calls, 8)
		require.Contains(t, calls[0].Agent, "aws-sdk-go-v2")
		require.Equal(t, l.Engine.KeyID, calls[0].Caller)
		require.Equal(t, []bool{true, false}, []bool{calls[0].Effect, calls[1].Effect})
	}
	check(l)
	l.Stop(t)
	check(labtest.Resume(t, labtest.Scenario(t, text), dir))
}

// TestLedgerNamesWhatTookEffectTwice: a key that comes back and is deleted again is the only way to
// it here.
func TestLedgerNamesWhatTookEffectTwice(t *testing.T) {
	l := drill(t, "", "")
	c := iamFor(l, l.Engine)
	for range 2 {
		disable(t, l, "ci", "AK-CI")
		_, err := iamFor(l, l.Secret(t, "AK-OLD")).UpdateAccessKey(t.Context(), &iam.UpdateAccessKeyInput{UserName: aws.String("ci"), AccessKeyId: aws.String(l.Aliases["AK-CI"]), Status: iamtypes.StatusTypeActive})
		require.NoError(t, err) // by somebody else: no Restore of the engine's
	}
	_, err := c.ListUsers(t.Context(), nil)
	require.NoError(t, err)
	ledger, err := l.Control.Ledger(t.Context())
	require.NoError(t, err)
	require.Len(t, ledger.Repeated, 1)
	require.Equal(t, "AK-CI", ledger.Repeated[0].Alias)
	require.Equal(t, 2, ledger.Repeated[0].Disable)
}
