package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"rekey/internal/fsx"
)

// Several processes write one journal after each other, each under the term of its
// lease. No lock can keep the old one out: a process that stands still holds its
// lock, and comes back. So each term has a file of its own, which begins with what
// the highest term before had written at that moment, and only the file of the
// highest term is ever read. What a former writer still appends goes into a file
// that nobody decides by; [Journal.Late] shows it.

// termDir is the directory of the terms of a journal, beside its .log.
const termDir = ".d"

// A FencedError says that a holder with a higher term has opened the journal: what
// this one would write counts no more.
type FencedError struct {
	Name string
	// Term is the higher one, 0 when the journal is one of terms and was opened
	// without.
	Term uint64
}

func (e *FencedError) Error() string {
	if e.Term == 0 {
		return fmt.Sprintf("journal %s was written by workers of a cluster: it is not opened without their lease", e.Name)
	}
	return fmt.Sprintf("journal %s has gone to another process (term %d): this one lost its lease", e.Name, e.Term)
}

// OpenJournalTerm opens the journal name for the holder of a term: what all terms
// before had written, in one log of its own. Term 0 is [Dir.OpenJournal]. It fails
// with *FencedError when a higher term has opened it. No two processes may share a
// term. Opening again under the same term goes on in the same log. Close it.
func (d *Dir) OpenJournalTerm(name string, term uint64) (*Journal, error) {
	if term == 0 {
		return d.OpenJournal(name)
	}
	dir, err := d.journalPath(name, termDir)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	j := &journal{dir: d, name: name, term: term, path: filepath.Join(dir, termFile(term))}
	if err := j.takeOver(dir); err != nil {
		return nil, fmt.Errorf("open journal %s: %w", name, err)
	}
	return d.share(j)
}

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
func (j *journal) takeOver(dir string) error {
	if err := fsx.MkdirPrivate(dir); err != nil {
		return err
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
	_, good, err := scan(j.dir.keys, j.name, data)
	if err != nil {
		return err
	}
	content := []byte(journalMagic)
	if good > 0 {
		content = data[:good]
	}
	if err := fsx.CreateExclusive(j.path, content); err != nil && !errors.Is(err, fs.ErrExist) {
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

// Late gives the records that holders of lower terms wrote after the next one had
// taken over, in their order. They are evidence; nothing is decided by them.
func (j *Journal) Late(ctx context.Context) ([][]byte, error) {
	if j.term == 0 {
		return nil, ctx.Err()
	}
	dir := filepath.Dir(j.path)
	all, err := terms(dir)
	if err != nil {
		return nil, err
	}
	var out, before [][]byte
	for n, term := range all {
		if term > j.term {
			break
		}
		data, err := os.ReadFile(filepath.Join(dir, termFile(term)))
		if err != nil {
			return nil, err
		}
		recs, _, err := scan(j.dir.keys, j.name, data)
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

// common counts the records that two logs begin with.
func common(a, b [][]byte) int {
	n := 0
	for n < len(a) && n < len(b) && bytes.Equal(a[n], b[n]) {
		n++
	}
	return n
}
