package cluster

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities/activitytest/pgtest"
	"rekey/activities/activitytest/porttest"
	"rekey/internal/drill"
	"rekey/internal/lab/control"
)

// A cluster is everything of docker-compose.yml that decides how an incident goes.
type cluster struct {
	t       *testing.T
	dir     string
	bin     string // folder of rekey, server, sql
	secrets string
	config  string
	http    string // host:port of `rekey serve`

	postgres *pgtest.Server
	temporal *process
	serve    *process
	workers  []*process
	metrics  []string // of each worker
	votes    int      // by the command line, in the incident that is played
	killed   *process // the worker that a blow killed in the incident that is played
	lab      *control.Client
	info     control.Info
	env      []string // of every rekey
}

// newCluster starts a lab that plays the scenario, PostgreSQL, Temporal with its
// schema, and rekey. estate writes rekey's estate from the lab's key ids.
func newCluster(t *testing.T, scenario string, estate func(aliases map[string]string) string) *cluster {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("REKEY_REQUIRE_SERVERS") == "1" {
			t.Fatal("needs openssl: apt-get install openssl")
		}
		t.Skip("skipped: needs openssl (apt-get install openssl)")
	}
	c := &cluster{t: t, dir: t.TempDir()}
	c.startPostgres()
	bin, err := programs()
	require.NoError(t, err)
	c.bin = bin
	c.startTemporal()
	c.startLab(scenario)
	c.configure(estate(c.info.Aliases))
	c.startRekey()
	return c
}

// startPostgres runs PostgreSQL with the access rules and databases of
// deploy/postgres and the certificates of deploy/make-secrets.
func (c *cluster) startPostgres() {
	t := c.t
	t.Helper()
	c.secrets = filepath.Join(c.dir, "secrets")
	o := run(t, c.dir, nil, filepath.Join(root(t), "deploy", "make-secrets"), c.secrets)
	require.Zero(t, o.code, o.errOut)
	if os.Geteuid() == 0 { // the script gives the files to the containers' user
		require.Zero(t, run(t, c.dir, nil, "chown", "-R", "0:0", c.secrets).code)
	}
	// The certificate has to be where the server's user can read it.
	shared, err := os.MkdirTemp("", "rekey-cluster-pg-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(shared)) })
	require.NoError(t, os.Chmod(shared, 0o755))
	for _, name := range []string{"postgres.crt", "postgres.key", "db-ca.crt"} {
		b, err := os.ReadFile(filepath.Join(c.secrets, name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(shared, name), b, 0o600))
		if os.Geteuid() == 0 {
			require.Zero(t, run(t, c.dir, nil, "chown", "postgres", filepath.Join(shared, name)).code)
		}
	}
	c.postgres = pgtest.Start(t, pgtest.Options{
		MaxConnections: 100, Durable: true, // it is crashed
		HBA: append([]string{"host all postgres 127.0.0.1/32 scram-sha-256"}, accessRules(t)...),
		Settings: map[string]string{
			"log_statement": "none", "ssl": "on",
			"ssl_cert_file": quoted(shared, "postgres.crt"), "ssl_key_file": quoted(shared, "postgres.key"), "ssl_ca_file": quoted(shared, "db-ca.crt"),
		},
	})
	sql, err := os.ReadFile(filepath.Join(root(t), "deploy", "postgres", "databases.sql"))
	require.NoError(t, err)
	for _, statement := range strings.Split(string(sql), ";\n") {
		if strings.TrimSpace(statement) != "" {
			c.postgres.Exec(t, statement)
		}
	}
}

func quoted(dir, name string) string { return "'" + filepath.Join(dir, name) + "'" }

// accessRules are the lines of deploy/postgres/pg_hba.conf for the network; the
// test's server has no socket.
func accessRules(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root(t), "deploy", "postgres", "pg_hba.conf"))
	require.NoError(t, err)
	var out []string
	for _, line := range strings.Split(string(b), "\n") {
		if strings.HasPrefix(line, "host") {
			out = append(out, line)
		}
	}
	require.NotEmpty(t, out)
	return out
}

// startTemporal brings the databases to the schema with the script of the compose
// file and starts Temporal's server with its configuration.
func (c *cluster) startTemporal() {
	t := c.t
	t.Helper()
	server, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "go.temporal.io/server").Output()
	require.NoError(t, err)
	env := []string{
		"SQL_PLUGIN=postgres12_pgx", "SQL_HOST=" + c.postgres.Host, "SQL_PORT=" + c.postgres.Port, "SQL_USER=temporal", "SQL_TLS=true",
		"SQL_TLS_CA_FILE=" + c.secret("db-ca.crt"), "SQL_TLS_CERT_FILE=" + c.secret("temporal-db.crt"), "SQL_TLS_KEY_FILE=" + c.secret("temporal-db.key"),
		"SQL_TLS_SERVER_NAME=postgresql",
		"SQL_TOOL=" + filepath.Join(c.bin, "sql"), "SCHEMA_DIR=" + filepath.Join(strings.TrimSpace(string(server)), "schema"),
	}
	for range 2 { // an upgrade runs it again
		o := run(t, c.dir, env, filepath.Join(root(t), "deploy", "temporal", "schema"))
		require.Zero(t, o.code, o.out+o.errOut)
	}
	p := porttest.Free(t, 10)
	c.temporal = newProcess(t, "temporal", c.dir, []string{
		"SECRETS_DIR=" + c.secrets, "DATABASE_ADDRESS=" + c.postgres.Host + ":" + c.postgres.Port, "LOG_LEVEL=warn",
		"DYNAMIC_CONFIG=" + filepath.Join(root(t), "deploy", "temporal", "dynamic.yaml"),
		"FRONTEND_IP=127.0.0.1", "FRONTEND_PORT=" + p[0], "FRONTEND_MEMBERSHIP_PORT=" + p[1], "FRONTEND_HTTP_PORT=" + p[2],
		"HISTORY_PORT=" + p[3], "HISTORY_MEMBERSHIP_PORT=" + p[4], "MATCHING_PORT=" + p[5], "MATCHING_MEMBERSHIP_PORT=" + p[6],
		"WORKER_PORT=" + p[7], "WORKER_MEMBERSHIP_PORT=" + p[8], "METRICS_ADDRESS=127.0.0.1:" + p[9],
		"TEMPORAL_SERVER_CONFIG_FILE_PATH=" + filepath.Join(root(t), "deploy", "temporal", "server.yaml"),
	}, filepath.Join(c.bin, "server"), "--allow-no-auth", "start")
	c.temporal.start()
	c.env = append(c.env, "REKEY_TEMPORAL_ADDRESS=localhost:"+p[0])
}

func (c *cluster) secret(name string) string { return filepath.Join(c.secrets, name) }

// startLab runs `rekey lab` in a process of its own; it outlives every kill.
func (c *cluster) startLab(scenario string) {
	t := c.t
	t.Helper()
	world := filepath.Join(c.dir, "world")
	require.NoError(t, os.MkdirAll(world, 0o700))
	file := c.write("scenario.yaml", scenario)
	newProcess(t, "lab", c.dir, nil, c.rekey(), "lab", "--dir", world, "--scenario", file).start()
	var addrs drill.Addrs
	require.Eventually(t, func() bool {
		b, err := os.ReadFile(filepath.Join(world, "lab", drill.AddrsFile))
		return err == nil && json.Unmarshal(b, &addrs) == nil
	}, 30*time.Second, 20*time.Millisecond, "the lab did not start")
	token, err := os.ReadFile(filepath.Join(world, "lab", control.TokenFile))
	require.NoError(t, err)
	c.lab = control.New(addrs.Control, strings.TrimSpace(string(token)))
	require.Eventually(t, func() bool { c.info, err = c.lab.Info(t.Context()); return err == nil }, 30*time.Second, 20*time.Millisecond)
	c.env = append(c.env, control.EnvURL+"="+addrs.Control, control.EnvToken+"="+strings.TrimSpace(string(token)))
	c.env = append(c.env, "REKEY_PROVIDERS_AWSIAM_LAB_BASE_URL="+addrs.Provider, "REKEY_LAB_PROPAGATION="+propagation)
}

// configure writes rekey.yaml: what a cluster's has, with the lab as provider.
func (c *cluster) configure(estate string) {
	t := c.t
	t.Helper()
	world := filepath.Join(c.dir, "world", "lab")
	c.http = "127.0.0.1:" + porttest.Free(t, 1)[0]
	for _, name := range []string{"ann", "bob"} {
		o := run(t, c.dir, nil, c.rekey(), "identity", "new", filepath.Join(c.dir, name+".key"))
		require.Zero(t, o.code, o.errOut)
	}
	c.config = c.write("rekey.yaml", fmt.Sprintf(`data: %[1]s/data
listen: {http: %[2]s}
temporal:
  namespace: %[3]s
  tls: {ca_file: %[4]s/temporal-ca.crt, cert_file: %[4]s/rekey.crt, key_file: %[4]s/rekey.key}
people:
  ann: {roles: [commander], cli_key_file: %[1]s/ann.key.pub}
  bob: {roles: [security], cli_key_file: %[1]s/bob.key.pub}
providers:
  awsiam:
    lab:
      account_id: %[5]q
      regions: [us-east-1]
      allow_private: true
      credentials: {access_key_id_file: %[6]s/engine-id, secret_access_key_file: %[6]s/engine-key}
      rate: {iam: 1000/s, cloudtrail: 1000/s}
estate: {files: [%[7]s]}
playbooks: {files: [%[8]s]}
`, c.dir, c.http, drill.Namespace, c.secrets, c.info.Account, world, c.write("estate.yaml", estate), c.write("playbook.yaml", cutAndReplace)))
	c.env = append(c.env, "REKEY_CONFIG="+c.config, "NO_COLOR=1")
}

// startRekey does what the compose file does: `doctor --fix` until it has set the
// namespace up, then the server and two workers.
func (c *cluster) startRekey() {
	t := c.t
	t.Helper()
	var o result
	require.Eventually(t, func() bool {
		o = run(t, c.dir, c.env, c.rekey(), "doctor", "--fix", "--json")
		return !strings.Contains(o.out, `"temporal.cluster","state":"fault"`) && strings.Contains(o.out, "temporal.cluster.search-attributes")
	}, 90*time.Second, time.Second)
	c.serve = newProcess(t, "serve", c.dir, c.env, c.rekey(), "serve", "--log-level", "info", "--listen-metrics", "127.0.0.1:0")
	c.serve.start()
	for n, port := range porttest.Free(t, 2) {
		w := newProcess(t, "worker-"+strconv.Itoa(n+1), c.dir, c.env, c.rekey(), "worker", "--log-level", "info", "--listen-metrics", "127.0.0.1:"+port)
		w.start()
		c.workers = append(c.workers, w)
		c.metrics = append(c.metrics, "http://127.0.0.1:"+port+"/metrics")
	}
	c.untilReady()
}

func (c *cluster) rekey() string { return filepath.Join(c.bin, "rekey") }

func (c *cluster) write(name, text string) string {
	c.t.Helper()
	path := filepath.Join(c.dir, name)
	require.NoError(c.t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// status is the answer of /readyz, 0 for none.
func (c *cluster) status() int {
	resp, err := (&http.Client{Timeout: 15 * time.Second}).Get("http://" + c.http + "/readyz")
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func (c *cluster) untilReady() {
	c.t.Helper()
	require.Eventually(c.t, func() bool { return c.status() == http.StatusOK }, 90*time.Second, 100*time.Millisecond, "the cluster is not ready")
}
