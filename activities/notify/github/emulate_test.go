package github_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/activities/activitytest/emulatetest"
	"rekey/activities/notify"
	"rekey/activities/notify/github"
	"rekey/internal/httpx"
	"rekey/internal/secret"
)

// open opens the channel as the worker does.
func open(t *testing.T, base string, settings, credentials map[string]string) *github.Client {
	t.Helper()
	a := activities.Account{
		Name: "github", AllowPrivate: true, Settings: map[string]string{"base_url": base},
		Credential: func(name string) (secret.Value, error) {
			v, ok := credentials[name]
			require.True(t, ok, name)
			return secret.New([]byte(v + "\n")), nil
		},
	}
	for k, v := range settings {
		a.Settings[k] = v
	}
	c, err := github.Channel().Open(a, activities.Deps{HTTP: httpx.ForAccount, Agent: "rekey-test"})
	require.NoError(t, err)
	return c.(*github.Client)
}

func withToken(t *testing.T, base, token string) *github.Client {
	t.Helper()
	return open(t, base, nil, map[string]string{"token": token})
}

// A lossy proxy passes requests on and drops the answer of the next one that
// matches, after the server did the work.
type lossy struct {
	*httptest.Server
	mu   sync.Mutex
	drop string // "POST /issues"
	urls []string
}

func newLossy(t *testing.T, to string) *lossy {
	t.Helper()
	u, err := url.Parse(to)
	require.NoError(t, err)
	p := &lossy{}
	proxy := httputil.NewSingleHostReverseProxy(u)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.urls = append(p.urls, r.URL.String())
		method, suffix, _ := strings.Cut(p.drop, " ")
		hit := p.drop != "" && r.Method == method && strings.HasSuffix(r.URL.Path, suffix)
		if hit {
			p.drop = ""
		}
		p.mu.Unlock()
		if hit {
			proxy.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *lossy) next(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop = what
}

type issue struct {
	Number      int
	Title, Body string
	State       string
	StateReason string `json:"state_reason"`
	Labels      []struct{ Name string }
	User        struct{ Login string }
}

// read asks emulate without any code of ours.
func read(t *testing.T, s *emulatetest.Server, path string, to any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.GitHub+path, nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+s.GitHubToken)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.NoError(t, json.NewDecoder(resp.Body).Decode(to))
}

func issues(t *testing.T, s *emulatetest.Server) []issue {
	var out []issue
	read(t, s, "repos/"+emulatetest.Repo+"/issues?state=all&per_page=100", &out)
	return out
}

func comments(t *testing.T, s *emulatetest.Server, id string) []issue {
	var out []issue
	read(t, s, "repos/"+emulatetest.Repo+"/issues/"+id+"/comments?per_page=100", &out)
	return out
}

func TestEmulate(t *testing.T) {
	s := emulatetest.Start(t)
	p := newLossy(t, s.GitHub)
	c := withToken(t, p.URL, s.GitHubToken)
	ctx := t.Context()
	req := notify.OpenRequest{Incident: incident, Target: emulatetest.Repo, Labels: []string{"key-compromise", "key-compromise", "on call"}, Card: waiting(), Marker: incident}

	// The issue is made, its answer is lost: it is found and not made again.
	p.next("POST /issues")
	_, err := c.Open(ctx, req)
	require.Equal(t, activities.ClassUnclear, activities.AsFault("", err).Class)
	req.Recheck = true
	place, err := c.Open(ctx, req)
	require.NoError(t, err)
	again, err := withToken(t, s.GitHub, s.GitHubToken).Open(ctx, req) // another process
	require.NoError(t, err)
	require.Equal(t, place, again)
	got := issues(t, s)
	require.Len(t, got, 1)
	require.Equal(t, incident+": Leaked AWS IAM user access key (critical)", got[0].Title)
	require.Equal(t, github.Body(waiting(), incident), got[0].Body)
	require.Len(t, got[0].Labels, 2)
	require.Equal(t, strconv.Itoa(got[0].Number), place.ID)

	// The same marker in an issue of somebody else is not ours.
	forged := req
	forged.Marker, forged.Incident, forged.Recheck = "inc-ffffffffffff", "inc-ffffffffffff", false
	theirs, err := withToken(t, s.GitHub, s.OtherGitHub).Open(ctx, forged)
	require.NoError(t, err)
	forged.Recheck = true
	ours, err := c.Open(ctx, forged)
	require.NoError(t, err)
	require.NotEqual(t, theirs.ID, ours.ID)

	// Comments, one with its answer lost; what is not worth a mail is none.
	line := notify.AppendRequest{Incident: incident, Place: place, Marker: incident + "/7", Line: notify.Line{N: 7, At: at, Kind: notify.KindAsk, Text: hostile}}
	p.next("POST /comments")
	_, err = c.Append(ctx, line)
	require.Equal(t, activities.ClassUnclear, activities.AsFault("", err).Class)
	line.Recheck = true
	id, err := c.Append(ctx, line)
	require.NoError(t, err)
	require.NotEmpty(t, id)
	none, err := c.Append(ctx, notify.AppendRequest{Incident: incident, Place: place, Marker: incident + "/8", Line: notify.Line{N: 8, Kind: notify.KindPhase, Text: "act"}})
	require.NoError(t, err)
	require.Empty(t, none)
	require.Len(t, comments(t, s, place.ID), 1)

	require.NoError(t, c.Update(ctx, notify.UpdateRequest{Incident: incident, Place: place, Card: waiting()}))

	// Closed with the digest, once, whatever is lost on the way; reopened; closed again.
	done := notify.UpdateRequest{Incident: incident, Place: place, Card: contained()}
	p.next("POST /comments")
	require.Error(t, c.Close(ctx, done))
	p.next("PATCH /issues/" + place.ID)
	require.Error(t, c.Close(ctx, done))
	require.NoError(t, c.Close(ctx, done))
	require.NoError(t, c.Close(ctx, done))
	all := comments(t, s, place.ID)
	require.Len(t, all, 2)
	require.Contains(t, all[1].Body, contained().Bundle)
	closed := issues(t, s)
	i := closed[len(closed)-1]
	if i.Number != got[0].Number {
		i = closed[0]
	}
	for _, x := range closed {
		if strconv.Itoa(x.Number) == place.ID {
			i = x
		}
	}
	require.Equal(t, "closed", i.State)
	require.Equal(t, "completed", i.StateReason)
	require.Contains(t, i.Body, contained().Bundle)
	require.NoError(t, c.Close(ctx, notify.UpdateRequest{Incident: incident, Place: place, Card: waiting()}))
	for _, x := range issues(t, s) {
		if strconv.Itoa(x.Number) == place.ID {
			require.Equal(t, "open", x.State)
		}
	}

	_, err = c.Open(ctx, notify.OpenRequest{Incident: incident, Target: "acme/nowhere", Marker: "x", Card: waiting()})
	require.Equal(t, activities.ClassDenied, activities.AsFault("", err).Class)
	require.ErrorContains(t, err, "record.github.repo")
	for _, problem := range c.Check(ctx, emulatetest.Repo) {
		require.True(t, problem.Warning, "%+v", problem) // emulate's repository is public
	}
	require.Equal(t, notify.ProblemTarget, c.Check(ctx, "acme/nowhere")[0].Code)
	for _, u := range p.urls {
		require.NotContains(t, u, s.GitHubToken)
	}
}

// The App's way: a JWT signed with its key, an installation token, the issue by
// SLUG[bot].
func TestEmulateApp(t *testing.T) {
	s := emulatetest.Start(t)
	settings := map[string]string{"app_id": strconv.Itoa(emulatetest.AppID), "installation_id": strconv.Itoa(emulatetest.InstallationID)}
	c := open(t, s.GitHub, settings, map[string]string{"private_key": string(s.AppKey)})
	ctx := t.Context()
	req := notify.OpenRequest{Incident: incident, Target: emulatetest.Repo, Card: waiting(), Marker: incident, Recheck: true}
	place, err := c.Open(ctx, req)
	require.NoError(t, err)
	again, err := c.Open(ctx, req)
	require.NoError(t, err)
	require.Equal(t, place, again)
	got := issues(t, s)
	require.Len(t, got, 1)
	require.Equal(t, emulatetest.AppSlug+"[bot]", got[0].User.Login)
	require.NoError(t, c.Close(ctx, notify.UpdateRequest{Incident: incident, Place: place, Card: contained()}))

	settings["installation_id"] = "99"
	_, err = open(t, s.GitHub, settings, map[string]string{"private_key": string(s.AppKey)}).Open(ctx, req)
	require.Equal(t, activities.ClassDenied, activities.AsFault("", err).Class)
}
