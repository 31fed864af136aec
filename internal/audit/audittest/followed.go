package audittest

import (
	"strconv"

	"rekey/internal/audit"
)

// followed is the record in two channels: one with an outage, one that is denied.
func (s *script) followed() {
	s.told("1500ms", audit.RecordOpen, attrs{audit.AttrTarget: "#incidents-sec"})
	s.behind("2500ms", "denied", attrs{
		audit.AttrChannel: "github", audit.AttrOp: "open", audit.AttrLine: "0", audit.AttrWaiting: "1",
		audit.AttrWhy: "the app may not write issues", audit.AttrPermission: "issues:write", audit.AttrSince: stamp("2500ms"),
	})
	s.line("3s", "3s", 1, "opened", "github:secret-scanning reported AKIAIOSFODNN7EXAMPLE", "1795230003.000200")
	s.line("1m55s", "1m57s", 2, "dead", "AKIAIOSFODNN7EXAMPLE is proven dead", "1795230117.000300")
	s.behind("31m10s", "transient", attrs{
		audit.AttrChannel: "slack", audit.AttrOp: "append", audit.AttrLine: "2", audit.AttrWaiting: "1",
		audit.AttrWhy: "status 503", audit.AttrSince: stamp("30m5s"),
	})
	s.line("29m30s", "44m2s", 3, "vote", "oncall-2 approved the irreversible Revoke", "1795232642.000400")
	s.line("36m10s", "44m3s", 4, "phase", "phase notify", "") // this channel shows no line of that kind
	s.at("44m3s", audit.EventRecordCaught, "worker", func(e *audit.Event) {
		s.record(e, "slack")
		e.Attrs = attrs{audit.AttrChannel: "slack", audit.AttrLine: "4", audit.AttrSince: stamp("30m5s")}
	})
	s.told("2h10m2s", audit.RecordClose, attrs{audit.AttrState: "contained", audit.AttrBundle: "sha256:5d0c"})
}

// line is taken by Slack at a time that may be long after it was said.
func (s *script) line(said, taken string, n int, kind, text, receipt string) {
	a := attrs{audit.AttrLine: strconv.Itoa(n), audit.AttrKind: kind, audit.AttrText: text, audit.AttrSaid: stamp(said)}
	if receipt != "" {
		a[audit.AttrReceipt] = receipt
	}
	s.told(taken, audit.RecordAppend, a)
}

func (s *script) told(after, verb string, a attrs) {
	s.at(after, audit.EventRecordTold, "worker", func(e *audit.Event) {
		s.record(e, "slack")
		e.Verb, e.Attempt, e.Result, e.Attrs = verb, 1, "done", a
		a[audit.AttrChannel], a[audit.AttrWhere], a[audit.AttrID], a[audit.AttrURL] = "slack", "C0INCIDENTS", "1795230001.000100", "https://example.slack.com/archives/C0INCIDENTS/p1795230001000100"
	})
}

func (s *script) behind(after, class string, a attrs) {
	s.at(after, audit.EventRecordBehind, "worker", func(e *audit.Event) {
		s.record(e, a[audit.AttrChannel])
		e.Result, e.Attrs = class, a
	})
}

// record puts an event into the history of the channel's own workflow, which knows
// no phase.
func (s *script) record(e *audit.Event, channel string) {
	e.Phase = ""
	e.Origin.Workflow = "incident/" + IncidentID + "/record/" + channel
}
