package estatetest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"rekey/internal/estate"
)

// WriteJSON writes an estate file of JSON Lines: one entry a line.
func (e Estate) WriteJSON(to io.Writer) error {
	w := bufio.NewWriter(to)
	enc := json.NewEncoder(w)
	err := firstOf(
		lines(enc, "keys", e.AllKeys()), lines(enc, "copies", e.AllCopies()), lines(enc, "snapshots", e.AllSnapshots()),
		lines(enc, "dependents", e.AllDependents()), lines(enc, "placements", e.AllPlacements()))
	if err != nil {
		return err
	}
	return w.Flush()
}

func lines[T any](enc *json.Encoder, list string, entries iter.Seq[T]) func() error {
	return func() error {
		for v := range entries {
			if err := enc.Encode(map[string][]T{list: {v}}); err != nil {
				return err
			}
		}
		return nil
	}
}

func firstOf(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// WriteYAML writes an estate file as people do: one entry a line, in braces.
func (e Estate) WriteYAML(to io.Writer) error {
	w := bufio.NewWriter(to)
	put(w, "keys", e.AllKeys(), func(b *braces, k estate.Key) {
		b.text("id", k.ID).text("provider", k.Provider).text("account", k.Account).text("kind", k.Kind).text("owner", k.Owner).text("parent", k.Parent)
		b.text("spki", k.SPKI).list("opens", k.Opens).time("issued", k.Issued).time("retired", k.Retired)
	})
	put(w, "copies", e.AllCopies(), func(b *braces, c estate.Copy) {
		b.text("key", c.Key).text("where", c.Where).text("store", c.Store).yes("registered", c.Registered).text("zone", c.Zone).time("from", c.From).time("until", c.Until)
	})
	put(w, "snapshots", e.AllSnapshots(), func(b *braces, s estate.Snapshot) { b.text("id", s.ID).text("of", s.Of).time("at", s.At) })
	put(w, "dependents", e.AllDependents(), func(b *braces, d estate.Dependent) {
		b.text("id", d.ID).list("keys", d.Keys).text("owner", d.Owner).text("outage_budget", d.Budget.String()).text("cutover", d.Cutover).text("proof", d.Proof)
	})
	put(w, "placements", e.AllPlacements(), func(b *braces, p estate.Placement) {
		b.text("spki", p.SPKI).text("endpoint", p.Endpoint).time("from", p.From).time("until", p.Until)
	})
	return w.Flush() // the first error of any write
}

// braces is one entry under way.
type braces struct{ parts []string }

func (b *braces) text(name, v string) *braces {
	if v != "" {
		b.parts = append(b.parts, name+": "+v)
	}
	return b
}

func (b *braces) yes(name string, v bool) *braces {
	if v {
		b.text(name, "true")
	}
	return b
}

func (b *braces) list(name string, v []string) *braces {
	if len(v) > 0 {
		b.text(name, "["+strings.Join(v, ", ")+"]")
	}
	return b
}

func (b *braces) time(name string, t time.Time) *braces {
	if !t.IsZero() {
		b.text(name, t.UTC().Format(time.RFC3339))
	}
	return b
}

func put[T any](w *bufio.Writer, list string, entries iter.Seq[T], write func(*braces, T)) {
	fmt.Fprintf(w, "%s:\n", list)
	var b braces
	for v := range entries {
		b.parts = b.parts[:0]
		write(&b, v)
		fmt.Fprintf(w, "  - {%s}\n", strings.Join(b.parts, ", "))
	}
}

// WriteCustomers writes a customers file.
func (e Estate) WriteCustomers(to io.Writer) error {
	w := bufio.NewWriter(to)
	enc := json.NewEncoder(w)
	sep := "[\n"
	for c := range e.AllCustomers() {
		fmt.Fprint(w, sep)
		if err := enc.Encode(c); err != nil {
			return err
		}
		sep = ","
	}
	if sep == "[\n" {
		fmt.Fprint(w, sep)
	}
	fmt.Fprintln(w, "]")
	return w.Flush()
}

// Files writes the estate, as JSON Lines where the name says so (".jsonl"), else as
// YAML, and its customers beside it, and gives their paths.
func (e Estate) Files(dir, name string) (estates, customers []string, err error) {
	write := e.WriteYAML
	if filepath.Ext(name) == ".jsonl" {
		write = e.WriteJSON
	}
	path, who := filepath.Join(dir, name), filepath.Join(dir, "customers.json")
	if err := writeFile(path, write); err != nil {
		return nil, nil, err
	}
	if err := writeFile(who, e.WriteCustomers); err != nil {
		return nil, nil, err
	}
	return []string{path}, []string{who}, nil
}

func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
