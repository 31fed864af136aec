package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"rekey/internal/nearest"
)

// maxFile bounds rekey.yaml.
const maxFile = 1 << 20

// A file is rekey.yaml after checking: plain values for viper.
type file struct {
	path   string
	values map[string]any
}

// readFile reads and checks the file. Everything that is wrong is reported at
// once.
func readFile(name string) (*file, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	f, err := os.Open(abs)
	if err != nil {
		return nil, &InvalidError{[]Problem{{Where: name, Text: "cannot be read: check the path given with --config or REKEY_CONFIG, and its permissions"}}}
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, &InvalidError{[]Problem{{Where: name, Text: "not a regular file: give the path of a rekey.yaml"}}}
	}
	if info.Mode().Perm()&0o002 != 0 {
		return nil, &InvalidError{[]Problem{{Where: name, Text: fmt.Sprintf("everyone on this machine may write it (mode %04o), and with it raise every ceiling: run `chmod o-w %s`", info.Mode().Perm(), name)}}}
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, &InvalidError{[]Problem{{Where: name, Text: "cannot be read: check the disk and the permissions"}}}
	}
	if len(raw) > maxFile {
		return nil, &InvalidError{[]Problem{{Where: name, Text: "larger than 1 MiB: this is not a rekey.yaml"}}}
	}
	return parseFile(name, abs, raw)
}

var lineRE = regexp.MustCompile(`line (\d+)`)

// parseFile checks raw against the tree. The messages of the YAML library are
// not passed on: they may quote the file.
func parseFile(name, abs string, raw []byte) (*file, error) {
	r := &reader{name: name, dir: filepath.Dir(abs)}
	dec := yaml.NewDecoder(strings.NewReader(string(raw)))
	var doc yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return &file{path: abs, values: map[string]any{}}, nil
	case err != nil:
		where := name
		if m := lineRE.FindStringSubmatch(err.Error()); m != nil {
			where += ":" + m[1]
		}
		return nil, &InvalidError{[]Problem{{Where: where, Text: "not valid YAML here: check indentation (spaces, no tabs), colons and quotes"}}}
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, &InvalidError{[]Problem{{Where: name, Text: "more than one document: keep one, without a second `---`"}}}
	}
	values, _ := r.group(doc.Content[0], schema(), "").(map[string]any)
	if len(r.problems) > 0 {
		return nil, &InvalidError{r.problems}
	}
	if values == nil {
		values = map[string]any{}
	}
	return &file{path: abs, values: values}, nil
}

// A reader turns YAML nodes into plain values and collects problems.
type reader struct {
	name, dir string
	problems  []Problem
}

func (r *reader) bad(n *yaml.Node, key, format string, args ...any) {
	r.problems = append(r.problems, Problem{
		Where: fmt.Sprintf("%s:%d:%d", r.name, n.Line, n.Column), Key: key, Text: fmt.Sprintf(format, args...),
	})
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

func (r *reader) read(n *yaml.Node, s *node, key string) any {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		r.bad(n, key, "anchors and aliases are not taken here: write the value out")
		return nil
	case isNull(n):
		return nil
	case s.value != nil:
		return r.value(n, s.value, key)
	}
	return r.group(n, s, key)
}

func (r *reader) group(n *yaml.Node, s *node, key string) any {
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		what := "keys below it"
		if s.named != nil || s.reference {
			what = s.what + " by name below it"
		}
		if key == "" {
			r.bad(n, key, "want `key: value` lines at the top level")
		} else {
			r.bad(n, key, "want %s, not a value", what)
		}
		return nil
	}
	out := map[string]any{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		child := r.child(k, v, s, key)
		if child == nil {
			continue
		}
		full := strings.TrimPrefix(key+"."+k.Value, ".")
		if _, twice := out[k.Value]; twice {
			r.bad(k, full, "given twice: keep one")
			continue
		}
		before := len(r.problems)
		got := r.read(v, child, full)
		if below, _ := got.(map[string]any); s.named != nil && child.value == nil && len(below) == 0 && len(r.problems) == before {
			r.bad(k, full, "nothing is below it: give it its keys, or take it out")
			continue
		}
		if got != nil {
			out[k.Value] = got
		}
	}
	return out
}

// userNameRE is what names of people, accounts, sources and so on look like:
// they become part of keys, which are not case-sensitive, and of variables.
var userNameRE = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)

// child finds the node of key k in s, or reports why there is none.
func (r *reader) child(k, v *yaml.Node, s *node, key string) *node {
	full := strings.TrimPrefix(key+"."+k.Value, ".")
	if k.Kind != yaml.ScalarNode || k.Anchor != "" || plain(k.Value) != nil {
		r.bad(k, key, "a key must be one plain word")
		return nil
	}
	switch {
	case s.reference:
		if v := referenceValue(k.Value); v != nil && userNameRE.MatchString(k.Value) {
			return &node{value: v}
		}
		r.secret(k, v, s, full)
		return nil
	case s.named != nil:
		if userNameRE.MatchString(k.Value) {
			return s.named
		}
		r.bad(k, key, "not a name for %s: lower-case letters, digits, dash and underscore, at most 64", s.what)
		return nil
	}
	if child := s.keys[k.Value]; child != nil {
		return child
	}
	if asksForSecret(k.Value) && v.Kind == yaml.ScalarNode {
		r.secret(k, v, s, full)
	} else if near := nearest.Word(k.Value, sortedKeys(s.keys)); near != "" {
		r.bad(k, full, "unknown key (did you mean %q?)", near)
	} else {
		r.bad(k, full, "unknown key: here may stand %s", strings.Join(sortedKeys(s.keys), ", "))
	}
	return nil
}

// secret refuses a key that asks for a secret, without showing what stands
// behind it.
func (r *reader) secret(k, v *yaml.Node, s *node, full string) {
	base := strings.TrimSuffix(strings.TrimSuffix(k.Value, "_file"), "_env")
	do := "keys that need one end in _file or _env"
	switch {
	case s.reference:
		do = fmt.Sprintf("give `%s_file: PATH` (mode 0600) or `%s_env: NAME`", base, base)
	case s.keys[base+"_file"] != nil:
		do = fmt.Sprintf("give `%s_file: PATH` (mode 0600)", base)
	}
	if v.Kind == yaml.ScalarNode && v.Value != "" {
		do += "; treat the value as exposed"
	}
	r.bad(k, full, "a secret is never in this file: %s", do)
}

func (r *reader) value(n *yaml.Node, v *value, key string) any {
	if v.kind == list || v.kind == manyPaths {
		return r.list(n, v, key)
	}
	if n.Kind != yaml.ScalarNode {
		r.bad(n, key, "want one value, not a list or keys below it")
		return nil
	}
	if n.Value == "" {
		return nil // the same as left out
	}
	return r.scalar(n, v, key)
}

func (r *reader) list(n *yaml.Node, v *value, key string) any {
	if n.Kind != yaml.SequenceNode {
		r.bad(n, key, "want a list, such as [a, b]")
		return nil
	}
	out := []string{}
	for i, e := range n.Content {
		at := fmt.Sprintf("%s[%d]", key, i)
		if e.Kind != yaml.ScalarNode || e.Anchor != "" || isNull(e) {
			r.bad(e, at, "want one value")
			continue
		}
		if s, ok := r.scalar(e, v, at).(string); ok {
			out = append(out, s)
		}
	}
	return out
}

// scalar gives the value's own text: `account_id: 012345678901` without quotes
// stays what the user wrote.
func (r *reader) scalar(n *yaml.Node, v *value, key string) any {
	if err := v.valid(n.Value); err != nil {
		r.bad(n, key, "%s", err)
		return nil
	}
	if v.kind == onePath || v.kind == manyPaths {
		return absolute(n.Value, r.dir)
	}
	return n.Value
}

// valid checks one value, whatever it came from.
func (v *value) valid(s string) error {
	switch v.kind {
	case truth:
		if s != "true" && s != "false" {
			return errors.New("not a truth value: write true or false")
		}
	case number:
		if !wholeRE.MatchString(s) {
			return errors.New("not a whole number")
		}
	}
	return v.check(s)
}

var wholeRE = regexp.MustCompile(`^\d{1,9}$`)

// absolute expands ~/ and puts relative paths below dir.
func absolute(p, dir string) string {
	if p == "~" || strings.HasPrefix(p, "~/") {
		if home, err := os.UserHomeDir(); err == nil {
			return filepath.Join(home, strings.TrimPrefix(p, "~"))
		}
	}
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(dir, p)
}
