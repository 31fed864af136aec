package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"rekey/internal/fsx"
)

// fileJournal is a handle of a journal in a directory. Handles of one name and term in
// one process share the log, so that an old attempt that still runs and a new one see
// the same. Another process is refused; where processes follow each other by terms, see
// term.go.
type fileJournal struct {
	*logFile
	once sync.Once
}

// A logFile is the open log of a journal. It keeps no records in memory: a large
// incident has many journals open.
type logFile struct {
	dir  *Dir
	name string
	term uint64 // 0: one process holds the store
	path string
	refs int // guarded by dir.mu

	mu     sync.Mutex // order of records
	f      file
	size   int64
	count  int
	failed error // once the file is in doubt
	buf    []byte
	// first holds what opening has read, until something is appended.
	first *content
	// named: the file's name is durable.
	named bool

	syncMu sync.Mutex // one sync at a time; who waits finds itself covered
	synced int64      // guarded by mu
}

var (
	_ Journals = (*Dir)(nil)
	_ Journal  = (*fileJournal)(nil)
)

// OpenJournal implements [Journals]. The torn tail of a crash is cut off. To make an
// empty journal costs no sync: its file is made durable with its first durable record.
func (d *Dir) OpenJournal(ctx context.Context, name string, term uint64) (Journal, error) {
	j, err := d.openJournal(ctx, name, term)
	if err != nil {
		return nil, err
	}
	return j, nil
}

func (d *Dir) openJournal(ctx context.Context, name string, term uint64) (*fileJournal, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	path, err := d.journalPath(name, ".log")
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	j := &logFile{dir: d, name: name, term: term, path: path}
	terms := strings.TrimSuffix(path, ".log") + termDir
	if term > 0 {
		j.path = filepath.Join(terms, termFile(term))
		err = j.takeOver(terms)
	} else if _, there := os.Lstat(terms); there == nil {
		err = &FencedError{Name: name}
	}
	if err != nil {
		return nil, fmt.Errorf("open journal %s: %w", name, err)
	}
	return d.share(j)
}

// share gives a handle of a log, opened once in this process. d.mu is held.
func (d *Dir) share(j *logFile) (*fileJournal, error) {
	open, ok := d.open[j.key()]
	if !ok {
		if err := j.load(); err != nil {
			return nil, fmt.Errorf("open journal %s: %w", j.name, err)
		}
		open, d.open[j.key()] = j, j
	}
	open.refs++
	return &fileJournal{logFile: open}, nil
}

func (j *logFile) key() string { return fmt.Sprintf("%s\x00%d", j.name, j.term) }

// journalPath maps a name to one file name: '/' becomes '+', which no segment has.
func (d *Dir) journalPath(name, ext string) (string, error) {
	if err := CheckJournalName(name); err != nil {
		return "", err
	}
	return filepath.Join(d.root, "journals", strings.ReplaceAll(name, "/", "+")+ext), nil
}

// load opens the file, cuts a torn tail and syncs, so that what ReadAll gives is
// durable.
func (j *logFile) load() (err error) {
	if j.f, err = j.dir.openFile(j.path, j.term == 0); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, j.f.Close())
		}
	}()
	data, err := readFile(j.f)
	if err != nil {
		return err
	}
	l, err := scan(j.dir.keys, j.name, data)
	if err != nil {
		return err
	}
	if l.good < int64(len(data)) {
		if err = j.f.Truncate(l.good); err != nil {
			return err
		}
	}
	if len(data) > 0 {
		if err = j.sync(j.f); err != nil {
			return err
		}
	}
	j.size, j.synced, j.count, j.first = l.good, l.good, l.count(), &l
	return nil
}

func readFile(f file) ([]byte, error) {
	length, err := f.Size()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.NewSectionReader(f, 0, length))
}

// sync makes content and name of the file durable.
func (j *logFile) sync(f file) error {
	if err := f.Sync(); err != nil {
		return err
	}
	if j.named {
		return nil
	}
	dir := filepath.Dir(j.path)
	if err := fsx.SyncDir(dir); err != nil {
		return err
	}
	if j.term > 0 {
		if err := fsx.SyncDir(filepath.Dir(dir)); err != nil {
			return err
		}
	}
	j.named = true
	return nil
}

// Append implements [Journal]. A record that is not durable survives a kill of the
// process, not a loss of power. *fsx.DiskFullError and a cancelled ctx mean that it is
// not there.
func (j *fileJournal) Append(ctx context.Context, rec []byte, durable bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := CheckRecord(j.name, rec); err != nil {
		return err
	}
	end, err := j.write(rec)
	if err == nil && durable {
		err = j.syncTo(end)
	}
	if err != nil {
		return fmt.Errorf("journal %s: %w", j.name, err)
	}
	return nil
}

func (j *logFile) write(rec []byte) (end int64, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.usable(); err != nil {
		return 0, err
	}
	j.buf = j.buf[:0]
	if j.size == 0 {
		j.buf = append(j.buf, journalMagic...)
	}
	j.buf = appendFrame(j.buf, j.dir.keys, j.name, j.count, j.synced, rec)
	if _, err := j.f.WriteAt(j.buf, j.size); err != nil {
		// Half a frame may be there: take it back, or trust the file no more.
		if terr := j.f.Truncate(j.size); terr != nil {
			j.failed = errors.Join(err, terr)
		}
		return 0, fsx.Full(j.name, err)
	}
	j.size += int64(len(j.buf))
	j.count++
	j.first = nil
	return j.size, nil
}

func (j *logFile) usable() error {
	switch {
	case j.failed != nil:
		return fmt.Errorf("the file is in doubt after an earlier error; close and reopen the journal: %w", j.failed)
	case j.f == nil:
		return errClosed
	}
	return nil
}

// syncTo returns when the first end bytes are durable. Whoever waits for a
// running sync is mostly covered by the next one, so n appends cost two syncs.
func (j *logFile) syncTo(end int64) error {
	j.syncMu.Lock()
	defer j.syncMu.Unlock()
	j.mu.Lock()
	size, synced, err := j.size, j.synced, j.usable()
	if synced >= end {
		err = nil
	}
	f := j.f
	j.mu.Unlock()
	if err != nil || synced >= end {
		return err
	}
	err = j.sync(f)
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil {
		// After a failed sync the pages may be dropped and still look clean: the
		// file is not written again before it was read anew.
		j.failed = err
		return fsx.Full(j.name, err)
	}
	j.synced = size
	return nil
}

// ReadAll implements [Journal].
func (j *fileJournal) ReadAll(ctx context.Context) ([][]byte, error) {
	j.mu.Lock()
	l, err := j.read()
	j.mu.Unlock()
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("journal %s: %w", j.name, err)
	}
	return j.dir.records(ctx, j.name, l)
}

// read gives the log as it stands. j.mu is held.
func (j *logFile) read() (content, error) {
	if j.first != nil {
		return *j.first, nil
	}
	if j.f == nil {
		return content{}, errClosed
	}
	data := make([]byte, j.size)
	if n, err := j.f.ReadAt(data, 0); n < len(data) {
		return content{}, err
	}
	return scan(j.dir.keys, j.name, data)
}

// records gives those of the sealed part and those of the log.
func (d *Dir) records(ctx context.Context, name string, c content) ([][]byte, error) {
	return AllRecords(ctx, d, name, c.sealed.Hash, c.sealed.N, c.records)
}

// AllRecords gives the first n lines of the blob hash and then rest; rest alone where
// n is 0.
func AllRecords(ctx context.Context, s Store, name, hash string, n int, rest [][]byte) ([][]byte, error) {
	if n == 0 {
		return rest, nil
	}
	whole, err := s.Get(ctx, hash)
	if err != nil {
		return nil, fmt.Errorf("journal %s: %w", name, err)
	}
	out, err := SplitRecords(whole, n)
	if err != nil {
		return nil, fmt.Errorf("journal %s: %w", name, err)
	}
	return append(out, rest...), nil
}

// sealFrom is the size in bytes from which a log is let go for the blob that holds the
// same, packed.
const sealFrom = 32 << 10

// Seal implements [Journal]. The log of a page is replaced by one that names the blob:
// a large incident has thousands of them.
func (j *fileJournal) Seal(ctx context.Context, tail []byte) (string, error) {
	j.syncMu.Lock()
	defer j.syncMu.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	hash, err := j.seal(ctx, tail)
	if err != nil {
		return "", fmt.Errorf("journal %s: %w", j.name, err)
	}
	return hash, nil
}

func (j *logFile) seal(ctx context.Context, tail []byte) (string, error) {
	if err := j.usable(); err != nil {
		return "", err
	}
	l, err := j.read()
	if err != nil {
		return "", err
	}
	records, err := j.dir.records(ctx, j.name, l)
	if err != nil {
		return "", err
	}
	hash, err := j.dir.Put(ctx, JoinRecords(records, tail))
	if err != nil {
		return "", err
	}
	if j.size < sealFrom {
		return hash, nil
	}
	return hash, j.replace(sealedPart{Hash: hash, N: len(records)})
}

// replace puts a log in place of this one that begins with the sealed part. A crash
// leaves the one or the other. j.mu and j.syncMu are held.
func (j *logFile) replace(part sealedPart) (err error) {
	whole, err := sealedLog(j.dir.keys, j.name, part)
	if err != nil {
		return err
	}
	tmp := filepath.Join(filepath.Dir(j.path), fsx.TempName())
	f, err := j.dir.openFile(tmp, j.term == 0) // locked before it has the name
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = fsx.Full(j.path, errors.Join(err, f.Close()))
			_ = os.Remove(tmp) // best effort: readers pass it by
		}
	}()
	if _, err = f.WriteAt(whole, 0); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = os.Rename(tmp, j.path); err != nil {
		return err
	}
	// Whichever of the two a loss of power leaves under the name holds everything.
	old := j.f
	j.f, j.size, j.synced, j.named = f, int64(len(whole)), int64(len(whole)), false
	j.first = &content{sealed: part, good: j.size}
	_ = old.Close() // nothing is in it that is not in the other
	return nil
}

// Close implements [Journal]; the last handle closes the file.
func (j *fileJournal) Close() error {
	var err error
	j.once.Do(func() {
		j.dir.mu.Lock()
		defer j.dir.mu.Unlock()
		if j.refs--; j.refs > 0 {
			return
		}
		delete(j.dir.open, j.key())
		j.syncMu.Lock()
		defer j.syncMu.Unlock()
		j.mu.Lock()
		defer j.mu.Unlock()
		if j.f != nil {
			err, j.f = j.f.Close(), nil
		}
	})
	return err
}
