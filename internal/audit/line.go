package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"rekey/internal/canon"
)

// MaxLine is the longest line of events.jsonl in bytes. What is longer belongs in a
// page that the event names by its hash.
const MaxLine = 1 << 20

// maxInt is the largest integer that RFC 8785 section 3.2.2.3 can write exactly.
const maxInt = 1<<53 - 1

// Encode gives the one line that stands for e, without LF: RFC 8785 (JCS). Equal
// events give equal bytes.
//
// It fails on an event that no strict reader would take back: another schema
// version, an integer above 2^53-1, or a line longer than [MaxLine].
func Encode(e Event) ([]byte, error) {
	if e.V != SchemaVersion {
		return nil, fmt.Errorf("event %d has schema version %d, this build writes %d", e.Seq, e.V, SchemaVersion)
	}
	if e.Seq < 0 || e.Seq > maxInt || e.Origin.EventID > maxInt || e.Origin.EventID < -maxInt {
		return nil, fmt.Errorf("event %d: an integer is outside of what RFC 8785 can write", e.Seq)
	}
	line, err := canon.JSON(e)
	if err != nil {
		return nil, fmt.Errorf("event %d: %w", e.Seq, err)
	}
	if len(line) > MaxLine {
		return nil, fmt.Errorf("event %d is %d bytes long, more than %d: put the detail into a page and name its hash in evidence", e.Seq, len(line), MaxLine)
	}
	return line, nil
}

// Decode reads one line, without LF, and takes nothing else than what [Encode]
// writes: an unknown key, an unknown version, a key given twice or in another
// case, white space and any other spelling of the same JSON are errors.
func Decode(line []byte) (Event, error) {
	var e Event
	if len(line) > MaxLine {
		return e, fmt.Errorf("line is longer than %d bytes", MaxLine)
	}
	var version struct {
		V int `json:"v"`
	}
	if err := json.Unmarshal(line, &version); err != nil {
		return e, errors.New("line is not a JSON object")
	}
	if version.V != SchemaVersion {
		return e, fmt.Errorf("schema version %d is not known to this build (it knows %d): use a newer rekey", version.V, SchemaVersion)
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		return Event{}, errors.New("line has a key or a type that schema version 1 does not have")
	}
	again, err := Encode(e)
	if err != nil {
		return Event{}, err
	}
	if !bytes.Equal(again, line) {
		return Event{}, errors.New("line is not in canonical form (RFC 8785)")
	}
	return e, nil
}

// Leaf is the RFC 6962 section 2.1 leaf hash of a line without its LF:
// SHA-256(0x00 || line).
func Leaf(line []byte) tlog.Hash { return tlog.RecordHash(line) }
