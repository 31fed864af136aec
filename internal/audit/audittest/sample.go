// Package audittest makes incidents to test the audit bundle, the report and the
// exports with. A new kind of event gets a line in [Sample], so that every reader
// of events meets it.
package audittest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"rekey/internal/audit"
	"rekey/internal/canon"
	"rekey/internal/view"
)

// IncidentID is the id of the sample.
const IncidentID = "inc-7f3a9c2e41d0"

// Fingerprints and ids of the sample's items.
var (
	fpDeploy  = "fp1_" + strings.Repeat("a41c09be77d2", 5) + "0001"
	fpBilling = "fp1_" + strings.Repeat("5be2d1907c3f", 5) + "0002"
	fpSession = "fp1_" + strings.Repeat("c07719ab34e8", 5) + "0003"
	fpPartner = "fp1_" + strings.Repeat("e19f60d2a85b", 5) + "0004"
)

// T0 is when the sample's first report came in.
func T0() time.Time { return time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC) }

type attrs = map[string]string

type script struct {
	events []audit.Event
	phase  string
	run    string
}

// at adds an event at a time after T0, written "1m30s".
func (s *script) at(after, kind, actor string, set func(*audit.Event)) {
	d, err := time.ParseDuration(after)
	if err != nil {
		panic(err)
	}
	n := int64(len(s.events)) + 1
	e := audit.Event{
		V: audit.SchemaVersion, Seq: n, Incident: IncidentID, Type: kind, Time: canon.Time(T0().Add(d)),
		Phase: s.phase, Actor: actor, Redaction: audit.Internal,
		Origin: audit.Origin{Workflow: "incident/" + IncidentID, Run: s.run, EventID: 4 + n*3},
	}
	if set != nil {
		set(&e)
	}
	s.phase = e.Phase
	s.events = append(s.events, e)
}

func (s *script) enter(after, phase string) {
	s.at(after, audit.EventPhase, "worker", func(e *audit.Event) { e.Phase, e.Redaction = phase, audit.Public })
}

func (s *script) call(after, took, fp, verb, outcome string, attempt int) {
	token := fmt.Sprintf("%s/%s/%s/1", IncidentID, fp[4:16], verb)
	s.at(after, audit.EventCallAttempted, "worker", func(e *audit.Event) {
		e.FP, e.Verb, e.Attempt, e.Token = fp, verb, attempt, token
	})
	d, err := time.ParseDuration(after)
	if err != nil {
		panic(err)
	}
	t, err := time.ParseDuration(took)
	if err != nil {
		panic(err)
	}
	kind := audit.EventCallConfirmed
	if outcome == "unclear" || outcome == "denied" {
		kind = audit.EventCallFailed
	}
	s.at((d + t).String(), kind, "provider:awsiam", func(e *audit.Event) {
		e.FP, e.Verb, e.Attempt, e.Token, e.Result = fp, verb, attempt, token, outcome
		e.RequestID = fmt.Sprintf("7a62c49f-347e-4fc4-9331-%012d", e.Seq)
		e.Redaction = audit.Customer
	})
}

func (s *script) probe(after, fp, saw string, more attrs) {
	s.at(after, audit.EventProbe, "worker", func(e *audit.Event) {
		e.FP, e.Verb, e.Result = fp, "Probe", saw
		e.Attrs = attrs{audit.AttrSubject: "old", audit.AttrVantage: "eu-central-1", audit.AttrControl: "true"}
		for k, v := range more {
			e.Attrs[k] = v
		}
		e.Redaction = audit.Customer
	})
}

// proof is the verdict that completes the proof of death.
func (s *script) proof(after, fp, rung string) {
	s.at(after, audit.EventProbe, "worker", func(e *audit.Event) {
		e.FP, e.Result, e.Redaction = fp, audit.ProbeDead, audit.Customer
		e.Attrs = attrs{audit.AttrGrade: "A", audit.AttrRung: rung}
	})
}

// Sample is one incident of four items, from a leak in a public repository to
// contained: a key under abuse, a key with a live dependent that climbs the kill
// ladder, a session, and a key that is a customer's. It has refusals, a lost
// answer, a bounced notice, attacker hits and a gap. It is followed in Slack, which
// is down for a while, and was to be in GitHub, which never let it in.
func Sample() ([]audit.Event, view.Incident) {
	s := &script{phase: "preserve", run: "0f4a7c52-8f0e-4f6b-9a57-3f1f6d2b7e10"}
	s.opening()
	s.containment()
	s.reissue()
	s.ending()
	s.followed()
	// The log is in the order of time, as a history is.
	slices.SortStableFunc(s.events, func(a, b audit.Event) int { return strings.Compare(a.Time, b.Time) })
	for i := range s.events {
		s.events[i].Seq, s.events[i].Origin.EventID = int64(i)+1, 4+int64(i)*3
	}
	return s.events, sampleView()
}

func (s *script) opening() {
	s.at("0s", audit.EventOpened, "worker", func(e *audit.Event) { e.Redaction = audit.Public })
	s.at("0s", audit.EventTrigger, "github:secret-scanning", func(e *audit.Event) {
		e.Auth, e.Result, e.SourceTime, e.FP = "webhook-signature", "accepted", "2026-11-21T02:59:57.000Z", fpDeploy
		e.Attrs = attrs{audit.AttrSource: "github", audit.AttrConfidence: "confirmed", audit.AttrExposed: "2026-11-21T02:12:40.000Z", audit.AttrKeyID: "AKIAIOSFODNN7EXAMPLE"}
		e.Evidence = []string{"sha256:" + strings.Repeat("3c", 32)}
		e.Redaction = audit.Customer
	})
	s.enter("1s", "preserve")
	s.at("2s", audit.EventPreserved, "worker", func(e *audit.Event) {
		e.Evidence = []string{"sha256:" + strings.Repeat("3c", 32), "sha256:" + strings.Repeat("d1", 32)}
	})
	s.at("3s", audit.EventContain, "policy:contain-on-report", func(e *audit.Event) {
		e.FP, e.Result = fpDeploy, "proposed"
		e.Attrs = attrs{"dependents": "false: unknown, log gap", "ceiling": "true: contain"}
	})
	s.enter("4s", "scope")
	s.at("21s", audit.EventGap, "worker", func(e *audit.Event) {
		e.Attrs = attrs{audit.AttrFrom: "2026-08-02T00:00:00.000Z", audit.AttrTo: "2026-08-23T00:00:00.000Z", audit.AttrWhat: "cloudtrail", audit.AttrWhy: "events older than 90 days are not kept"}
	})
	s.at("22s", audit.EventScope, "worker", func(e *audit.Event) {
		e.Attrs = attrs{audit.AttrVersion: "1", audit.AttrItems: "3", "observed": "3", "reachable": "4"}
	})
	s.enter("23s", "plan")
	for _, d := range []struct{ fp, rule, strategy, key, kind string }{
		{fpDeploy, "abuse", "revoke-now", "AKIAIOSFODNN7EXAMPLE", "user-access-key"},
		{fpBilling, "live", "reissue-first", "AKIAI44QH8DHBEXAMPLE", "user-access-key"},
		{fpSession, "abuse", "revoke-now", "ASIAIOSFODNN7EXAMPLE", "sts-session"},
	} {
		s.at("24s", audit.EventDecision, "policy:"+d.rule, func(e *audit.Event) {
			e.FP, e.Rule, e.Result, e.Redaction = d.fp, d.rule, d.strategy, audit.Customer
			e.Facts = attrs{"scope.malicious_use_24h": "7", "scope.dependents_seen_30d": "1"}
			e.Attrs = attrs{audit.AttrKeyID: d.key, audit.AttrProvider: "awsiam", audit.AttrAccount: "prod", audit.AttrKind: d.kind}
		})
	}
	s.at("25s", audit.EventPlan, "worker", func(e *audit.Event) {
		e.PlanHash = "sha256:" + strings.Repeat("9e", 32)
		e.Attrs = attrs{audit.AttrVersion: "1", "waves": "2", "calls": "14"}
	})
	s.enter("26s", "approve")
	s.approval("26s", audit.EventApprovalAsked, "worker", "a1", "strategy", "")
	s.at("2m10s", audit.EventRefused, "oncall-1", func(e *audit.Event) {
		e.Auth, e.Result, e.Approval = "slack", "wrong-role", "a1"
		e.Attrs = attrs{audit.AttrAction: "approve", audit.AttrWhy: "a Slack group may give viewer and reporter only"}
	})
	s.enter("27s", "act")
}

func (s *script) approval(after, kind, actor, id, what, role string) {
	s.at(after, kind, actor, func(e *audit.Event) {
		e.Approval, e.WaveHash = id, "sha256:"+strings.Repeat("4b", 32)
		e.Result, e.Attrs = what, attrs{"needed": "2"}
		if role != "" {
			e.Auth, e.Attrs[audit.AttrRole] = "cli-key", role
		}
	})
}

func (s *script) containment() {
	s.call("41s", "350ms", fpDeploy, "Disable", "done", 1)
	s.call("43s", "410ms", fpDeploy, "EndSessions", "done-async", 1)
	s.probe("50s", fpDeploy, "alive", nil)
	s.probe("1m5s", fpDeploy, "refused", nil)
	s.probe("1m10s", fpSession, "refused", attrs{"mode": "action"})
	s.hit("1m12s", fpDeploy, audit.HitRefused, "AS64500", "attacker")
	s.probe("1m25s", fpDeploy, "refused", attrs{audit.AttrVantage: "us-east-1"})
	s.probe("1m40s", fpDeploy, "unclear", nil)
	s.probe("1m55s", fpDeploy, "refused", nil)
	s.proof("1m55s", fpDeploy, "key")
	s.probe("2m0s", fpSession, "refused", attrs{"mode": "action"})
	s.proof("2m0s", fpSession, "sessions")
	s.hit("2m12s", fpDeploy, audit.HitRefused, "AS64500", "attacker")
	s.at("2m13s", audit.EventItem, "worker", func(e *audit.Event) {
		e.FP, e.Result, e.Redaction = fpSession, "expired-verified", audit.Customer
		e.Attrs = attrs{audit.AttrGrade: "A", audit.AttrRung: "sessions"}
	})
	s.approval("3m40s", audit.EventApprovalGiven, "oncall-1", "a1", "strategy", "commander")
	s.at("4m2s", audit.EventRefused, "oncall-1", func(e *audit.Event) {
		e.Auth, e.Result, e.Approval = "cli-key", "already-voted", "a1"
		e.Attrs = attrs{audit.AttrAction: "approve"}
	})
	s.approval("6m15s", audit.EventApprovalGiven, "oncall-2", "a1", "strategy", "security")
	s.hit("9m12s", fpDeploy, audit.HitRefused, "AS64500", "attacker")
	s.call("7m0s", "4s", fpDeploy, "Issue", "unclear", 1)
	s.at("7m34s", audit.EventReconciled, "worker", func(e *audit.Event) {
		e.FP, e.Verb, e.Result = fpDeploy, "Issue", "killed"
		e.Attrs = attrs{audit.AttrWhat: "1 key of the lost call was found and destroyed"}
	})
	s.call("7m40s", "600ms", fpDeploy, "Issue", "done", 2)
	s.at("7m41s", audit.EventReissued, "worker", func(e *audit.Event) {
		e.FP, e.Redaction = fpDeploy, audit.Customer
		e.Attrs = attrs{audit.AttrNewKeyID: "AKIAIOSFODNN7EXAMPL2"}
	})
	s.call("7m45s", "300ms", fpDeploy, "Distribute", "done", 1)
	s.at("7m46s", audit.EventDelivered, "worker", func(e *audit.Event) { e.FP, e.Attrs = fpDeploy, attrs{audit.AttrStore: "awssm"} })
	s.at("21m0s", audit.EventAdopted, "worker", func(e *audit.Event) { e.FP = fpDeploy })
	s.approval("28m0s", audit.EventApprovalAsked, "worker", "a2", "irreversible Revoke", "")
	s.approval("29m30s", audit.EventApprovalGiven, "oncall-2", "a2", "irreversible Revoke", "security")
	s.approval("31m5s", audit.EventApprovalGiven, "oncall-1", "a2", "irreversible Revoke", "commander")
	s.call("31m20s", "420ms", fpDeploy, "Revoke", "done", 1)
	s.at("31m21s", audit.EventSecretGone, "worker", func(e *audit.Event) { e.FP = fpDeploy })
	s.at("31m22s", audit.EventItem, "worker", func(e *audit.Event) {
		e.FP, e.Result, e.Redaction = fpDeploy, "revoked-verified", audit.Customer
		e.Attrs = attrs{audit.AttrGrade: "A", audit.AttrRung: "key", audit.AttrNewKeyID: "AKIAIOSFODNN7EXAMPL2"}
	})
}

func (s *script) hit(after, fp, result, source, who string) {
	s.at(after, audit.EventTripwire, "provider:awsiam", func(e *audit.Event) {
		e.FP, e.Result, e.SourceTime = fp, result, e.Time
		e.Attrs = attrs{audit.AttrSource: source, audit.AttrCaller: who}
		e.Redaction = audit.Customer
	})
}

func (s *script) notice(after, recipient, result, version string) {
	s.at(after, audit.EventNotice, "worker", func(e *audit.Event) {
		e.Result, e.Redaction = result, audit.Customer
		e.Attrs = attrs{audit.AttrRecipient: recipient, audit.AttrChannel: "email", audit.AttrAudience: "owner", audit.AttrVersion: version}
	})
}

func (s *script) reissue() {
	s.call("36m0s", "500ms", fpBilling, "Issue", "done", 1)
	s.at("36m1s", audit.EventReissued, "worker", func(e *audit.Event) {
		e.FP, e.Attrs, e.Redaction = fpBilling, attrs{audit.AttrNewKeyID: "AKIAI44QH8DHBEXAMPL2"}, audit.Customer
	})
	s.call("36m5s", "700ms", fpBilling, "Distribute", "done", 1)
	s.enter("36m10s", "notify")
	s.notice("36m20s", "C033", "sent", "1")
	s.notice("36m25s", "C071", "bounced", "1")
	s.at("37m0s", audit.EventHuman, "worker", func(e *audit.Event) {
		e.FP = fpPartner
		e.Attrs = attrs{audit.AttrWhat: "the mail to C071 bounced: call them", audit.AttrOwner: "product", audit.AttrDue: "2026-11-21T09:00:00.000Z"}
	})
	s.at("38m0s", audit.EventScope, "worker", func(e *audit.Event) {
		e.Attrs = attrs{audit.AttrVersion: "2", audit.AttrItems: "4", "observed": "4", "reachable": "4"}
	})
	s.at("38m1s", audit.EventDecision, "policy:not-ours", func(e *audit.Event) {
		e.FP, e.Rule, e.Result, e.Redaction = fpPartner, "not-ours", "notify-only", audit.Customer
		e.Attrs = attrs{audit.AttrKeyID: "AKIAEXAMPLEPARTNER00", audit.AttrProvider: "awsiam", audit.AttrAccount: "customer", audit.AttrKind: "user-access-key"}
	})
	s.notice("52m0s", "C071", "delivered", "1")
	s.notice("55m0s", "C033", "acknowledged", "1")
	s.at("1h50m0s", audit.EventAdopted, "worker", func(e *audit.Event) { e.FP = fpBilling })
	s.at("1h50m1s", audit.EventGate, "worker", func(e *audit.Event) {
		e.FP, e.Result, e.Attrs = fpBilling, "notice sent, says oncall-2", attrs{audit.AttrGate: "warn-before-cut"}
	})
	s.call("1h52m0s", "320ms", fpBilling, "Disable", "done", 1)
	s.probe("1h52m20s", fpBilling, "alive", nil)
	s.probe("1h53m0s", fpBilling, "alive", nil)
	s.at("1h53m1s", audit.EventLadder, "policy:ladder", func(e *audit.Event) { e.FP, e.Result = fpBilling, "sessions" })
	s.call("1h53m5s", "380ms", fpBilling, "EndSessions", "done-async", 1)
	s.probe("1h53m40s", fpBilling, "refused", nil)
	s.probe("1h54m10s", fpBilling, "refused", attrs{audit.AttrVantage: "us-east-1"})
	s.probe("1h54m40s", fpBilling, "refused", nil)
	s.proof("1h54m40s", fpBilling, "sessions")
}

func (s *script) ending() {
	s.hit("1h57m12s", fpBilling, audit.HitRefused, "ci-runner-7", "late dependent")
	s.enter("1h58m0s", "verify")
	s.call("2h5m0s", "430ms", fpBilling, "Revoke", "done", 1)
	s.at("2h5m1s", audit.EventItem, "worker", func(e *audit.Event) {
		e.FP, e.Result, e.Redaction = fpBilling, "revoked-verified", audit.Customer
		e.Attrs = attrs{audit.AttrGrade: "A", audit.AttrRung: "sessions", audit.AttrNewKeyID: "AKIAI44QH8DHBEXAMPL2"}
	})
	s.enter("2h6m0s", "harden")
	s.call("2h6m10s", "300ms", fpBilling, "Bind", "done", 1)
	s.at("2h8m0s", audit.EventItem, "worker", func(e *audit.Event) {
		e.FP, e.Result, e.Redaction = fpPartner, "customer-action-open", audit.Customer
		e.Attrs = attrs{audit.AttrOwner: "C071", audit.AttrDue: "2026-11-24T03:00:00.000Z"}
	})
	s.enter("2h9m0s", "close")
	s.at("2h9m30s", audit.EventNote, "oncall-1", func(e *audit.Event) {
		e.Auth, e.Attrs = "cli-key", attrs{audit.AttrText: "AS64500 reported to the network's abuse desk"}
	})
	s.at("2h10m0s", audit.EventClosed, "oncall-1", func(e *audit.Event) { e.Auth, e.Result, e.Redaction = "cli-key", "contained", audit.Public })
	s.enter("2h10m1s", "seal")
}

// stamp writes a time after T0 as events and views do.
func stamp(after string) string {
	d, err := time.ParseDuration(after)
	if err != nil {
		panic(err)
	}
	return canon.Time(T0().Add(d))
}

func sampleView() view.Incident {
	t := stamp
	return view.Incident{
		Schema: view.SchemaIncident, ID: IncidentID, WorkflowID: "incident/" + IncidentID, RunID: "0f4a7c52-8f0e-4f6b-9a57-3f1f6d2b7e10",
		Phase: "seal", State: "contained", Severity: "critical",
		Playbook: view.Playbook{Name: "aws-access-key", Version: "1.0.0", Digest: "sha256:" + strings.Repeat("07", 32)},
		Times:    view.Times{Reported: t("0s"), Contained: t("2h10m"), WatchUntil: t("2160h")},
		Reports:  []view.Report{{ID: "r1", Source: "github", Actor: "github:secret-scanning", Received: t("0s"), Claimed: "2026-11-21T02:12:40.000Z", Confidence: "confirmed", Reason: "pushed to a public repository"}},
		Scope: view.Scope{
			Version: 2, Items: 4, Observed: 4, Reachable: 5, Basis: []string{"cloudtrail", "estate"},
			Unseen: []view.Unseen{{Source: "cloudtrail/ap-south-1", Why: "denied", Permission: "cloudtrail:LookupEvents"}},
			Dark:   []view.Dark{{From: "2026-08-02T00:00:00.000Z", To: "2026-08-23T00:00:00.000Z", Source: "cloudtrail"}},
		},
		Plan: &view.Plan{
			Hash: "sha256:" + strings.Repeat("9e", 32), Version: 2, Calls: 14, ETAMs: 41000,
			Waves:  []view.Wave{{N: 1, Hash: "sha256:" + strings.Repeat("1a", 32), Strategy: "revoke-now", Items: 2}, {N: 2, Hash: "sha256:" + strings.Repeat("4b", 32), Strategy: "reissue-first", Items: 1}},
			Breaks: []view.Break{{Dependent: "billing", OutageMs: 0, BudgetMs: 1800000, Owner: "payments"}},
		},
		Approvals: []view.Approval{
			{ID: "a1", For: "strategy", Strategy: "reissue-first", WaveHash: "sha256:" + strings.Repeat("4b", 32), Wave: 2, State: "granted", Needed: 2, Roles: []string{"commander", "security"},
				Votes: []view.Vote{{Actor: "oncall-1", Role: "commander", Vote: "approve", At: t("3m40s"), Auth: "cli-key"}, {Actor: "oncall-2", Role: "security", Vote: "approve", At: t("6m15s"), Auth: "cli-key"}}},
		},
		Items: []view.Item{
			{FP: fpDeploy, Short: fpDeploy[4:16], Provider: "awsiam", Account: "prod", Kind: "user-access-key", KeyID: "AKIAIOSFODNN7EXAMPLE", Owner: "platform", Strategy: "revoke-now", Rule: "abuse", Wave: 1, EndState: "revoked-verified"},
			{FP: fpBilling, Short: fpBilling[4:16], Provider: "awsiam", Account: "prod", Kind: "user-access-key", KeyID: "AKIAI44QH8DHBEXAMPLE", Owner: "payments", Strategy: "reissue-first", Rule: "live", Wave: 2, EndState: "revoked-verified"},
			{FP: fpSession, Short: fpSession[4:16], Provider: "awsiam", Account: "prod", Kind: "sts-session", KeyID: "ASIAIOSFODNN7EXAMPLE", Strategy: "revoke-now", Rule: "abuse", Wave: 1, EndState: "expired-verified"},
			{FP: fpPartner, Short: fpPartner[4:16], Provider: "awsiam", Account: "customer", Kind: "user-access-key", KeyID: "AKIAEXAMPLEPARTNER00", Strategy: "notify-only", Rule: "not-ours", EndState: "customer-action-open",
				Open: view.Open{Why: "only the customer can revoke it", Owner: "C071", Due: "2026-11-24T03:00:00.000Z"}},
		},
		Totals:      view.Totals{Items: 4, Open: 1, ByEndState: map[string]int{"revoked-verified": 2, "expired-verified": 1, "customer-action-open": 1}, ByOutcome: map[string]int{"done": 8}},
		Holds:       []view.Hold{},
		Obligations: []view.Obligation{{ID: "o1", What: "GDPR 33: decide whether to notify the authority", Due: "2026-11-24T03:00:00.000Z"}},
		NeedsHuman:  []view.Human{{ID: "h1", FP: fpPartner, What: "the mail to C071 bounced: call them", Owner: "product", Due: "2026-11-21T09:00:00.000Z", State: "done", By: "local:root", Text: "spoke to them, second address works"}},
		Notices:     view.Notices{Sent: 2, Delivered: 1, Bounced: 1, Acknowledged: 1},
	}
}

// Content is a bundle's content around events, with a file of every sort.
func Content(events []audit.Event, seen any) audit.Content {
	page := []byte(`{"page":1,"results":["done","already-gone"]}`)
	return audit.Content{
		Incident: events[0].Incident, State: "contained", Events: events, View: seen,
		Plans:     []any{map[string]any{"version": 1, "waves": []string{"sha256:" + strings.Repeat("1a", 32)}}, map[string]any{"version": 2}},
		Approvals: []any{map[string]string{"id": "a1", "state": "granted"}},
		Evidence:  []any{map[string]string{"name": "sample-25.csv", "sha256": strings.Repeat("3c", 32)}},
		Notices:   map[string][]byte{"1.json": []byte(`{"to":"C033"}`)},
		Chapters:  []audit.Chapter{{Workflow: "incident/" + events[0].Incident, Run: "0f4a7c52", History: []byte(`{"events":[]}`)}},
		Pages:     map[string][]byte{canon.Hash(page): page},
		Outside:   []audit.Outside{{What: "evidence files", Why: "only their hashes are kept here"}},
		Report:    []byte("<!doctype html><title>report</title>"),
	}
}

// Many makes n plain events of one incident.
func Many(incident string, n int) []audit.Event {
	events := make([]audit.Event, n)
	for i := range events {
		events[i] = audit.Event{
			V: audit.SchemaVersion, Seq: int64(i), Incident: incident, Type: audit.EventCallConfirmed,
			Time: canon.Time(T0().Add(time.Duration(i) * time.Millisecond)), Phase: "act", Actor: "worker",
			FP: fmt.Sprintf("fp1_%064x", i), Verb: "Disable", Token: fmt.Sprintf("%s/%d", incident, i), Attempt: 1,
			RequestID: fmt.Sprintf("7a62c49f-347e-4fc4-9331-%012d", i), Result: "done",
			Attrs:     map[string]string{audit.AttrKeyID: fmt.Sprintf("AKIAEXAMPLE%09d", i), audit.AttrProvider: "awsiam"},
			Redaction: []string{audit.Internal, audit.Customer, audit.Public}[i%3],
			Origin:    audit.Origin{Workflow: "incident/" + incident, Run: "r", EventID: int64(i)},
		}
	}
	return events
}
