package estate

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"reflect"
	"regexp"
	"slices"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Estates of 100,000 keys are files of 30 MB. The YAML library takes a gigabyte and
// 20 seconds for one; so an estate file is cut into its entries, each of which is
// read alone: by [simple] if it is written plainly, else by the library. Cutting
// needs no more of YAML than that a top-level list is a line "name:" and lines that
// are indented; where that is not so, or an entry cannot be read alone, the whole
// document goes to the library. FuzzEntries holds the two readings together.

// heading is a line that begins a list; the rest, if any, says that it is empty.
var heading = regexp.MustCompile(`^([a-z_]+):(?: +(\[\]))?(?: +#.*| *)$`)

// yaml reads a YAML file entry by entry.
func (r *reader) yaml(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return unreadable(err)
	}
	defer func() { _ = f.Close() }()
	return r.entries(path, f)
}

// entries cuts a YAML text up and reads each entry.
func (r *reader) entries(path string, f io.Reader) error {
	c := cutter{r: r, path: path, seen: map[string]bool{}, indent: -1}
	in := bufio.NewReaderSize(f, 64<<10)
	for line := 1; ; line++ {
		text, err := readLine(in, &c.long)
		if err != nil && !errors.Is(err, io.EOF) {
			return unreadable(err)
		}
		if len(text) > 0 {
			if err := c.line(line, text); err != nil {
				return err
			}
		}
		if err != nil {
			return c.flush()
		}
	}
}

// readLine gives the next line with its end. It is valid until the next call.
func readLine(in *bufio.Reader, long *[]byte) ([]byte, error) {
	text, err := in.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return text, err
	}
	*long = append((*long)[:0], text...)
	for errors.Is(err, bufio.ErrBufferFull) {
		text, err = in.ReadSlice('\n')
		*long = append(*long, text...)
	}
	return *long, err
}

// A cutter gathers the lines of one entry after the other.
type cutter struct {
	r      *reader
	path   string
	long   []byte
	seen   map[string]bool
	list   string
	indent int // of the dashes of the list; -1: no entry yet
	n      int // entries of the list
	entry  []byte
	at     int // line of the entry
	simple simple
	begun  bool
}

func (c *cutter) line(n int, text []byte) error {
	body := bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	if !ordinary(body) {
		return errWhole
	}
	bare := bytes.TrimLeft(body, " ")
	indent := len(body) - len(bare)
	switch {
	case len(bare) == 0 || bare[0] == '#':
		if len(c.entry) > 0 {
			c.entry = append(c.entry, text...)
		}
		return nil
	case indent == 0 && !c.begun && string(body) == "---":
		c.begun = true
		return nil
	}
	c.begun = true
	dash := bare[0] == '-' && (len(bare) == 1 || bare[1] == ' ')
	switch {
	case indent == 0 && !dash:
		m := heading.FindSubmatch(body)
		if m == nil || c.seen[string(m[1])] || !slices.Contains(lists(), string(m[1])) {
			return errWhole
		}
		if err := c.flush(); err != nil {
			return err
		}
		c.list, c.indent, c.n = string(m[1]), -1, 0
		c.seen[c.list] = true
		if len(m[2]) > 0 {
			c.list = ""
		}
		return nil
	case c.list == "" || c.indent < 0 && !dash || c.indent >= 0 && indent < c.indent:
		return errWhole
	case c.indent < 0 || dash && indent == c.indent:
		if err := c.flush(); err != nil {
			return err
		}
		c.indent, c.at = indent, n
		c.entry = append(c.entry[:0], text...)
		return nil
	case indent == c.indent:
		return errWhole
	}
	c.entry = append(c.entry, text...)
	return nil
}

// ordinary tells that a line is text that YAML takes anywhere, and one line for YAML
// too: it knows more ends of lines than we do (YAML 1.1, section 4.2).
func ordinary(line []byte) bool {
	for i, c := range line {
		if c >= 0x80 {
			for _, r := range string(line[i:]) {
				if r == utf8.RuneError || r == '\u2028' || r == '\u2029' || r == '\ufeff' || r < 0xa0 && r > 0x7e || r < ' ' && r != '\t' {
					return false
				}
			}
			return true
		}
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// flush gives the gathered entry to its list.
func (c *cutter) flush() error {
	if len(c.entry) == 0 {
		return nil
	}
	entry := c.entry
	c.entry = c.entry[:0]
	if take := c.r.take[c.list]; take != nil {
		err := take(func(to any) error { return c.decode(entry, to) })
		if errors.Is(err, errWhole) {
			return errWhole
		}
		if err != nil {
			return faulty(c.path, c.at, c.list, c.n, err)
		}
	}
	c.n++
	return nil
}

func (c *cutter) decode(entry []byte, to any) error {
	v := reflect.ValueOf(to).Elem()
	if c.simple.entry(entry, c.indent, v) {
		return nil
	}
	v.SetZero()
	list := reflect.New(reflect.SliceOf(v.Type()))
	d := yaml.NewDecoder(bytes.NewReader(entry))
	d.KnownFields(true)
	if err := d.Decode(list.Interface()); err != nil || list.Elem().Len() != 1 {
		return errWhole
	}
	if err := d.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return errWhole
	}
	v.Set(list.Elem().Index(0))
	return nil
}
