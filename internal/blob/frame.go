package blob

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
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
//
// With sealedMagic in place of journalMagic the first frame is a sealedPart: the
// records before this log are lines of the blob that it names (see [Journal]). Such a
// file is written whole, so that frame is never torn.
const (
	journalMagic = "rekeyj1\n"
	sealedMagic  = "rekeyj2\n"
	frameMagic   = "\xf7rkj"
	frameHead    = 4 + 4 + 4 + 8
	// MaxRecord is the largest journal record in bytes.
	MaxRecord = 1 << 20
	minBody   = 1 + 1 + keyring.Overhead
	maxBody   = 1 + 64 + keyring.Overhead + MaxRecord
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func recordContext(name string, n int) string { return name + "\x00" + strconv.Itoa(n) }

func sealedContext(name string) string { return name + "\x00sealed" }

// A sealedPart says where the records before a log are: the first N lines of a blob.
type sealedPart struct {
	Hash string `json:"hash"`
	N    int    `json:"n"`
}

func appendFrame(dst []byte, keys *keyring.Keyring, name string, n int, watermark int64, rec []byte) []byte {
	return frame(dst, keys, recordContext(name, n), watermark, rec)
}

// sealedLog is a file that holds nothing but the sealed part.
func sealedLog(keys *keyring.Keyring, name string, part sealedPart) ([]byte, error) {
	text, err := json.Marshal(part)
	if err != nil {
		return nil, err
	}
	return frame([]byte(sealedMagic), keys, sealedContext(name), 0, text), nil
}

func frame(dst []byte, keys *keyring.Keyring, context string, watermark int64, plain []byte) []byte {
	start := len(dst)
	dst = append(dst, frameMagic...)
	dst = append(dst, make([]byte, frameHead-len(frameMagic))...)
	dst = sealFrame(dst, keys, keyring.Journal, context, plain)
	f := dst[start:]
	binary.BigEndian.PutUint32(f[4:], uint32(len(f)-frameHead)) //nolint:gosec // bounded by MaxRecord
	binary.BigEndian.PutUint64(f[12:], uint64(watermark))       //nolint:gosec // a file length is not negative
	binary.BigEndian.PutUint32(f[8:], crc32.Checksum(f[12:], castagnoli))
	return dst
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

// content is what a journal file holds: records, after those of a sealed part.
type content struct {
	sealed  sealedPart // N is 0 where there is none
	records [][]byte
	good    int64 // length of the intact part of the file
}

// count is the number of records of the journal.
func (c content) count() int { return c.sealed.N + len(c.records) }

// scan reads a journal file. A torn tail is left out. It fails with
// *JournalCorruptError on damage and with *keyring.MissingKeyError when a record's
// key is not here.
func scan(keys *keyring.Keyring, name string, data []byte) (content, error) {
	if len(data) < len(journalMagic) { // a crash while the file was made
		if string(data) != journalMagic[:len(data)] {
			return content{}, &JournalCorruptError{Name: name}
		}
		return content{}, nil
	}
	magic := string(data[:len(journalMagic)])
	if magic != journalMagic && magic != sealedMagic {
		return content{}, &JournalCorruptError{Name: name}
	}
	pos := len(magic)
	open := func(context string, body []byte) ([]byte, error) {
		rec, err := openFrame(keys, keyring.Journal, context, body)
		var missing *keyring.MissingKeyError
		if errors.As(err, &missing) {
			return nil, fmt.Errorf("journal %s: %w", name, err)
		}
		if err != nil { // intact bytes that do not open here were not torn: they were put here
			return nil, &JournalCorruptError{Name: name, Offset: int64(pos)}
		}
		return rec, nil
	}
	var out content
	if magic == sealedMagic {
		body, _, size, ok := nextFrame(data[pos:])
		if !ok {
			return content{}, &JournalCorruptError{Name: name, Offset: int64(pos)}
		}
		text, err := open(sealedContext(name), body)
		if err != nil {
			return content{}, err
		}
		if err := json.Unmarshal(text, &out.sealed); err != nil || out.sealed.N < 1 || !ValidHash(out.sealed.Hash) {
			return content{}, &JournalCorruptError{Name: name, Offset: int64(pos)}
		}
		pos += size
	}
	var watermark int64
	for {
		body, mark, size, ok := nextFrame(data[pos:])
		if !ok {
			break
		}
		rec, err := open(recordContext(name, out.count()), body)
		if err != nil {
			return content{}, err
		}
		out.records = append(out.records, rec)
		watermark = max(watermark, mark)
		pos += size
	}
	if max(watermark, highestWatermark(data[pos:])) > int64(pos) {
		return content{}, &JournalCorruptError{Name: name, Offset: int64(pos)}
	}
	out.good = int64(pos)
	return out, nil
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
