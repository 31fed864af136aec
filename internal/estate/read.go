package estate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A reader goes through estate files entry by entry: a file is never in memory as a
// whole, unless its YAML is written in a way that only a parser of all of it can
// follow (anchors, lists in brackets over many lines).
type reader struct {
	// take gets the entries of each list. decode fills in what it is given, strictly.
	// A list without one is passed over.
	take map[string]func(decode func(any) error) error
	// reset forgets what was taken: a file turned out to need its whole parser.
	reset func()
}

// maxBytes bounds the files together: names are numbered by their place in 4 GiB.
const maxBytes = 1<<32 - 1

// errWhole: this YAML must be parsed as one.
var errWhole = errors.New("parse the whole document")

// files reads all of them, in order.
func (r *reader) files(paths []string) error {
	whole := map[string]bool{}
	for {
		path, err := r.pass(paths, whole)
		if !errors.Is(err, errWhole) {
			return err
		}
		whole[path] = true
		r.reset()
	}
}

func (r *reader) pass(paths []string, whole map[string]bool) (string, error) {
	for _, path := range paths {
		var err error
		switch {
		case isJSON(path):
			err = r.json(path)
		case whole[path]:
			err = r.whole(path)
		default:
			err = r.yaml(path)
		}
		if err != nil {
			return path, err
		}
	}
	return "", nil
}

// isJSON tells the form of a file from its name. Everything else is YAML.
func isJSON(path string) bool {
	return slices.Contains([]string{".json", ".jsonl", ".ndjson"}, strings.ToLower(filepath.Ext(path)))
}

func unreadable(err error) error {
	return fmt.Errorf("estate: %w: mend estate.files in rekey.yaml", err)
}

// faulty names a mistake in an entry. Line 0 is unknown.
func faulty(path string, line int, list string, i int, err error) error {
	name := filepath.Base(path)
	if line > 0 {
		name = fmt.Sprintf("%s:%d", name, line)
	}
	return fmt.Errorf("estate %s: %s[%d]: %w", name, list, i, err)
}

// whole parses a YAML file as one document.
func (r *reader) whole(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return unreadable(err)
	}
	return r.document(path, b)
}

func (r *reader) document(path string, b []byte) error {
	bad := func(err error) error {
		return fmt.Errorf("estate %s: %s", filepath.Base(path), plain(err))
	}
	var f File
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return bad(err)
	}
	if err := d.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return bad(errors.New("there is a second document (---): put its lists into the first, or into a file of its own"))
	}
	for _, list := range lists() {
		take := r.take[list]
		if take == nil {
			continue
		}
		entries := listOf(&f, list)
		for i := range entries.Len() {
			err := take(func(to any) error { reflect.ValueOf(to).Elem().Set(entries.Index(i)); return nil })
			if err != nil {
				return faulty(path, lineOf(b, list, i), list, i, err)
			}
		}
	}
	return nil
}

// listOf gives a list of a file by its name.
func listOf(f *File, list string) reflect.Value {
	v := reflect.ValueOf(f).Elem()
	for i := range v.NumField() {
		if yamlName(v.Type().Field(i)) == list {
			return v.Field(i)
		}
	}
	return reflect.ValueOf([]struct{}{})
}

func yamlName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	return name
}

// lineOf finds the line of entry i of a list at the top of a document; 0: unknown.
func lineOf(b []byte, list string, i int) int {
	var root yaml.Node
	if err := yaml.Unmarshal(b, &root); err != nil || len(root.Content) == 0 {
		return 0
	}
	m := root.Content[0].Content
	for n := 0; n+1 < len(m); n += 2 {
		if m[n].Value == list && i < len(m[n+1].Content) {
			return m[n+1].Content[i].Line
		}
	}
	return 0
}

// json reads a file of JSON documents, one after the other: one of the shape of
// [File], or many of them, as JSON Lines has it.
func (r *reader) json(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return unreadable(err)
	}
	defer func() { _ = f.Close() }()
	d := json.NewDecoder(f)
	d.DisallowUnknownFields()
	bad := func(format string, args ...any) error {
		return fmt.Errorf("estate %s:%d: %s", filepath.Base(path), lineAt(f, d.InputOffset()), fmt.Sprintf(format, args...))
	}
	n := map[string]int{}
	for {
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return bad("%s", jsonPlain(err))
		}
		if t != json.Delim('{') {
			return bad(`an object is wanted: {"keys": [{"id": …}]}`)
		}
		for d.More() {
			t, err := d.Token()
			if err != nil {
				return bad("%s", jsonPlain(err))
			}
			list, _ := t.(string)
			if !slices.Contains(lists(), list) {
				return bad("unknown key %q", list)
			}
			if t, err = d.Token(); err != nil || t != json.Delim('[') {
				return bad("%s is a list: [{…}, …]", list)
			}
			for ; d.More(); n[list]++ {
				from := d.InputOffset()
				if err := r.jsonEntry(d, r.take[list]); err != nil {
					return faulty(path, lineAt(f, from), list, n[list], err)
				}
			}
			if _, err := d.Token(); err != nil {
				return bad("the list %s does not end: %s", list, jsonPlain(err))
			}
		}
		if _, err := d.Token(); err != nil {
			return bad("%s", jsonPlain(err))
		}
	}
}

func (r *reader) jsonEntry(d *json.Decoder, take func(func(any) error) error) error {
	if take == nil {
		var over json.RawMessage
		return jsonPlain(d.Decode(&over))
	}
	return take(func(to any) error { return jsonPlain(d.Decode(to)) })
}

// lineAt gives the line of what comes at or after an offset.
func lineAt(f io.ReaderAt, offset int64) int {
	line, at := 1, int64(0)
	b := make([]byte, 64<<10)
	for {
		n, err := f.ReadAt(b, at)
		for i, c := range b[:n] {
			if at+int64(i) >= offset && !bytes.ContainsRune([]byte(" \t\r\n,"), rune(c)) {
				return line
			}
			if c == '\n' {
				line++
			}
		}
		at += int64(n)
		if err != nil || n == 0 {
			return line
		}
	}
}

// jsonPlain is what a decoder says, without the names of Go's types.
func jsonPlain(err error) error {
	var wrong *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the file ends too early")
	case errors.As(err, &wrong):
		a := "a "
		if strings.IndexByte("ao", wrong.Value[0]) >= 0 { // array, object
			a = "an "
		}
		if wrong.Field != "" {
			a = wrong.Field + ": " + a
		}
		return fmt.Errorf("%s%s does not belong here", a, wrong.Value)
	}
	return errors.New(plain(err))
}

var unknownField = regexp.MustCompile(`(?:json: unknown field |field )"?([^\s"]+)"?(?: not found in type \S+)?`)

var wrongType = regexp.MustCompile("cannot unmarshal (!!\\S+(?: `[^`]*`)?) into \\S+")

// plain is what a decoder says, without the names of our types.
func plain(err error) string {
	text := strings.Join(strings.Fields(strings.TrimPrefix(err.Error(), "yaml: unmarshal errors:")), " ")
	text = wrongType.ReplaceAllString(text, "$1 does not belong here")
	return unknownField.ReplaceAllString(strings.TrimPrefix(text, "yaml: "), `unknown key "$1"`)
}
