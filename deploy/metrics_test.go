package deploy

import (
	"encoding/json"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"rekey/internal/metrics"
)

// expressions are all PromQL of the dashboard and the alerts, by where they stand.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	var board struct {
		Panels []struct {
			Title, Description string
			Datasource         struct{ UID string }
			Targets            []struct{ Expr string }
		}
	}
	require.NoError(t, json.Unmarshal([]byte(read(t, "grafana", "dashboards", "rekey.json")), &board))
	require.NotEmpty(t, board.Panels)
	for _, p := range board.Panels {
		require.NotEmpty(t, p.Description, p.Title)
		require.Equal(t, "prometheus", p.Datasource.UID)
		for i, target := range p.Targets {
			out["panel "+p.Title+" "+strconv.Itoa(i)] = target.Expr
		}
	}
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr         string
				Labels, Annotations map[string]string
			}
		}
	}
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "prometheus", "alerts.yml")), &rules))
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			require.Contains(t, []string{"critical", "warning"}, r.Labels["severity"], r.Alert)
			require.NotEmpty(t, r.Annotations["summary"], r.Alert)
			require.NotEmpty(t, r.Annotations["description"], "%s: what is to be done", r.Alert)
			out["alert "+r.Alert] = r.Expr
		}
	}
	return out
}

var (
	metricRE = regexp.MustCompile(`\brekey_[a-z_]+`)
	labelRE  = regexp.MustCompile(`(?:by|without) \(([a-z_, ]+)\)|([a-z_]+)\s*(?:=|=~|!=|!~)\s*"`)
)

// TestMetricsExist holds every metric and label that is asked for to those that the
// code has.
func TestMetricsExist(t *testing.T) {
	families := map[string]metrics.Family{}
	for _, f := range metrics.Families() {
		families[string(f.Name)] = f
		if f.Type == "histogram" {
			for _, part := range []string{"_bucket", "_sum", "_count"} {
				families[string(f.Name)+part] = f
			}
		}
	}
	asked := map[metrics.Name]bool{}
	for where, expr := range expressions(t) {
		require.Equal(t, strings.Count(expr, "("), strings.Count(expr, ")"), where)
		labels := []string{"job", "instance", "le"}
		for _, name := range metricRE.FindAllString(expr, -1) {
			f, ok := families[name]
			require.True(t, ok, "%s: there is no metric %s", where, name)
			asked[f.Name] = true
			labels = append(labels, f.Labels...)
		}
		for _, m := range labelRE.FindAllStringSubmatch(expr, -1) {
			for _, l := range strings.Split(m[1]+m[2], ",") {
				require.Contains(t, labels, strings.TrimSpace(l), "%s: %s", where, expr)
			}
		}
	}
	for _, must := range []metrics.Name{
		metrics.Incidents, metrics.Items, metrics.TimeToContain, metrics.Calls, metrics.RateUsed, metrics.OldestApproval,
		metrics.Notices, metrics.LeaseHeld, metrics.RecordBehind, metrics.DeadKeyWorked,
	} {
		require.True(t, asked[must], "nobody looks at %s", must)
	}
}

// TestScrapeTargets: every address that is asked is one where somebody answers.
func TestScrapeTargets(t *testing.T) {
	p := loaded(t)
	var c struct {
		RuleFiles     []string `yaml:"rule_files"`
		ScrapeConfigs []struct {
			Job     string                       `yaml:"job_name"`
			Statics []struct{ Targets []string } `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "prometheus", "prometheus.yml")), &c))
	require.Equal(t, []string{"/etc/prometheus/alerts.yml"}, c.RuleFiles)
	require.NotEmpty(t, mountedFile(p.Services["prometheus"], "/etc/prometheus"))
	require.Contains(t, p.Services["prometheus"].Command, "--config.file=/etc/prometheus/prometheus.yml")
	server, _ := temporalServer(t)
	_, temporalMetrics, err := net.SplitHostPort(server.Global.Metrics.Prometheus.ListenAddress)
	require.NoError(t, err)
	var jobs, targets []string
	for _, s := range c.ScrapeConfigs {
		jobs = append(jobs, s.Job)
		for _, static := range s.Statics {
			for _, target := range static.Targets {
				host, port, err := net.SplitHostPort(target)
				require.NoError(t, err)
				require.True(t, reach(p, "prometheus", host), "%s cannot be reached", host)
				want := temporalMetrics
				if p.Services[host].Image == image {
					_, want, err = net.SplitHostPort(configuration(t, p.Services[host]).Listen.Metrics)
					require.NoError(t, err)
				}
				require.Equal(t, want, port, target)
				targets = append(targets, host)
			}
		}
	}
	slices.Sort(targets)
	require.Equal(t, []string{"rekey-server", "rekey-worker-1", "rekey-worker-2", "temporal"}, targets)
	for where, expr := range expressions(t) {
		for _, m := range regexp.MustCompile(`job="([^"]+)"`).FindAllStringSubmatch(expr, -1) {
			require.Contains(t, jobs, m[1], where)
		}
	}
}

func TestGrafana(t *testing.T) {
	p := loaded(t)
	s := p.Services["grafana"]
	var sources struct {
		Datasources []struct{ UID, URL string }
	}
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "grafana", "provisioning", "datasources", "prometheus.yaml")), &sources))
	require.Len(t, sources.Datasources, 1)
	u, err := url.Parse(sources.Datasources[0].URL)
	require.NoError(t, err)
	require.True(t, reach(p, "grafana", u.Hostname()))
	require.Contains(t, p.Services[u.Hostname()].Command, "--web.listen-address=0.0.0.0:"+u.Port())
	require.Equal(t, "prometheus", sources.Datasources[0].UID, "the panels name it so")

	var boards struct {
		Providers []struct{ Options struct{ Path string } }
	}
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "grafana", "provisioning", "dashboards", "rekey.yaml")), &boards))
	from := mountedFile(s, boards.Providers[0].Options.Path)
	require.NotEmpty(t, from)
	_, err = os.Stat(from + "/rekey.json")
	require.NoError(t, err)
	require.NotEmpty(t, mountedFile(s, "/etc/grafana/provisioning"))
	require.Equal(t, "false", *s.Environment["GF_AUTH_ANONYMOUS_ENABLED"])
	require.Equal(t, *s.Environment["GF_SERVER_HTTP_PORT"], strconv.Itoa(int(s.Ports[0].Target)))
}
