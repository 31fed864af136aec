// Package export writes the events of a bundle in the formats that other tools
// read. An export is a copy: only the bundle can be verified.
//
// To add a format write a function of the type [Writer] and list it in [Formats].
// STIX 2.1 is not among them: its incident object is a stub whose content lives in
// extensions that no consumer is known to read.
package export

import (
	"bufio"
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"rekey/internal/audit"
)

// A Writer writes events in one format.
type Writer func(io.Writer, []audit.Event) error

// Formats lists the formats by the name that `rekey audit export --format` takes.
func Formats() map[string]Writer {
	return map[string]Writer{"jsonl": JSONL, "csv": CSV, "cef": CEF, "ocsf": OCSF, "markdown": Markdown}
}

// Write writes events in the named format. An unknown name is an error that lists
// the known ones.
func Write(w io.Writer, format string, events []audit.Event) error {
	write, ok := Formats()[format]
	if !ok {
		return fmt.Errorf("no format is named %q: use one of %s", format, strings.Join(names(), ", "))
	}
	buf := bufio.NewWriter(w)
	if err := write(buf, events); err != nil {
		return err
	}
	return buf.Flush()
}

func names() []string {
	var out []string
	for name := range Formats() {
		out = append(out, name)
	}
	sort.Strings(out)
	return out
}

// JSONL writes the canonical lines; they are those of events.jsonl, and read back
// equal.
func JSONL(w io.Writer, events []audit.Event) error {
	for _, e := range events {
		line, err := audit.Encode(e)
		if err != nil {
			return err
		}
		if _, err := w.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	return nil
}

// CSV writes one row per event (RFC 4180, LF). Text that a spreadsheet would run as
// a formula is preceded by an apostrophe (OWASP, "CSV Injection").
func CSV(w io.Writer, events []audit.Event) error {
	c := csv.NewWriter(w)
	if err := c.Write([]string{"seq", "time", "source_time", "incident", "type", "phase", "actor", "auth", "fp", "verb", "result", "attempt", "request_id", "rule", "approval", "plan_hash", "wave_hash", "evidence", "facts", "attrs", "redaction"}); err != nil {
		return err
	}
	for _, e := range events {
		attempt := ""
		if e.Attempt > 0 {
			attempt = strconv.Itoa(e.Attempt)
		}
		row := []string{strconv.FormatInt(e.Seq, 10), e.Time, e.SourceTime, e.Incident, e.Type, e.Phase, e.Actor, e.Auth, e.FP, e.Verb, e.Result, attempt, e.RequestID,
			e.Rule, e.Approval, e.PlanHash, e.WaveHash, strings.Join(e.Evidence, " "), pairs(e.Facts), pairs(e.Attrs), e.Redaction}
		for i := range row {
			if row[i] != "" && strings.ContainsRune("=+-@\t\r", rune(row[i][0])) {
				row[i] = "'" + row[i]
			}
		}
		if err := c.Write(row); err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}

// Markdown writes a timeline for an issue or a chat.
func Markdown(w io.Writer, events []audit.Event) error {
	if len(events) == 0 {
		_, err := io.WriteString(w, "# Incident\n\nNo events.\n")
		return err
	}
	if _, err := fmt.Fprintf(w, "# Incident %s\n\n| # | time (UTC) | what | item | who | result |\n|--:|---|---|---|---|---|\n", mdText(events[0].Incident)); err != nil {
		return err
	}
	for _, e := range events {
		what := e.Type
		if e.Verb != "" {
			what += " " + e.Verb
		}
		item := e.Attrs[audit.AttrKeyID]
		if item == "" && len(e.FP) >= 16 {
			item = e.FP[4:16]
		}
		result := e.Result
		if result == "" && e.Type == audit.EventPhase {
			result = e.Phase
		}
		if extra := pairs(e.Attrs); extra != "" {
			result += " (" + extra + ")"
		}
		if _, err := fmt.Fprintf(w, "| %d | %s | %s | %s | %s | %s |\n", e.Seq, mdText(e.Time), mdText(what), mdText(item), mdText(e.Actor), mdText(strings.TrimSpace(result))); err != nil {
			return err
		}
	}
	return nil
}

// mdText makes text plain in a cell of a Markdown table: no markup, no HTML, no
// link, no mention.
func mdText(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			b.WriteByte(' ')
		case r < ' ':
		case r == '<':
			b.WriteString("&lt;")
		case r == '>':
			b.WriteString("&gt;")
		case r == '&':
			b.WriteString("&amp;")
		case r == '@':
			b.WriteString("@\u200b") // no mention
		case strings.ContainsRune("\\`*_{}[]()#!|~", r):
			b.WriteByte('\\')
			b.WriteRune(r)
		default:
			b.WriteRune(r)
		}
	}
	// GitHub and others make links of bare addresses.
	return strings.NewReplacer("://", ":\u200b//", "www.", "www\u200b.").Replace(b.String())
}

// pairs writes a map in the order of its keys.
func pairs(m map[string]string) string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	parts := make([]string, len(keys))
	for i, k := range keys {
		parts[i] = k + "=" + m[k]
	}
	return strings.Join(parts, "; ")
}

// millis is the time in ms since 1970; ok is false for a time that is none.
func millis(text string) (int64, bool) {
	at, err := time.Parse(time.RFC3339, text)
	return at.UnixMilli(), err == nil
}
