package scenario

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

var errNotAbsolute = errors.New("write an absolute time like 2019-08-20T00:00:00Z")

// Problem is one mistake in a drill file, with its place.
type Problem struct {
	File         string
	Line, Column int
	Path         string // e.g. estate.keys[2].policy
	Message      string
}

// Error renders file:line:column: path: message.
func (p Problem) Error() string {
	if p.Path == "" {
		return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Message)
	}
	return fmt.Sprintf("%s:%d:%d: %s: %s", p.File, p.Line, p.Column, p.Path, p.Message)
}

// scalar is a type that reads itself from the text of a YAML scalar.
type scalar interface{ parse(string) error }

// place is where a value stands in the file.
type place struct{ line, column int }

// decoder fills Go values from YAML nodes and remembers where each path stands, so that the
// rules of validate.go can name line and column too. yaml.v3's own KnownFields mode has lines
// but neither columns nor suggestions, and stops at the first mistake in a mapping.
type decoder struct {
	file     string
	places   map[string]place
	problems []Problem
}

func (d *decoder) failf(n *yaml.Node, path, format string, args ...any) {
	d.problems = append(d.problems, Problem{d.file, n.Line, n.Column, path, fmt.Sprintf(format, args...)})
}

func (d *decoder) decode(n *yaml.Node, v reflect.Value, path string) {
	d.places[path] = place{n.Line, n.Column}
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		d.failf(n, path, "anchors and aliases are not allowed: write the value out")
		return
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		d.failf(n, path, "has no value: give one or leave the key out")
		return
	}
	if s, ok := v.Addr().Interface().(scalar); ok {
		if n.Kind == yaml.ScalarNode {
			if err := s.parse(n.Value); err != nil {
				d.failf(n, path, "%s", err)
			}
			return
		}
		if v.Kind() != reflect.Struct || v.NumField() == 0 || v.Type().Field(0).Tag.Get("yaml") == "" {
			d.failf(n, path, "wants a single value, not a %s", kindName(n))
			return
		}
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.decode(n, v.Elem(), path)
	case reflect.Struct:
		d.decodeStruct(n, v, path)
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			d.failf(n, path, "wants a list, not a %s", kindName(n))
			return
		}
		out := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
		for i, c := range n.Content {
			d.decode(c, out.Index(i), fmt.Sprintf("%s[%d]", path, i))
		}
		v.Set(out)
	case reflect.Map:
		d.decodeMap(n, v, path)
	default:
		d.decodeScalar(n, v, path)
	}
}

func (d *decoder) decodeStruct(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.failf(n, path, "wants keys and values, not a %s", kindName(n))
		return
	}
	fields := map[string]int{}
	var names []string
	for i := range v.NumField() {
		if tag := v.Type().Field(i).Tag.Get("yaml"); tag != "" {
			fields[tag] = i
			names = append(names, tag)
		}
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, c := n.Content[i], n.Content[i+1]
		at := join(path, k.Value)
		if seen[k.Value] {
			d.failf(k, path, "key %q is given twice", k.Value)
			continue
		}
		seen[k.Value] = true
		f, ok := fields[k.Value]
		if !ok {
			d.failf(k, path, "unknown key %q%s", k.Value, didYouMean(k.Value, names))
			continue
		}
		d.decode(c, v.Field(f), at)
	}
}

func (d *decoder) decodeMap(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.failf(n, path, "wants names and values, not a %s", kindName(n))
		return
	}
	out := reflect.MakeMap(v.Type())
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, c := n.Content[i], n.Content[i+1]
		if out.MapIndex(reflect.ValueOf(k.Value)).IsValid() {
			d.failf(k, path, "%q is given twice", k.Value)
			continue
		}
		e := reflect.New(v.Type().Elem()).Elem()
		d.decode(c, e, join(path, k.Value))
		out.SetMapIndex(reflect.ValueOf(k.Value), e)
	}
	v.Set(out)
}

func (d *decoder) decodeScalar(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.ScalarNode {
		d.failf(n, path, "wants a single value, not a %s", kindName(n))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(n.Value)
	case reflect.Bool:
		b, err := strconv.ParseBool(n.Value)
		if err != nil || n.Tag != "!!bool" {
			d.failf(n, path, "wants true or false, not %q", n.Value)
			return
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int64:
		i, err := strconv.ParseInt(n.Value, 10, 53)
		if err != nil {
			d.failf(n, path, "wants a whole number, not %q", n.Value)
			return
		}
		v.SetInt(i)
	default:
		panic("scenario: no decoder for " + v.Type().String())
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "mapping"
	case yaml.SequenceNode:
		return "list"
	default:
		return "single value"
	}
}

// didYouMean gives ` (did you mean "x"?)` for the nearest word, or the words there are.
func didYouMean(got string, words []string) string {
	best, bestDistance := "", len(got)/2+2
	for _, w := range words {
		if dist := distance(strings.ToLower(got), strings.ToLower(w)); dist < bestDistance {
			best, bestDistance = w, dist
		}
	}
	if best != "" {
		return fmt.Sprintf(" (did you mean %q?)", best)
	}
	return " (one of " + strings.Join(words, ", ") + ")"
}

// distance is the Levenshtein distance of two short words.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
