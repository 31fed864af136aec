package report_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/audit"
	"rekey/internal/audit/report"
	"rekey/internal/view"
)

// section gives the text of the part of the page on channels, one space between
// words; "" where there is none.
func section(t *testing.T, events []audit.Event) string {
	t.Helper()
	_, rest, ok := strings.Cut(textOf(t, render(t, events, view.Incident{}, report.Options{})), "Followed in")
	if !ok {
		return ""
	}
	rest, _, _ = strings.Cut(rest, "Effects and retries")
	return strings.Join(strings.Fields(rest), " ")
}

func TestFollowedIn(t *testing.T) {
	at := func(min int) string { return fmt.Sprintf("2026-11-21T03:%02d:00.000Z", min) }
	say := func(min int) string { return fmt.Sprintf("2026-11-21 03:%02d:00", min) }
	of := func(kind string, min int, verb, result string, kv ...string) audit.Event {
		e := audit.Event{Type: kind, Time: at(min), Verb: verb, Result: result, Attrs: map[string]string{audit.AttrChannel: "slack"}}
		for i := 0; i < len(kv); i += 2 {
			e.Attrs[kv[i]] = kv[i+1]
		}
		return e
	}
	told := func(min int, verb, id string, kv ...string) audit.Event {
		return of(audit.EventRecordTold, min, verb, "done", append(kv, audit.AttrWhere, "C1", audit.AttrID, id)...)
	}
	behind := func(min int, result string, kv ...string) audit.Event {
		return of(audit.EventRecordBehind, min, "", result, kv...)
	}
	caught := func(min, since int) audit.Event {
		return of(audit.EventRecordCaught, min, "", "", audit.AttrSince, at(since))
	}
	tests := map[string]struct {
		events    []audit.Event
		want, not []string
	}{
		"an outage before there is a place is of the place that was made then": {
			[]audit.Event{behind(2, "unclear", audit.AttrSince, at(1)), told(3, audit.RecordOpen, "17.1"), caught(3, 1)},
			[]string{"slack C1C1 17.1 " + say(3), say(1) + " to " + say(3) + " unclear"}, []string{"no place was made", "not over"},
		},
		"never let in": {
			[]audit.Event{behind(2, "denied", audit.AttrSince, at(2), audit.AttrOp, "open", audit.AttrWhy, "bad token", audit.AttrPermission, "chat:write")},
			[]string{"no place was made", say(2) + " to not over denied", "open: bad token (needs chat:write)"}, []string{"Show"},
		},
		"given up": {
			[]audit.Event{told(1, audit.RecordOpen, "17.1"), behind(2, "invalid", audit.AttrSince, at(2), audit.AttrWhy, "gone"), behind(9, audit.RecordGaveUp, audit.AttrWhy, "later words")},
			[]string{say(2) + " to given up " + say(9) + " invalidgone"}, []string{"not over", "later words"},
		},
		"behind again after it was given up is another outage": {
			[]audit.Event{behind(2, "invalid", audit.AttrSince, at(2)), behind(9, audit.RecordGaveUp), behind(12, "denied", audit.AttrSince, at(11)), caught(15, 11)},
			[]string{say(2) + " to given up " + say(9), say(11) + " to " + say(15) + " denied"}, []string{"not over"},
		},
		"the end of an outage whose begin is not shown": {
			[]audit.Event{told(1, audit.RecordOpen, "17.1"), caught(5, 2)}, []string{say(2) + " to " + say(5)}, nil,
		},
		"a time that is none is the event's": {
			[]audit.Event{behind(4, "denied", audit.AttrSince, "soon")}, []string{say(4) + " to not over"}, []string{"soon"},
		},
		"closed, and open again": {
			[]audit.Event{told(1, audit.RecordOpen, "17.1"), told(2, audit.RecordClose, "17.1", audit.AttrState, "contained"), told(4, audit.RecordClose, "17.1", audit.AttrState, "open")},
			[]string{say(1) + "– none on record"}, []string{"contained"},
		},
		"closed": {
			[]audit.Event{told(1, audit.RecordOpen, "17.1"), told(2, audit.RecordClose, "17.1", audit.AttrState, "all-clear")},
			[]string{say(1) + say(2) + "all-clear"}, nil,
		},
		"another place is another row": {
			[]audit.Event{told(1, audit.RecordOpen, "17.1"), told(4, audit.RecordOpen, "18.2")}, []string{"C1 17.1 " + say(1), "C1 18.2 " + say(4)}, nil,
		},
		"said and taken, and what a channel does not show": {
			[]audit.Event{
				told(5, audit.RecordAppend, "17.1", audit.AttrLine, "1", audit.AttrKind, "note", audit.AttrText, "<b>", audit.AttrSaid, at(2), audit.AttrReceipt, "17.2"),
				told(6, audit.RecordAppend, "17.1", audit.AttrLine, "2", audit.AttrKind, "phase", audit.AttrText, "act", audit.AttrSaid, at(3)),
			},
			[]string{"Show 2 of 2 lines", "1" + say(2) + say(5) + "note<b> 2" + say(3) + say(6) + "phaseactthis channel shows no line of that kind"}, nil,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := section(t, tt.events)
			for _, want := range tt.want {
				require.Contains(t, got, want)
			}
			for _, not := range tt.not {
				require.NotContains(t, got, not)
			}
		})
	}
	t.Run("nobody followed", func(t *testing.T) {
		require.Empty(t, section(t, []audit.Event{{Type: audit.EventOpened, Time: at(0)}}))
	})
	t.Run("many lines are cut, not lost", func(t *testing.T) {
		var events []audit.Event
		for range 300 {
			events = append(events, told(1, audit.RecordAppend, "17.1", audit.AttrText, "x"))
		}
		got := section(t, events)
		require.Contains(t, got, "Show 200 of 300 lines")
		require.Contains(t, got, "100 more lines are in events.jsonl")
	})
}
