// Package deploy holds what docker-compose.yml, the Dockerfile and the files beside
// them say to what the programs accept: nothing here can be pulled or started in CI,
// so that a name that is wrong would be found by whoever runs it first. e2e/cluster
// starts the same programs with the same files.
package deploy

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	composecli "github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/require"

	"rekey/internal/cli"
	"rekey/internal/config"
)

const image = "rekey:local"

// project loads docker-compose.yml as docker compose does: against the schema, which
// refuses a key that it does not know.
func project(t *testing.T, env ...string) (*types.Project, error) {
	t.Helper()
	o, err := composecli.NewProjectOptions([]string{filepath.Join("..", "docker-compose.yml")},
		composecli.WithName("rekey"), composecli.WithEnv(env), composecli.WithDiscardEnvFile)
	require.NoError(t, err)
	return o.LoadProject(t.Context())
}

func loaded(t *testing.T) *types.Project {
	t.Helper()
	p, err := project(t, "REKEY_UID=65532", "REKEY_GID=65532")
	require.NoError(t, err)
	require.Len(t, p.Services, 10)
	return p
}

// rekeys are the services that run our own image.
func rekeys(p *types.Project) []types.ServiceConfig {
	var out []types.ServiceConfig
	for _, name := range p.ServiceNames() {
		if s := p.Services[name]; s.Image == image {
			out = append(out, s)
		}
	}
	return out
}

func TestWithoutSecretsNothingStarts(t *testing.T) {
	_, err := project(t)
	require.ErrorContains(t, err, "run deploy/make-secrets first")
}

// oneShot are services that end.
func oneShot(s types.ServiceConfig) bool { return s.Restart == "no" }

func TestEveryServiceIsContained(t *testing.T) {
	p := loaded(t)
	pinned := regexp.MustCompile(`^[a-z0-9./-]+:v?\d+\.\d+[0-9a-z.-]*$`)
	published := map[string]string{}
	for _, name := range p.ServiceNames() {
		s := p.Services[name]
		t.Run(name, func(t *testing.T) {
			require.True(t, s.ReadOnly, "the root file system can be written")
			require.Equal(t, []string{"ALL"}, s.CapDrop)
			require.Empty(t, s.CapAdd)
			require.False(t, s.Privileged)
			require.Contains(t, s.SecurityOpt, "no-new-privileges:true")
			require.Regexp(t, `^[1-9]\d*:\d+$`, s.User, "a number that is not root's")
			require.NotZero(t, s.MemLimit)
			require.NotZero(t, s.CPUS)
			require.NotZero(t, s.PidsLimit)
			require.NotEmpty(t, s.Tmpfs)
			require.Empty(t, s.NetworkMode)
			if s.Image != image {
				require.Regexp(t, pinned, s.Image, "an image without a version is another one tomorrow")
			}
			if oneShot(s) {
				return
			}
			require.Equal(t, "unless-stopped", s.Restart)
			require.NotNil(t, s.HealthCheck)
			require.NotEmpty(t, s.HealthCheck.Test)
			require.Equal(t, "CMD", s.HealthCheck.Test[0], "a health check without a shell")
			for _, port := range s.Ports {
				require.Equal(t, "127.0.0.1", port.HostIP, "published to others than this machine")
				published[name] = port.Published
			}
		})
	}
	require.Equal(t, map[string]string{"rekey-server": "8443", "temporal-ui": "8233", "grafana": "3000"}, published)
	for _, inner := range []string{"database", "engine", "metrics"} {
		require.True(t, p.Networks[inner].Internal, "%s leads out", inner)
	}
	for _, s := range []string{"postgresql", "temporal", "temporal-schema", "rekey-setup", "prometheus"} {
		require.NotContains(t, p.Services[s].Networks, "outside", s)
	}
}

func TestServicesWaitForWhatTheyNeed(t *testing.T) {
	p := loaded(t)
	for name, s := range p.Services {
		for needed, d := range s.DependsOn {
			on, ok := p.Services[needed]
			require.True(t, ok, "%s waits for %s", name, needed)
			want := types.ServiceConditionHealthy
			if oneShot(on) {
				want = types.ServiceConditionCompletedSuccessfully
			}
			require.Equal(t, want, d.Condition, "%s waits for %s", name, needed)
		}
	}
	for _, s := range []string{"rekey-server", "rekey-worker-1", "rekey-worker-2", "temporal-ui"} {
		require.Contains(t, p.Services[s].DependsOn, "rekey-setup", s)
	}
	require.Contains(t, p.Services["temporal"].DependsOn, "temporal-schema")
	one, two := p.Services["rekey-worker-1"], p.Services["rekey-worker-2"]
	one.Name, two.Name = "", ""
	require.Equal(t, one, two, "two workers are the same twice")
}

// TestServerAndWorkersShareWhatTheyNeed: every activity can run on each worker, those
// that send notices and read customers' files too; uploads and webhooks that the
// server takes in wait in the data directory.
func TestServerAndWorkersShareWhatTheyNeed(t *testing.T) {
	p := loaded(t)
	server := p.Services["rekey-server"]
	// A server goes on for 3 s and has 10 s for requests that run; a worker's patience
	// with calls that run is 25 s (worker.graceful).
	for name, least := range map[string]time.Duration{"rekey-server": 15 * time.Second, "rekey-worker-1": 30 * time.Second, "rekey-worker-2": 30 * time.Second} {
		s := p.Services[name]
		require.NotNil(t, s.StopGracePeriod, name)
		require.GreaterOrEqual(t, time.Duration(*s.StopGracePeriod), least, name)
		require.Equal(t, server.Volumes, s.Volumes, name)
		require.Equal(t, server.Secrets, s.Secrets, name)
		require.Equal(t, server.Environment, s.Environment, name)
		require.Contains(t, s.Networks, "outside", "providers, Slack, GitHub and mail are outside of %s", name)
		writable := 0
		for _, v := range s.Volumes {
			if !v.ReadOnly {
				writable++
				require.Equal(t, "rekey-data", v.Source, name)
			}
		}
		require.Equal(t, 1, writable, name)
		require.NotEmpty(t, mountedFile(s, "/etc/rekey/local"), name)
		c := configuration(t, s)
		u, err := url.Parse(c.Listen.URL)
		require.NoError(t, err)
		require.Contains(t, c.Listen.Hosts, u.Hostname(), "the name by which browsers and Slack reach it is refused")
		require.Contains(t, strings.Join(s.HealthCheck.Test, " "), ":9464/readyz")
	}
}

// setUp makes this process's environment that of a service, with the configuration
// that is mounted there.
func setUp(t *testing.T, s types.ServiceConfig) {
	t.Helper()
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "REKEY_") {
			t.Setenv(name, "")
		}
	}
	for name, value := range s.Environment {
		require.NotNil(t, value, name)
		set := *value
		if file := mountedFile(s, set); file != "" {
			set = file
		}
		t.Setenv(name, set)
	}
}

// mountedFile is the file of this repository that is at path in the service, "" for none.
func mountedFile(s types.ServiceConfig, path string) string {
	for _, v := range s.Volumes {
		if v.Type == types.VolumeTypeBind && v.Target == path {
			return v.Source
		}
	}
	return ""
}

// TestCommandsOfRekeyAreAccepted runs every command line of ours through the real
// tree of commands, up to where the engine would begin.
func TestCommandsOfRekeyAreAccepted(t *testing.T) {
	p := loaded(t)
	want := map[string]string{"rekey-setup": "doctor temporal true", "rekey-server": "serve", "rekey-worker-1": "worker", "rekey-worker-2": "worker"}
	for _, s := range rekeys(p) {
		t.Run(s.Name, func(t *testing.T) {
			setUp(t, s)
			began := ""
			engine := cli.Engine{
				Worker: func(context.Context, cli.WorkerOptions, cli.IOStreams) error { began = "worker"; return nil },
				Serve:  func(context.Context, cli.ServeOptions, cli.IOStreams) error { began = "serve"; return nil },
				Doctor: func(_ context.Context, o cli.DoctorOptions, _ cli.IOStreams) (cli.DoctorResult, error) {
					began = fmt.Sprintf("doctor %s %v", o.Only[0], o.Fix)
					return cli.DoctorResult{}, nil
				},
			}
			var out, told bytes.Buffer
			streams := cli.IOStreams{Out: &out, Err: &told}
			require.Zero(t, cli.Run(t.Context(), s.Command, streams, engine), told.String())
			require.Equal(t, want[s.Name], began)
			if oneShot(s) {
				return
			}
			check := s.HealthCheck.Test[1:]
			require.Equal(t, binary(t), check[0], "where the Dockerfile puts it")
			found, rest, err := cli.Root(streams, engine).Find(check[1:])
			require.NoError(t, err)
			require.Equal(t, "healthz", found.Name())
			require.NoError(t, found.ParseFlags(rest))
			require.NoError(t, found.ValidateArgs(found.Flags().Args()))
			u, err := found.Flags().GetString("url")
			require.NoError(t, err)
			_, port, err := net.SplitHostPort(configuration(t, s).Listen.Metrics)
			require.NoError(t, err)
			require.Equal(t, "http://127.0.0.1:"+port+"/readyz", u)
		})
	}
}

// configuration is what a service of ours reads.
func configuration(t *testing.T, s types.ServiceConfig) *config.Config {
	t.Helper()
	setUp(t, s)
	c, err := config.Load(nil)
	require.NoError(t, err)
	return c
}

func TestConfigurationOfRekey(t *testing.T) {
	p := loaded(t)
	for _, s := range rekeys(p) {
		t.Run(s.Name, func(t *testing.T) {
			c := configuration(t, s)
			for _, w := range c.Warnings {
				// People are for whoever installs it to name.
				require.Regexp(t, "allow_clear|quorum", w, "a variable or key that means nothing here")
			}
			host, port, err := net.SplitHostPort(c.Temporal.Address)
			require.NoError(t, err)
			require.True(t, reach(p, s.Name, host), "%s and %s share no network", s.Name, host)
			require.Equal(t, frontendPort(t), port)
			for _, f := range []string{c.Temporal.TLS.CAFile, c.Temporal.TLS.CertFile, c.Temporal.TLS.KeyFile} {
				require.Contains(t, secretPaths(s), f)
			}
			require.True(t, slices.ContainsFunc(s.Volumes, func(v types.ServiceVolumeConfig) bool {
				return v.Type == types.VolumeTypeVolume && strings.HasPrefix(c.Data, v.Target+"/") && v.Source == "rekey-data"
			}), "%s is not on the shared volume", c.Data)
			if len(s.Ports) > 0 {
				_, inside, err := net.SplitHostPort(c.Listen.HTTP)
				require.NoError(t, err)
				require.Equal(t, fmt.Sprint(s.Ports[0].Target), inside)
				require.Equal(t, "http://127.0.0.1:"+s.Ports[0].Published, c.Listen.URL)
			}
			ui := p.Services["temporal-ui"]
			require.Equal(t, "http://127.0.0.1:"+ui.Ports[0].Published, c.Temporal.UI)
			require.Equal(t, c.Temporal.UI, *ui.Environment["TEMPORAL_CORS_ORIGINS"])
			require.Equal(t, c.Listen.URL+"/codec", *ui.Environment["TEMPORAL_CODEC_ENDPOINT"])
			require.Equal(t, c.Temporal.Namespace, *ui.Environment["TEMPORAL_DEFAULT_NAMESPACE"])
			require.Equal(t, "true", *ui.Environment["TEMPORAL_DISABLE_WRITE_ACTIONS"])
		})
	}
}

// reach tells whether two services share a network.
func reach(p *types.Project, from, to string) bool {
	target, ok := p.Services[to]
	for n := range p.Services[from].Networks {
		if _, both := target.Networks[n]; ok && both {
			return true
		}
	}
	return false
}

func secretPaths(s types.ServiceConfig) []string {
	var out []string
	for _, secret := range s.Secrets {
		out = append(out, "/run/secrets/"+secret.Source)
	}
	return out
}

// TestEveryMountIsThere: a path that is missing would be made by Docker, as a folder
// of root's.
func TestEveryMountIsThere(t *testing.T) {
	for name, s := range loaded(t).Services {
		for _, v := range s.Volumes {
			if v.Type == types.VolumeTypeBind {
				require.True(t, v.ReadOnly, "%s can write %s", name, v.Source)
				_, err := os.Stat(v.Source)
				require.NoError(t, err, name)
			}
		}
	}
}
