package mototest

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A Call is one request that moto's own recorder saw.
type Call struct {
	// KeyID signed it; Action is the operation of the service, such as
	// "DeleteAccessKey".
	KeyID, Service, Action string
	// Raw is the whole request as recorded: address, headers and body.
	Raw string
}

// Reads tells whether the call cannot change anything, by its name.
func (c Call) Reads() bool {
	for _, prefix := range []string{"Get", "List", "Describe", "Lookup", "Simulate"} {
		if strings.HasPrefix(c.Action, prefix) {
			return true
		}
	}
	return false
}

// Record has moto record every request from now on.
func (s *Server) Record(t testing.TB) {
	t.Helper()
	for _, what := range []string{"reset-recording", "start-recording"} {
		s.recorder(t, http.MethodPost, what)
	}
}

// Recorded gives the requests since [Server.Record].
func (s *Server) Recorded(t testing.TB) []Call {
	t.Helper()
	var out []Call
	lines := bufio.NewScanner(bytes.NewReader(s.recorder(t, http.MethodGet, "download-recording")))
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var r struct {
			Headers map[string]string `json:"headers"`
			URL     string            `json:"url"`
			Body    string            `json:"body"`
			Encoded bool              `json:"body_encoded"`
		}
		require.NoError(t, json.Unmarshal(lines.Bytes(), &r))
		body := r.Body
		if r.Encoded {
			plain, err := base64.StdEncoding.DecodeString(r.Body)
			require.NoError(t, err)
			body = string(plain)
		}
		c := Call{Raw: r.URL + "\n" + body}
		for k, v := range r.Headers {
			c.Raw += "\n" + k + ": " + v
			if strings.EqualFold(k, "X-Amz-Target") {
				_, c.Action, _ = strings.Cut(v, ".")
			}
			if m := scope.FindStringSubmatch(v); strings.EqualFold(k, "Authorization") && m != nil {
				c.KeyID, c.Service = m[1], m[2]
			}
		}
		if form, err := url.ParseQuery(body); err == nil && c.Action == "" {
			c.Action = form.Get("Action")
		}
		out = append(out, c)
	}
	require.NoError(t, lines.Err())
	return out
}

// scope finds the signer and the service in a signature of version 4.
var scope = regexp.MustCompile(`Credential=([^/]+)/\d{8}/[^/]+/([^/]+)/`)

func (s *Server) recorder(t testing.TB, method, what string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+"/moto-api/recorder/"+what, nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, what)
	return b
}
