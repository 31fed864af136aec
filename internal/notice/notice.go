// Package notice turns the facts of an incident into one message to one owner or
// customer, and refuses a message that does not say what its reader must know.
//
// A message holds no secret and no personal data: keys by their public ids, the
// recipient not at all. It is kept under its hash and sealed into the bundle.
package notice

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"strings"
	"text/template"
	"time"
	"unicode"

	"rekey/internal/canon"
)

//go:embed templates/*.txt
var files embed.FS

// Classes of a message.
const (
	// Warn comes before the cut: act until a time.
	Warn = "warn"
	// Cut comes after it: act now.
	Cut = "cut"
)

// language is the one that messages are written in so far.
const language = "en"

// Facts are what a message can say. Texts are plain; a time is RFC 3339.
type Facts struct {
	Incident string    `json:"incident"`
	Number   string    `json:"notice"` // the notice's id
	Version  int       `json:"version"`
	Class    string    `json:"class"`
	Cause    string    `json:"cause"`
	Since    time.Time `json:"since"` // of the exposure, as reported
	Until    time.Time `json:"until,omitzero"`
	Keys     []Key     `json:"keys"`
	Did      []string  `json:"did"`
	Do       []string  `json:"do"`
	By       time.Time `json:"by,omitzero"` // of a warning
	Contact  string    `json:"contact"`     // ours, whom a reader can ask
	Evidence string    `json:"evidence"`    // what the reader can look for
}

// A Key is one that the message is about.
type Key struct {
	ID       string   `json:"key_id"`
	Provider string   `json:"provider"`
	Account  string   `json:"account"`
	Kind     string   `json:"kind"`
	State    string   `json:"state"`
	New      string   `json:"new_key_id,omitempty"`
	Stores   []string `json:"stores,omitempty"`
	// Created is since when the key exists: it cannot have been exposed before.
	Created time.Time `json:"created,omitzero"`
}

// A Message is a rendered notice.
type Message struct {
	Subject string `json:"subject"`
	Text    string `json:"text"`
	// Data is the same for machines.
	Data Data `json:"data"`
}

// Data is the body of a webhook, schema rekey.notice/v1.
type Data struct {
	Schema string `json:"schema"`
	Facts
}

// SchemaNotice is the schema name of [Data].
const SchemaNotice = "rekey.notice/v1"

// Bytes is the canonical form that is kept under its hash.
func (m Message) Bytes() ([]byte, error) { return canon.JSON(m) }

// An IncompleteError names what a message does not say (capability C23).
type IncompleteError struct{ Missing []string }

func (e *IncompleteError) Error() string {
	return "the notice does not say " + strings.Join(e.Missing, ", ") + ": it is not sent; give the facts, or tell the reader by hand"
}

// page is what templates see: facts as text.
type page struct {
	Facts
	By     string
	Window string
}

func (f Facts) page() page {
	p := page{Facts: f, By: canon.Time(f.By), Window: "reported since " + canon.Time(f.Since)}
	if f.Until.IsZero() {
		p.Window += ", and until it is cut"
	} else {
		p.Window += ", until " + canon.Time(f.Until)
	}
	var oldest time.Time
	for _, k := range f.Keys {
		if !k.Created.IsZero() && (oldest.IsZero() || k.Created.Before(oldest)) {
			oldest = k.Created
		}
	}
	if !oldest.IsZero() {
		p.Window += "; it cannot have begun before " + canon.Time(oldest)
	}
	return p
}

// Render fills a template. It fails with *IncompleteError where the facts or the
// template leave out what must be said.
func Render(name string, f Facts) (Message, error) {
	if err := check(f); err != nil {
		return Message{}, err
	}
	t, err := parse(name)
	if err != nil {
		return Message{}, err
	}
	p := f.page()
	subject, err := fill(t, "subject", p)
	if err != nil {
		return Message{}, err
	}
	text, err := fill(t, "text", p)
	if err != nil {
		return Message{}, err
	}
	m := Message{Subject: strings.TrimSpace(subject), Text: text, Data: Data{Schema: SchemaNotice, Facts: f}}
	return m, said(m, p)
}

// parse reads a template of this build.
func parse(name string) (*template.Template, error) {
	b, err := files.ReadFile("templates/" + name + "." + language + ".txt")
	if err != nil {
		return nil, fmt.Errorf("there is no notice template %q", name)
	}
	t, err := template.New(name).Option("missingkey=error").Parse(string(b))
	if err != nil {
		return nil, fmt.Errorf("notice template %s: %w", name, err)
	}
	return t, nil
}

func fill(t *template.Template, part string, p page) (string, error) {
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, part, p); err != nil {
		return "", fmt.Errorf("notice template: %w", err)
	}
	return b.String(), nil
}

// check is the content gate over the facts.
func check(f Facts) error {
	var missing []string
	need := func(ok bool, what string) {
		if !ok {
			missing = append(missing, what)
		}
	}
	need(f.Incident != "" && f.Number != "" && f.Version > 0, "which incident, notice and version")
	need(f.Cause != "", "the cause")
	need(!f.Since.IsZero(), "since when it was exposed")
	need(len(f.Keys) > 0, "which keys")
	for _, k := range f.Keys {
		need(k.ID != "" && k.Provider != "" && k.Account != "" && k.State != "", "which key, where, and how it stands")
	}
	need(len(f.Did) > 0, "what we did")
	need(len(f.Do) > 0, "what the reader must do")
	need(f.Class == Cut || f.Class == Warn && !f.By.IsZero(), "by when")
	need(f.Contact != "", "whom to ask (channels.email.from)")
	need(f.Evidence != "", "what the reader can look for")
	for _, s := range texts(f) {
		if strings.ContainsFunc(s, unicode.IsControl) {
			return errors.New("a fact of the notice holds control characters: it is not sent")
		}
	}
	if len(missing) > 0 {
		return &IncompleteError{missing}
	}
	return nil
}

func texts(f Facts) []string {
	out := append([]string{f.Incident, f.Number, f.Cause, f.Contact, f.Evidence}, f.Did...)
	out = append(out, f.Do...)
	for _, k := range f.Keys {
		out = append(append(out, k.ID, k.Provider, k.Account, k.Kind, k.State, k.New), k.Stores...)
	}
	return out
}

// said is the content gate over the text: a template may not leave out what the
// facts say.
func said(m Message, p page) error {
	var missing []string
	need := func(what string, parts ...string) {
		for _, s := range parts {
			if !strings.Contains(m.Text, s) {
				missing = append(missing, what)
				return
			}
		}
	}
	need("which incident, notice and version", p.Incident, p.Number, fmt.Sprintf("version %d", p.Version))
	need("the cause", p.Cause)
	need("the window", p.Window)
	for _, k := range p.Keys {
		need("which keys", k.ID, k.State, k.New)
		need("where the replacement is", k.Stores...)
	}
	need("what we did", p.Did...)
	need("what the reader must do", p.Do...)
	if p.Class == Warn {
		need("by when", p.By)
	}
	need("whom to ask", p.Contact)
	need("what the reader can look for", p.Evidence)
	if m.Subject == "" || strings.ContainsAny(m.Subject, "\r\n") {
		missing = append(missing, "a subject of one line")
	}
	if len(missing) > 0 {
		return &IncompleteError{missing}
	}
	return nil
}
