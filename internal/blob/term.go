package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"rekey/internal/fsx"
)

// Several processes write one journal after each other, each under the term of its
// lease. No lock can keep the old one out: a process that stands still holds its
// lock, and comes back. So each term has a file of its own, which begins with what
// the highest term before had written at that moment, and only the file of the
// highest term is ever read. What a former writer still appends goes into a file
// that nobody decides by; Late shows it.

// termDir is the directory of the terms of a journal, beside its .log.
const termDir = ".d"

func termFile(term uint64) string { return fmt.Sprintf("%016x.log", term) }

// terms are those that have opened a journal, rising.
func terms(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(dir) // sorted, and the names have one length
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var out []uint64
	for _, e := range entries {
		digits, ok := strings.CutSuffix(e.Name(), ".log")
		if !ok || fsx.IsTemp(e.Name()) {
			continue
		}
		term, err := strconv.ParseUint(digits, 16, 64)
		if err != nil || termFile(term) != e.Name() {
			return nil, fmt.Errorf("%s is not a journal's: remove it", filepath.Join(dir, e.Name()))
		}
		out = append(out, term)
	}
	return out, nil
}

// takeOver makes the log of this term.
func (j *logFile) takeOver(dir string) error {
	if err := os.MkdirAll(dir, fsx.DirMode); err != nil { // made durable with the first durable record
		return fsx.Full(dir, err)
	}
	have, err := terms(dir)
	if err != nil {
		return err
	}
	from := strings.TrimSuffix(dir, termDir) + ".log" // of a time without terms
	if n := len(have); n > 0 {
		switch last := have[n-1]; {
		case last > j.term:
			return &FencedError{Name: j.name, Term: last}
		case last == j.term:
			return nil
		default:
			from = filepath.Join(dir, termFile(last))
		}
	}
	data, err := os.ReadFile(from)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	before, err := scan(j.dir.keys, j.name, data)
	if err != nil {
		return err
	}
	if err := j.begin(data[:before.good]); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	// A higher term may have come meanwhile, and read before this one wrote.
	if have, err = terms(dir); err != nil {
		return err
	}
	if last := have[len(have)-1]; last > j.term {
		return &FencedError{Name: j.name, Term: last}
	}
	return nil
}

// begin makes the file of this term with what was there before. Without anything
// there is nothing to lose, and so nothing to sync: most passes are first ones.
func (j *logFile) begin(before []byte) error {
	if len(before) > 0 {
		return fsx.CreateExclusive(j.path, before)
	}
	f, err := os.OpenFile(j.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, fsx.FileMode)
	if err != nil {
		return fsx.Full(j.path, err)
	}
	return f.Close()
}

// Late implements [Journal].
func (j *fileJournal) Late(ctx context.Context) ([][]byte, error) {
	if j.term == 0 {
		return nil, ctx.Err()
	}
	dir := filepath.Dir(j.path)
	all, err := terms(dir)
	if err != nil {
		return nil, err
	}
	if i := slices.Index(all, j.term); i >= 0 {
		all = all[:i+1]
	}
	return j.dir.late(ctx, j.name, dir, all)
}

// late gives the records of each of the terms but the last that the next one does not
// begin with.
func (d *Dir) late(ctx context.Context, name, dir string, all []uint64) ([][]byte, error) {
	if len(all) < 2 {
		return nil, ctx.Err()
	}
	var out, before [][]byte
	for n, term := range all {
		c, err := d.content(name, filepath.Join(dir, termFile(term)))
		if err != nil {
			return nil, err
		}
		recs, err := d.records(ctx, name, c)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			out = append(out, before[common(before, recs):]...)
		}
		before = recs
	}
	return out, ctx.Err()
}

// content reads a log without opening it for writing.
func (d *Dir) content(name, path string) (content, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return content{}, err
	}
	return scan(d.keys, name, data)
}

// common counts the records that two logs begin with.
func common(a, b [][]byte) int {
	n := 0
	for n < len(a) && n < len(b) && bytes.Equal(a[n], b[n]) {
		n++
	}
	return n
}
