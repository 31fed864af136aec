package playbook

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// within gives line and column of the character at offset of a scalar's value: a
// condition can stand in any of YAML's five styles, quoted, folded or in a block
// (YAML 1.2.2 chapters 7.3 and 8.1). It walks the source and the value side by
// side and gives the scalar's beginning where they do not fit.
func (d *document) within(n *yaml.Node, offset int) (line, col int) {
	w := &walk{lines: d.lines, line: n.Line - 1, col: n.Column - 1}
	switch n.Style {
	case yaml.DoubleQuotedStyle:
		w.col++
		w.quote = '"'
	case yaml.SingleQuotedStyle:
		w.col++
		w.quote = '\''
	case yaml.LiteralStyle, yaml.FoldedStyle:
		w.line++
		w.col = 0
		w.block = true
		w.skipBlank()
		w.indent = w.col
	}
	value := []rune(n.Value)
	for i := 0; i < offset && i < len(value); i++ {
		if !w.step(value[i], n.Style == yaml.LiteralStyle) {
			return n.Line, n.Column
		}
	}
	w.toContent()
	if w.line >= len(w.lines) {
		return n.Line, n.Column
	}
	return w.line + 1, w.col + 1
}

// A walk stands at one character of the source. Lines and columns count from 0.
type walk struct {
	lines     []string
	line, col int
	quote     rune
	block     bool
	indent    int
}

func (w *walk) rest() []rune {
	if w.line >= len(w.lines) {
		return nil
	}
	r := []rune(strings.TrimSuffix(w.lines[w.line], "\r"))
	if w.col > len(r) {
		return nil
	}
	return r[w.col:]
}

func (w *walk) atEnd() bool { return strings.TrimSpace(string(w.rest())) == "" }

// skipBlank goes to the next character that is not white space.
func (w *walk) skipBlank() {
	for w.line < len(w.lines) {
		r := w.rest()
		for i, c := range r {
			if c != ' ' && c != '\t' {
				w.col += i
				return
			}
		}
		w.line, w.col = w.line+1, 0
	}
}

// toContent leaves the end of a line for the beginning of the next content.
func (w *walk) toContent() {
	if w.atEnd() {
		w.skipBlank()
	}
}

// step goes over the source of one character of the value.
func (w *walk) step(want rune, literal bool) bool {
	r := w.rest()
	if literal && want == '\n' {
		w.line, w.col = w.line+1, w.indent
		return w.line < len(w.lines)
	}
	if (want == ' ' || want == '\n') && w.atEnd() {
		// A folded line break: all of the white space around it is one character, and
		// each empty line one more.
		if w.line+1 < len(w.lines) {
			w.line, w.col = w.line+1, 0
			if !w.atEnd() {
				w.skipBlank()
			}
			return true
		}
		return false
	}
	if len(r) == 0 {
		return false
	}
	switch {
	case w.quote == '"' && r[0] == '\\':
		n := 2
		if len(r) > 1 {
			switch r[1] {
			case 'x':
				n = 4
			case 'u':
				n = 6
			case 'U':
				n = 10
			}
		}
		w.col += n
		return true
	case w.quote == '\'' && r[0] == '\'':
		w.col += 2
		return want == '\''
	}
	w.col++
	return r[0] == want
}
