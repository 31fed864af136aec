package slackapp

import (
	"context"
	"encoding/base64"
	"errors"
	"slices"

	"rekey/activities"
	"rekey/internal/api"
	"rekey/internal/intake"
	"rekey/internal/secret"
	"rekey/internal/server"
)

// Source is what ceilings.sources calls reports from here.
const Source = "slack"

func (w who) caller() intake.Caller {
	return intake.Caller{Actor: w.actor(), Source: Source, SourceKind: "chat"}
}

// report reports a key. A secret in the text is a copy of it in scope: Slack keeps
// what was typed. It is sealed only where the kind cannot be handled without.
func (a *App) report(ctx context.Context, req *request, w who, c asked) (*answer, error) {
	r := api.ReportRequest{
		Provider: c.provider, Kind: c.kind, Account: c.account, KeyID: c.keyID, Severity: c.severity, Confidence: c.confidence,
		Exposure: c.exposure, Reason: c.reason, Nonce: req.nonce(),
	}
	if len(c.secrets) > 0 {
		r.Copies = []string{place(req)}
		if a.needsSecret(c.provider, c.kind, c.keyID) {
			raw := c.secrets[0].Reveal()
			r.Secret = base64.StdEncoding.EncodeToString(raw)
			clear(raw)
		}
	}
	answered, err := a.Reports.Report(ctx, w.caller(), r)
	if err != nil {
		ans, err := a.down(err)
		if ans != nil && len(c.secrets) > 0 {
			ans.append(a.removal())
		}
		return ans, err
	}
	out := say("*Reported.* Incident `%s`, item `%s`.", answered.Incident, secret.Short(answered.FP))
	switch {
	case answered.Reopened:
		out.add("It was over and has been *reopened*.")
	case answered.Existing:
		out.add("The incident was open already and has your report.")
	}
	if answered.Playbook != "" {
		out.add("Playbook %s. `%s status %s` shows where it stands.", answered.Playbook, Command, answered.Incident)
	}
	if len(c.secrets) > 0 {
		a.counts.add("secret")
		a.Log.Warn("a secret was typed into Slack", "user", req.Team+"/"+req.User, "incident", answered.Incident, "sealed", r.Secret != "")
		out.append(a.removal())
		out.add("The place is in the incident's scope as a copy. %s", map[bool]string{true: "The secret was sealed, because this kind of key cannot be handled without it.", false: "The secret was thrown away: the key's id is enough."}[r.Secret != ""])
	}
	if len(c.secrets) > 0 || a.needsSecret(c.provider, c.kind, c.keyID) {
		a.offer(ctx, out, w, c.command)
	}
	return out, nil
}

// place names where the secret was typed: "slack/T0123/C0456".
func place(req *request) string {
	if req.Channel == "" {
		return "slack/" + req.Team
	}
	return "slack/" + req.Team + "/" + req.Channel
}

// needsSecret tells whether the verbs of a key's kind do not work by its id alone.
func (a *App) needsSecret(provider, kind, keyID string) bool {
	i := slices.IndexFunc(a.Providers, func(d activities.Descriptor) bool { return d.Code == provider })
	if i < 0 {
		return false
	}
	d := a.Providers[i]
	if d.CheckID != nil {
		if found, err := d.CheckID(keyID); err == nil {
			kind = found
		}
	}
	k, ok := d.Kind(kind)
	return ok && !k.IDSuffices
}

// removal says what to do about a secret that was typed into Slack.
func (a *App) removal() *answer {
	return say("*What you typed held a secret.* rekey does not show it anywhere, yet Slack has seen it, so treat it as exposed:").
		add("• A command is not posted, but it is in the memory of your Slack: clear the message box, and press ↑ to see that it is gone.").
		add("• If you also posted it: ⋮ on the message, *Delete message*; then ask a workspace admin whether exports or retention keep it.").
		add("• Next time give only the key's public id.")
}

// secretTyped refuses a command with a secret in it: nothing of it is carried on.
func (a *App) secretTyped(c asked) *answer {
	out := refusal("secret", "*Nothing was done.*").append(a.removal())
	if c.mistake != nil {
		return out.add("To report the key: `%s %s`", Command, usageOf(verbReport).form)
	}
	return out.add("Take the secret out and send the command again.")
}

// offer adds a link for the secret, where there can be one.
func (a *App) offer(ctx context.Context, out *answer, w who, c command) {
	if a.Upload == nil {
		return
	}
	u, err := a.Upload(ctx, UploadLink{Key: KeyQuestion{c.provider, c.kind, c.account, c.keyID}, Who: w.caller()})
	if err != nil {
		return // the report is what counts; /rekey upload says what is wrong
	}
	out.add("To hand over the secret safely (once, within 15 minutes):")
	out.link(u, "upload the secret of this key")
}

func (a *App) upload(ctx context.Context, w who, c asked) (*answer, error) {
	if a.Upload == nil {
		return refusal("not-configured", "This server has no address that your browser can reach.").
			add("Whoever runs rekey sets `listen.url` in rekey.yaml; until then: `rekey report --secret-stdin`."), nil
	}
	u, err := a.Upload(ctx, UploadLink{Key: KeyQuestion{c.provider, c.kind, c.account, c.keyID}, Who: w.caller()})
	var refused *server.Refused
	var rejected *intake.Refusal
	switch {
	case errors.As(err, &refused), errors.As(err, &rejected):
		return a.down(err)
	case err != nil:
		a.Log.Error("an upload link could not be made", "error", a.Redact.String(err.Error()))
		return refusal("internal", "rekey could not make a link.").add("Look at the disk of its data directory (`rekey doctor`)."), nil
	}
	return say("Give the secret of this key here, once, within 15 minutes. The link is yours alone:").link(u, "upload the secret"), nil
}
