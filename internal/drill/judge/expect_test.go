package judge

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/drills"
	"rekey/internal/cli"
	"rekey/internal/event"
	"rekey/internal/lab/control"
	"rekey/internal/lab/scenario"
	"rekey/internal/view"
)

func TestExpectations(t *testing.T) {
	tests := map[string]struct {
		expr   string
		held   bool
		broken bool
		detail string
	}{
		"final":                {expr: `final.items.all(i, i.end_state == "revoked-verified")`, held: true},
		"events":               {expr: `events.exists(e, e.type == "probe.result" && e.result == "dead")`, held: true},
		"lab":                  {expr: `lab.keys.filter(k, k.user.startsWith("svc-")).all(k, k.state == "active")`, held: true},
		"numbers are integers": {expr: `lab.uses[0].n == 11 && lab.uses[0].n % 2 == 1 && final.totals.items < 2`, held: true},
		"a list never filled":  {expr: `final.scope.dark.size() == 0 && !final.holds.exists(h, true)`, held: true},
		"times are texts":      {expr: `timestamp(events[0].time) < timestamp("2026-11-21T04:00:00Z") && lab.now == "2026-11-21T04:00:00.000Z"`, held: true},
		"attrs always there":   {expr: `!events.exists(e, e.attrs.?source.orValue("") == "ami/AMI-7") && !has(events[0].attrs.source)`, held: true},
		"absent with has":      {expr: `!has(final.reopened_from) && has(final.bundle)`, held: true},
		"absent with a filter": {expr: `events.filter(e, has(e.approval)).size() == 3`, held: true},
		"false":                {expr: `final.state == "contained"`, detail: `is false: final.state == "contained"`},
		"absent":               {expr: `final.reopened_from == ""`, broken: true, detail: "no such key: reopened_from"},
		"absent in an event":   {expr: `events.all(e, e.attrs.source == "x")`, broken: true, detail: "cannot be evaluated"},
		"not CEL":              {expr: `final.items.all(i,`, broken: true, detail: "does not compile"},
		"unknown variable":     {expr: `finale.state == "contained"`, broken: true, detail: "finale"},
		"no yes or no":         {expr: `final.items.size()`, broken: true, detail: "gives a value of type int, want true or false"},
		"text for a truth":     {expr: `final.state`, broken: true, detail: "type string"},
		"wrong types":          {expr: `final.state > 3`, broken: true, detail: "cannot be evaluated"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			in := goodWorld(t)
			in.Drill.Expect = []scenario.Expectation{{ID: "e", Expr: tt.expr}}
			got := newBench(in).expect()
			require.Len(t, got, 1)
			require.Equal(t, "e", got[0].ID)
			require.Equal(t, tt.held, got[0].Held, got[0].Detail)
			require.Equal(t, tt.broken, got[0].broken, got[0].Detail)
			require.Contains(t, got[0].Detail, tt.detail)
			require.Equal(t, tt.held, got[0].Detail == "")

			v := Judge(in)
			require.Equal(t, tt.held, v.Result == Passed)
		})
	}
}

// TestShippedExpectationsCompile holds every shipped drill's expectations against a
// world: they may fail, but they must be evaluated.
func TestShippedExpectationsCompile(t *testing.T) {
	require.NotEmpty(t, drills.Names())
	for _, name := range drills.Names() {
		d, err := drills.Load(name)
		require.NoError(t, err)
		in := goodWorld(t)
		in.Drill = d
		in.Oracle.Uses = append(in.Oracle.Uses, control.Use{Source: "ami/AMI-7", Result: "denied"})
		in.Events = append(in.Events, ev(1, event.EventTripwire, func(e *event.Event) { e.Attrs = attrs{"source": "host/X"} }))
		for _, e := range newBench(in).expect() {
			require.False(t, e.broken, "%s %s: %s", name, e.ID, e.Detail)
		}
	}
}

func TestControls(t *testing.T) {
	alive := func(in *Input) {
		in.Oracle.Uses = append(in.Oracle.Uses, control.Use{Key: oldKey, At: at(40), Last: at(40), N: 1, Call: "ec2:DescribeInstances", Result: "ok", Label: "malicious"})
	}
	open := func(in *Input) { in.Final.Items[0].EndState = "" }
	tests := map[string]struct {
		control string
		bend    func(*Input)
		want    cli.DrillControl
	}{
		"caught": {control: "trust", bend: alive,
			want: cli.DrillControl{MustViolate: []string{"G1"}, Violated: []string{"G1"}, Caught: true}},
		"nothing was violated": {control: "trust",
			want: cli.DrillControl{MustViolate: []string{"G1"}, Violated: []string{}}},
		"not applicable is not violated": {control: "trust", bend: func(in *Input) { in.Oracle.Uses = nil },
			want: cli.DrillControl{MustViolate: []string{"G1"}, Violated: []string{}}},
		"another was violated": {control: "trust", bend: open,
			want: cli.DrillControl{MustViolate: []string{"G1"}, Violated: []string{"G5"}}},
		"more was violated": {control: "trust", bend: func(in *Input) { alive(in); open(in) },
			want: cli.DrillControl{MustViolate: []string{"G1"}, Violated: []string{"G1", "G5"}}},
		"less was violated": {control: "quarrel", bend: alive,
			want: cli.DrillControl{MustViolate: []string{"G1", "G6"}, Violated: []string{"G1"}}},
		"an expectation that is named counts": {control: "both", bend: open,
			want: cli.DrillControl{MustViolate: []string{"dead", "G5"}, Violated: []string{"G5", "dead"}, Caught: true}},
		"an expectation that is not named does not": {control: "trust", bend: func(in *Input) {
			alive(in)
			in.Drill.Expect = append(in.Drill.Expect, scenario.Expectation{ID: "other", Expr: "false"})
		}, want: cli.DrillControl{MustViolate: []string{"G1"}, Violated: []string{"G1"}, Caught: true}},
		"an expectation that is broken proves nothing": {control: "both", bend: func(in *Input) {
			open(in)
			in.Drill.Expect[0].Expr = "final.nothing"
		}, want: cli.DrillControl{MustViolate: []string{"dead", "G5"}, Violated: []string{"G5"}}},
		"a control that the drill does not have": {control: "none", want: cli.DrillControl{MustViolate: []string{}, Violated: []string{}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			in := goodWorld(t)
			in.Control = tt.control
			if tt.bend != nil {
				tt.bend(&in)
			}
			tt.want.Name = tt.control
			v := Judge(in)
			require.Equal(t, &tt.want, v.Control)
			require.Equal(t, len(tt.want.Violated) == 0, v.Result == Passed, "a control is judged as ever")
		})
	}
}

// TestLongDetailsAreCut keeps the answer readable at --scale.
func TestLongDetailsAreCut(t *testing.T) {
	in := goodWorld(t)
	for range 10 {
		in.Final.Items = append(in.Final.Items, view.Item{FP: "fp1_x", KeyID: "AKIAX"})
	}
	got := invariantOf(t, Judge(in), "G5")
	require.EqualValues(t, 11, got.Checked)
	require.Contains(t, got.Detail, "and 5 more")
}
