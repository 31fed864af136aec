package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Most items of a large incident are rows of pages (docs/design/0017). A bundle holds
// the pages of those at their end, and of those that nothing moves, with the lists that
// name them. What is read here is a part of a row, by the names that it has in a page:
// the record does not depend on who wrote it.
type (
	// A Row is one item.
	Row struct {
		FP       string `json:"fp"`
		Provider string `json:"provider"`
		Account  string `json:"account"`
		Kind     string `json:"kind"`
		KeyID    string `json:"key_id"`
		Owner    string `json:"owner"`
		Strategy string `json:"strategy"`
		Rule     string `json:"rule"`
		Death    string `json:"death"`
		Grade    string `json:"grade"`
		Rung     string `json:"rung"`
		Adoption string `json:"adoption"`
		NewKeyID string `json:"new_key"`
		// End is the end state, "" for an open item; Ended when it was reached.
		End   string `json:"end"`
		Ended string `json:"ended"`
	}
	pageFile struct {
		Rows   []Row  `json:"rows"`
		Schema string `json:"schema"`
	}
	listFile struct {
		Items int `json:"items"`
		Pages []struct {
			Hash string `json:"hash"`
		} `json:"pages"`
		Schema string `json:"schema"`
	}
)

const (
	pageSchema = "rekey.page/v1"
	listSchema = "rekey.page-list/v1"
)

// A Mass is what the rows of an incident are together.
type Mass struct {
	Items int
	Dead  int
	Open  int
	// By end state, grade, strategy and adoption; rows without one are not counted there.
	ByEndState map[string]int
	ByGrade    map[string]int
	ByStrategy map[string]int
	ByAdoption map[string]int
	Lists      []string
	Pages      int
	// First are the first [MassShown] rows.
	First []Row
}

// MassShown bounds the rows that a [Mass] keeps.
const MassShown = 200

// ReadMass reads the rows of lists, one page at a time. events say how people ended rows
// of a list together. It gives nil where there are no lists.
func ReadMass(lists []string, events []Event, read func(hash string) ([]byte, error)) (*Mass, error) {
	if len(lists) == 0 {
		return nil, nil
	}
	m := &Mass{ByEndState: map[string]int{}, ByGrade: map[string]int{}, ByStrategy: map[string]int{}, ByAdoption: map[string]int{}, Lists: slices.Clone(lists)}
	slices.Sort(m.Lists)
	m.Lists = slices.Compact(m.Lists)
	ends := endsOfLists(events)
	for _, hash := range m.Lists {
		var l listFile
		if err := readPage(hash, read, &l); err != nil {
			return nil, err
		}
		if l.Schema != listSchema {
			return nil, fmt.Errorf("%s is not a list of pages that this build reads", hash)
		}
		for _, ref := range l.Pages {
			var p pageFile
			if err := readPage(ref.Hash, read, &p); err != nil {
				return nil, err
			}
			if p.Schema != pageSchema {
				return nil, fmt.Errorf("%s is not a page that this build reads", ref.Hash)
			}
			m.Pages++
			for _, r := range p.Rows {
				m.add(r, ends[hash])
			}
		}
	}
	return m, nil
}

// PagesOf gives the pages that lists name, and the lists themselves.
func PagesOf(lists []string, read func(hash string) ([]byte, error)) ([]string, error) {
	var out []string
	for _, hash := range lists {
		var l listFile
		if err := readPage(hash, read, &l); err != nil {
			return nil, err
		}
		out = append(out, hash)
		for _, ref := range l.Pages {
			out = append(out, ref.Hash)
		}
	}
	return out, nil
}

func readPage(hash string, read func(string) ([]byte, error), into any) error {
	b, err := read(hash)
	if err == nil {
		err = json.Unmarshal(b, into)
	}
	if err != nil {
		return fmt.Errorf("page %s: %w", hash, err)
	}
	return nil
}

func (m *Mass) add(r Row, end string) {
	if r.End == "" {
		r.End = end
	}
	m.Items++
	if r.Death == "dead" {
		m.Dead++
	}
	if r.End == "" {
		m.Open++
	}
	for _, c := range []struct {
		by   map[string]int
		name string
	}{{m.ByEndState, r.End}, {m.ByGrade, r.Grade}, {m.ByStrategy, r.Strategy}, {m.ByAdoption, r.Adoption}} {
		if c.name != "" {
			c.by[c.name]++
		}
	}
	if len(m.First) < MassShown {
		m.First = append(m.First, r)
	}
}

// endsOfLists are the end states that people gave to all rows of a list.
func endsOfLists(events []Event) map[string]string {
	out := map[string]string{}
	for i := range events {
		if e := &events[i]; e.Type == EventItem && e.FP == "" {
			for _, list := range e.Evidence {
				out[list] = e.Result
			}
		}
	}
	return out
}

// Mass reads the rows that the bundle holds; nil where it holds none, or is redacted.
func (b *Bundle) Mass(events []Event) (*Mass, error) {
	lists, err := b.Lists()
	if err != nil {
		return nil, err
	}
	return ReadMass(lists, events, b.Page)
}

// Lists gives the hashes of the lists of pages that the bundle holds.
func (b *Bundle) Lists() ([]string, error) {
	var lists []string
	for _, name := range b.Names() {
		digits, ok := strings.CutPrefix(name, dirPages)
		if !ok {
			continue
		}
		page, err := b.File(name)
		if err != nil {
			return nil, err
		}
		// Pages are canonical: their schema comes last.
		if bytes.HasSuffix(page, []byte(`"schema":"`+listSchema+`"}`)) {
			lists = append(lists, "sha256:"+strings.TrimSuffix(digits, ".json"))
		}
	}
	return lists, nil
}

// Page reads a page by its hash.
func (b *Bundle) Page(hash string) ([]byte, error) { return b.File(PageName(hash)) }
