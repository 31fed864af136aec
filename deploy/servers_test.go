package deploy

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/template"

	"github.com/Masterminds/sprig/v3"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/require"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/dynamicconfig"
	sqltool "go.temporal.io/server/tools/sql"
	"go.yaml.in/yaml/v3"
)

// variable is how a template of Temporal's reads the environment.
var variable = regexp.MustCompile(`env "([A-Z0-9_]+)"`)

func variables(text string) []string {
	var out []string
	for _, m := range variable.FindAllStringSubmatch(text, -1) {
		out = append(out, m[1])
	}
	return out
}

func moduleDir(t *testing.T, module string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(out))
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	require.NoError(t, err)
	return string(b)
}

// temporalServer is the server's configuration as it is in the container.
func temporalServer(t *testing.T) (config.Config, string) {
	t.Helper()
	for name, value := range loaded(t).Services["temporal"].Environment {
		if name != "HOME" { // the go command's too
			t.Setenv(name, *value)
		}
	}
	tpl, err := template.New("server.yaml").Funcs(sprig.FuncMap()).Parse(read(t, "temporal", "server.yaml"))
	require.NoError(t, err)
	var text bytes.Buffer
	require.NoError(t, tpl.Execute(&text, nil))
	var c config.Config
	dec := yaml.NewDecoder(bytes.NewReader(text.Bytes()))
	dec.KnownFields(true) // the server itself takes a misspelt key for none
	require.NoError(t, dec.Decode(&c), text.String())
	return c, text.String()
}

func frontendPort(t *testing.T) string {
	t.Helper()
	c, _ := temporalServer(t)
	return strconv.Itoa(c.Services["frontend"].RPC.GRPCPort)
}

func TestTemporalServer(t *testing.T) {
	p := loaded(t)
	s := p.Services["temporal"]
	c, text := temporalServer(t)
	_, err := config.Load(config.WithConfigFile(filepath.Join("temporal", "server.yaml")))
	require.NoError(t, err, "the server's own loader")
	known := variables(read(t, "temporal", "server.yaml"))
	for name, value := range s.Environment {
		if name == "USER" || name == "HOME" { // os/user without C, for a uid that is not in the image's passwd
			require.NotEmpty(t, *value)
			continue
		}
		require.Contains(t, known, name, "a variable that nothing reads")
	}
	require.Contains(t, s.Environment, "USER", "Temporal's resource detection ends the server for a uid without a name")
	require.Contains(t, s.Environment, "HOME")
	for _, path := range regexp.MustCompile(`/run/secrets/[A-Za-z.-]+`).FindAllString(text, -1) {
		require.Contains(t, secretPaths(s), path)
	}
	require.NotEmpty(t, mountedFile(s, c.DynamicConfigClient.Filepath))
	require.Equal(t, "temporal-server --config-file /etc/rekey/server.yaml --allow-no-auth start", strings.Join(s.Command, " "))
	require.NotEmpty(t, mountedFile(s, "/etc/rekey/server.yaml"))

	require.True(t, c.Global.TLS.Frontend.Server.RequireClientAuth, "whoever reaches the port could do everything")
	require.Equal(t, "0.0.0.0", c.Services["frontend"].RPC.BindOnIP)
	for _, inner := range []string{"history", "matching", "worker"} {
		require.Equal(t, "127.0.0.1", c.Services[inner].RPC.BindOnIP, "%s asks nobody who they are", inner)
	}
	for name, svc := range c.Services {
		require.Less(t, svc.RPC.GRPCPort, 32768, "%s: cluster_membership keeps ports in a smallint", name)
		require.Less(t, svc.RPC.MembershipPort, 32768, name)
	}
	require.Equal(t, []string{"CMD", "nc", "-z", "127.0.0.1", frontendPort(t)}, []string(s.HealthCheck.Test))

	for _, store := range []string{"default", "visibility"} {
		sql := c.Persistence.DataStores[store].SQL
		require.NotNil(t, sql, store)
		require.Empty(t, sql.Password)
		require.True(t, sql.TLS.Enabled && sql.TLS.EnableHostVerification)
		require.Contains(t, read(t, "postgres", "databases.sql"), "CREATE DATABASE "+sql.DatabaseName+" OWNER "+sql.User)
		require.Regexp(t, `(?m)^hostssl\s+\S*\b`+sql.DatabaseName+`\b\S*\s+`+sql.User+`\s+all\s+cert`, read(t, "postgres", "pg_hba.conf"))
		host, port, _ := strings.Cut(sql.ConnectAddr, ":")
		require.True(t, reach(p, "temporal", host))
		require.Equal(t, "5432", port)
	}
}

func TestTemporalDynamicConfig(t *testing.T) {
	r := dynamicconfig.LoadYamlFile([]byte(read(t, "temporal", "dynamic.yaml")))
	require.Empty(t, r.Errors)
	require.Empty(t, r.Warnings, "a key that the server does not know")
}

// TestSchemaTool holds the one-shot to the flags and variables of the tool that is in
// the image.
func TestSchemaTool(t *testing.T) {
	p := loaded(t)
	s := p.Services["temporal-schema"]
	var known []string
	app := sqltool.BuildCLIOptions()
	for _, f := range app.Flags {
		if m := regexp.MustCompile(`\[\$(SQL_[A-Z_]+)\]`).FindStringSubmatch(f.String()); m != nil {
			known = append(known, m[1])
		}
	}
	require.Greater(t, len(known), 10)
	for name, value := range s.Environment {
		require.Contains(t, known, name)
		if strings.HasPrefix(*value, "/") {
			require.Contains(t, secretPaths(s), *value)
		}
	}
	require.True(t, reach(p, "temporal-schema", *s.Environment["SQL_HOST"]))
	c, _ := temporalServer(t)
	sql := c.Persistence.DataStores["default"].SQL
	require.Equal(t, sql.PluginName, *s.Environment["SQL_PLUGIN"])
	require.Equal(t, sql.User, *s.Environment["SQL_USER"])
	script := read(t, "temporal", "schema")
	for _, command := range []string{"setup-schema", "update-schema"} {
		require.Contains(t, script, command)
		require.NotNil(t, app.Command(command))
	}
	for _, db := range []string{"temporal", "visibility"} { // Dockerfile of admin-tools: schema is at /etc/temporal/schema
		_, err := os.Stat(filepath.Join(moduleDir(t, "go.temporal.io/server"), "schema", "postgresql", "v12", db, "versioned"))
		require.NoError(t, err)
	}
	require.Equal(t, []string{"sh", "/etc/rekey/schema"}, []string(s.Command))
	require.NotEmpty(t, mountedFile(s, "/etc/rekey/schema"))
}

// TestTemporalImages: the server that was tested is the one that is run.
func TestTemporalImages(t *testing.T) {
	p := loaded(t)
	version := func(module string) string {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Version}}", module).Output()
		require.NoError(t, err)
		return strings.TrimPrefix(strings.TrimSpace(string(out)), "v")
	}
	require.Equal(t, "temporalio/server:"+version("go.temporal.io/server"), p.Services["temporal"].Image)
	require.Equal(t, "temporalio/admin-tools:"+version("go.temporal.io/server"), p.Services["temporal-schema"].Image)
	require.Equal(t, "temporalio/ui:"+version("github.com/temporalio/ui-server/v2"), p.Services["temporal-ui"].Image)
}

func TestTemporalUI(t *testing.T) {
	p := loaded(t)
	s := p.Services["temporal-ui"]
	known := variables(read(t, moduleDir(t, "github.com/temporalio/ui-server/v2"), "config", "docker.yaml"))
	require.Greater(t, len(known), 30)
	for name, value := range s.Environment {
		require.Contains(t, known, name)
		if strings.HasPrefix(*value, "/") {
			require.Contains(t, secretPaths(s), *value)
		}
	}
	require.Equal(t, *s.Environment["TEMPORAL_UI_PORT"], strconv.Itoa(int(s.Ports[0].Target)))
	host, port, _ := strings.Cut(*s.Environment["TEMPORAL_ADDRESS"], ":")
	require.True(t, reach(p, "temporal-ui", host))
	require.Equal(t, frontendPort(t), port)
}

func TestPostgres(t *testing.T) {
	s := loaded(t).Services["postgresql"]
	line := strings.Join(s.Command, " ")
	require.Contains(t, line, "ssl=on")
	for _, m := range regexp.MustCompile(`-c (ssl_[a-z]+_file|hba_file)=(\S+)`).FindAllStringSubmatch(line, -1) {
		if m[1] == "hba_file" {
			require.NotEmpty(t, mountedFile(s, m[2]))
		} else {
			require.Contains(t, secretPaths(s), m[2])
		}
	}
	require.Contains(t, secretPaths(s), *s.Environment["POSTGRES_PASSWORD_FILE"])
	require.True(t, slices.ContainsFunc(s.Volumes, func(v types.ServiceVolumeConfig) bool {
		return v.Type == types.VolumeTypeVolume && strings.HasPrefix(*s.Environment["PGDATA"], v.Target+"/")
	}))
	for line := range strings.Lines(read(t, "postgres", "pg_hba.conf")) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		require.Regexp(t, `\s(scram-sha-256|cert clientcert=verify-full)$`, strings.TrimRight(line, "\n"))
		require.NotRegexp(t, `^host\s`, line, "a connection in clear")
	}
}
