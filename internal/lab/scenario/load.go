package scenario

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxSize bounds a drill file; the largest real one is a few KB.
const maxSize = 1 << 20

// LoadFile reads and checks the drill at a path.
func LoadFile(path string) (*Drill, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Load(path, data)
}

// Load reads and checks a drill. The error joins every Problem found, in file order.
func Load(file string, data []byte) (*Drill, error) {
	if len(data) > maxSize {
		return nil, fmt.Errorf("%s: larger than 1 MiB: not a drill", file)
	}
	var doc yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&doc); err != nil {
		line, message := yamlError(err)
		return nil, Problem{File: file, Line: line, Column: 1, Message: message}
	}
	var more yaml.Node
	if err := dec.Decode(&more); err == nil {
		return nil, Problem{File: file, Line: more.Line, Column: more.Column, Message: "a second document: one drill per file"}
	}
	d := &decoder{file: file, places: map[string]place{}}
	drill := &Drill{file: file}
	d.decode(doc.Content[0], reflect.ValueOf(drill).Elem(), "")
	if len(d.problems) == 0 {
		d.validate(drill)
	}
	if len(d.problems) > 0 {
		slices.SortStableFunc(d.problems, func(a, b Problem) int {
			if a.Line != b.Line {
				return a.Line - b.Line
			}
			return a.Column - b.Column
		})
		errs := make([]error, len(d.problems))
		for i, p := range d.problems {
			errs[i] = p
		}
		return nil, errors.Join(errs...)
	}
	return drill, nil
}

var yamlLine = regexp.MustCompile(`line (\d+): `)

func yamlError(err error) (int, string) {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	if message == "EOF" {
		return 1, "the file is empty"
	}
	line := 1
	if m := yamlLine.FindStringSubmatch(message); m != nil {
		line, _ = strconv.Atoi(m[1])
		message = strings.Replace(message, m[0], "", 1)
	}
	return line, "not YAML: " + message
}
