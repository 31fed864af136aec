package workflows

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"rekey/internal/canon"
	"rekey/internal/event"
	"rekey/internal/statement"
	"rekey/internal/view"
	"rekey/playbooks"
)

// handlers registers queries and the updates of people. An update is refused by
// its validator only when it is malformed, because such a refusal leaves no trace;
// every other refusal is accepted and failed by the handler, and so on record.
func (r *incident) handlers(ctx workflow.Context) error {
	queries := map[string]any{
		QueryShow:  func() (view.Incident, error) { return r.view(workflow.GetInfo(ctx)), nil },
		QueryItems: func() ([]view.Item, error) { return r.items(), nil },
		QueryPlan: func() (any, error) {
			if r.st.Plan == nil {
				return nil, errors.New("there is no plan yet")
			}
			return *r.st.Plan, nil
		},
		QueryTaken: func() (Taken, error) { return r.st.Taken, nil },
	}
	for _, name := range []string{QueryShow, QueryItems, QueryPlan, QueryTaken} {
		if err := workflow.SetQueryHandler(ctx, name, queries[name]); err != nil {
			return err
		}
	}
	if r.set.Large > 0 {
		if err := workflow.SetQueryHandler(ctx, QueryPages, func() (PagesState, error) { return r.massLists(), nil }); err != nil {
			return err
		}
	}
	acts := []struct {
		name string
		do   func(workflow.Context, statement.Statement, string) (Decision, *refusal)
	}{
		{statement.Approve, r.doApprove},
		{statement.Deny, r.doDeny},
		{statement.Hold, r.doHold},
		{statement.Release, r.doRelease},
		{statement.Restore, r.doRestore},
		{statement.Resolve, r.doResolve},
		{statement.Note, r.doNote},
		{statement.Close, r.doClose},
	}
	for _, a := range acts {
		err := workflow.SetUpdateHandlerWithOptions(ctx, a.name, func(ctx workflow.Context, s statement.Signed) (Decision, error) {
			return r.decide(ctx, a.name, s, a.do)
		}, workflow.UpdateHandlerOptions{
			Description: "a signed statement that asks to " + a.name,
			Validator: func(s statement.Signed) error {
				if s.Statement.V == 0 || s.Signature == "" || s.Statement.Nonce == "" || s.Statement.Actor == "" {
					return errors.New("not a signed statement")
				}
				return nil
			},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// refusal says why a decision is not accepted and what to do.
type refusal struct{ code, why, do string }

// roles that may do what, besides votes (their roles are in the playbook).
var mayAct = map[string][]string{
	statement.Hold:    {"responder", "approver", "commander", "security", "legal", "admin"},
	statement.Release: {"commander", "security", "legal", "admin"},
	statement.Resolve: {"responder", "approver", "commander", "security", "admin"},
	statement.Note:    {"viewer", "reporter", "responder", "approver", "commander", "security", "product", "legal", "auditor", "maintainer", "admin"},
	statement.Close:   {"commander", "security"},
}

// decide checks a statement and acts on it. The order of the checks is from what
// an outsider can fake to what a colleague can get wrong.
func (r *incident) decide(ctx workflow.Context, name string, s statement.Signed, do func(workflow.Context, statement.Statement, string) (Decision, *refusal)) (Decision, error) {
	person, no := r.check(ctx, name, s)
	if no == nil {
		no = r.carries(name, s.Statement.Method)
	}
	if no == nil && !r.st.Closed.IsZero() && name != statement.Note {
		no = &refusal{view.CodeClosed, "the incident is closed", "report the key again if there is new evidence"}
	}
	role := ""
	if no == nil {
		if roles, ok := mayAct[name]; ok {
			role, no = pickRole(person, s.Statement.Role, roles)
		} else {
			role = s.Statement.Role
		}
	}
	r.stir = true
	var d Decision
	if no == nil {
		r.st.Nonces = append(r.st.Nonces, s.Statement.Nonce)
		d, no = do(ctx, s.Statement, role)
	}
	if no != nil {
		r.refuse(ctx, s.Statement, no.code, no.why)
		return Decision{}, temporal.NewApplicationErrorWithOptions(no.why, RefusalType, temporal.ApplicationErrorOptions{
			NonRetryable: true, Details: []any{view.ErrorBody{Code: no.code, Message: no.why, Do: no.do}},
		})
	}
	r.changed = true
	return d, nil
}

// check authenticates a statement against the keys that were pinned when the
// incident started.
func (r *incident) check(ctx workflow.Context, name string, signed statement.Signed) (statement.Person, *refusal) {
	s := signed.Statement
	i := slices.IndexFunc(r.set.People, func(p statement.Person) bool { return p.Actor == s.Actor })
	if i < 0 {
		return statement.Person{}, &refusal{view.CodeWrongRole, fmt.Sprintf("nobody is called %q in this incident's people", s.Actor), "name the person under `people` in rekey.yaml; a running incident keeps the people it started with"}
	}
	p := r.set.People[i]
	keys := p.Keys
	if s.Method == statement.MethodSlack {
		// The server speaks for a person only in a channel where the configuration
		// names them, and only as that channel.
		if keys = nil; slices.Contains(p.Methods, s.Method) {
			keys = r.set.ServerKeys
		}
	}
	good := slices.ContainsFunc(keys, func(k string) bool { return verifies(signed, k) })
	if !good {
		return p, &refusal{view.CodeForged, "the statement is not signed by a key of " + s.Actor, "sign with the key whose public half was under `people` when the incident started"}
	}
	now := r.clk.Now(ctx)
	switch {
	case s.Action != name:
		return p, &refusal{view.CodeForged, "the statement asks for " + s.Action + ", not " + name, "sign a statement for this action"}
	case s.Incident != r.in.ID:
		return p, &refusal{view.CodeReplayed, "the statement was made for another incident", "sign one for " + r.in.ID}
	case slices.Contains(r.st.Nonces, s.Nonce):
		return p, &refusal{view.CodeReplayed, "this very statement was used before", "sign a new one"}
	case !r.clk.virtual && now.After(s.Expires):
		return p, &refusal{view.CodeExpired, "the statement expired at " + canon.Time(s.Expires), "sign a new one; if that does not help, compare your clock with rekey's"}
	case !r.clk.virtual && s.Issued.After(now.Add(5*time.Minute)):
		return p, &refusal{view.CodeExpired, "the statement was made in the future", "compare your clock with rekey's"}
	case !r.clk.virtual && r.in.Reopened != nil && s.Issued.Before(r.st.Opened):
		// What a life of this incident that is over has used up is not known here.
		return p, &refusal{view.CodeReplayed, "the statement was made before the incident was reopened", "sign a new one"}
	}
	return p, nil
}

func verifies(s statement.Signed, key string) bool {
	pub, err := base64.StdEncoding.DecodeString(key)
	return err == nil && len(pub) == ed25519.PublicKeySize && s.Verify(ed25519.PublicKey(pub)) == nil
}

// checkTrigger checks who says that a report came in.
func (r *incident) checkTrigger(rep Report) error {
	s := rep.Statement.Statement
	if s.Action != statement.Report {
		return errors.New("the report carries no statement of a trigger")
	}
	for _, k := range r.set.ServerKeys {
		if verifies(rep.Statement, k) {
			if s.Actor != rep.Actor || s.Incident != r.in.ID || !slices.Contains(s.Items, rep.Key.FP) {
				return errors.New("the trigger's statement is about another report")
			}
			return nil
		}
	}
	return errors.New("the report is not signed by a rekey server")
}

// refuse writes down a decision that was not accepted.
func (r *incident) refuse(ctx workflow.Context, s statement.Statement, code, why string) {
	now := r.clk.Now(ctx)
	r.st.Refusals = append(r.st.Refusals, view.Refusal{At: canon.Time(now), Actor: s.Actor, Action: s.Action, Code: code, Why: why})
	const most = 200 // the state is carried on; every refusal is an event besides
	if n := len(r.st.Refusals); n > most {
		r.st.Refusals = r.st.Refusals[n-most:]
	}
	record(ctx, now, event.Event{Type: event.EventRefused, Actor: s.Actor, Auth: s.Method, WaveHash: s.WaveHash, Approval: s.Approval, Result: code, Attrs: map[string]string{"action": s.Action, "why": why}})
}

func pickRole(p statement.Person, asked string, allowed []string) (string, *refusal) {
	if asked != "" {
		if !p.Has(asked) || !slices.Contains(allowed, asked) {
			return "", &refusal{view.CodeWrongRole, p.Actor + " may not do this as " + asked, "roles that may: " + strings.Join(allowed, ", ")}
		}
		return asked, nil
	}
	for _, role := range allowed {
		if p.Has(role) {
			return role, nil
		}
	}
	return "", &refusal{view.CodeWrongRole, fmt.Sprintf("%s has the roles %s", p.Actor, strings.Join(p.Roles, ", ")), "roles that may: " + strings.Join(allowed, ", ")}
}

// ballot finds the question a vote is for, and checks the voter. A vote that could
// be for several questions is for none: nobody grants a rung who meant a Revoke.
func (r *incident) ballot(s statement.Statement) (*Approval, string, *refusal) {
	var a *Approval
	stale := false
	var open []string
	for i := range r.st.Approvals {
		b := &r.st.Approvals[i]
		if s.Approval != "" && b.ID != s.Approval {
			continue
		}
		if b.WaveHash != s.WaveHash {
			stale = stale || s.Approval != ""
			continue
		}
		if b.State == "voided" {
			stale = true
			continue
		}
		if b.State == "open" {
			a = b
			open = append(open, b.ID+" ("+b.What+")")
		}
	}
	if len(open) > 1 {
		return nil, "", &refusal{view.CodeInvalid, "several questions are open under this hash: " + strings.Join(open, "; "), "name one with --approval"}
	}
	if a == nil {
		if stale || (s.WaveHash != "" && !r.knowsHash(s.WaveHash)) {
			return nil, "", &refusal{view.CodeStalePlan, "the plan has changed: this wave hash is not the one to vote for", "look at it again with `rekey incident plan " + r.in.ID + "`, then vote for the hash shown there"}
		}
		return nil, "", &refusal{view.CodeNoOpenApproval, "nothing is open to vote on under this wave hash", "`rekey incident show " + r.in.ID + "` lists what is"}
	}
	i := slices.IndexFunc(r.set.People, func(p statement.Person) bool { return p.Actor == s.Actor })
	role, no := pickRole(r.set.People[i], s.Role, a.Roles)
	if no != nil && r.set.Solo {
		role, no = a.Roles[0], nil
	}
	if no != nil {
		return nil, "", no
	}
	if r.isReporter(s.Actor) && !r.set.Solo {
		return nil, "", &refusal{view.CodeSelfApproval, s.Actor + " reported this and may not approve the response", "somebody else must vote"}
	}
	for _, v := range a.Votes {
		if v.Actor == s.Actor && v.Vote != voteVoided {
			return nil, "", &refusal{view.CodeAlreadyVoted, s.Actor + " has voted on " + a.ID, "one person, one vote"}
		}
	}
	return a, role, nil
}

func (r *incident) knowsHash(hash string) bool {
	for _, a := range r.st.Approvals {
		if a.WaveHash == hash && a.State != "voided" {
			return true
		}
	}
	if r.wave(hash) != nil {
		return true
	}
	if r.st.Plan != nil {
		if _, ok := r.st.Plan.Wave(hash); ok {
			return true
		}
	}
	return false
}

func (r *incident) doApprove(ctx workflow.Context, s statement.Statement, _ string) (Decision, *refusal) {
	if s.BreakGlass {
		return Decision{}, &refusal{view.CodeInvalid, "this build has no break-glass", "collect the votes; the approval escalates by itself"}
	}
	return r.cast(ctx, s, "approve")
}

func (r *incident) doDeny(ctx workflow.Context, s statement.Statement, _ string) (Decision, *refusal) {
	if s.Text == "" {
		return Decision{}, &refusal{view.CodeInvalid, "a denial needs a reason", "give --reason"}
	}
	return r.cast(ctx, s, "deny")
}

func (r *incident) cast(ctx workflow.Context, s statement.Statement, verdict string) (Decision, *refusal) {
	a, role, no := r.ballot(s)
	if no != nil {
		return Decision{}, no
	}
	if verdict == "approve" && r.allHeld(a.Items) {
		// One held item among others waits by itself; the others go on.
		return Decision{}, &refusal{view.CodeHeld, "on hold: " + strings.Join(shorts(a.Items), ", "), "release it first, or vote when the hold has ended"}
	}
	r.vote(ctx, a, s, role, verdict)
	yes, _ := a.votes()
	return Decision{Approval: a.ID, State: a.State, Votes: yes, Needed: a.Needed}, nil
}

// itemsOf turns the names in a statement into fingerprints. In a large incident a name
// may stand for many: "all", or "wave/3" for the rows of that wave; those stay as they
// are.
func (r *incident) itemsOf(ctx workflow.Context, s statement.Statement) ([]string, *refusal) {
	out := make([]string, 0, len(s.Items))
	var rows []string // no item has this name
	for _, name := range s.Items {
		fp, err := r.resolveItem(name)
		switch {
		case err == nil:
			out = append(out, fp)
		case r.st.Mass != nil && r.isMany(name):
			out = append(out, name)
			if name == allItems {
				out = append(out, r.fps()...)
			}
		default:
			rows = append(rows, name)
		}
	}
	if len(rows) == 0 {
		return out, nil
	}
	var found FindResult
	if r.st.Mass != nil {
		var err error
		if found, err = r.find(ctx, rows); err != nil {
			return nil, &refusal{view.CodeInvalid, "the rows of this incident could not be read", "try again; `rekey doctor` looks at the blob store"}
		}
	}
	for _, name := range rows {
		row, ok := found.Rows[name]
		if !ok {
			return nil, &refusal{view.CodeNotFound, fmt.Sprintf("no item %q in scope", name), "`rekey incident items " + r.in.ID + "` lists them"}
		}
		out = append(out, row.FP)
	}
	return out, nil
}

// castFirst counts the proposer's own statement as the first vote, unless they
// reported the key.
func (r *incident) castFirst(ctx workflow.Context, s statement.Statement) (Decision, *refusal) {
	a := &r.st.Approvals[len(r.st.Approvals)-1]
	if !r.isReporter(s.Actor) || r.set.Solo {
		if role, no := pickRole(r.person(s.Actor), s.Role, a.Roles); no == nil {
			r.vote(ctx, a, s, role, "approve")
		}
	}
	yes, _ := a.votes()
	return Decision{Approval: a.ID, State: a.State, Votes: yes, Needed: a.Needed}, nil
}

func (r *incident) person(actor string) statement.Person {
	for _, p := range r.set.People {
		if p.Actor == actor {
			return p
		}
	}
	return statement.Person{}
}

func roleNames(roles []playbooks.Role) []string {
	if len(roles) == 0 {
		return []string{string(playbooks.RoleCommander), string(playbooks.RoleSecurity)}
	}
	out := make([]string, len(roles))
	for i, role := range roles {
		out[i] = string(role)
	}
	return out
}

func (r *incident) doNote(ctx workflow.Context, s statement.Statement, _ string) (Decision, *refusal) {
	if strings.TrimSpace(s.Text) == "" {
		return Decision{}, &refusal{view.CodeInvalid, "the note is empty", "give its text"}
	}
	now := r.clk.Now(ctx)
	r.st.Notes = append(r.st.Notes, view.Note{At: canon.Time(now), Actor: s.Actor, Text: s.Text})
	record(ctx, now, event.Event{Type: event.EventNote, Actor: s.Actor, Auth: s.Method, Attrs: map[string]string{"text": s.Text}})
	return Decision{State: "noted"}, nil
}
