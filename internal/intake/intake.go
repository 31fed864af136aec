// Package intake takes a report and makes it durable: an incident that has it.
//
// The order is the promise (design section 4): validate everything, settle which
// incident the key belongs to (the register's claim, which stores keyed
// fingerprints only), seal the secret under that incident, keep the evidence, and
// only then signal the incident, starting it where it does not run. A crash
// between any two steps leaves nothing that the same request, sent again, does
// not complete: claims, sealing and blobs are idempotent, and a report's id comes
// from its nonce, so an incident takes it once.
//
// Intake calls no vendor. That a secret is given is only recorded; the engine
// checks it against the key and answers for possession.
//
// A new trigger (webhook, chat) authenticates its caller in its own package,
// turns its payload into an api.ReportRequest and calls [Intake.Report] with a
// [Caller] that says what was authenticated. Nothing that a caller writes into
// the request can raise what its own source may cause.
package intake

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"rekey/activities"
	"rekey/internal/api"
	"rekey/internal/blob"
	"rekey/internal/canon"
	"rekey/internal/config"
	"rekey/internal/people"
	"rekey/internal/secret"
	"rekey/internal/secret/redact"
	"rekey/internal/statement"
	"rekey/workflows"
)

// A Caller is who reports, as the trigger authenticated them.
type Caller struct {
	// Actor is the person or machine: "local:alice".
	Actor string
	// Source is the authenticated source as ceilings.sources names it: "cli".
	Source string
	// SourceKind is one of the values of the fact report.source_kind.
	SourceKind string
}

// Options of an Intake. All are required but those that say otherwise.
type Options struct {
	Config       *config.Config
	Providers    []activities.Descriptor
	Voters       people.Voters
	Signer       ed25519.PrivateKey // the server's
	Fingerprints *secret.Fingerprinter
	Sealed       secret.Store
	Blobs        blob.Store
	Engine       Engine
	// Origin is where a secret of this account may be sent (secret.Ref.Origin).
	Origin func(provider string, account activities.Account) (string, error)
	// Redact is the one of the log: a reported secret is made known to it while
	// the report is handled.
	Redact *redact.Redactor
	// Holds are the standing holds; nil: none.
	Holds func() ([]workflows.StandingHold, error)
	Now   func() time.Time
	Log   *slog.Logger

	// Lab accepts any valid playbook; Virtual and Off are of drills.
	Lab     bool
	Virtual bool
	Off     []string
	// UI and Namespace are for links; URL is the base of this server's own, "" for
	// none.
	UI, Namespace, URL string
}

// An Intake takes reports. It is safe for concurrent use.
type Intake struct {
	Options
	recognise recogniser
	clean     *redact.Redactor // for text that is stored
	shipped   []*candidate     // those of rekey.yaml first
	owners    *owners
	mail      *mailbox
}

// New prepares an Intake: it compiles every shipped playbook.
func New(o Options) (*Intake, error) {
	if o.Config == nil || o.Engine == nil || o.Sealed == nil || o.Blobs == nil || o.Fingerprints == nil ||
		o.Redact == nil || o.Origin == nil || o.Now == nil || o.Log == nil || len(o.Signer) != ed25519.PrivateKeySize {
		return nil, errors.New("intake: an option is missing")
	}
	in := &Intake{Options: o, owners: newOwners()}
	in.mail = newMailbox(in.deliver)
	patterns, err := Patterns(o.Providers)
	if err != nil {
		return nil, fmt.Errorf("intake: %w", err)
	}
	if in.recognise.r, err = redact.New(redact.Options{Patterns: patterns}); err != nil {
		return nil, fmt.Errorf("intake: %w", err)
	}
	if in.clean, err = redact.New(redact.Options{Patterns: patterns, Strip: true}); err != nil {
		return nil, fmt.Errorf("intake: %w", err)
	}
	in.shipped, err = in.candidates()
	return in, err
}

// SchemaReport is the schema of the answer.
const SchemaReport = "rekey.report/v1"

// reportLife bounds how long a report's statement may wait for a worker. It is
// evidence, not a decision: with workers down it must not lapse.
const reportLife = 30 * 24 * time.Hour

// Report takes one report. With req.DryRun it does everything but claim, seal,
// keep and start, and says what would happen. All its errors are *Refusal or
// ctx's. Sending the same request again gives the same incident and report.
func (in *Intake) Report(ctx context.Context, who Caller, req api.ReportRequest) (api.ReportResponse, error) {
	c, err := in.check(who, req)
	if err != nil {
		return api.ReportResponse{}, err
	}
	defer c.secret.Destroy()
	forget := in.watchFor(c.secret)
	defer forget()
	chosen, err := in.choose(c)
	if err != nil {
		return api.ReportResponse{}, err
	}
	settings, err := in.settings(chosen)
	if err != nil {
		return api.ReportResponse{}, err
	}
	proposed, err := secret.IncidentID(c.key.FP)
	if err != nil {
		return api.ReportResponse{}, fmt.Errorf("intake: %w", err)
	}
	answer := api.ReportResponse{
		Schema: SchemaReport, Incident: proposed, Report: c.id, FP: c.key.FP, Playbook: chosen.pb.Name,
	}
	if !c.secret.Empty() {
		answer.Possession = "unchecked"
	}
	if req.DryRun {
		return in.rehearse(ctx, answer)
	}
	var d delivered
	// Whose a key is never changes but where two incidents turn out to be about one
	// key. So what is known is good as long as that incident runs.
	for recent := !c.secret.Empty(); ; recent = true {
		if answer.Incident, recent, err = in.claim(ctx, c, proposed, recent); err != nil {
			return api.ReportResponse{}, err
		}
		report, err := in.keep(ctx, c, answer.Incident)
		if err != nil {
			return api.ReportResponse{}, err
		}
		d, err = in.mail.post(ctx, &letter{input: workflows.IncidentInput{ID: answer.Incident, Settings: settings}, report: report, recent: recent})
		if err == nil {
			break
		}
		if !errors.Is(err, errMoved) {
			return api.ReportResponse{}, err
		}
	}
	answer.Existing, answer.Reopened = d.existing, d.reopened
	if in.URL != "" {
		answer.URL = in.URL + "/api/v1/incidents/" + answer.Incident
	}
	in.Log.Info("report taken", "incident", answer.Incident, "report", c.id, "item", c.key.Short(), "provider", c.key.Provider,
		"source", c.source, "playbook", chosen.pb.Name, "existing", d.existing, "reopened", d.reopened)
	return answer, nil
}

// watchFor makes the reported secret disappear from every text that is stored or
// logged while the report is handled. One that is too short to be told from
// ordinary text stays: blanking it would blank words.
func (in *Intake) watchFor(v secret.Value) func() {
	var forget []func()
	for _, r := range []*redact.Redactor{in.Redact, in.clean} {
		if f, err := r.Add("reported", v); err == nil {
			forget = append(forget, f)
		}
	}
	return func() {
		for _, f := range forget {
			f()
		}
	}
}

// rehearse tells what would happen to the answer's incident.
func (in *Intake) rehearse(ctx context.Context, answer api.ReportResponse) (api.ReportResponse, error) {
	st, err := in.Engine.State(ctx, answer.Incident)
	if err != nil {
		return api.ReportResponse{}, engineDown(ctx, err)
	}
	answer.Report = ""
	answer.Existing = st.Running || st.Closed != nil
	answer.Reopened = st.Closed != nil
	return answer, nil
}

// claim settles whose the key is. The alias goes first: a secret that an earlier
// report named without an id brings the key to that incident; where the key
// itself has an incident, that one is its home. Where recent is not wanted, the
// answer of a register some time ago will do; it tells which it was.
func (in *Intake) claim(ctx context.Context, c *checked, proposed string, recent bool) (owner string, asked bool, err error) {
	owner = proposed
	for _, fp := range []string{c.alias, c.key.FP} {
		if fp == "" {
			continue
		}
		got, fresh, err := in.owners.of(ctx, fp, recent, func(ctx context.Context) (string, error) {
			res, err := in.Engine.Claim(ctx, workflows.RegisterID(fp), workflows.Claim{FPs: []string{fp}, Incident: owner})
			if err != nil {
				return "", engineDown(ctx, err)
			}
			if !secret.ValidIncident(res.Owners[fp]) {
				return "", unavailable(nil, "try again; if it stays, run `rekey doctor`", "the register gave no incident for this key")
			}
			return res.Owners[fp], nil
		})
		if err != nil {
			return "", false, err
		}
		asked = fresh
		if fp == c.key.FP && got != owner && owner != proposed {
			in.Log.Warn("one secret, two incidents: the key's own incident takes the report", "incident", got, "alias_incident", owner, "item", c.key.Short())
		}
		owner = got
	}
	return owner, asked, nil
}

// keep seals the secret, stores the evidence, and writes the report that refers
// to them.
func (in *Intake) keep(ctx context.Context, c *checked, incident string) (workflows.Report, error) {
	r := workflows.Report{
		ID: c.id, Source: c.source, SourceKind: c.who.SourceKind, Actor: c.who.Actor,
		Received: c.received, Claimed: c.claimed, Confidence: c.confidence, Subject: "key", Exposure: c.exposure,
		Key: c.key, Alias: c.alias, Severity: c.severity, Reason: in.clean.String(c.reason), Ceiling: c.ceiling,
		Copies: c.req.Copies,
	}
	var err error
	if r.Secret, err = in.seal(ctx, c, incident); err != nil {
		return r, err
	}
	if r.Evidence, err = in.evidence(ctx, c); err != nil {
		return r, err
	}
	return in.sign(r, c.nonce, incident)
}

// seal gives the handle, "" without a secret. Another secret for the same key
// gets a handle of its own: which one is the key's, the engine finds out.
func (in *Intake) seal(ctx context.Context, c *checked, incident string) (string, error) {
	if c.secret.Empty() {
		return "", nil
	}
	ref := secret.Ref{Incident: incident, Handle: "key/" + c.key.Short(), Provider: c.key.Provider, Origin: c.origin}
	err := in.Sealed.Seal(ctx, ref, c.secret)
	if errors.Is(err, secret.ErrDiffers) {
		ref.Handle += "/" + secret.Short(c.alias)
		err = in.Sealed.Seal(ctx, ref, c.secret)
	}
	if err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", unavailable(err, "nothing was started: check the disk of the data directory (`rekey doctor`), or report without the secret", "the secret could not be sealed")
	}
	return ref.Handle, nil
}

func (in *Intake) evidence(ctx context.Context, c *checked) ([]workflows.Evidence, error) {
	var out []workflows.Evidence
	for _, e := range c.evidence {
		hash, err := in.Blobs.Put(ctx, e.data)
		if err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, unavailable(err, "nothing was started: check the disk of the data directory (`rekey doctor`)", "the evidence could not be kept")
		}
		out = append(out, workflows.Evidence{Name: in.clean.String(e.name), Hash: hash, Size: int64(len(e.data))})
		if n := in.recognise.count(e.data); n > 0 {
			in.Log.Warn("evidence holds what looks like secrets; it is kept encrypted, and each of them is a copy in scope", "report", c.id, "hash", hash, "count", n)
		}
	}
	return out, nil
}

// sign binds the report to the incident with the server's key. The statement's
// text is the hash of the report without it, so that nothing of the report can
// be exchanged.
func (in *Intake) sign(r workflows.Report, nonce, incident string) (workflows.Report, error) {
	hash, err := Digest(r)
	if err != nil {
		return r, fmt.Errorf("intake: %w", err)
	}
	r.Statement, err = statement.Sign(statement.Statement{
		Action: statement.Report, Incident: incident, Actor: r.Actor, Role: "reporter", Method: people.MethodServer,
		Items: []string{r.Key.FP}, Text: hash, Nonce: nonce, Issued: r.Received, Expires: r.Received.Add(reportLife),
	}, in.Signer)
	if err != nil {
		return r, fmt.Errorf("intake: %w", err)
	}
	return r, nil
}

// Digest is what the statement of a report carries in its text: "sha256:…" of the
// canonical report without its statement.
func Digest(r workflows.Report) (string, error) {
	r.Statement = statement.Signed{}
	return canon.HashOf(r)
}
