package worker

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"rekey/activities"
	"rekey/activities/notify"
	channels "rekey/activities/notify/all"
	"rekey/internal/config"
	"rekey/internal/httpx"
	"rekey/internal/secret"
	"rekey/internal/trace"
)

// channelLimit bounds the look at one channel: a handful of calls.
const channelLimit = 20 * time.Second

// What the secrets of Slack's app look like. Nothing else can be told of them
// without a request from Slack (https://docs.slack.dev/authentication/verifying-requests-from-slack,
// https://docs.slack.dev/authentication/tokens).
var (
	signingSecretRE = regexp.MustCompile(`^[0-9a-f]{32}$`)
	appTokenRE      = regexp.MustCompile(`^xapp-[A-Za-z0-9-]{20,}$`)
)

// channels has each configured channel test its own set-up, and the place where
// incidents are followed.
func (d *doctor) channels(ctx context.Context) {
	codes := d.cfg.ConfiguredChannels()
	if len(codes) == 0 {
		d.skipped("channels", "none is configured: nobody is told but by `rekey incident watch`")
		return
	}
	for _, code := range codes {
		d.channel(ctx, code)
	}
	if d.cfg.Channels.Slack.Configured() {
		d.slackSecrets()
	}
}

// targets are where rekey.yaml has incidents followed.
func (d *doctor) targets(code string) []string {
	var out []string
	switch code {
	case "slack":
		out = append(out, d.cfg.Record.Slack.Channel)
	case "github":
		out = append(out, d.cfg.Record.GitHub.Repo)
	}
	if out = compact(out); len(out) == 0 {
		return nil
	}
	return out
}

func compact(in []string) []string {
	var out []string
	for _, s := range in {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}

func (d *doctor) channel(ctx context.Context, code string) {
	id := "channels." + code
	c, ok := channels.Lookup(code)
	if !ok {
		d.fault(id, "take channels."+code+" out of rekey.yaml", "this build has no such channel")
		return
	}
	a, _ := d.cfg.Channel(code)
	opened, err := c.Open(a, activities.Deps{HTTP: httpx.ForAccount, Now: func(context.Context) time.Time { return d.now() }, Agent: "rekey/1"})
	if err != nil {
		d.fault(id, "mend channels."+code+" in rekey.yaml, or the file that it names", "%s", err)
		return
	}
	checker, ok := opened.(notify.Checker)
	if !ok {
		d.skipped(id, "it cannot test its own set-up")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, channelLimit)
	defer cancel()
	targets := d.targets(code)
	faults := false
	for _, p := range checker.Check(ctx, targets...) {
		if p.Warning {
			d.ok(id+"."+p.Code, "note: %s: %s", p.What, p.Do)
			continue
		}
		faults = true
		d.fault(id+"."+p.Code, p.Do, "%s", p.What)
	}
	if !faults {
		where := ""
		if len(targets) > 0 {
			where = ", and can write to " + strings.Join(targets, ", ")
		}
		d.ok(id, "it takes our credential%s", where)
	}
}

// slackSecrets looks at what only requests from Slack use: their shape is all that
// can be told before one comes.
func (d *doctor) slackSecrets() {
	a, _ := d.cfg.Channel("slack")
	s := d.cfg.Channels.Slack
	shape := func(key, file, name, want, do string, re *regexp.Regexp) {
		if file == "" {
			return
		}
		id := "channels.slack." + key
		v, err := a.Credential(name)
		if err != nil {
			d.fault(id, "put it there, mode 0600", "%s cannot be read", file)
			return
		}
		defer v.Destroy()
		if !matches(v, re) {
			d.fault(id, do, "%s holds no %s", file, want)
			return
		}
		d.ok(id, "it has the form of a %s; whether it is the app's shows when Slack's first request is taken", want)
	}
	shape("signing-secret", s.SigningSecretFile, "signing_secret", "signing secret (32 hex digits)", "copy Basic Information > Signing Secret of the app, not the client secret or a token: requests of Slack are refused with a wrong one", signingSecretRE)
	shape("app-token", s.AppTokenFile, "app_token", "app-level token (xapp-…)", "make one under Basic Information > App-Level Tokens with the scope connections:write; a bot token (xoxb-…) opens no Socket Mode", appTokenRE)
	if s.SigningSecretFile == "" && s.AppTokenFile == "" {
		d.ok("channels.slack.signing-secret", "note: neither signing_secret_file nor app_token_file is given: incidents are shown in Slack, and no command or button of Slack is taken")
	}
}

func matches(v secret.Value, re *regexp.Regexp) bool {
	b := v.Reveal()
	defer clear(b)
	return re.Match(b)
}

// telemetry asks the collector to take an empty export (OTLP: an empty request is
// answered as any other, https://opentelemetry.io/docs/specs/otlp/#otlphttp).
func (d *doctor) telemetry(ctx context.Context) {
	const id = "telemetry"
	t := d.cfg.Telemetry
	if t.OTLPEndpoint == "" {
		d.skipped(id, "no telemetry.otlp_endpoint: no traces are sent")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	if err := collector(ctx, t); err != nil {
		d.fault(id, "check telemetry in rekey.yaml, and that the collector runs with an OTLP/HTTP receiver (port 4318). Incidents go on without it", "%s", err)
		return
	}
	d.ok(id, "the collector takes traces; %d %% of them are sent", t.Percent)
}

func collector(ctx context.Context, t config.Telemetry) error {
	status, err := trace.Probe(ctx, trace.Options{Endpoint: t.OTLPEndpoint, CAFile: t.CAFile, HeadersFile: t.HeadersFile})
	switch {
	case err != nil:
		return err
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return fmt.Errorf("the collector refuses our credential (status %d): telemetry.headers_file holds a wrong or expired one", status)
	case status/100 != 2:
		return fmt.Errorf("what answers there is no OTLP/HTTP collector (status %d)", status)
	}
	return nil
}
