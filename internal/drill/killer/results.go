package killer

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
)

// results is the file of results and what is in it.
type results struct {
	mu   sync.Mutex
	file *os.File
	by   map[uint64]Outcome
	g4   []string
}

// line is one of the file: a seed, or an installation in which a secret was found.
type line struct {
	Outcome
	Closing string `json:"closing,omitempty"`
}

// openResults reads a file of results. A line that was not finished is dropped.
func openResults(path string) (*results, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	r := &results{file: f, by: map[uint64]Outcome{}}
	in := bufio.NewReader(f)
	var end int64
	for {
		text, err := in.ReadBytes('\n')
		if err != nil {
			break // the end, or half a line
		}
		var l line
		if err := json.Unmarshal(bytes.TrimSpace(text), &l); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
		}
		end += int64(len(text))
		if l.Closing != "" {
			r.g4 = append(r.g4, l.Dir+": "+l.Closing)
		} else {
			r.by[l.Seed] = l.Outcome
		}
	}
	if err := f.Truncate(end); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	_, err = f.Seek(end, 0)
	return r, err
}

func (r *results) has(seed uint64) bool {
	_, ok := r.by[seed]
	return ok
}

func (r *results) add(o Outcome) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.by[o.Seed] = o
	return r.write(line{Outcome: o})
}

func (r *results) addClosing(dir, wrong string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.g4 = append(r.g4, dir+": "+wrong)
	return r.write(line{Outcome: Outcome{Dir: dir}, Closing: wrong})
}

func (r *results) write(l line) error {
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	_, err = r.file.Write(append(text, '\n'))
	return err
}

func (r *results) close() error { return r.file.Close() }

// Summary is what came of seeds.
type Summary struct {
	Seeds    int              `json:"seeds"` // that were asked for
	Results  map[string]int   `json:"results"`
	ByKill   map[string][]int `json:"by_kill"` // verb and edge -> passed, all
	WallMs   int64            `json:"wall_ms"` // of all incidents, added up
	Faults   []Outcome        `json:"faults,omitempty"`
	Secrets  []string         `json:"secrets,omitempty"`
	notShown int
}

func (r *results) summary(from, to uint64) Summary {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Summary{Seeds: int(to - from + 1), Results: map[string]int{}, ByKill: map[string][]int{}, Secrets: r.g4} //nolint:gosec // a run is thousands
	for _, seed := range slices.Sorted(maps.Keys(r.by)) {
		o := r.by[seed]
		if seed < from || seed > to {
			s.notShown++
			continue
		}
		s.Results[o.Result]++
		s.WallMs += o.WallMs
		key := o.Verb + " " + o.Edge
		if s.ByKill[key] == nil {
			s.ByKill[key] = []int{0, 0}
		}
		s.ByKill[key][1]++
		if o.Result == Passed {
			s.ByKill[key][0]++
		} else {
			s.Faults = append(s.Faults, o)
		}
	}
	return s
}

// Good tells whether every seed has passed.
func (s Summary) Good() bool { return s.Results[Passed] == s.Seeds && len(s.Secrets) == 0 }

// String is the summary for people: what was played, and each seed that did not pass
// with how to play it again.
func (s Summary) String() string {
	var b strings.Builder
	judged := 0
	for _, n := range s.Results {
		judged += n
	}
	fmt.Fprintf(&b, "%d of %d seeds played:", judged, s.Seeds)
	for _, r := range slices.Sorted(maps.Keys(s.Results)) {
		fmt.Fprintf(&b, " %d %s,", s.Results[r], r)
	}
	if judged > 0 {
		fmt.Fprintf(&b, " %.1f s each\n", float64(s.WallMs)/1000/float64(judged))
	}
	for _, k := range slices.Sorted(maps.Keys(s.ByKill)) {
		fmt.Fprintf(&b, "  %-40s %d of %d passed\n", k, s.ByKill[k][0], s.ByKill[k][1])
	}
	for _, o := range s.Faults {
		fmt.Fprintf(&b, "%s: %s (incident %d in %s)%s\n  again: go test ./internal/drill -run TestSeededKills -v -args -kill-seeds %d\n", o.Result, o.Plan, o.N, o.Dir, lines(o.Wrong), o.Seed)
	}
	for _, g4 := range s.Secrets {
		fmt.Fprintf(&b, "a secret was found in %s\n", g4)
	}
	return b.String()
}
