// Package labtest starts a lab inside a Go test.
package labtest

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/lab"
	"rekey/internal/lab/control"
	"rekey/internal/lab/scenario"
)

// Lab is a running lab.
type Lab struct {
	BaseURL string            // of the simulated provider: base_url of awsiam/lab
	Account string            // its account id
	Region  string            // where global services log
	Engine  control.Secret    // credentials of an administrator, rekey's own
	Aliases map[string]string // scenario id -> provider key id
	Control *control.Client
	HTTP    *http.Client // for the SDK, see Client
	Dir     string       // files are in Dir/lab

	stop func() error
}

// Start runs a lab for the time of a test. Its files are in a directory of the test.
func Start(t testing.TB, d *scenario.Drill) *Lab {
	t.Helper()
	return Resume(t, d, t.TempDir())
}

// Resume runs a lab in a directory, which may hold one that ran before.
func Resume(t testing.TB, d *scenario.Drill, dir string) *Lab {
	t.Helper()
	s, err := lab.New(lab.Options{Dir: dir, Scenario: d})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	stop := func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}
	t.Cleanup(func() { require.NoError(t, stop()) })
	info, err := s.Client().Info(ctx)
	require.NoError(t, err)
	return &Lab{BaseURL: info.BaseURL, Account: info.Account, Region: info.Region, Engine: s.Engine(), Aliases: info.Aliases,
		Control: s.Client(), HTTP: Client(t), Dir: dir, stop: stop}
}

// Stop ends the lab before the test does.
func (l *Lab) Stop(t testing.TB) {
	t.Helper()
	require.NoError(t, l.stop())
}

// Scenario loads a drill from YAML text.
func Scenario(t testing.TB, text string) *scenario.Drill {
	t.Helper()
	d, err := scenario.Load("test.yaml", []byte(text))
	require.NoError(t, err)
	return d
}

// Secret fetches a credential by scenario id or provider key id.
func (l *Lab) Secret(t testing.TB, name string) control.Secret {
	t.Helper()
	s, err := l.Control.Secret(t.Context(), name)
	require.NoError(t, err)
	return s
}

// Oracle gives the truth about the world.
func (l *Lab) Oracle(t testing.TB) control.Oracle {
	t.Helper()
	o, err := l.Control.Oracle(t.Context())
	require.NoError(t, err)
	return o
}
