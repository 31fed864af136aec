// Package redact removes secrets from text before it is stored, logged or sent.
//
// A Redactor knows exact values (a secret that was just seen; also its usual
// encodings) and patterns (the recognisers of the providers, and Generic). What it
// finds becomes "[redacted:NAME]". Redacting twice is redacting once.
//
// To teach it a new form: a shape that every installation should know goes into
// Generic; a provider's own shapes come from its descriptor as Patterns; an
// encoding that secrets travel in goes into encodings.
//
// It does not see through compression, encryption, images, or a secret whose
// characters are spread over unrelated fields.
package redact

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"unicode"

	"rekey/internal/secret"
)

// A Pattern finds secrets by their shape.
type Pattern struct {
	// Name stands in the replacement: letters, digits, dot, dash, slash, underscore.
	Name string
	// Regexp matches the secret; with a group named "secret" only that is removed.
	Regexp *regexp.Regexp
	// Validate, when set, must accept what is to be removed (a checksum).
	Validate func([]byte) bool

	// near, when set, must match within nearBytes of the match.
	near *regexp.Regexp
	// hints are lower-case texts of which one is in every text that matches:
	// looking for them is a hundred times as fast as the expression.
	hints []string
}

const nearBytes = 256

// Options of a Redactor. Patterns come before Generic ones.
type Options struct {
	Patterns []Pattern
	// Strip removes control and invisible characters and terminal escapes, except
	// newline and tab, and makes the text valid UTF-8: for text from outside.
	Strip bool
	// MaxLen bounds the result in bytes, with Cut at its end; 0 keeps all.
	MaxLen int
}

// Cut ends a text that was longer than MaxLen.
const Cut = "…[cut]"

// MinKnown is the shortest value that Add takes: shorter ones would blank
// ordinary words.
const MinKnown = 4

// ErrTooShort is returned by Add.
var ErrTooShort = fmt.Errorf("redact: a value of less than %d bytes cannot be told from ordinary text", MinKnown)

// A Redactor is safe for concurrent use.
type Redactor struct {
	opts     Options
	patterns []Pattern

	mu    sync.Mutex // writers of known
	known atomic.Pointer[[]*known]
}

var nameRE = regexp.MustCompile(`^[A-Za-z0-9._/-]{1,64}$`)

// New builds a Redactor from o and Generic.
func New(o Options) (*Redactor, error) {
	r := &Redactor{opts: o, patterns: slices.Concat(o.Patterns, Generic())}
	for _, p := range r.patterns {
		if !nameRE.MatchString(p.Name) || p.Regexp == nil {
			return nil, fmt.Errorf("redact: pattern %q needs a name of letters, digits, dot, dash, slash, underscore and a regular expression", p.Name)
		}
		if p.Regexp.Match(nil) {
			return nil, fmt.Errorf("redact: pattern %q matches the empty text", p.Name)
		}
	}
	if o.MaxLen != 0 && o.MaxLen <= len(Cut) {
		return nil, fmt.Errorf("redact: MaxLen must be 0 or more than %d", len(Cut))
	}
	r.known.Store(&[]*known{})
	return r, nil
}

// Add makes v, in every usual encoding, disappear from all text until forget is
// called. name stands in the replacement. It fails with ErrTooShort.
func (r *Redactor) Add(name string, v secret.Value) (forget func(), err error) {
	if !nameRE.MatchString(name) {
		return nil, fmt.Errorf("redact: %q is not a name", name)
	}
	if v.Len() < MinKnown {
		return nil, ErrTooShort
	}
	k := newKnown(name, v)
	r.mu.Lock()
	defer r.mu.Unlock()
	next := append(slices.Clone(*r.known.Load()), k)
	r.known.Store(&next)
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		left := slices.DeleteFunc(slices.Clone(*r.known.Load()), func(x *known) bool { return x == k })
		r.known.Store(&left)
	}, nil
}

// Bytes returns text without secrets; text itself is not changed.
func (r *Redactor) Bytes(text []byte) []byte {
	out := r.replace(text)
	if r.opts.Strip {
		// Known values first, as they may hold what is stripped; then again, as
		// stripping may join what was split.
		if plain := strip(out); !bytes.Equal(plain, out) {
			out = r.replace(plain)
		}
	}
	if r.opts.MaxLen > 0 && len(out) > r.opts.MaxLen {
		out = append(bytes.ToValidUTF8(out[:r.opts.MaxLen-len(Cut)], nil), Cut...)
	}
	return out
}

// String is Bytes for a string.
func (r *Redactor) String(text string) string { return string(r.Bytes([]byte(text))) }

// span is a part of a text that goes.
type span struct {
	start, end int
	name       string
}

func (r *Redactor) replace(text []byte) []byte {
	return render(text, r.find(text))
}

// find gives what is to go, in order and apart. Where two overlap the whole goes
// under the name of the first.
func (r *Redactor) find(text []byte) []span {
	var spans []span
	for _, k := range *r.known.Load() {
		spans = k.find(text, spans)
	}
	lower := bytes.ToLower(text)
	for _, p := range r.patterns {
		if p.hints == nil || slices.ContainsFunc(p.hints, func(h string) bool { return bytes.Contains(lower, []byte(h)) }) {
			spans = p.find(text, spans)
		}
	}
	slices.SortStableFunc(spans, func(a, b span) int { return a.start - b.start })
	apart := spans[:0]
	for _, s := range spans {
		if n := len(apart); n > 0 && s.start < apart[n-1].end {
			apart[n-1].end = max(apart[n-1].end, s.end)
			continue
		}
		apart = append(apart, s)
	}
	return apart
}

func render(text []byte, spans []span) []byte {
	out := make([]byte, 0, len(text))
	pos := 0
	for _, s := range spans {
		out = append(out, text[pos:s.start]...)
		out = append(append(append(out, markOpen...), s.name...), ']')
		pos = s.end
	}
	return append(out, text[pos:]...)
}

const markOpen = "[redacted:"

var markRE = regexp.MustCompile(`^\[redacted:[^\]]*\]$`)

func (p Pattern) find(text []byte, spans []span) []span {
	group := max(0, p.Regexp.SubexpIndex("secret"))
	for _, m := range p.Regexp.FindAllSubmatchIndex(text, -1) {
		start, end := m[2*group], m[2*group+1]
		if start < 0 || start == end || markRE.Match(text[start:end]) {
			continue
		}
		if p.Validate != nil && !p.Validate(text[start:end]) {
			continue
		}
		if p.near != nil && !p.near.Match(text[max(0, start-nearBytes):min(len(text), end+nearBytes)]) {
			continue
		}
		spans = append(spans, span{start, end, p.Name})
	}
	return spans
}

var escapes = regexp.MustCompile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?)")

// strip removes terminal escapes (ECMA-48), control characters, and the invisible
// and direction-changing characters with which text shows other than it is
// (https://trojansource.codes). It removes at least what the channels do before they
// show a text (activities/notify/text): a secret with one of these inside would pass
// here, and be whole again there.
func strip(text []byte) []byte {
	text = bytes.ToValidUTF8(escapes.ReplaceAll(text, nil), []byte("\uFFFD"))
	return bytes.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t':
			return r
		case r == '\u2028', r == '\u2029', !unicode.IsGraphic(r):
			return -1
		}
		switch r {
		case '\u115f', '\u1160', '\u3164', '\uffa0', '\u2800': // letters and signs that show nothing
			return -1
		}
		return r
	}, text)
}

// Spans gives where the text holds what String would take out, as byte offsets
// [start, end), in order and apart.
func (r *Redactor) Spans(text []byte) [][2]int {
	var out [][2]int
	for _, s := range r.find(text) {
		out = append(out, [2]int{s.start, s.end})
	}
	return out
}
