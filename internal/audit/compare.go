package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// checkEvents holds events.jsonl against leaves.txt, and both against the root.
func (v *verifier) checkEvents() {
	leaves := v.readLeaves()
	have, err := v.readEvents(leaves)
	if err != nil {
		v.faults.add(Fault{Code: EventMissing, File: fileEvents, Detail: err.Error()})
		return
	}
	v.res.Events = int64(len(have.hashes))
	v.checkHidden(have)
	if !v.checkpointOK {
		// Without a root leaves.txt is the best word there is.
		v.compare(have, leaves)
		return
	}
	if n := int64(len(have.hashes)); n != v.checkpoint.Size {
		v.faults.add(Fault{Code: SizeDiffers, File: fileEvents, Detail: fmt.Sprintf("%d events were signed, %d are here", v.checkpoint.Size, n)})
	}
	switch {
	case v.isRoot(leaves):
		v.compare(have, leaves)
	case v.isRoot(have.hashes):
		v.leavesDiffer(have.hashes, leaves)
	default:
		v.faults.add(Fault{Code: RootDiffers, File: fileEvents, Detail: "neither events.jsonl nor leaves.txt gives the root that was signed"})
		v.compare(have, leaves)
		v.checkSeq()
	}
	v.faults.add(have.foreign...)
}

func (v *verifier) isRoot(hashes []tlog.Hash) bool {
	if int64(len(hashes)) != v.checkpoint.Size {
		return false
	}
	tree, err := NewTree(hashes)
	if err != nil {
		return false
	}
	root, err := tree.Root()
	return err == nil && root == v.checkpoint.Root
}

// readLeaves gives as many leaves as can be read.
func (v *verifier) readLeaves() []tlog.Hash {
	e, ok := v.files[fileLeaves]
	if !ok {
		v.faults.add(Fault{Code: ManifestDiffers, File: fileLeaves, Detail: "the file is missing"})
		return nil
	}
	in := bufio.NewReader(io.NewSectionReader(v.r, e.data(), e.size))
	leaves := make([]tlog.Hash, 0, e.size/leafLine)
	line := make([]byte, leafLine)
	for range e.size / leafLine {
		if _, err := io.ReadFull(in, line); err != nil {
			break
		}
		h, err := tlog.ParseHash(string(line[:leafLine-1]))
		if err != nil {
			h = tlog.Hash{} // it will differ from the event
		}
		leaves = append(leaves, h)
	}
	return leaves
}

// A record is what is remembered of events.jsonl.
type record struct {
	hashes []tlog.Hash
	// hidden are the lines that are only a leaf.
	hidden []int64
	// foreign are lines that name another incident.
	foreign []Fault
}

// eachLine calls f for each line of events.jsonl.
func (v *verifier) eachLine(f func(index int64, line []byte)) error {
	e, ok := v.files[fileEvents]
	if !ok {
		return errors.New("the file is missing")
	}
	in := bufio.NewReaderSize(io.NewSectionReader(v.r, e.data(), e.size), 64<<10)
	for index := int64(0); ; index++ {
		line, err := readLine(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		f(index, line)
	}
}

// readEvents hashes the lines. A line that is not at its place in leaves is read:
// its incident tells where it may come from.
func (v *verifier) readEvents(leaves []tlog.Hash) (record, error) {
	var rec record
	err := v.eachLine(func(index int64, line []byte) {
		leaf, hidden := parseHidden(line)
		if hidden {
			rec.hashes = append(rec.hashes, leaf)
			rec.hidden = append(rec.hidden, index)
			return
		}
		hash := Leaf(line)
		rec.hashes = append(rec.hashes, hash)
		if index < int64(len(leaves)) && hash == leaves[index] || len(rec.foreign) >= v.faults.max {
			return
		}
		if says, ok := hintsOf(line); ok && v.checkpointOK && says.Incident != v.checkpoint.Incident {
			rec.foreign = append(rec.foreign, eventFault(Spliced, index, fileEvents, index+1, "the event is of incident "+quoteName(says.Incident)))
		}
	})
	return rec, err
}

// hints are what a line says of itself.
type hints struct {
	Incident string `json:"incident"`
	Seq      int64  `json:"seq"`
}

func hintsOf(line []byte) (hints, bool) {
	var h hints
	err := json.Unmarshal(line, &h)
	return h, err == nil && h.Seq >= 0 && h.Seq < maxInt
}

// checkSeq is what is left to name a fault when leaves.txt was rewritten along with
// the events: the events' own numbers.
func (v *verifier) checkSeq() {
	next := int64(-1)
	err := v.eachLine(func(index int64, line []byte) {
		says, ok := hintsOf(line)
		if _, hidden := parseHidden(line); hidden || !ok {
			if next >= 0 {
				next++
			}
			return
		}
		if next < 0 {
			next = min(says.Seq, 1) // numbers begin with 0 or 1
		}
		switch {
		case says.Seq > next:
			v.faults.add(eventFault(EventMissing, index, fileEvents, index+1, fmt.Sprintf("seq %d follows where %d was due", says.Seq, next)))
		case says.Seq < next:
			v.faults.add(eventFault(EventReordered, index, fileEvents, index+1, fmt.Sprintf("seq %d follows where %d was due", says.Seq, next)))
		}
		next = says.Seq + 1
	})
	if err != nil {
		v.faults.add(Fault{Code: EventMissing, File: fileEvents, Detail: err.Error()})
	}
}

// readLine reads up to LF; of a line that is too long it keeps the beginning, which
// cannot have a right hash. The last line needs its LF.
func readLine(in *bufio.Reader) ([]byte, error) {
	part, err := in.ReadSlice('\n')
	if err == nil {
		return part[:len(part)-1], nil
	}
	var line []byte
	for {
		if room := MaxLine + 1 - len(line); room > 0 {
			line = append(line, part[:min(room, len(part))]...)
		}
		switch {
		case err == nil:
			return bytes.TrimSuffix(line, []byte{'\n'}), nil
		case errors.Is(err, io.EOF):
			if len(line) == 0 {
				return nil, io.EOF
			}
			// A line that lost its LF is not the line that was sealed.
			return append(line, "(no line feed)"...), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, errors.New("the file cannot be read")
		}
		part, err = in.ReadSlice('\n')
	}
}

// checkHidden: the hidden lines are exactly those that redaction.json names.
func (v *verifier) checkHidden(rec record) {
	var want [][2]int64
	if v.redaction != nil {
		want = v.redaction.Ranges
	}
	in := func(i int64) bool {
		at, found := slices.BinarySearchFunc(want, i, func(r [2]int64, i int64) int { return int(r[0] - i) })
		return found || (at > 0 && i <= want[at-1][1])
	}
	for _, i := range rec.hidden {
		if !in(i) {
			v.faults.add(eventFault(RedactionDiffers, i, fileEvents, i+1, "the event is hidden, which was not sealed so"))
		}
	}
	if v.redaction != nil && int64(len(rec.hidden)) != v.redaction.Hidden {
		v.faults.add(Fault{Code: RedactionDiffers, File: fileEvents, Detail: fmt.Sprintf("%d events are hidden, %d were when it was sealed", len(rec.hidden), v.redaction.Hidden)})
	}
}

// leavesDiffer: the events are right, so the list of their hashes is not.
func (v *verifier) leavesDiffer(events, leaves []tlog.Hash) {
	for i, h := range events {
		if i >= len(leaves) || leaves[i] != h {
			index := int64(i)
			v.faults.add(eventFault(ManifestDiffers, index, fileLeaves, index+1, "the leaf is not the hash of the event, which is as it was signed"))
		}
	}
}

// compare tells how the lines that are here differ from those that were sealed:
// lines in both keep their order or were reordered, the rest of each stretch
// between them is paired as changed, and what is left over is added or missing.
func (v *verifier) compare(rec record, sealed []tlog.Hash) {
	have := rec.hashes
	if slices.Equal(have, sealed) {
		return
	}
	at := make(map[tlog.Hash]int, len(sealed))
	for i, h := range sealed {
		at[h] = i
	}
	where := make([]int, len(have)) // index in sealed, -1 where it is not
	taken := make([]bool, len(sealed))
	twice := make(map[int]bool)
	for i, h := range have {
		where[i] = -1
		if j, ok := at[h]; ok {
			if taken[j] {
				twice[i] = true
				continue
			}
			where[i], taken[j] = j, true
		}
	}
	inOrder := longestRising(where)
	for i, j := range where {
		if j >= 0 && !inOrder[i] {
			v.faults.add(eventFault(EventReordered, int64(j), fileEvents, int64(i)+1, fmt.Sprintf("event %d is at the place of %d", j, i)))
		}
	}
	i, j := 0, 0
	for i <= len(have) {
		// The next line that both have ends the stretch.
		to, sealedTo := len(have), len(sealed)
		for k := i; k < len(have); k++ {
			if inOrder[k] {
				to, sealedTo = k, where[k]
				break
			}
		}
		v.stretch(where, taken, twice, i, to, j, sealedTo)
		i, j = to+1, sealedTo+1
	}
}

// stretch pairs the lines of have[i:to] that were never sealed with the events of
// sealed[j:sealedTo] that are nowhere.
func (v *verifier) stretch(where []int, taken []bool, twice map[int]bool, i, to, j, sealedTo int) {
	for ; i < to; i++ {
		if where[i] >= 0 {
			continue // reordered
		}
		for j < sealedTo && taken[j] {
			j++
		}
		switch {
		case twice[i]:
			v.faults.add(eventFault(EventAdded, int64(i), fileEvents, int64(i)+1, "the event is there a second time"))
		case j < sealedTo:
			v.faults.add(eventFault(EventChanged, int64(j), fileEvents, int64(i)+1, "leaf hash differs"))
			j++
		default:
			v.faults.add(eventFault(EventAdded, int64(i), fileEvents, int64(i)+1, "the event was not sealed"))
		}
	}
	for ; j < sealedTo; j++ {
		if !taken[j] {
			v.faults.add(eventFault(EventMissing, int64(j), fileEvents, 0, "the event was sealed and is not here"))
		}
	}
}

// longestRising marks a longest rising subsequence of the values that are not
// negative: the fewest lines are called reordered.
func longestRising(values []int) []bool {
	tails := []int{} // index of the smallest last value of a sequence of each length
	before := make([]int, len(values))
	for i, value := range values {
		if value < 0 {
			continue
		}
		at, _ := slices.BinarySearchFunc(tails, value, func(k, value int) int { return values[k] - value })
		before[i] = -1
		if at > 0 {
			before[i] = tails[at-1]
		}
		if at == len(tails) {
			tails = append(tails, i)
		} else {
			tails[at] = i
		}
	}
	in := make([]bool, len(values))
	if len(tails) > 0 {
		for i := tails[len(tails)-1]; i >= 0; i = before[i] {
			in[i] = true
		}
	}
	return in
}

func eventFault(code string, index int64, file string, line int64, detail string) Fault {
	return Fault{Code: code, Index: &index, File: file, Line: line, Detail: detail}
}
