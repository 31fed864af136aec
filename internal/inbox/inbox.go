// Package inbox keeps requests from outside between "accepted" and "done": durable
// before they are acknowledged, taken once, and forgotten when they are done.
//
// One request is one file, named by a hash of what was asked, so that making the
// file is also the check against repeats: it fails for the second one, in whichever
// process that shares the directory. The content is encrypted with the payload
// codec's key (a request may hold a secret that somebody typed) and is cut away
// when the request is done; the empty file stays as the memory of the repeat check
// until [Inbox.Clean]. Who works on an entry holds a lock on its file, which ends
// with its process: after a crash the entry is simply there again.
//
// Locks are flock(2): processes on one host, or on hosts whose shared file system
// carries them (Linux NFS does). Without, an entry may be worked on twice, which the
// work must bear anyhow.
package inbox

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"rekey/internal/codec/keyring"
	"rekey/internal/fsx"
)

// ErrTwice says that the very same request was accepted before.
var ErrTwice = errors.New("inbox: this request was taken before")

const (
	magic     = "rekeyi1\n"
	maxEntry  = 1 << 20
	suffix    = ".req"
	onceAfter = ".mark-"
)

var nameRE = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{7,95}$`)

// An Inbox is a directory of entries. It is safe for concurrent use.
type Inbox struct {
	dir  string
	keys *keyring.Keyring
}

// Open makes dir where it is missing (0700).
func Open(dir string, keys *keyring.Keyring) (*Inbox, error) {
	if keys == nil {
		return nil, errors.New("inbox: no keys")
	}
	if err := fsx.MkdirPrivate(dir); err != nil {
		return nil, fmt.Errorf("inbox: %w", err)
	}
	return &Inbox{dir: dir, keys: keys}, nil
}

func (b *Inbox) path(name string) string { return filepath.Join(b.dir, name+suffix) }

// Put keeps content under name, durably, before it returns. It fails with ErrTwice
// when there is or was an entry of that name. A name is 8 to 96 of a-z, 0-9 and dash.
func (b *Inbox) Put(name string, content []byte) error {
	if !nameRE.MatchString(name) || len(content) == 0 || len(content) > maxEntry {
		return errors.New("inbox: a bad name, or no content, or too much")
	}
	id, sealed := b.keys.Seal(keyring.Inbox, name, content)
	err := fsx.CreateExclusive(b.path(name), []byte(magic+id+"\n"+string(sealed)))
	if errors.Is(err, fs.ErrExist) {
		return ErrTwice
	}
	return err
}

// Pending lists the entries that are not done, whoever works on them.
func (b *Inbox) Pending() ([]string, error) {
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		return nil, fmt.Errorf("inbox: %w", err)
	}
	var out []string
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), suffix)
		if !ok || !nameRE.MatchString(name) {
			continue
		}
		if info, err := e.Info(); err == nil && info.Size() > 0 {
			out = append(out, name)
		}
	}
	return out, nil
}

// Waits tells whether there is an entry of that name that is not done.
func (b *Inbox) Waits(name string) bool {
	info, err := os.Stat(b.path(name))
	return nameRE.MatchString(name) && err == nil && info.Size() > 0
}

// An Entry is a request that is being worked on. Close it.
type Entry struct {
	Name    string
	Content []byte
	f       *os.File
}

// Take gives an entry to work on; nil when there is none, when it is done, or when
// somebody else works on it. An entry that does not open (its codec key is missing,
// or the file was changed) is an error and stays.
func (b *Inbox) Take(name string) (*Entry, error) {
	if !nameRE.MatchString(name) {
		return nil, nil
	}
	f, err := os.OpenFile(b.path(name), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("inbox: %w", err)
	}
	e := &Entry{Name: name, f: f}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		e.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, nil
		}
		return nil, fmt.Errorf("inbox: %w", err)
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxEntry+512))
	if err != nil || len(raw) == 0 {
		e.Close()
		return nil, err
	}
	rest, ok := strings.CutPrefix(string(raw), magic)
	id, sealed, ok2 := strings.Cut(rest, "\n")
	if !ok || !ok2 {
		e.Close()
		return nil, &keyring.CorruptError{ID: "?"}
	}
	if e.Content, err = b.keys.Open(keyring.Inbox, id, name, []byte(sealed)); err != nil {
		e.Close()
		return nil, fmt.Errorf("inbox: %w", err)
	}
	return e, nil
}

// Done forgets the content, durably; the name stays taken. Idempotent.
func (e *Entry) Done() error {
	clear(e.Content)
	if err := e.f.Truncate(0); err != nil {
		return fsx.Full(e.f.Name(), err)
	}
	return e.f.Sync()
}

// Close gives the entry back, when it is not done to be taken again.
func (e *Entry) Close() {
	clear(e.Content)
	_ = e.f.Close() // the lock goes with it; what had to be durable was synced
}

// First tells the first caller for this mark of an entry from all others, in all
// processes and lives. An error tells nobody.
func (b *Inbox) First(name, mark string) (bool, error) {
	if !nameRE.MatchString(name) || !nameRE.MatchString("mark-of-"+mark) {
		return false, errors.New("inbox: a bad name")
	}
	err := fsx.CreateExclusive(filepath.Join(b.dir, name+onceAfter+mark), nil)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, err
}

// Clean removes what is done and was made before then, and the marks and unfinished
// files of that age. Entries that are not done stay.
func (b *Inbox) Clean(before time.Time) error {
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		return fmt.Errorf("inbox: %w", err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || !info.ModTime().Before(before) {
			continue
		}
		if name, _, ok := strings.Cut(e.Name(), onceAfter); ok { // a mark lives as long as its entry
			if i, err := os.Stat(b.path(name)); err == nil && i.Size() > 0 {
				continue
			}
		} else if !fsx.IsTemp(e.Name()) && info.Size() > 0 {
			continue
		}
		if err := os.Remove(filepath.Join(b.dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("inbox: %w", err)
		}
	}
	return nil
}
