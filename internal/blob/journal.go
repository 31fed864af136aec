package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"rekey/internal/fsx"
)

// ErrSealed: the journal is closed for good; its content is a blob.
var ErrSealed = errors.New("journal is sealed: nothing more can be appended; use a journal of another name")

// errClosed: this handle is closed.
var errClosed = errors.New("journal is closed")

var segmentRE = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)

// A Journal is an append-only log of encrypted records: what a batch intends and
// what came of it. Handles of one name in one process share the log, so that an
// old attempt that still runs and a new one see the same. Another process is
// refused; where processes follow each other by terms, see [Dir.OpenJournalTerm].
// It is safe for concurrent use.
type Journal struct {
	*journal
	once sync.Once
}

type journal struct {
	dir  *Dir
	name string
	term uint64 // 0: one process holds the store
	path string
	refs int // guarded by dir.mu

	mu      sync.Mutex // order of records
	f       file
	size    int64
	count   int
	records [][]byte
	hash    string // once sealed
	failed  error  // once the file is in doubt

	syncMu sync.Mutex // one sync at a time; who waits finds itself covered
	synced int64      // guarded by mu
}

// OpenJournal opens or makes the journal name: segments of letters, digits, dot,
// dash and underscore, parted by slashes, at most 200 bytes. The torn tail of a
// crash is cut off. It fails with *JournalCorruptError on damage. Close it.
func (d *Dir) OpenJournal(name string) (*Journal, error) {
	log, err := d.journalPath(name, ".log")
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := os.Lstat(strings.TrimSuffix(log, ".log") + termDir); err == nil {
		return nil, fmt.Errorf("open journal %s: %w", name, &FencedError{Name: name})
	}
	return d.share(&journal{dir: d, name: name, path: log})
}

// share gives a handle of a log, opened once in this process. d.mu is held.
func (d *Dir) share(j *journal) (*Journal, error) {
	open, ok := d.open[j.key()]
	if !ok {
		if err := j.load(j.path); err != nil {
			return nil, fmt.Errorf("open journal %s: %w", j.name, err)
		}
		open, d.open[j.key()] = j, j
	}
	open.refs++
	return &Journal{journal: open}, nil
}

func (j *journal) key() string { return fmt.Sprintf("%s\x00%d", j.name, j.term) }

// journalPath maps a name to one file name: '/' becomes '+', which no segment has.
func (d *Dir) journalPath(name, ext string) (string, error) {
	if len(name) > 200 {
		return "", errors.New("journal names have at most 200 bytes")
	}
	for segment := range strings.SplitSeq(name, "/") {
		if !segmentRE.MatchString(segment) {
			return "", fmt.Errorf("%q is not a journal name: use segments of letters, digits, dot, dash, underscore, parted by slashes", name)
		}
	}
	return filepath.Join(d.root, "journals", strings.ReplaceAll(name, "/", "+")+ext), nil
}

// load opens the file, cuts a torn tail and syncs, so that what ReadAll gives is
// durable.
func (j *journal) load(path string) (err error) {
	if j.hash, err = j.dir.sealedHash(j.name); err != nil {
		return err
	}
	if j.hash != "" { // a crash between marker and removal
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	openLog := j.dir.openFile
	if j.term > 0 {
		openLog = openUnlocked
	}
	if j.f, err = openLog(path); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, j.f.Close())
		}
	}()
	length, err := j.f.Size()
	if err != nil {
		return err
	}
	data, err := io.ReadAll(io.NewSectionReader(j.f, 0, length))
	if err != nil {
		return err
	}
	if j.records, j.size, err = scan(j.dir.keys, j.name, data); err != nil {
		return err
	}
	j.count = len(j.records)
	if j.size == 0 {
		if _, err = j.f.WriteAt([]byte(journalMagic), 0); err != nil {
			return fsx.Full(path, err)
		}
		j.size = int64(len(journalMagic))
	}
	if err = j.f.Truncate(j.size); err != nil {
		return err
	}
	if err = j.f.Sync(); err != nil {
		return err
	}
	j.synced = j.size
	return fsx.SyncDir(filepath.Dir(path))
}

func (d *Dir) sealedHash(name string) (string, error) {
	path, err := d.journalPath(name, ".sealed")
	if err != nil {
		return "", err
	}
	text, err := fsx.ReadPrivate(path, 256)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if hash := strings.TrimSuffix(string(text), "\n"); ValidHash(hash) {
		return hash, nil
	}
	return "", &JournalCorruptError{Name: name}
}

// Append writes rec, at most MaxRecord bytes, as the next record. It survives a
// kill of the process when Append returns, and a loss of power too when durable:
// concurrent durable appends share one sync. After an error the record may be
// there or not; *fsx.DiskFullError and a cancelled ctx mean it is not, and
// appending can be tried again.
func (j *Journal) Append(ctx context.Context, rec []byte, durable bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(rec) > MaxRecord {
		return fmt.Errorf("journal %s: a record of %d bytes is larger than %d: put its content into the blob store and record the hash", j.name, len(rec), MaxRecord)
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

func (j *journal) write(rec []byte) (end int64, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.usable(); err != nil {
		return 0, err
	}
	frame := appendFrame(nil, j.dir.keys, j.name, j.count, j.synced, rec)
	if _, err := j.f.WriteAt(frame, j.size); err != nil {
		// Half a frame may be there: take it back, or trust the file no more.
		if terr := j.f.Truncate(j.size); terr != nil {
			j.failed = errors.Join(err, terr)
		}
		return 0, fsx.Full(j.name, err)
	}
	j.size += int64(len(frame))
	j.count++
	j.records = append(j.records, append(make([]byte, 0, len(rec)), rec...))
	return j.size, nil
}

func (j *journal) usable() error {
	switch {
	case j.hash != "":
		return ErrSealed
	case j.failed != nil:
		return fmt.Errorf("the file is in doubt after an earlier error; close and reopen the journal: %w", j.failed)
	case j.f == nil:
		return errClosed
	}
	return nil
}

// syncTo returns when the first end bytes are durable. Whoever waits for a
// running sync is mostly covered by the next one, so n appends cost two syncs.
func (j *journal) syncTo(end int64) error {
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
	err = f.Sync()
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

// ReadAll returns every record, in order, also those not durable yet. The caller
// must not change them.
func (j *Journal) ReadAll(ctx context.Context) ([][]byte, error) {
	j.mu.Lock()
	hash, records := j.hash, j.records[:len(j.records):len(j.records)]
	j.mu.Unlock()
	if hash == "" {
		return records, ctx.Err()
	}
	return ReadJournal(ctx, j.dir, hash)
}

// ReadJournal returns the records of a sealed journal by its hash.
func ReadJournal(ctx context.Context, s Store, hash string) ([][]byte, error) {
	content, err := s.Get(ctx, hash)
	if err != nil {
		return nil, err
	}
	return UnpackJournal(content)
}

// Seal puts the records into the blob store as one blob and closes the journal
// for appending, for every handle and for good. It returns the blob's hash; the
// same one again when called again, also after a crash or restart.
func (j *Journal) Seal(ctx context.Context) (string, error) {
	j.syncMu.Lock()
	defer j.syncMu.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.hash != "" {
		return j.hash, nil
	}
	if err := j.usable(); err != nil {
		return "", fmt.Errorf("journal %s: %w", j.name, err)
	}
	hash, err := j.dir.Put(ctx, packRecords(j.records))
	if err != nil {
		return "", fmt.Errorf("journal %s: %w", j.name, err)
	}
	marker, err := j.dir.journalPath(j.name, ".sealed")
	if err != nil {
		return "", err
	}
	if err := j.dir.write(marker, []byte(hash+"\n")); err != nil {
		return "", fmt.Errorf("journal %s: %w", j.name, fsx.Full(marker, err))
	}
	j.hash, j.records = hash, nil
	// From here the marker counts; what is left of the log goes now or at the
	// next opening.
	if err := os.Remove(j.path); err != nil {
		return "", fmt.Errorf("journal %s: %w", j.name, err)
	}
	return hash, nil
}

// Close releases the handle; the last one closes the file. Idempotent.
func (j *Journal) Close() error {
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
