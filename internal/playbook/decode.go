package playbook

import (
	"encoding"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"rekey/playbooks"
)

// maxSize bounds a playbook file: it becomes workflow input.
const maxSize = 1 << 20

// maxDepth bounds nesting; the format itself needs five.
const maxDepth = 16

// maxEntries bounds each list and mapping: conditions are compiled one by one.
const maxEntries = 500

// maxProblems is more than a person reads.
const maxProblems = 200

// A document is a YAML tree together with where each of its values stands.
type document struct {
	file     string
	lines    []string
	at       map[string]*yaml.Node // path -> value
	keys     map[string]*yaml.Node // path -> key of the value
	problems Problems
}

// decode reads src into a playbook. What could be read is in the result even when
// problems are found, so that all of them can be told at once; nil means that
// there was no mapping to read.
func decode(file string, src []byte) (*document, *playbooks.Playbook) {
	d := &document{file: file, at: map[string]*yaml.Node{}, keys: map[string]*yaml.Node{}}
	root := d.tree(src)
	if root == nil {
		return d, nil
	}
	d.lines = strings.Split(string(src), "\n")
	var pb playbooks.Playbook
	d.value("", root, reflect.ValueOf(&pb).Elem(), 0)
	return d, &pb
}

func (d *document) tree(src []byte) *yaml.Node {
	if len(src) > maxSize {
		d.add(1, 1, codeDocument, "", "the file is larger than 1 MiB", "")
		return nil
	}
	if !utf8.Valid(src) {
		d.add(1, 1, codeSyntax, "", "the file is not UTF-8", "save it as UTF-8")
		return nil
	}
	dec := yaml.NewDecoder(strings.NewReader(string(src)))
	var doc, next yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		d.add(1, 1, codeDocument, "", "the file is empty", "rekey playbook show aws-access-key prints a complete one")
		return nil
	case err != nil:
		line, msg := yamlError(err)
		d.add(line, 1, codeSyntax, "", msg, "")
		return nil
	}
	switch err := dec.Decode(&next); {
	case err == nil:
		d.add(next.Line, next.Column, codeDocument, "", "a second document in the file", "one playbook per file")
		return nil
	case !errors.Is(err, io.EOF):
		line, msg := yamlError(err)
		d.add(line, 1, codeSyntax, "", msg, "")
		return nil
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		d.add(root.Line, root.Column, codeDocument, "", "a playbook is a mapping of keys to values", "rekey playbook show aws-access-key prints one")
		return nil
	}
	return root
}

// yamlError takes the line out of the text of a yaml error, which has no field for
// it: "yaml: line 3: did not find expected key". The parser's own errors count lines
// from 0 and the scanner's from 1 (go.yaml.in/yaml/v3 decode.go, parser.fail); the
// parser's are told by their text.
func yamlError(err error) (line int, msg string) {
	msg = strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(msg, "line "); ok {
		if n, text, ok := strings.Cut(rest, ": "); ok {
			if line, err := strconv.Atoi(n); err == nil {
				if slices.Contains(parserTexts, text) {
					line++
				}
				return max(line, 1), text
			}
		}
	}
	return 1, msg
}

// parserTexts are the errors of the parser (go.yaml.in/yaml/v3 parserc.go).
var parserTexts = []string{
	"did not find expected <document start>", "did not find expected node content", "did not find expected '-' indicator",
	"did not find expected key", "did not find expected ',' or ']'", "did not find expected ',' or '}'",
}

func (d *document) add(line, col int, code Code, path, msg, fix string) {
	if len(d.problems) >= maxProblems {
		return
	}
	d.problems = append(d.problems, Problem{
		File: d.file, Line: max(line, 1), Col: max(col, 1), Code: code, Path: path, Message: msg, Fix: fix,
	})
}

// problem reports at the value of path, or at the nearest thing around it that is
// in the file.
func (d *document) problem(code Code, path, msg, fix string) {
	line, col := d.where(path)
	d.add(line, col, code, path, msg, fix)
}

// warn is [document.problem] for what may stay.
func (d *document) warn(code Code, path, msg, fix string) {
	line, col := d.where(path)
	d.warnAt(line, col, code, path, msg, fix)
}

func (d *document) warnAt(line, col int, code Code, path, msg, fix string) {
	before := len(d.problems)
	d.add(line, col, code, path, msg, fix)
	if len(d.problems) > before {
		d.problems[before].Warning = true
	}
}

// problemAtKey reports at the key instead of its value.
func (d *document) problemAtKey(code Code, path, msg, fix string) {
	if k := d.keys[path]; k != nil {
		d.add(k.Line, k.Column, code, path, msg, fix)
		return
	}
	d.problem(code, path, msg, fix)
}

func (d *document) where(path string) (line, col int) {
	for p := path; ; p = parent(p) {
		if n := d.at[p]; n != nil {
			return n.Line, n.Column
		}
		if p == "" {
			return 1, 1
		}
	}
}

func parent(path string) string {
	if i := strings.LastIndexAny(path, ".["); i >= 0 {
		return path[:i]
	}
	return ""
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// value decodes n into v, which is settable.
func (d *document) value(path string, n *yaml.Node, v reflect.Value, depth int) {
	d.at[path] = n
	if depth > maxDepth {
		d.problem(codeDocument, path, "nested too deeply", "")
		return
	}
	if n.Kind == yaml.AliasNode || n.Anchor != "" || n.Style&yaml.TaggedStyle != 0 {
		d.problem(codeAlias, path, "anchors, aliases and tags are not part of the format", "write the value out")
		return
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		d.text(path, n, u)
		return
	}
	if entries(n) > maxEntries {
		d.problem(codeDocument, path, fmt.Sprintf("more than %d entries", maxEntries), "")
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(path, n, v.Elem(), depth)
	case reflect.Struct:
		d.mapping(path, n, v, depth)
	case reflect.Map:
		d.dictionary(path, n, v, depth)
	case reflect.Slice:
		d.list(path, n, v, depth)
	default:
		d.scalar(path, n, v)
	}
}

// entries counts what a list or mapping holds.
func entries(n *yaml.Node) int {
	switch n.Kind {
	case yaml.SequenceNode:
		return len(n.Content)
	case yaml.MappingNode:
		return len(n.Content) / 2
	}
	return 0
}

func (d *document) text(path string, n *yaml.Node, u encoding.TextUnmarshaler) {
	if n.Kind != yaml.ScalarNode {
		d.problem(codeType, path, "expected a length of time", "write 30s, 15m, 72h or 90d")
		return
	}
	if err := u.UnmarshalText([]byte(n.Value)); err != nil {
		d.problem(codeDuration, path, err.Error(), "")
	}
}

// pairs walks the keys of a mapping and reports what is wrong with the keys
// themselves.
func (d *document) pairs(path string, n *yaml.Node, each func(key, value *yaml.Node)) bool {
	if n.Kind != yaml.MappingNode {
		d.problem(codeType, path, "expected a mapping of keys to values", "")
		return false
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, val := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode || k.Anchor != "" || k.Tag == "!!merge" {
			d.add(k.Line, k.Column, codeAlias, path, "anchors, aliases and merge keys are not part of the format", "write the values out")
			continue
		}
		if first, ok := seen[k.Value]; ok {
			d.add(k.Line, k.Column, codeTwice, join(path, k.Value), fmt.Sprintf("the key is given twice, first in line %d", first), "keep one")
			continue
		}
		seen[k.Value] = k.Line
		each(k, val)
	}
	return true
}

func (d *document) mapping(path string, n *yaml.Node, v reflect.Value, depth int) {
	fields := map[string]int{}
	var names, required []string
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		fields[name] = i
		names = append(names, name)
		if slices.Contains(strings.Split(f.Tag.Get("jsonschema"), ","), "required") {
			required = append(required, name)
		}
	}
	have := map[string]bool{}
	ok := d.pairs(path, n, func(k, val *yaml.Node) {
		i, known := fields[k.Value]
		if !known {
			d.add(k.Line, k.Column, codeUnknownKey, path, fmt.Sprintf("unknown key %q", k.Value), suggest(k.Value, names))
			return
		}
		at := join(path, k.Value)
		d.keys[at] = k
		if val.Kind == yaml.ScalarNode && val.Tag == "!!null" && val.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) == 0 {
			d.at[at] = val
			d.problemAtKey(codeType, at, "the key has no value", "give one, or leave the key out")
			have[k.Value] = true
			return
		}
		have[k.Value] = true
		d.value(at, val, v.Field(i), depth+1)
	})
	if !ok {
		return
	}
	for _, name := range required {
		if !have[name] {
			d.problem(codeMissing, path, fmt.Sprintf("key %q is missing", name), "add it")
		}
	}
}

func (d *document) dictionary(path string, n *yaml.Node, v reflect.Value, depth int) {
	m := reflect.MakeMap(v.Type())
	d.pairs(path, n, func(k, val *yaml.Node) {
		e := reflect.New(v.Type().Elem()).Elem()
		at := join(path, k.Value)
		d.keys[at] = k
		d.value(at, val, e, depth+1)
		m.SetMapIndex(reflect.ValueOf(k.Value).Convert(v.Type().Key()), e)
	})
	v.Set(m)
}

func (d *document) list(path string, n *yaml.Node, v reflect.Value, depth int) {
	if n.Kind != yaml.SequenceNode {
		d.problem(codeType, path, "expected a list", "write it as [a, b]")
		return
	}
	s := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, c := range n.Content {
		d.value(fmt.Sprintf("%s[%d]", path, i), c, s.Index(i), depth+1)
	}
	v.Set(s)
}

func (d *document) scalar(path string, n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.ScalarNode {
		d.problem(codeType, path, "expected a single value", "")
		return
	}
	switch v.Kind() {
	case reflect.Int:
		i, err := strconv.ParseInt(n.Value, 10, 32)
		if err != nil || n.Tag != "!!int" {
			d.problem(codeType, path, fmt.Sprintf("%q is not a whole number", n.Value), "")
			return
		}
		v.SetInt(i)
	case reflect.Bool:
		if n.Tag != "!!bool" {
			d.problem(codeType, path, fmt.Sprintf("%q is neither true nor false", n.Value), "")
			return
		}
		v.SetBool(strings.EqualFold(n.Value, "true"))
	default:
		// A condition may be written without quotes: `when: true`.
		condition := strings.HasSuffix(path, ".when") && n.Tag == "!!bool"
		if n.Tag != "!!str" && !condition {
			d.problem(codeType, path, fmt.Sprintf("expected a text, got %s", n.Value), fmt.Sprintf("write %q", n.Value))
			return
		}
		s := n.Value
		if condition {
			s = strings.ToLower(s)
		}
		v.SetString(s)
	}
}
