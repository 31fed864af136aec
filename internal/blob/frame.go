package blob

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"

	"rekey/internal/codec/keyring"
)

// A journal file is journalMagic and then frames:
//
//	4 bytes frameMagic | u32 length of body | u32 CRC-32C of the rest | u64 watermark | body
//
// big-endian. The body is one encrypted record (key id length, key id,
// ciphertext) whose context is the journal's name and the record's number, so a
// record opens only in its own place. The watermark is the file's length that was
// known to be durable when the frame was written: a bad frame at or after the
// last watermark is the torn tail of a crash; one before it is damage.
const (
	journalMagic = "rekeyj1\n"
	frameMagic   = "\xf7rkj"
	frameHead    = 4 + 4 + 4 + 8
	// MaxRecord is the largest journal record in bytes.
	MaxRecord = 1 << 20
	minBody   = 1 + 1 + keyring.Overhead
	maxBody   = 1 + 64 + keyring.Overhead + MaxRecord
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A JournalCorruptError says that a journal is damaged where it was durable. It
// is never mended by itself: an intent may be lost in the damage.
type JournalCorruptError struct {
	Name   string
	Offset int64
}

func (e *JournalCorruptError) Error() string {
	return fmt.Sprintf("journal %s is damaged at byte %d, before what was known to be durable: restore it from backup, or treat every item of this batch as unclear and probe it", e.Name, e.Offset)
}

func recordContext(name string, n int) string { return name + "\x00" + strconv.Itoa(n) }

func appendFrame(dst []byte, keys *keyring.Keyring, name string, n int, watermark int64, rec []byte) []byte {
	head := make([]byte, frameHead)
	frame := sealFrame(keys, keyring.Journal, recordContext(name, n), head, rec)
	copy(frame, frameMagic)
	binary.BigEndian.PutUint32(frame[4:], uint32(len(frame)-frameHead)) //nolint:gosec // bounded by MaxRecord
	binary.BigEndian.PutUint64(frame[12:], uint64(watermark))           //nolint:gosec // a file length is not negative
	binary.BigEndian.PutUint32(frame[8:], crc32.Checksum(frame[12:], castagnoli))
	return append(dst, frame...)
}

// nextFrame cuts the frame at the start of data; ok is false when there is no
// whole, intact one.
func nextFrame(data []byte) (body []byte, watermark int64, size int, ok bool) {
	if len(data) < frameHead+minBody || string(data[:len(frameMagic)]) != frameMagic {
		return nil, 0, 0, false
	}
	n := binary.BigEndian.Uint32(data[4:])
	if n < minBody || n > maxBody || int(n) > len(data)-frameHead {
		return nil, 0, 0, false
	}
	size = frameHead + int(n)
	if binary.BigEndian.Uint32(data[8:]) != crc32.Checksum(data[12:size], castagnoli) {
		return nil, 0, 0, false
	}
	mark := binary.BigEndian.Uint64(data[12:])
	if mark > 1<<62 {
		return nil, 0, 0, false
	}
	return data[frameHead:size], int64(mark), size, true
}

// scan reads a journal file: its records, and the length of the intact part. A
// torn tail is left out. It fails with *JournalCorruptError on damage and with
// *keyring.MissingKeyError when a record's key is not here.
func scan(keys *keyring.Keyring, name string, data []byte) (records [][]byte, good int64, err error) {
	if len(data) < len(journalMagic) { // a crash while the file was made
		if string(data) != journalMagic[:len(data)] {
			return nil, 0, &JournalCorruptError{Name: name}
		}
		return nil, 0, nil
	}
	if string(data[:len(journalMagic)]) != journalMagic {
		return nil, 0, &JournalCorruptError{Name: name}
	}
	pos := len(journalMagic)
	var watermark int64
	for {
		body, mark, size, ok := nextFrame(data[pos:])
		if !ok {
			break
		}
		rec, err := openFrame(keys, keyring.Journal, recordContext(name, len(records)), body)
		var missing *keyring.MissingKeyError
		if errors.As(err, &missing) {
			return nil, 0, fmt.Errorf("journal %s: %w", name, err)
		}
		if err != nil { // intact bytes that do not open here were not torn: they were put here
			return nil, 0, &JournalCorruptError{Name: name, Offset: int64(pos)}
		}
		records = append(records, rec)
		watermark = max(watermark, mark)
		pos += size
	}
	if max(watermark, highestWatermark(data[pos:])) > int64(pos) {
		return nil, 0, &JournalCorruptError{Name: name, Offset: int64(pos)}
	}
	return records, int64(pos), nil
}

// highestWatermark looks for intact frames wherever one may start: after a hole
// their boundaries are not known.
func highestWatermark(data []byte) int64 {
	var high int64
	for {
		i := bytes.Index(data, []byte(frameMagic))
		if i < 0 {
			return high
		}
		data = data[i:]
		_, mark, size, ok := nextFrame(data)
		if ok {
			high = max(high, mark)
		} else {
			size = len(frameMagic)
		}
		data = data[size:]
	}
}

// Sealed journals are one blob: each record with its length (u32) in front.

func packRecords(records [][]byte) []byte {
	var out []byte
	for _, r := range records {
		out = binary.BigEndian.AppendUint32(out, uint32(len(r))) //nolint:gosec // bounded by MaxRecord
		out = append(out, r...)
	}
	return out
}

// UnpackJournal splits the blob of a sealed journal into its records, in order.
func UnpackJournal(content []byte) ([][]byte, error) {
	var out [][]byte
	for len(content) > 0 {
		if len(content) < 4 {
			return nil, errors.New("blob: not the content of a sealed journal")
		}
		n := binary.BigEndian.Uint32(content)
		content = content[4:]
		if uint64(n) > uint64(len(content)) {
			return nil, errors.New("blob: not the content of a sealed journal")
		}
		out = append(out, content[:n:n])
		content = content[n:]
	}
	return out, nil
}
