package judge

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	// labDir is the part of a data directory that belongs to the lab (contracts
	// section 3).
	labDir = "lab"
	// maxUnpacked ends what is packed to hide or to harm.
	maxUnpacked = 1 << 30
	// maxNested is how deep archives are opened inside of archives.
	maxNested = 3
)

// secretBytes is G4: no secret bytes in history, logs, notices or export. The data
// directory (the sealed store too: what is encrypted shows nothing), the unpacked
// bundle and the logs are searched for every secret in every form it could be
// written in. A file that cannot be read is not known to be clean.
func (b *bench) secretBytes() ruling {
	if len(b.in.Secrets) == 0 {
		return ruling{absent: "no secrets are known"}
	}
	s := &sweep{finder: newFinder(b.in.Secrets)}
	s.absent = "there was nothing to search"
	if s.finder.empty() {
		s.absent = "every secret is too short to be told from chance"
		return s.ruling
	}
	if n := s.finder.short; n > 0 {
		s.note = fmt.Sprintf("%d secrets are too short to be told from chance", n)
	}
	if b.in.Data != "" {
		s.dir(b.in.Data)
	}
	for _, log := range b.in.Logs {
		s.file(log, "log "+filepath.Base(log))
	}
	if len(b.in.Bundle) > 0 {
		if !s.zip("bundle", b.in.Bundle, 0) {
			s.fault("the bundle cannot be opened, so it is not known to be clean")
		}
	}
	return s.ruling
}

// sweep searches places and keeps what it found.
type sweep struct {
	ruling
	finder *finder
}

func (s *sweep) dir(root string) {
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(root, path)
		switch {
		case errors.Is(err, fs.ErrNotExist) && path != root:
			return nil // a database takes its side files away
		case err != nil:
			return err
		case d.IsDir() && rel == labDir:
			return filepath.SkipDir
		case d.Type().IsRegular():
			s.file(path, filepath.ToSlash(rel))
		}
		return nil
	})
	if err != nil {
		s.fault("the data directory cannot be searched: %v", err)
	}
}

func (s *sweep) file(path, name string) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) && !strings.HasPrefix(name, "log ") {
		return
	}
	if err != nil {
		s.fault("%s cannot be searched: %v", name, err)
		return
	}
	defer func() { _ = f.Close() }()
	var head [4]byte
	n, _ := f.ReadAt(head[:], 0)
	if packed(head[:n]) {
		data, err := io.ReadAll(f)
		if err != nil {
			s.fault("%s cannot be searched: %v", name, err)
			return
		}
		s.bytes(name, data, 0)
		return
	}
	s.stream(name, f)
}

func packed(head []byte) bool {
	return bytes.HasPrefix(head, []byte("PK\x03\x04")) || bytes.HasPrefix(head, []byte{0x1f, 0x8b})
}

// bytes searches data as it is, and unpacked where it is an archive.
func (s *sweep) bytes(name string, data []byte, depth int) {
	s.stream(name, bytes.NewReader(data))
	if depth >= maxNested || !packed(data[:min(len(data), 4)]) {
		return
	}
	if data[0] == 'P' {
		s.zip(name, data, depth)
		return
	}
	if plain, ok := s.unpack(name, func() (io.ReadCloser, error) { return gzip.NewReader(bytes.NewReader(data)) }); ok {
		s.bytes(name+" (unpacked)", plain, depth+1)
	}
}

// zip searches the members of an archive; false when it is none.
func (s *sweep) zip(name string, data []byte, depth int) bool {
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return false
	}
	for _, f := range z.File {
		member := name + "/" + f.Name
		if plain, ok := s.unpack(member, f.Open); ok {
			s.bytes(member, plain, depth+1)
		}
	}
	return true
}

func (s *sweep) unpack(name string, open func() (io.ReadCloser, error)) ([]byte, bool) {
	r, err := open()
	if err != nil {
		return nil, false // not an archive, whatever its first bytes: it was searched as it is
	}
	defer func() { _ = r.Close() }()
	plain, err := io.ReadAll(io.LimitReader(r, maxUnpacked+1))
	if len(plain) > maxUnpacked {
		s.fault("%s unpacks to more than %d bytes and was not searched", name, maxUnpacked)
		return nil, false
	}
	return plain, err == nil || len(plain) > 0
}

func (s *sweep) stream(name string, r io.Reader) {
	s.checked++
	found, err := s.finder.find(r)
	if err != nil {
		s.fault("%s cannot be searched: %v", name, err)
	}
	for _, p := range found {
		s.fault("secret %d of %d is in %s (%s)", p.secret+1, s.finder.secrets, name, p.form)
	}
}
