// Package filestore keeps a secret in a file for the program that uses it, on the
// host where rekey works. What is written replaces what was there at once and as a
// whole: a reader sees the old value or the new one, never a part, and never no file.
//
// The folder belongs to the store alone. A name cannot leave it, by dots or by
// symbolic links: all access goes through an [os.Root].
package filestore

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"time"
)

// maxName bounds a name, and maxFile what is read back.
const (
	maxName = 200
	maxFile = 1 << 20
)

// Errors of a [Store]. None holds what was to be written.
var (
	// ErrName: the name cannot be one of a file in the store.
	ErrName = errors.New("a name of a stored secret is made of letters, digits, dots, dashes and underscores, in parts divided by slashes; no part begins with a dot")
	// ErrDir: the folder is not there or not ours alone.
	ErrDir = errors.New("the folder of the store must exist, belong to rekey's user, and be writable by nobody else")
	// ErrMode: a mode that lets others read.
	ErrMode = errors.New("the mode of a stored secret is 0600, or 0640 for readers of the folder's group")
)

// A Store is one folder.
type Store struct {
	dir  string
	mode fs.FileMode
}

// Open makes the store of a folder that exists. Mode is 0600 ("" too), or 0640,
// with which the folder's group reads: give the folder to that group and set its
// set-group-id bit, so that files inherit it.
func Open(dir, mode string) (*Store, error) {
	s := &Store{dir: dir, mode: 0o600}
	switch mode {
	case "", "0600", "600":
	case "0640", "640":
		s.mode = 0o640
	default:
		return nil, ErrMode
	}
	if !path.IsAbs(dir) {
		return nil, errors.New("the folder of the store must be an absolute path")
	}
	return s, nil
}

var partForm = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]*$`)

// CheckName refuses what cannot be a file of a store. It needs no folder.
func CheckName(name string) error {
	if name == "" || len(name) > maxName {
		return ErrName
	}
	for part := range strings.SplitSeq(name, "/") {
		if !partForm.MatchString(part) {
			return ErrName
		}
	}
	return nil
}

// Write replaces the file of that name. It tells whether anything had to be written:
// a file that holds the same bytes with the same mode is left as it is, so the same
// call again changes nothing. After it returned nil, the file is on the disk.
func (s *Store) Write(name string, content []byte) (changed bool, err error) {
	root, err := s.root(name)
	if err != nil {
		return false, err
	}
	defer func() { _ = root.Close() }()
	if old, mode, err := read(root, name); err == nil {
		same := bytes.Equal(old, content) && mode == s.mode
		clear(old)
		if same {
			return false, nil
		}
	}
	if dir := path.Dir(name); dir != "." {
		if err := s.folder(root, dir); err != nil {
			return false, failed("make the folder of", name)
		}
	}
	var tag [8]byte
	_, _ = rand.Read(tag[:]) // never fails, crypto/rand
	temp := path.Join(path.Dir(name), "."+path.Base(name)+"."+hex.EncodeToString(tag[:]))
	if err := put(root, temp, content, s.mode); err != nil {
		_ = root.Remove(temp)
		return false, failed("write", name)
	}
	if err := root.Rename(temp, name); err != nil {
		_ = root.Remove(temp)
		return false, failed("replace", name)
	}
	if err := syncDir(root, path.Dir(name)); err != nil {
		return false, failed("make durable", name)
	}
	sweep(root, name)
	return true, nil
}

// Read gives what is stored under the name; fs.ErrNotExist where nothing is.
func (s *Store) Read(name string) ([]byte, error) {
	root, err := s.root(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	b, _, err := read(root, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fs.ErrNotExist
	case err != nil:
		return nil, failed("read", name)
	}
	return b, nil
}

func (s *Store) root(name string) (*os.Root, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	info, err := os.Lstat(s.dir)
	if err != nil || !info.IsDir() || info.Mode().Perm()&0o022 != 0 {
		return nil, ErrDir
	}
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return nil, ErrDir
	}
	return root, nil
}

// folder makes the folders of a name that are not there yet, with the rights that go
// with the store's mode, whatever the umask says. Those that are there stay as they are.
func (s *Store) folder(root *os.Root, dir string) error {
	mode := fs.FileMode(0o700)
	if s.mode == 0o640 {
		mode = 0o750 | fs.ModeSetgid // files below inherit the group
	}
	at := ""
	for part := range strings.SplitSeq(dir, "/") {
		at = path.Join(at, part)
		err := root.Mkdir(at, mode.Perm())
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err == nil {
			err = root.Chmod(at, mode)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func put(root *os.Root, name string, content []byte, mode fs.FileMode) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Chmod(mode) // whatever the umask says
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func read(root *os.Root, name string) ([]byte, fs.FileMode, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, 0, errors.Join(err, fs.ErrInvalid)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	return b, info.Mode().Perm(), err
}

func syncDir(root *os.Root, name string) error {
	d, err := root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// leftover is how old a file of a write must be to be of one that was cut short.
const leftover = time.Minute

// sweep removes what a write that was cut short left of this name: it holds a value
// that nobody is to read. Younger files may be of a write that goes on.
func sweep(root *os.Root, name string) {
	dir, err := root.Open(path.Dir(name))
	if err != nil {
		return
	}
	defer func() { _ = dir.Close() }()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return
	}
	for _, n := range names {
		rest, ok := strings.CutPrefix(n, "."+path.Base(name)+".")
		if _, err := hex.DecodeString(rest); !ok || err != nil || len(rest) != 16 {
			continue
		}
		at := path.Join(path.Dir(name), n)
		if info, err := root.Lstat(at); err == nil && time.Since(info.ModTime()) > leftover {
			_ = root.Remove(at)
		}
	}
}

// failed names the file and not the system's words, which may hold other paths.
func failed(what, name string) error {
	return fmt.Errorf("cannot %s %s in the store: check the folder's owner, its mode and the space on its disk", what, name)
}
