// Package slackapp is rekey's Slack app: the slash command /rekey and the buttons of
// the status card, over HTTP and over Socket Mode. What it posts by itself (card and
// thread) is the channel's, activities/notify/slack.
//
// # A request's way
//
// authentic (signature over the raw body and time window; Socket Mode: the
// connection itself) -> our workspace -> into the inbox, durably, which also refuses
// repeats -> acknowledged -> who is it -> what is asked -> done -> answered to that
// person alone. Everything behind the inbox may happen twice and after a crash: the
// nonce of what is said to an incident comes from the request, so that a repeat is
// the same report and the same vote. No state of a request is in memory: any replica
// that shares DATA can take any step.
//
// # Power
//
// A person of rekey.yaml (people.<name>.slack is their TEAM/USER) may vote, hold and
// release; the vote is a statement signed with the server's key, method "slack",
// which the incident checks against what was pinned at its start. Readers (a user
// group, a mail domain) may read and report. Guests, bots, people of other
// workspaces and everybody else may nothing, and are told so. What fails while
// asking who somebody is, is a no.
//
// To add a command: its form in [usages], its parser in parse.go, its case in
// [App.run], and a line in docs/slack/manifest*.yaml if it needs a scope.
package slackapp

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/slack-go/slack"

	"rekey/activities"
	"rekey/internal/api"
	"rekey/internal/config"
	"rekey/internal/inbox"
	"rekey/internal/intake"
	"rekey/internal/plan"
	"rekey/internal/secret"
	"rekey/internal/secret/redact"
	"rekey/internal/server"
	"rekey/internal/statement"
	"rekey/internal/view"
	"rekey/workflows"
)

// Scopes are the bot token's rights that this package needs, in Slack's words
// (https://docs.slack.dev/reference/scopes): commands for /rekey, chat:write to
// answer in a direct message when a response_url has lapsed, users:read to tell
// guests and strangers, users:read.email and usergroups:read for the readers.
func Scopes() []string {
	return []string{"chat:write", "commands", "usergroups:read", "users:read", "users:read.email"}
}

// Command is the slash command.
const Command = "/rekey"

// Reports takes reports; *intake.Intake is it.
type Reports interface {
	Report(ctx context.Context, who intake.Caller, req api.ReportRequest) (api.ReportResponse, error)
}

// Incidents answers for incidents; server.Temporal is it.
type Incidents interface {
	Show(ctx context.Context, id string) (view.Incident, error)
	Items(ctx context.Context, id string) ([]view.Item, error)
	Plan(ctx context.Context, id string) (plan.Plan, error)
	Decide(ctx context.Context, s statement.Signed) (workflows.Decision, error)
	List(ctx context.Context, f server.Filter) (view.List, error)
}

// A KeyQuestion asks about one key.
type KeyQuestion struct{ Provider, Kind, Account, KeyID string }

// A Preview is what rekey would do about a key, without an incident.
type Preview struct {
	Plan     plan.Plan
	Severity string
	Owner    string
	LastUsed string
	Held     string
	Unseen   []activities.Unseen
}

// An UploadLink asks for a link by which one secret can be handed over once.
type UploadLink struct {
	Key KeyQuestion
	Who intake.Caller
}

// Options of an App. All are required but those that say otherwise.
type Options struct {
	Config *config.Config
	// Account is channels.slack of the configuration (config.Config.Channel).
	Account   activities.Account
	Reports   Reports
	Incidents Incidents
	Providers []activities.Descriptor
	// Signer is the server's key, which incidents have pinned.
	Signer ed25519.PrivateKey
	Inbox  *inbox.Inbox
	Redact *redact.Redactor
	HTTP   *http.Client
	Log    *slog.Logger
	Now    func() time.Time

	// OnRefuse is told the reason of each refusal ([App.Refusals]); nil: nobody counts.
	OnRefuse func(why string)
	// Preview answers `plan PROVIDER KEY-ID`; nil: this server cannot. A *server.Refused
	// says what is wrong with the question.
	Preview func(context.Context, KeyQuestion) (Preview, error)
	// Upload makes one-time links; nil: there are none. It checks the question, and
	// fails with a *server.Refused.
	Upload func(context.Context, UploadLink) (url string, err error)
}

// An App serves one workspace. Run makes it work through its inbox.
type App struct {
	Options
	find     *finder
	api      *url.URL // of base_url; nil: Slack itself
	people   map[string]string
	cache    cache
	counts   counts
	bodies   bodies
	busy     chan struct{} // hands for what comes in
	sweeping chan struct{} // and for what waits
	plans    chan struct{}
	ctx      context.Context // of work that outlives its HTTP request
	stop     context.CancelFunc
	working  sync.WaitGroup
	quick    time.Duration
	grace    time.Duration
}

// Bounds.
const (
	// quick is how long an acknowledgement waits for the answer; Slack waits 3 s
	// (https://docs.slack.dev/interactivity/implementing-slash-commands#responding_to_commands).
	quick       = 1500 * time.Millisecond
	attempt     = 30 * time.Second
	planAttempt = 2 * time.Minute
	maxWorking  = 64
	maxSweeping = 32
	maxPlans    = 2
	voteLife    = 10 * time.Minute // as the command line's
	reportLife  = 72 * time.Hour   // as long as a sealed secret lives
	rest        = 5 * time.Second  // between two looks into the inbox
	remember    = time.Hour        // of repeats; a signature is good for 10 minutes
	grace       = 10 * time.Second
)

// New prepares an App. It calls nobody.
func New(o Options) (*App, error) {
	if o.Config == nil || o.Account.Credential == nil || o.Reports == nil || o.Incidents == nil || o.Inbox == nil || o.Redact == nil ||
		o.HTTP == nil || o.Log == nil || o.Now == nil || len(o.Signer) != ed25519.PrivateKeySize {
		return nil, errors.New("slackapp: an option is missing")
	}
	a := &App{
		bodies:  bodies{most: maxBodies, takes: maxBodyTakes},
		Options: o, people: map[string]string{}, counts: counts{by: map[string]int64{}, tell: o.OnRefuse}, busy: make(chan struct{}, maxWorking), sweeping: make(chan struct{}, maxSweeping), plans: make(chan struct{}, maxPlans), quick: quick, grace: grace,
	}
	patterns, err := intake.Patterns(o.Providers)
	if err != nil {
		return nil, fmt.Errorf("slackapp: %w", err)
	}
	seen, err := redact.New(redact.Options{Patterns: patterns})
	if err != nil {
		return nil, fmt.Errorf("slackapp: %w", err)
	}
	if a.find, err = newFinder(seen, o.Providers); err != nil {
		return nil, fmt.Errorf("slackapp: %w", err)
	}
	if base := o.Account.Settings["base_url"]; base != "" {
		if a.api, err = url.Parse(base); err != nil || a.api.Host == "" {
			return nil, errors.New("slackapp: channels.slack.base_url is not a URL")
		}
	}
	for name, p := range o.Config.People {
		if p.Slack != "" {
			a.people[p.Slack] = name
		}
	}
	a.ctx, a.stop = context.WithCancel(context.Background())
	return a, nil
}

// Run works through the inbox, and answers Socket Mode where an app token is
// configured, until ctx ends; then what is being worked on has 10 s to finish. What
// does not, is done by the next process. A Slack that cannot be reached is retried
// for ever and stops nothing else.
func (a *App) Run(ctx context.Context) {
	defer func() {
		done := make(chan struct{})
		go func() { a.working.Wait(); close(done) }()
		timer := time.NewTimer(a.grace)
		defer timer.Stop()
		select {
		case <-done:
		case <-timer.C:
		}
		a.stop()
		<-done
	}()
	var wg sync.WaitGroup
	defer wg.Wait()
	if a.Config.Channels.Slack.AppTokenFile != "" {
		wg.Go(func() { a.socket(ctx) })
	}
	tick := time.NewTicker(rest)
	defer tick.Stop()
	for {
		a.sweep(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// sweep starts work on what waits: what a process left behind, what could not be
// done before, what came when all hands were busy.
func (a *App) sweep(ctx context.Context) {
	if err := a.Inbox.Clean(a.Now().Add(-remember)); err != nil {
		a.Log.Error("the Slack inbox cannot be cleaned", "error", err)
	}
	names, err := a.Inbox.Pending()
	if err != nil {
		a.Log.Error("the Slack inbox cannot be read", "error", err)
		return
	}
	// Each in turn, by hands of its own: requests that must wait for hours, however
	// many, keep neither the others in here nor a new one from being done.
	for _, name := range names {
		select {
		case <-ctx.Done():
			return
		case a.sweeping <- struct{}{}:
		}
		a.start(name, nil, a.sweeping)
	}
}

// start works on an entry in the background; the caller holds a place among hands.
func (a *App) start(name string, d *delivery, hands <-chan struct{}) {
	a.working.Go(func() {
		defer func() { <-hands }()
		a.work(name, d)
	})
}

// client speaks to Slack's Web API with the token as it is now, so that a rotated one
// needs no restart.
func (a *App) client(options ...slack.Option) (*slack.Client, error) {
	token, err := a.Account.Credential("bot_token")
	if err != nil {
		return nil, err
	}
	defer token.Destroy()
	raw := token.Reveal()
	defer clear(raw)
	options = append(options, slack.OptionHTTPClient(a.HTTP), slack.OptionLog(slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)))
	if a.api != nil {
		options = append(options, slack.OptionAPIURL(a.api.JoinPath("/").String()))
	}
	return slack.New(string(raw), options...), nil
}

// counts are requests that were refused, by reason.
type counts struct {
	mu   sync.Mutex
	by   map[string]int64
	tell func(string)
}

func (c *counts) add(reason string) {
	if c.tell != nil {
		c.tell(reason)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.by[reason]++
}

// Refusals counts what was refused, by reason, since the start: bad-signature,
// stale, oversized, slow, crowded, wrong-team, malformed, replayed, guest, stranger, unknown-user,
// bot, secret, and the codes of refused decisions.
func (a *App) Refusals() map[string]int64 {
	a.counts.mu.Lock()
	defer a.counts.mu.Unlock()
	out := make(map[string]int64, len(a.counts.by))
	for k, v := range a.counts.by {
		out[k] = v
	}
	return out
}

// destroy forgets secrets.
func destroy(values []secret.Value) {
	for _, v := range values {
		v.Destroy()
	}
}
