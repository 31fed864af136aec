package judge

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/url"
)

// window is how many bytes of a pattern are looked up at once; shorter patterns are
// not searched, because chance would find them.
const window = 8

// pattern is one way in which one secret could be written.
type pattern struct {
	secret int // index in Input.Secrets
	form   string
	text   []byte
}

// finder finds any of many patterns in one pass: the first 8 bytes of each are a
// number that is looked up at every offset, behind a filter of bits that is nearly
// always empty. The cost does not grow with the number of secrets.
type finder struct {
	secrets int
	short   int // secrets that are not searched
	longest int
	heads   map[uint64][]pattern
	filter  []uint64
	buf     []byte
}

const filterBits = 20

func slot(head uint64) (word int, bit uint64) {
	h := head * 0x9e3779b97f4a7c15 >> (64 - filterBits) // Fibonacci hashing, Knuth vol. 3, 6.4
	return int(h >> 6), 1 << (h & 63)
}

func newFinder(secrets [][]byte) *finder {
	f := &finder{secrets: len(secrets), heads: map[uint64][]pattern{}, filter: make([]uint64, 1<<(filterBits-6))}
	seen := map[string]bool{}
	for i, s := range secrets {
		if len(s) < window {
			f.short++
			continue
		}
		for _, p := range forms(i, s) {
			if len(p.text) < window || seen[string(p.text)] {
				continue
			}
			seen[string(p.text)] = true
			f.longest = max(f.longest, len(p.text))
			head := binary.LittleEndian.Uint64(p.text)
			f.heads[head] = append(f.heads[head], p)
			word, bit := slot(head)
			f.filter[word] |= bit
		}
	}
	f.buf = make([]byte, 0, 1<<20+f.longest)
	return f
}

func (f *finder) empty() bool { return len(f.heads) == 0 }

// forms are the ways in which a secret is written: as it is, escaped in JSON and in
// URLs, in hex, and in base64 at each of the three places it can have within a
// longer text, of which only the letters count that no neighbour changes.
func forms(i int, s []byte) []pattern {
	out := []pattern{{i, "raw", s}}
	if quoted, err := json.Marshal(string(s)); err == nil {
		out = append(out, pattern{i, "JSON", quoted[1 : len(quoted)-1]})
	}
	out = append(out,
		pattern{i, "URL", []byte(url.QueryEscape(string(s)))},
		pattern{i, "URL", []byte(url.PathEscape(string(s)))},
		pattern{i, "hex", []byte(hex.EncodeToString(s))},
		pattern{i, "hex", bytes.ToUpper([]byte(hex.EncodeToString(s)))},
	)
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before := range 3 {
			text := enc.EncodeToString(append(make([]byte, before), s...))
			from := (before*8 + 5) / 6
			to := (before + len(s)) * 8 / 6
			out = append(out, pattern{i, "base64", []byte(text[from:to])})
		}
	}
	return out
}

// find gives the patterns that are in r, each once. Not safe for concurrent use.
func (f *finder) find(r io.Reader) ([]pattern, error) {
	var out []pattern
	got := map[string]bool{}
	buf := f.buf[:0]
	for {
		n, err := io.ReadFull(r, buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		for i := 0; i+window <= len(buf); i++ {
			head := binary.LittleEndian.Uint64(buf[i:])
			if word, bit := slot(head); f.filter[word]&bit == 0 {
				continue
			}
			for _, p := range f.heads[head] {
				if bytes.HasPrefix(buf[i:], p.text) && !got[string(p.text)] {
					got[string(p.text)] = true
					out = append(out, p)
				}
			}
		}
		switch {
		case last:
			return out, nil
		case err != nil:
			return out, err
		}
		// A pattern may go over the border.
		keep := min(f.longest-1, len(buf))
		copy(buf[:keep], buf[len(buf)-keep:])
		buf = buf[:keep]
	}
}
