package control_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/lab/control"
)

func TestWithoutALabTheHookDoesNothing(t *testing.T) {
	t.Setenv(control.EnvURL, "")
	client := control.FromEnv()
	require.Nil(t, client)
	require.NoError(t, client.Hook(t.Context(), control.Edge{Verb: "Revoke", Edge: control.AfterCall}))
	now, err := client.WorldNow(t.Context())
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), now, time.Minute)
}

func TestTheHookSpeaksToTheLabOfTheEnvironment(t *testing.T) {
	var got control.Edge
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer word" || r.URL.Path != "/lab/edge" {
			http.Error(rw, `{"error":"no"}`, http.StatusUnauthorized)
			return
		}
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Error(err)
		}
	}))
	defer srv.Close()
	t.Setenv(control.EnvURL, srv.URL+"/")
	t.Setenv(control.EnvToken, "word")
	edge := control.Edge{Verb: "Issue", Edge: control.BeforeCall, Key: "AKIAIOSFODNN7EXAMPLE", Incident: "inc-000000000001"}
	require.NoError(t, control.FromEnv().Hook(t.Context(), edge))
	require.Equal(t, edge, got)
	require.ErrorContains(t, control.New(srv.URL, "other").Hook(t.Context(), edge), "401 no")
}

func TestTimesHaveThreeDecimals(t *testing.T) {
	out, err := json.Marshal(control.Clock{Now: control.Time{Time: time.Date(2019, 8, 20, 2, 0, 0, 0, time.FixedZone("", 7200))}, Mode: "virtual"})
	require.NoError(t, err)
	require.JSONEq(t, `{"now":"2019-08-20T00:00:00.000Z","mode":"virtual","calls":0}`, string(out))
	var back control.Clock
	require.NoError(t, json.Unmarshal(out, &back))
	require.Equal(t, "2019-08-20T00:00:00Z", back.Now.Format(time.RFC3339))
}
