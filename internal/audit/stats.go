package audit

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// SchemaStats is the schema name of [StatsResult].
const SchemaStats = "rekey.stats/v1"

// StatsResult is what `rekey audit stats DIR --json` prints. Each figure is
// computed from the events of the bundles and nothing else. All are sums and
// spreads over incidents: of several bundles of one incident only the longest
// counts there.
type StatsResult struct {
	Schema     string        `json:"schema"`
	Bundles    []BundleStats `json:"bundles"`
	Unreadable []string      `json:"unreadable"`
	All        AllStats      `json:"all"`
}

// BundleStats are the figures of one bundle; durations in ms. A duration is left
// out while it has no end.
type BundleStats struct {
	File     string `json:"file"`
	Incident string `json:"incident"`
	// Result is that of [Verify] without a given key: figures of a bundle that
	// failed are shown, and not counted in all.
	Result          string         `json:"result"`
	State           string         `json:"state,omitempty"`
	Final           bool           `json:"final"`
	Events          int64          `json:"events"`
	Hidden          int64          `json:"hidden,omitempty"`
	Items           int            `json:"items"`
	OpenItems       int            `json:"open_items"`
	ByEndState      map[string]int `json:"by_end_state"`
	ByGrade         map[string]int `json:"by_grade"`
	CallsByOutcome  map[string]int `json:"calls_by_outcome"`
	Retries         int            `json:"retries"`
	Refusals        int            `json:"refusals"`
	Gaps            int            `json:"gaps"`
	FirstCallMs     *int64         `json:"time_to_first_call_ms,omitempty"`
	TimeToContainMs *int64         `json:"time_to_contain_ms,omitempty"`
	ExposureMs      *int64         `json:"exposure_ms,omitempty"`
}

// AllStats are the figures over all incidents.
type AllStats struct {
	Incidents      int            `json:"incidents"`
	Items          int            `json:"items"`
	OpenItems      int            `json:"open_items"`
	ByEndState     map[string]int `json:"by_end_state"`
	ByGrade        map[string]int `json:"by_grade"`
	CallsByOutcome map[string]int `json:"calls_by_outcome"`
	Retries        int            `json:"retries"`
	Refusals       int            `json:"refusals"`
	FirstCall      Spread         `json:"time_to_first_call"`
	TimeToContain  Spread         `json:"time_to_contain"`
	Exposure       Spread         `json:"exposure"`
}

// A Spread is a distribution in ms by nearest rank; means hide the long ones.
type Spread struct {
	Count int   `json:"count"`
	P50   int64 `json:"p50_ms"`
	P95   int64 `json:"p95_ms"`
	Max   int64 `json:"max_ms"`
}

// Stats reads every *.zip in dir.
func Stats(dir string) (StatsResult, error) {
	res := StatsResult{Schema: SchemaStats, Bundles: []BundleStats{}, Unreadable: []string{}}
	names, err := filepath.Glob(filepath.Join(dir, "*.zip"))
	if err != nil {
		return res, fmt.Errorf("read %s: %w", dir, err)
	}
	if _, err := os.ReadDir(dir); err != nil {
		return res, fmt.Errorf("cannot read the directory %s: %w", dir, err)
	}
	for _, name := range names {
		b, err := statsOfFile(name)
		if err != nil {
			res.Unreadable = append(res.Unreadable, filepath.Base(name))
			continue
		}
		res.Bundles = append(res.Bundles, b)
	}
	res.All = sum(res.Bundles)
	return res, nil
}

func statsOfFile(name string) (BundleStats, error) {
	f, err := os.Open(name)
	if err != nil {
		return BundleStats{}, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return BundleStats{}, err
	}
	b, err := Open(f, info.Size())
	if err != nil {
		return BundleStats{}, err
	}
	events, hidden, err := b.Events()
	if err != nil {
		return BundleStats{}, err
	}
	out := StatsOf(events)
	verdict := Verify(f, info.Size(), Options{})
	m, err := b.Mass(events)
	if err != nil && verdict.Result == Verified {
		return BundleStats{}, err
	}
	out.addMass(m)
	out.File, out.Result = filepath.Base(name), verdict.Result
	out.Incident, out.State, out.Final, out.Hidden = b.Incident(), b.State(), b.Final(), hidden
	return out, nil
}

// addMass counts the items that are rows of pages.
func (b *BundleStats) addMass(m *Mass) {
	if m == nil {
		return
	}
	b.Items += m.Items
	b.OpenItems += m.Open
	addTo(b.ByEndState, m.ByEndState)
	addTo(b.ByGrade, m.ByGrade)
}

// StatsOf computes the figures of one incident from its events.
func StatsOf(events []Event) BundleStats {
	s := Tell(events)
	out := BundleStats{
		Incident: s.Incident, State: s.State, Events: int64(len(events)), Items: len(s.Items),
		ByEndState: map[string]int{}, ByGrade: map[string]int{}, CallsByOutcome: s.Calls,
		Retries: s.Retries, Refusals: s.Refusals, Gaps: s.Gaps,
	}
	for _, item := range s.Items {
		if item.EndState == "" {
			out.OpenItems++
		} else {
			out.ByEndState[item.EndState]++
		}
		if item.Grade != "" {
			out.ByGrade[item.Grade]++
		}
	}
	if d, ok := s.TimeToFirstCall(); ok {
		out.FirstCallMs = ms(d.Milliseconds())
	}
	if d, ok := s.TimeToContain(); ok {
		out.TimeToContainMs = ms(d.Milliseconds())
	}
	if from, to, ok := s.Exposure(); ok {
		out.ExposureMs = ms(max(to.Sub(from).Milliseconds(), 0))
	}
	return out
}

func ms(n int64) *int64 { return &n }

func sum(bundles []BundleStats) AllStats {
	longest := map[string]BundleStats{}
	for _, b := range bundles {
		if have, ok := longest[b.Incident]; b.Result == Verified && (!ok || b.Events > have.Events) {
			longest[b.Incident] = b
		}
	}
	all := AllStats{Incidents: len(longest), ByEndState: map[string]int{}, ByGrade: map[string]int{}, CallsByOutcome: map[string]int{}}
	var calls, contain, exposure []int64
	for _, b := range longest {
		all.Items += b.Items
		all.OpenItems += b.OpenItems
		all.Retries += b.Retries
		all.Refusals += b.Refusals
		addTo(all.ByEndState, b.ByEndState)
		addTo(all.ByGrade, b.ByGrade)
		addTo(all.CallsByOutcome, b.CallsByOutcome)
		calls, contain, exposure = appendMs(calls, b.FirstCallMs), appendMs(contain, b.TimeToContainMs), appendMs(exposure, b.ExposureMs)
	}
	all.FirstCall, all.TimeToContain, all.Exposure = spread(calls), spread(contain), spread(exposure)
	return all
}

func addTo(to, from map[string]int) {
	for k, n := range from {
		to[k] += n
	}
}

func appendMs(list []int64, v *int64) []int64 {
	if v == nil {
		return list
	}
	return append(list, *v)
}

// spread takes nearest-rank percentiles: each is a value that occurred.
func spread(values []int64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	slices.Sort(values)
	rank := func(percent int) int64 { return values[(percent*len(values)+99)/100-1] }
	return Spread{Count: len(values), P50: rank(50), P95: rank(95), Max: values[len(values)-1]}
}
