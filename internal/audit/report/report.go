// Package report draws one incident as an HTML page that a person can read, print
// and hand to an auditor: a verdict first, the timeline as a picture, then every
// fact with where it comes from.
//
// The page stands alone: no script, no outside resource, and a content security
// policy that forbids both. All text is escaped by html/template; the only parts
// that are not text are the style sheet and the template of this package.
//
// To add a section add a field to page, fill it in newPage and draw it in
// report.gohtml.
package report

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"

	"rekey/internal/audit"
	"rekey/internal/view"
)

//go:embed report.gohtml
var markup string

//go:embed style.css
var style string

// Options of [Render].
type Options struct {
	// File is the name of the bundle for the command that verifies it; empty means
	// a placeholder.
	File string
	// Origin is the audit origin whose key signs the bundle.
	Origin string
	// Hidden is the number of events that a redacted bundle does not show.
	Hidden int64
	// Mass is what the bundle's pages hold, see [audit.Bundle.Mass]; nil: no item is a
	// row of a page.
	Mass *audit.Mass
}

// MaxRows bounds each table and the drawing; what is beyond is counted and stays in
// events.jsonl.
const MaxRows = 200

// Render writes the page. The events say what happened, inc adds what no event says
// (scope, open work, obligations); its zero value is fine, as for a redacted bundle.
// Equal input gives equal bytes.
func Render(w io.Writer, events []audit.Event, inc view.Incident, opts Options) error {
	sum := sha256.Sum256([]byte(style))
	t, err := template.New("report").Funcs(template.FuncMap{"duration": duration, "clock": clock, "when": when}).Parse(markup)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	p := newPage(events, inc, opts)
	p.Style = template.CSS(style) //nolint:gosec // our own file
	p.Policy = "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'"
	var b bytes.Buffer
	if err := t.Execute(&b, p); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	_, err = w.Write(b.Bytes())
	return err
}
