package playbook

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"rekey/playbooks"
)

// fileName is the name of a playbook inside its folder.
const fileName = "playbook.yaml"

// A Loaded playbook is a parsed one with the bytes it came from.
type Loaded struct {
	Playbook *playbooks.Playbook
	// Source is the file as it was read.
	Source []byte
	// File is where it came from: a path, or "embedded:<name>".
	File string
	// Digest is the [Digest] of Source.
	Digest string
	// Warnings do not forbid its use.
	Warnings Problems
}

// Load reads a playbook by the name of a shipped one, by its file or by its folder.
// What looks like a path is never taken for a name. An invalid playbook is an error
// whose text names every mistake.
func Load(nameOrPath string, opts ...Option) (*Loaded, error) {
	if !strings.ContainsAny(nameOrPath, `/\.`) {
		src, err := fs.ReadFile(playbooks.FS, path.Join(nameOrPath, fileName))
		switch {
		case err == nil:
			return loaded("embedded:"+nameOrPath, fileName, src, append(slices.Clone(opts), InFolder(nameOrPath)))
		case !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("embedded playbook %s: %w", nameOrPath, err)
		}
		if _, err := os.Stat(nameOrPath); err != nil {
			names := Shipped()
			return nil, fmt.Errorf("no playbook %q: %s; or give a path such as ./%s", nameOrPath, suggest(nameOrPath, names), fileName)
		}
	}
	file, own := Locate(nameOrPath)
	src, err := readFile(file)
	if err != nil {
		return nil, err
	}
	return loaded(file, file, src, append(slices.Clone(opts), own...))
}

// Locate gives the file of a path to a playbook or to its folder, and what its
// place says of it: the name is the folder's where the folder is a playbook's own,
// because it was given or stands among playbooks. A single file may lie anywhere.
func Locate(given string) (file string, opts []Option) {
	file, folder := given, false
	if info, err := os.Stat(file); err == nil && info.IsDir() {
		file, folder = filepath.Join(file, fileName), true
	}
	if abs, err := filepath.Abs(file); err == nil && filepath.Base(file) == fileName {
		own := filepath.Dir(abs)
		if folder || filepath.Base(filepath.Dir(own)) == "playbooks" {
			opts = append(opts, InFolder(filepath.Base(own)))
		}
	}
	return file, opts
}

func readFile(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("playbook: %w", err)
	}
	defer func() { _ = f.Close() }()
	// One byte more than allowed, so that Parse can tell.
	src, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("playbook %s: %w", file, err)
	}
	return src, nil
}

func loaded(from, file string, src []byte, opts []Option) (*Loaded, error) {
	pb, problems := Parse(file, src, opts...)
	if pb == nil {
		return nil, problems.Err()
	}
	digest, err := DigestOf(pb)
	if err != nil {
		return nil, err
	}
	return &Loaded{Playbook: pb, Source: src, File: from, Digest: digest, Warnings: problems}, nil
}

// Shipped lists the names of the playbooks in this build, sorted.
func Shipped() []string {
	var out []string
	entries, err := fs.ReadDir(playbooks.FS, ".")
	if err != nil { // an embedded file system has a root
		return nil
	}
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, e.Name())
		}
	}
	return out
}

// Readme gives the README of a shipped playbook.
func Readme(name string) ([]byte, error) {
	b, err := fs.ReadFile(playbooks.FS, path.Join(name, "README.md"))
	if err != nil {
		return nil, fmt.Errorf("no playbook %q: %s", name, suggest(name, Shipped()))
	}
	return b, nil
}

// shipped tells whether a digest is that of the embedded playbook of that name.
func shipped(name, digest string) bool {
	src, err := fs.ReadFile(playbooks.FS, path.Join(name, fileName))
	if err != nil {
		return false
	}
	d, err := Digest(src)
	return err == nil && d == digest
}
