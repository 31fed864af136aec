package deploy

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// oldProject is what docker-compose 1.29.2 prints of a project.
type oldProject struct {
	Services map[string]struct {
		Command     []string          `yaml:"command"`
		User        string            `yaml:"user"`
		Environment map[string]string `yaml:"environment"`
		ReadOnly    bool              `yaml:"read_only"`
		CapDrop     []string          `yaml:"cap_drop"`
		Volumes     []string          `yaml:"volumes"`
		Ports       []string          `yaml:"ports"`
		Networks    map[string]any    `yaml:"networks"`
		Secrets     []struct {
			Source string `yaml:"source"`
		} `yaml:"secrets"`
		DependsOn map[string]struct {
			Condition string `yaml:"condition"`
		} `yaml:"depends_on"`
	} `yaml:"services"`
}

// TestOldComposeReadsTheSame gives the file to docker-compose itself, Debian's 1.29.2,
// and holds what that understands of it to what Compose 2's loader does. Neither
// starts anything: there is no Docker here.
func TestOldComposeReadsTheSame(t *testing.T) {
	old, err := exec.LookPath("docker-compose")
	if err != nil {
		if os.Getenv("REKEY_REQUIRE_SERVERS") == "1" {
			t.Fatal("needs docker-compose: apt-get install --no-install-recommends docker-compose")
		}
		t.Skip("skipped: needs docker-compose (apt-get install --no-install-recommends docker-compose)")
	}
	none := filepath.Join(t.TempDir(), "env") // instead of .env
	require.NoError(t, os.WriteFile(none, nil, 0o600))
	config := func(env ...string) (string, string, error) {
		cmd := exec.CommandContext(t.Context(), old, "-f", filepath.Join("..", "docker-compose.yml"), "--env-file", none, "config")
		cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, env...)
		var out, told bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &told
		err := cmd.Run()
		return out.String(), told.String(), err
	}
	_, told, err := config()
	require.Error(t, err)
	require.Contains(t, told, "run deploy/make-secrets first")
	text, told, err := config("REKEY_UID=65532", "REKEY_GID=65532")
	require.NoError(t, err, told)
	require.Empty(t, told, "a warning")
	var p oldProject
	require.NoError(t, yaml.Unmarshal([]byte(text), &p))
	fresh := loaded(t)
	require.Len(t, p.Services, len(fresh.Services))
	for name, want := range fresh.Services {
		t.Run(name, func(t *testing.T) {
			s, ok := p.Services[name]
			require.True(t, ok)
			require.Equal(t, []string(want.Command), s.Command)
			require.Equal(t, want.User, s.User)
			require.True(t, s.ReadOnly)
			require.Equal(t, want.CapDrop, s.CapDrop)
			require.Len(t, s.Volumes, len(want.Volumes))
			require.Len(t, s.Ports, len(want.Ports))
			require.Len(t, s.Environment, len(want.Environment))
			for key, value := range want.Environment {
				require.Equal(t, *value, s.Environment[key], key)
			}
			require.Len(t, s.Networks, len(want.Networks))
			for n := range want.Networks {
				require.Contains(t, s.Networks, n)
			}
			require.Len(t, s.Secrets, len(want.Secrets))
			for i := range want.Secrets {
				require.Equal(t, want.Secrets[i].Source, s.Secrets[i].Source)
			}
			require.Len(t, s.DependsOn, len(want.DependsOn))
			for on, d := range want.DependsOn {
				require.Equal(t, d.Condition, s.DependsOn[on].Condition, on)
			}
		})
	}
}
