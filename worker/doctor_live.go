package worker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"

	"rekey/activities/all"
	"rekey/internal/config"
	"rekey/internal/people"
	"rekey/internal/temporalx"
)

// maxSkew is from when on signatures and expiries of votes and credentials begin
// to fail; AWS itself refuses 5 minutes
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/signing-elements.html).
const maxSkew = time.Minute

// maxHealth bounds the answer of /healthz.
const maxHealth = 4 << 10

// server looks at the rekey that should be running, and tells whether one is.
func (d *doctor) server(ctx context.Context) bool {
	base, client, err := d.http()
	if err != nil {
		d.fault("server", "check listen.tls.cert_file", "%s", err)
		return false
	}
	var health struct {
		Status string `json:"status"`
	}
	resp, body, err := look(ctx, client, base+"/healthz", "") //nolint:bodyclose // look has read and closed it
	if err != nil {
		d.skipped("server", "nothing answers at %s: `rekey up` starts it", base)
		return false
	}
	if resp.StatusCode != http.StatusOK || json.Unmarshal(body, &health) != nil || health.Status != "ok" {
		d.fault("server", "stop it, or set listen.http in rekey.yaml to another address", "something that is not rekey answers at %s", base)
		return false
	}
	d.ok("server", "rekey answers at %s", base)
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		d.clock("clock.server", "the server's", date.Sub(d.now()))
	}
	if resp, _, err := look(ctx, client, base+"/readyz", ""); err != nil || resp.StatusCode != http.StatusOK { //nolint:bodyclose // look has read and closed it
		d.fault("server.ready", "is Temporal up and a worker polling? `rekey up` runs both; look at its output", "rekey answers and cannot take reports")
	} else {
		d.ok("server.ready", "reports and decisions are taken")
	}
	token, err := people.ReadToken(d.cfg.Data)
	if err != nil {
		d.fault("server.token", "give the data directory of the running rekey with --data", "the running rekey cannot be asked: %s", err)
		return true
	}
	switch resp, _, err := look(ctx, client, base+"/api/v1/incidents", token); { //nolint:bodyclose // look has read and closed it
	case err != nil || resp.StatusCode >= http.StatusInternalServerError:
		d.fault("server.token", "look at the output of the running rekey", "incidents cannot be listed")
	case resp.StatusCode != http.StatusOK:
		d.fault("server.token", "it was started with another data directory: name that one with --data", "the running rekey does not take the token of %s", d.cfg.Data)
	default:
		d.ok("server.token", "the running rekey takes our token")
	}
	return true
}

// http gives our own server's URL and a client that trusts its certificate.
func (d *doctor) http() (string, *http.Client, error) {
	host, port, err := net.SplitHostPort(d.cfg.Listen.HTTP)
	if err != nil {
		return "", nil, fmt.Errorf("listen.http is not host:port")
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	transport := &http.Transport{Proxy: nil, DisableKeepAlives: true}
	scheme := "http"
	if f := d.cfg.Listen.TLS.CertFile; f != "" {
		scheme = "https"
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		pem, err := os.ReadFile(f)
		if err != nil || !pool.AppendCertsFromPEM(pem) {
			return "", nil, fmt.Errorf("the certificate %s cannot be read", f)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return scheme + "://" + net.JoinHostPort(host, port), &http.Client{Transport: transport, Timeout: lookLimit, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // the token goes nowhere else
	}}, nil
}

func look(ctx context.Context, c *http.Client, url, token string) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, nil, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxHealth))
	return resp, body, err
}

// clock compares another clock with ours; ahead is how far it is before ours.
func (d *doctor) clock(id, whose string, ahead time.Duration) {
	if ahead.Abs() <= maxSkew {
		d.ok(id, "%s clock is within %d s of ours", whose, int(maxSkew.Seconds()))
		return
	}
	word := "ahead of"
	if ahead < 0 {
		word = "behind"
	}
	d.fault(id, "set this machine's clock (NTP): signatures, votes and time-outs go by it", "%s clock is %d s %s ours", whose, int(ahead.Abs().Seconds()), word)
}

// ports tells whether `rekey up` could listen. One that a running rekey has is
// where it should be.
func (d *doctor) ports(ctx context.Context, running bool) {
	for _, p := range []struct{ key, address string }{
		{"listen.http", d.cfg.Listen.HTTP}, {"listen.temporal", d.cfg.Listen.Temporal}, {"listen.ui", d.cfg.Listen.UI},
		{"listen.metrics", d.cfg.Listen.Metrics},
	} {
		id := "ports." + strings.TrimPrefix(p.key, "listen.")
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", p.address)
		if err == nil {
			err = l.Close()
		}
		switch {
		case err == nil:
			d.ok(id, "%s is free", p.address)
		case errors.Is(err, syscall.EADDRINUSE) && running:
			d.ok(id, "the running rekey has %s", p.address)
		case errors.Is(err, syscall.EADDRINUSE):
			d.fault(id, "stop the program that listens there, or set "+p.key+" (--"+config.FlagName(p.key)+") to another address", "%s is taken by another program", p.address)
		default:
			d.fault(id, "set "+p.key+" (--"+config.FlagName(p.key)+") to an address of this machine", "%s cannot be listened on", p.address)
		}
	}
}

// defaultCluster is temporal.address where nobody set one.
const defaultCluster = "temporal:7233"

// temporal looks at the embedded server of this data directory while it runs, and
// at the cluster that rekey.yaml names.
func (d *doctor) temporal(ctx context.Context, running bool) {
	embedded := exists(filepath.Join(d.cfg.Data, "temporal.db"))
	external := d.cfg.Temporal.Address != defaultCluster
	switch {
	case embedded && running:
		token, err := temporalx.ReadToken(d.cfg.Data)
		if err != nil {
			d.fault("temporal", "stop rekey, mend the file and start it again", "%s", err)
			break
		}
		d.cluster(ctx, "temporal", temporalx.Options{Address: d.cfg.Listen.Temporal, Token: token})
	case embedded:
		d.skipped("temporal", "the embedded server is not running: `rekey up` starts it")
	case !external:
		d.skipped("temporal", "`rekey up` embeds it; no cluster is configured")
	}
	if external {
		t := d.cfg.Temporal
		d.cluster(ctx, "temporal.cluster", temporalx.Options{
			Address: t.Address, APIKeyFile: t.APIKeyFile, TLS: temporalx.TLS{CAFile: t.TLS.CAFile, CertFile: t.TLS.CertFile, KeyFile: t.TLS.KeyFile},
		})
	}
}

func (d *doctor) cluster(ctx context.Context, id string, o temporalx.Options) {
	ctx, cancel := context.WithTimeout(ctx, 2*lookLimit)
	defer cancel()
	o.Namespace, o.Timeout = d.cfg.Temporal.Namespace, lookLimit
	c, err := temporalx.Dial(ctx, o)
	if err != nil {
		do := "check temporal in rekey.yaml"
		var u *temporalx.UnreachableError
		if errors.As(err, &u) {
			d.fault(id, u.Do, "Temporal at %s: %s", u.Address, u.Why)
			return
		}
		d.fault(id, do, "%s", err)
		return
	}
	defer c.Close()
	d.ok(id, "Temporal answers at %s", o.Address)
	if d.namespace(ctx, id, c) {
		d.attributes(ctx, id, c)
		d.workers(ctx, id, c)
		d.deployed(ctx, id, c)
		d.held(ctx, id, c)
		d.payloads(ctx, id, c)
	}
}

// namespace tells whether there is one to go on with.
func (d *doctor) namespace(ctx context.Context, id string, c temporalx.Cluster) bool {
	name, want := d.cfg.Temporal.Namespace, max(d.cfg.Temporal.Retention.Std(), temporalx.MinimumRetention)
	got, err := c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: name})
	var missing *serviceerror.NamespaceNotFound
	have := got.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration()
	short := err == nil && have < temporalx.MinimumRetention
	switch {
	case err != nil && !errors.As(err, &missing):
		d.fault(id+".namespace", "may our credential read it? ask the cluster's administrator", "namespace %s cannot be looked at", name)
		return false
	case err == nil:
		d.ok(id+".namespace", "namespace %s is there", name)
	case !d.fix:
		d.fault(id+".namespace", "run `rekey doctor --fix`, or `temporal operator namespace create --namespace "+name+" --retention "+hours(want)+"`", "namespace %s is missing", name)
		return false
	}
	if err != nil || short && d.fix {
		if _, err := temporalx.EnsureNamespace(ctx, c, name, want); err != nil {
			d.fault(id+".namespace", "have the cluster's administrator do it", "%s", err)
			return false
		}
	}
	switch {
	case err != nil:
		d.mended(id+".namespace", "namespace %s was created, retention %s", name, hours(want))
	case short && d.fix:
		d.mended(id+".retention", "raised from %s to %s", hours(have), hours(want))
	case short:
		d.fault(id+".retention", "run `rekey doctor --fix`, or `temporal operator namespace update --namespace "+name+" --retention "+hours(want)+"`",
			"closed runs are deleted after %s, before every bundle is sealed from them; %s is the least", hours(have), hours(temporalx.MinimumRetention))
	default:
		d.ok(id+".retention", "closed runs stay for %s", hours(have))
	}
	return true
}

func hours(d time.Duration) string { return fmt.Sprintf("%dh", int64(d/time.Hour)) }

func (d *doctor) attributes(ctx context.Context, id string, c temporalx.Cluster) {
	name := d.cfg.Temporal.Namespace
	missing, err := temporalx.MissingSearchAttributes(ctx, c, name)
	switch {
	case err != nil:
		d.fault(id+".search-attributes", "have the cluster's administrator mend it", "%s", err)
		return
	case len(missing) == 0:
		d.ok(id+".search-attributes", "all %d are registered", len(temporalx.SearchAttributes()))
		return
	case !d.fix:
		d.fault(id+".search-attributes", "run `rekey doctor --fix`", "not registered: %s", strings.Join(missing, ", "))
		return
	}
	added, err := temporalx.EnsureSearchAttributes(ctx, c, name)
	if err != nil {
		d.fault(id+".search-attributes", "have the cluster's administrator do it", "%s", err)
		return
	}
	d.mended(id+".search-attributes", "registered: %s", strings.Join(added, ", "))
}

// providers asks each configured account who we are there; that reads our
// credential, and needs no right.
func (d *doctor) providers(ctx context.Context) {
	registry, err := all.Default()
	if err != nil {
		d.fault("providers", "this is a fault of the build: report it", "%s", err)
		return
	}
	none := true
	for _, p := range registry.Providers() {
		for _, name := range d.cfg.Accounts(p.Descriptor.Code) {
			none = false
			id := "providers." + p.Descriptor.Code + "/" + name
			ctx, cancel := context.WithTimeout(ctx, lookLimit)
			self, err := openSelf(d.cfg, p, name)
			var who string
			if err == nil {
				who, err = self.Identity(ctx)
			}
			cancel()
			if err != nil {
				f := problem(err)
				d.fault(id, f.Do, "%s", f.Message)
			} else {
				d.ok(id, "we are %s there; `rekey provider check %s` tells what we may do", who, p.Descriptor.Code)
			}
			if self == nil {
				continue
			}
			if skew, ok := self.Skew(); ok {
				d.clock("clock."+p.Descriptor.Code+"/"+name, "the provider's", skew)
			}
		}
	}
	if none {
		d.skipped("providers", "no account is configured: add one under providers in rekey.yaml")
	}
}
