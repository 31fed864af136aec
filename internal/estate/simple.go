package estate

import (
	"bytes"
	"reflect"
	"time"

	"rekey/playbooks"
)

// simple reads the entries that estates are full of: a mapping of names to plain
// words, words in quotes, or lists of them, in braces on one line or one pair a
// line. Everything else it leaves to the library, so that it needs to know little of
// YAML: what it takes, the library reads the same way.
type simple struct {
	fields map[reflect.Type]map[string]int
	words  [][]byte
}

// entry reads "- …", whose dash is at the indent, into a struct. False: the library
// is to read it, into a fresh one.
func (s *simple) entry(text []byte, indent int, to reflect.Value) bool {
	f := filling{simple: s, to: to, fields: s.of(to.Type())}
	if f.fields == nil {
		return false
	}
	line, rest := cutLine(text)
	line = line[min(indent+1, len(line)):]
	line, pad := trimSpaces(line)
	if len(line) == 0 {
		return false
	}
	if line[0] == '{' {
		return onlyComments(rest) && f.braces(line)
	}
	return f.block(line, rest, indent+1+pad)
}

// of gives the fields of a type by name, nil if it has one that is not simple.
func (s *simple) of(t reflect.Type) map[string]int {
	if s.fields == nil {
		s.fields = map[reflect.Type]map[string]int{}
	}
	if m, ok := s.fields[t]; ok {
		return m
	}
	m := map[string]int{}
	for i := range t.NumField() {
		f := t.Field(i)
		switch reflect.Zero(f.Type).Interface().(type) {
		case string, bool, []string, playbooks.Duration, time.Time:
			m[yamlName(f)] = i
		default: // its entries go to the library
			m = nil
		}
		if m == nil {
			break
		}
	}
	s.fields[t] = m
	return m
}

// A filling is one entry under way.
type filling struct {
	*simple
	to     reflect.Value
	fields map[string]int
	got    uint64 // fields, as bits
}

// braces reads "{a: b, c: [d, e]}", with nothing after it but a comment.
func (f *filling) braces(line []byte) bool {
	line = line[1:]
	for {
		line, _ = trimSpaces(line)
		name, rest, ok := cutName(line)
		if !ok {
			return false
		}
		rest, pad := trimSpaces(rest)
		if pad == 0 || len(rest) == 0 {
			return false
		}
		if rest, ok = f.value(name, rest, ",}"); !ok {
			return false
		}
		rest, _ = trimSpaces(rest)
		if len(rest) == 0 {
			return false
		}
		line = rest[1:]
		switch rest[0] {
		case ',':
		case '}':
			return over(line)
		default:
			return false
		}
	}
}

// block reads one pair a line, the first of which stands beside the dash. A list may
// follow its name, one word a line.
func (f *filling) block(line, rest []byte, column int) bool {
	for {
		name, value, ok := cutName(line)
		if !ok {
			return false
		}
		if over(value) {
			if rest, ok = f.wordLines(name, rest, column); !ok {
				return false
			}
		} else {
			word, pad := trimSpaces(value)
			if pad == 0 {
				return false
			}
			if value, ok = f.value(name, word, ""); !ok || !over(value) {
				return false
			}
		}
		for {
			if len(rest) == 0 {
				return true
			}
			line, rest = cutLine(rest)
			if !isComment(line) {
				break
			}
		}
		var pad int
		line, pad = trimSpaces(line)
		if pad != column || line[0] == '-' {
			return false
		}
	}
}

// wordLines reads "- word" lines at or right of the column of their name.
func (f *filling) wordLines(name, rest []byte, column int) ([]byte, bool) {
	f.words = f.words[:0]
	dashes := -1
	for len(rest) > 0 {
		line, after := cutLine(rest)
		if isComment(line) {
			rest = after
			continue
		}
		line, pad := trimSpaces(line)
		if pad < column || pad == column && line[0] != '-' {
			break
		}
		if dashes >= 0 && pad != dashes || len(line) < 3 || line[0] != '-' || line[1] != ' ' {
			return nil, false
		}
		dashes = pad
		line, _ = trimSpaces(line[1:])
		word, _, line, ok := cutWord(line, "")
		if !ok || !over(line) {
			return nil, false
		}
		f.words = append(f.words, word)
		rest = after
	}
	return rest, len(f.words) > 0 && f.set(name, nil, false)
}

// value reads a word or a list in brackets, up to what ends it.
func (f *filling) value(name, text []byte, ends string) ([]byte, bool) {
	if text[0] != '[' {
		word, quoted, rest, ok := cutWord(text, ends)
		return rest, ok && f.set(name, word, quoted)
	}
	f.words = f.words[:0]
	text, _ = trimSpaces(text[1:])
	for len(text) > 0 && text[0] != ']' {
		word, _, rest, ok := cutWord(text, ",]")
		if !ok {
			return nil, false
		}
		f.words = append(f.words, word)
		if rest, _ = trimSpaces(rest); len(rest) == 0 || rest[0] == ',' && len(rest) == 1 {
			return nil, false
		}
		if rest[0] == ',' {
			if rest, _ = trimSpaces(rest[1:]); len(rest) == 0 || rest[0] == ']' || rest[0] == ',' {
				return nil, false
			}
		}
		text = rest
	}
	if len(text) == 0 {
		return nil, false
	}
	return text[1:], f.set(name, nil, false)
}

// set fills a field with a word, or with the words of a list where there is none.
func (f *filling) set(name, word []byte, quoted bool) bool {
	i, ok := f.fields[string(name)]
	if !ok || f.got&(1<<i) != 0 {
		return false
	}
	f.got |= 1 << i
	switch p := f.to.Field(i).Addr().Interface().(type) {
	case *[]string:
		if word != nil {
			return false
		}
		*p = make([]string, len(f.words))
		for k, w := range f.words {
			(*p)[k] = string(w)
		}
		return true
	case *string:
		*p = string(word)
		return word != nil
	case *bool:
		*p = string(word) == "true"
		return !quoted && (*p || string(word) == "false")
	case *playbooks.Duration:
		v, err := playbooks.ParseDuration(string(word))
		*p = v
		return !quoted && err == nil && word != nil
	case *time.Time:
		layout := time.DateOnly
		if len(word) == len("2006-01-02T15:04:05Z") {
			layout = "2006-01-02T15:04:05Z"
		}
		v, err := time.Parse(layout, string(word))
		*p = v
		return !quoted && err == nil
	}
	return false
}

// cutName cuts "name:" off, without the colon.
func cutName(text []byte) (name, rest []byte, ok bool) {
	for i, c := range text {
		if c == ':' {
			return text[:i], text[i+1:], i > 0
		}
		if (c < 'a' || c > 'z') && c != '_' {
			break
		}
	}
	return nil, nil, false
}

// cutWord cuts off a word: in quotes, or plain and no null. What is left begins with
// one of the ends, or a space.
func cutWord(text []byte, ends string) (word []byte, quoted bool, rest []byte, ok bool) {
	if len(text) == 0 {
		return nil, false, nil, false
	}
	if q := text[0]; q == '"' || q == '\'' {
		for i, c := range text[1:] {
			switch {
			case c == q:
				rest = text[i+2:]
				return text[1 : i+1], true, rest, len(rest) == 0 || rest[0] == ' ' || bytes.IndexByte([]byte(ends), rest[0]) >= 0
			case c == '\\' || c < ' ' || c > '~':
				return nil, false, nil, false
			}
		}
		return nil, false, nil, false
	}
	n := 0
	for n < len(text) && plainByte(text[n]) {
		n++
	}
	rest = text[n:]
	if n == 0 || !letterOrDigit(text[0]) || text[n-1] == ':' {
		return nil, false, nil, false
	}
	if len(rest) > 0 && rest[0] != ' ' && bytes.IndexByte([]byte(ends), rest[0]) < 0 {
		return nil, false, nil, false
	}
	if after, _ := trimSpaces(rest); len(after) > 0 && after[0] != '#' && bytes.IndexByte([]byte(ends), after[0]) < 0 {
		return nil, false, nil, false // words with spaces between them
	}
	switch string(text[:n]) {
	case "null", "Null", "NULL":
		return nil, false, nil, false
	}
	return text[:n], false, rest, true
}

func letterOrDigit(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// plainByte may stand in a plain word anywhere but first.
func plainByte(c byte) bool {
	return letterOrDigit(c) || bytes.IndexByte([]byte("._/+=@:-"), c) >= 0
}

// over tells that nothing is left of a line but space or a comment.
func over(text []byte) bool {
	bare, pad := trimSpaces(text)
	return len(bare) == 0 || bare[0] == '#' && pad > 0
}

// isComment tells that a line says nothing.
func isComment(line []byte) bool {
	bare, _ := trimSpaces(line)
	return len(bare) == 0 || bare[0] == '#'
}

func onlyComments(text []byte) bool {
	for len(text) > 0 {
		var line []byte
		if line, text = cutLine(text); !isComment(line) {
			return false
		}
	}
	return true
}

// cutLine cuts a line off, without its end.
func cutLine(text []byte) (line, rest []byte) {
	line, rest, _ = bytes.Cut(text, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), rest
}

// trimSpaces takes spaces off the front and says how many.
func trimSpaces(text []byte) ([]byte, int) {
	bare := bytes.TrimLeft(text, " ")
	return bare, len(text) - len(bare)
}
