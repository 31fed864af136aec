package audit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// A bundle is a zip of one form only (PKWARE APPNOTE 6.3): names in ascending
// order, every entry stored, one fixed time, no extra field, no comment, no gap.
// Entries are not compressed, because then a bundle's bytes do not depend on the
// version of a compressor, a changed bit cannot hide in its padding, and there is
// no zip bomb; chapters are gzip files and never opened by the verifier. What does
// not look exactly like this has been tampered with.
const (
	localSig   = 0x04034b50
	centralSig = 0x02014b50
	endSig     = 0x06054b50
	localLen   = 30
	centralLen = 46
	endLen     = 22

	// Without zip64 a zip ends at 4 GiB and 65,535 entries.
	maxBundle = 1<<32 - 1
	maxFiles  = 1<<16 - 1

	zipVersion = 10     // "default value": stored files
	madeBy     = 0x0314 // UNIX, so that the mode below counts
	fileMode   = 0o100644 << 16
	dosDate    = 0x0021 // 1980-01-01, the earliest
)

// An entry is one file of the container.
type entry struct {
	name   string
	crc    uint32
	size   int64
	offset int64 // of the local header
}

func (e entry) data() int64 { return e.offset + localLen + int64(len(e.name)) }
func (e entry) end() int64  { return e.data() + e.size }

func (e entry) local() []byte {
	b := make([]byte, 0, localLen+len(e.name))
	b = binary.LittleEndian.AppendUint32(b, localSig)
	b = e.common(b)
	return append(b, e.name...)
}

// common are the fields that both headers have, up to the length of the extra
// field.
func (e entry) common(b []byte) []byte {
	b = binary.LittleEndian.AppendUint16(b, zipVersion)
	b = binary.LittleEndian.AppendUint16(b, 0) // flags
	b = binary.LittleEndian.AppendUint16(b, 0) // method: stored
	b = binary.LittleEndian.AppendUint16(b, 0) // time
	b = binary.LittleEndian.AppendUint16(b, dosDate)
	b = binary.LittleEndian.AppendUint32(b, e.crc)
	b = binary.LittleEndian.AppendUint32(b, uint32(e.size))      //nolint:gosec // bounded by maxBundle
	b = binary.LittleEndian.AppendUint32(b, uint32(e.size))      //nolint:gosec // bounded by maxBundle
	b = binary.LittleEndian.AppendUint16(b, uint16(len(e.name))) //nolint:gosec // bounded by the limits checked before
	return binary.LittleEndian.AppendUint16(b, 0)
}

func (e entry) central() []byte {
	b := make([]byte, 0, centralLen+len(e.name))
	b = binary.LittleEndian.AppendUint32(b, centralSig)
	b = binary.LittleEndian.AppendUint16(b, madeBy)
	b = e.common(b)
	b = append(b, 0, 0, 0, 0, 0, 0) // comment, disk, internal attributes
	b = binary.LittleEndian.AppendUint32(b, fileMode)
	b = binary.LittleEndian.AppendUint32(b, uint32(e.offset)) //nolint:gosec // bounded by maxBundle
	return append(b, e.name...)
}

func endRecord(files int, size, offset int64) []byte {
	b := make([]byte, 0, endLen)
	b = binary.LittleEndian.AppendUint32(b, endSig)
	b = append(b, 0, 0, 0, 0)                               // disks
	b = binary.LittleEndian.AppendUint16(b, uint16(files))  //nolint:gosec // bounded by the limits checked before
	b = binary.LittleEndian.AppendUint16(b, uint16(files))  //nolint:gosec // bounded by the limits checked before
	b = binary.LittleEndian.AppendUint32(b, uint32(size))   //nolint:gosec // bounded by maxBundle
	b = binary.LittleEndian.AppendUint32(b, uint32(offset)) //nolint:gosec // bounded by maxBundle
	return append(b, 0, 0)
}

// A source is the content of one entry to write.
type source struct {
	name string
	size int64
	crc  uint32
	body func() io.Reader
}

func bytesSource(name string, b []byte) source {
	return source{name, int64(len(b)), crc32.ChecksumIEEE(b), func() io.Reader { return bytes.NewReader(b) }}
}

// writeContainer writes files, which are sorted by name.
func writeContainer(w io.Writer, files []source) error {
	if len(files) > maxFiles {
		return fmt.Errorf("a bundle holds at most %d files, this one would have %d: use larger pages", maxFiles, len(files))
	}
	var offset int64
	entries := make([]entry, len(files))
	for i, f := range files {
		entries[i] = entry{f.name, f.crc, f.size, offset}
		offset = entries[i].end()
	}
	var directory []byte
	for _, e := range entries {
		directory = append(directory, e.central()...)
	}
	if total := offset + int64(len(directory)) + endLen; total > maxBundle {
		return fmt.Errorf("a bundle has at most 4 GiB, this one would have %d bytes: leave pages out and list them in outside.json", total)
	}
	for i, f := range files {
		if _, err := w.Write(entries[i].local()); err != nil {
			return err
		}
		n, err := io.Copy(w, io.LimitReader(f.body(), f.size))
		if err != nil {
			return err
		}
		if n != f.size {
			return fmt.Errorf("%s: %d bytes of %d", f.name, n, f.size)
		}
	}
	if _, err := w.Write(directory); err != nil {
		return err
	}
	_, err := w.Write(endRecord(len(entries), int64(len(directory)), offset))
	return err
}

// errNotZip says that neither the head nor the tail looks like a bundle.
var errNotZip = errors.New("not a zip file")

// readContainer finds the entries and every byte outside of their content that is
// not as [writeContainer] writes it. Entries are given even when there are faults,
// as far as they could be found.
func readContainer(r io.ReaderAt, size int64) ([]entry, []Fault, error) {
	head := make([]byte, 4)
	_, headErr := r.ReadAt(head, 0)
	tail := readAt(r, size-endLen, endLen, size)
	hasHead := headErr == nil && binary.LittleEndian.Uint32(head) == localSig
	hasTail := len(tail) == endLen && binary.LittleEndian.Uint32(tail) == endSig
	if !hasHead && !hasTail {
		return nil, nil, errNotZip
	}
	entries, ok := fromDirectory(r, size, tail)
	if !ok {
		entries = fromHeaders(r, size)
	}
	return entries, checkLayout(r, size, entries), nil
}

// fromDirectory reads the entries from the directory, and takes them only when
// they lie one after the other from the first byte to the directory.
func fromDirectory(r io.ReaderAt, size int64, tail []byte) ([]entry, bool) {
	if len(tail) != endLen || binary.LittleEndian.Uint32(tail) != endSig {
		return nil, false
	}
	count := int(binary.LittleEndian.Uint16(tail[10:]))
	length := int64(binary.LittleEndian.Uint32(tail[12:]))
	start := int64(binary.LittleEndian.Uint32(tail[16:]))
	if start+length != size-endLen || length > int64(count)*(centralLen+maxName) {
		return nil, false
	}
	dir := readAt(r, start, length, size)
	entries := make([]entry, 0, count)
	var offset int64
	for len(dir) >= centralLen {
		n := int64(binary.LittleEndian.Uint16(dir[28:]))
		if binary.LittleEndian.Uint32(dir) != centralSig || n > maxName || centralLen+n > int64(len(dir)) {
			return nil, false
		}
		e := entry{
			name:   string(dir[centralLen : centralLen+n]),
			crc:    binary.LittleEndian.Uint32(dir[16:]),
			size:   int64(binary.LittleEndian.Uint32(dir[24:])),
			offset: int64(binary.LittleEndian.Uint32(dir[42:])),
		}
		if e.offset != offset {
			return nil, false
		}
		offset = e.end()
		entries = append(entries, e)
		dir = dir[centralLen+n:]
	}
	return entries, len(dir) == 0 && offset == start && len(entries) == count
}

// fromHeaders walks the entries from the first byte on, which works where the end
// is lost.
func fromHeaders(r io.ReaderAt, size int64) []entry {
	var entries []entry
	var offset int64
	for len(entries) < maxFiles {
		head := readAt(r, offset, localLen, size)
		if len(head) < localLen || binary.LittleEndian.Uint32(head) != localSig {
			break
		}
		n := int64(binary.LittleEndian.Uint16(head[26:]))
		name := readAt(r, offset+localLen, min(n, maxName), size)
		e := entry{
			name:   string(name),
			crc:    binary.LittleEndian.Uint32(head[14:]),
			size:   int64(binary.LittleEndian.Uint32(head[22:])),
			offset: offset,
		}
		entries = append(entries, e)
		if int64(len(name)) < n || e.end() > size {
			break
		}
		offset = e.end()
	}
	return entries
}

// checkLayout compares every byte that is not content with what it must be.
func checkLayout(r io.ReaderAt, size int64, entries []entry) []Fault {
	var faults []Fault
	var offset int64
	var directory []byte
	seen := make(map[string]bool, len(entries))
	for i, e := range entries {
		switch {
		case seen[e.name]:
			faults = append(faults, Fault{Code: ManifestDiffers, File: e.name, Detail: "the name is there twice"})
		case !validName(e.name):
			faults = append(faults, Fault{Code: ManifestDiffers, File: quoteName(e.name), Detail: "not a name that a bundle may hold"})
		case i > 0 && entries[i-1].name > e.name:
			faults = append(faults, Fault{Code: ManifestDiffers, File: e.name, Detail: "entries are not in the order of their names"})
		}
		seen[e.name] = true
		faults = append(faults, compareAt(r, e.offset, e.local(), size, quoteName(e.name), "header of the entry")...)
		if e.end() > size {
			return append(faults, Fault{Code: Truncated, File: quoteName(e.name), Detail: fmt.Sprintf("the file ends at byte %d, inside of this entry", size)})
		}
		directory = append(directory, e.central()...)
		offset = e.end()
	}
	if len(entries) == 0 {
		return append(faults, Fault{Code: Truncated, Detail: fmt.Sprintf("the file ends at byte %d and no entry of it can be read", size)})
	}
	want := append(directory, endRecord(len(entries), int64(len(directory)), offset)...)
	switch rest := size - offset; {
	case rest < int64(len(want)):
		detail := fmt.Sprintf("the file ends at byte %d, its directory would end at %d", size, offset+int64(len(want)))
		return append(faults, Fault{Code: Truncated, Detail: detail})
	case rest > int64(len(want)):
		detail := fmt.Sprintf("%d bytes that belong to no entry from byte %d on", rest-int64(len(want)), offset)
		faults = append(faults, Fault{Code: ManifestDiffers, Detail: detail})
	}
	return append(faults, compareAt(r, offset, want, size, "", "directory of the zip")...)
}

// compareAt names the first byte at offset that is not as in want.
func compareAt(r io.ReaderAt, offset int64, want []byte, size int64, file, what string) []Fault {
	have := readAt(r, offset, int64(len(want)), size)
	if bytes.Equal(have, want) {
		return nil
	}
	for i := range want {
		if i >= len(have) {
			return []Fault{{Code: Truncated, File: file, Detail: fmt.Sprintf("%s ends at byte %d", what, offset+int64(i))}}
		}
		if have[i] != want[i] {
			return []Fault{{Code: ManifestDiffers, File: file, Detail: fmt.Sprintf("%s differs at byte %d", what, offset+int64(i))}}
		}
	}
	return nil
}

// readAt reads up to n bytes at offset; it gives less where the file ends.
func readAt(r io.ReaderAt, offset, n, size int64) []byte {
	if offset < 0 || n < 0 || offset >= size {
		return nil
	}
	b := make([]byte, min(n, size-offset))
	got, err := r.ReadAt(b, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return b[:0]
	}
	return b[:got]
}
