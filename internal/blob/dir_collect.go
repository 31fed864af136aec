package blob

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"rekey/internal/fsx"
)

var _ Collectable = (*Dir)(nil)

// maxName bounds a document.
const maxName = 256 << 20

func (d *Dir) namePath(name string) (string, error) {
	if err := CheckJournalName(name); err != nil {
		return "", err
	}
	if first, _, _ := strings.Cut(name, "/"); first == "sha256" || first == "journals" {
		return "", fmt.Errorf("%q is not a name of a document", name)
	}
	return filepath.Join(d.root, filepath.FromSlash(name)), nil
}

// WriteName implements [Names].
func (d *Dir) WriteName(ctx context.Context, name string, content []byte) error {
	path, err := d.namePath(name)
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = d.place(path, content)
	}
	if err != nil {
		return fmt.Errorf("blob store: %w", err)
	}
	return nil
}

// ReadName implements [Names].
func (d *Dir) ReadName(ctx context.Context, name string) ([]byte, error) {
	path, err := d.namePath(name)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	return fsx.ReadPrivate(path, maxName)
}

// EachName implements [Names].
func (d *Dir) EachName(ctx context.Context, prefix string, f func(name string) error) error {
	root, err := d.namePath(prefix)
	if err != nil {
		return err
	}
	return walk(ctx, root, func(path string, _ fs.FileInfo) error {
		rel, err := filepath.Rel(d.root, path)
		if err != nil {
			return err
		}
		return f(filepath.ToSlash(rel))
	})
}

// walk gives the finished files below root, sorted. One that goes meanwhile is passed by.
func walk(ctx context.Context, root string, f func(path string, info fs.FileInfo) error) error {
	return filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || e.IsDir() || fsx.IsTemp(e.Name()) {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return f(path, info)
	})
}

func (d *Dir) age(info fs.FileInfo) time.Duration { return max(0, d.now().Sub(info.ModTime())) }

// keep makes a blob that is there durable and, if it is not fresh, young.
func (d *Dir) keep(ctx context.Context, path string, stored func() []byte) error {
	info, err := os.Lstat(path)
	if err == nil && d.age(info) < Fresh {
		// The writer may have crashed before its name was durable.
		return fsx.SyncDir(filepath.Dir(path))
	}
	if err == nil {
		now := d.now()
		err = os.Chtimes(path, now, now)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return d.outlive(ctx, path, stored)
}

// outlive makes sure that a file which a collector may have looked at before it was
// put again is there when that one has finished.
func (d *Dir) outlive(ctx context.Context, path string, stored func() []byte) error {
	for {
		unlock, err := d.Lock(ctx, SweepLock)
		if err != nil {
			return err
		}
		unlock()
		if _, err := os.Lstat(path); err == nil {
			return fsx.SyncDir(filepath.Dir(path))
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := d.place(path, stored()); err != nil {
			return err
		}
	}
}

// EachBlob implements [Collectable].
func (d *Dir) EachBlob(ctx context.Context, f func(Stored) error) error {
	root := filepath.Join(d.root, "sha256")
	return walk(ctx, root, func(path string, info fs.FileInfo) error {
		hash := hashPrefix + filepath.Base(filepath.Dir(path)) + filepath.Base(path)
		if !ValidHash(hash) {
			return fmt.Errorf("%s is not a blob: move it away", path)
		}
		return f(Stored{Hash: hash, Size: info.Size(), Age: d.age(info)})
	})
}

// RemoveBlobs implements [Collectable].
func (d *Dir) RemoveBlobs(ctx context.Context, hashes []string, age time.Duration) ([]Stored, error) {
	if age <= Fresh {
		return nil, fmt.Errorf("blob store: blobs younger than %s are never removed", Fresh)
	}
	unlock, err := d.Lock(ctx, SweepLock)
	if err != nil {
		return nil, err
	}
	defer unlock()
	var out []Stored
	for _, hash := range hashes {
		path, err := d.path(hash)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return out, err
		}
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) || (err == nil && d.age(info) <= age) {
			continue
		}
		if err == nil {
			err = os.Remove(path)
		}
		if err != nil {
			return out, err
		}
		out = append(out, Stored{Hash: hash, Size: info.Size(), Age: d.age(info)})
	}
	return out, nil
}

// journalFiles are the files of a journal, without its lock.
func (d *Dir) journalFiles(name string) (log, terms string, err error) {
	log, err = d.journalPath(name, ".log")
	return log, strings.TrimSuffix(log, ".log") + termDir, err
}

// EachJournal implements [Collectable].
func (d *Dir) EachJournal(ctx context.Context, f func(name string, age time.Duration) error) error {
	entries, err := os.ReadDir(filepath.Join(d.root, "journals"))
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, e := range entries {
		base, ok := strings.CutSuffix(e.Name(), ".log")
		if !ok {
			base, ok = strings.CutSuffix(e.Name(), termDir)
		}
		if !ok || fsx.IsTemp(e.Name()) || seen[base] {
			continue
		}
		seen[base] = true
		name := strings.ReplaceAll(base, "+", "/")
		age, err := d.journalAge(ctx, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := f(name, age); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// journalAge is that of the youngest file of a journal.
func (d *Dir) journalAge(ctx context.Context, name string) (time.Duration, error) {
	log, terms, err := d.journalFiles(name)
	if err != nil {
		return 0, err
	}
	age := time.Duration(-1)
	for _, root := range []string{log, terms} {
		err := walk(ctx, root, func(_ string, info fs.FileInfo) error {
			if a := d.age(info); age < 0 || a < age {
				age = a
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	if info, err := os.Lstat(terms); age < 0 && err == nil { // made, and its process died
		age = d.age(info)
	}
	if age < 0 {
		return 0, fs.ErrNotExist
	}
	return age, nil
}

// Inspect implements [Collectable].
func (d *Dir) Inspect(ctx context.Context, name string) (Inspected, error) {
	path, dir, err := d.journalFiles(name)
	if err != nil {
		return Inspected{}, err
	}
	all, err := terms(dir)
	if err != nil {
		return Inspected{}, err
	}
	var out Inspected
	if len(all) > 0 {
		last := all[len(all)-1]
		path = filepath.Join(dir, termFile(last))
		if out.Late, err = d.late(ctx, name, dir, all); err != nil {
			return Inspected{}, err
		}
	}
	c, err := d.content(name, path)
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return Inspected{}, err
	}
	out.Sealed = c.sealed.Hash
	out.Records, err = d.records(ctx, name, c)
	return out, err
}

// RemoveJournal implements [Collectable].
func (d *Dir) RemoveJournal(ctx context.Context, name string, age time.Duration) (bool, error) {
	log, terms, err := d.journalFiles(name)
	if err != nil {
		return false, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for key := range d.open {
		if open, _, _ := strings.Cut(key, "\x00"); open == name {
			return false, nil
		}
	}
	have, err := d.journalAge(ctx, name)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && have <= age) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if _, err := os.Lstat(log); err == nil {
		f, err := d.openFile(log, true)
		if errors.Is(err, errLocked) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		defer func() { _ = f.Close() }() // nothing was written
	}
	if err := os.RemoveAll(terms); err != nil {
		return false, err
	}
	if err := os.Remove(log); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return true, nil
}

// Hold implements [Collectable]. A lock on a file is never lost while its process lives.
func (d *Dir) Hold(ctx context.Context, name string) (context.Context, func(), error) {
	unlock, err := d.Lock(ctx, name)
	return context.WithoutCancel(ctx), unlock, err
}

// Tidy implements [Collectable].
func (d *Dir) Tidy(ctx context.Context, age time.Duration) error {
	var left []string
	err := filepath.WalkDir(d.root, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || e.IsDir() || (!strings.HasSuffix(e.Name(), ".lock") && !fsx.IsTemp(e.Name())) {
			return err
		}
		info, err := e.Info()
		if err == nil && d.age(info) > age {
			left = append(left, path)
		}
		return ignoreGone(err)
	})
	for _, path := range left {
		err = errors.Join(err, removeLeft(path))
	}
	return err
}

func removeLeft(path string) error {
	if strings.HasSuffix(path, ".lock") {
		// Removed while it is held: who waits for it finds that the name is another
		// file now, and takes that.
		f, err := openFile(path, true)
		if errors.Is(err, errLocked) {
			return nil
		}
		if err != nil {
			return ignoreGone(err)
		}
		defer func() { _ = f.Close() }() // nothing was written
	}
	return ignoreGone(os.Remove(path))
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
