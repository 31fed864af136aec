package awssim

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Journal keeps the records of calls for good. The account itself keeps of each only what it
// needs to find it again, some 50 bytes: an estate of 100,000 keys is called millions of times.
type Journal interface {
	// Append keeps a record, and the objects that the call changed, and tells where the record is.
	// It cannot fail: an owner that cannot write refuses the call and every one after it.
	Append(r *Record, puts []Put) (at int64)
	// Record reads a record back.
	Record(at int64) (*Record, error)
}

// entry is what is kept in memory of one record.
type entry struct {
	at       int64 // in the journal
	seq      int64
	ms       int64 // world time
	skew     int32 // of the log time, in ms
	user     uint32
	action   uint32 // service:Action
	region   uint32
	read     bool
	resource uint8 // kinds of resource it names, as bits of resourceKinds
}

func (e *entry) time() time.Time   { return time.UnixMilli(e.ms).UTC() }
func (e *entry) logged() time.Time { return time.UnixMilli(e.ms + int64(e.skew)).UTC() }

type resourceKind struct{ param, kind string }

// resourceKinds are the parameters by which CloudTrail lists an event under a resource.
var resourceKinds = []resourceKind{
	{"userName", "AWS::IAM::User"}, {"accessKeyId", "AWS::IAM::AccessKey"}, {"roleName", "AWS::IAM::Role"},
}

// trail finds records: by key and by resource at once, by anything else in one walk over entries.
type trail struct {
	entries    []entry
	byKey      map[string][]uint32
	byResource map[string][]uint32
	words      map[string]uint32 // users, actions and regions, each once
	text       []string          // of words
}

func newTrail() trail {
	return trail{byKey: map[string][]uint32{}, byResource: map[string][]uint32{}, words: map[string]uint32{}}
}

func (t *trail) word(s string) uint32 {
	n, ok := t.words[s]
	if !ok {
		n = uint32(len(t.text)) //nolint:gosec // far below 2^32 different words
		t.words[s] = n
		t.text = append(t.text, s)
	}
	return n
}

// add notes a record that stands at a place of the journal. Records come in world order, except
// the past a scenario starts with, which is put in before anything else.
func (t *trail) add(r *Record, at int64) {
	n := uint32(len(t.entries))                                                                            //nolint:gosec // a trail of four billion calls does not fit anywhere
	e := entry{at: at, seq: r.Seq, ms: r.At.UnixMilli(), skew: int32(r.LoggedAt.Sub(r.At).Milliseconds()), //nolint:gosec // a skew is at most an hour
		user: t.word(r.username()), action: t.word(r.Service + ":" + r.Action), region: t.word(r.Region), read: r.ReadOnly}
	for i, k := range resourceKinds {
		if v, ok := r.Params[k.param].(string); ok {
			e.resource |= 1 << i
			t.byResource[v] = append(t.byResource[v], n)
		}
	}
	t.entries = append(t.entries, e)
	t.byKey[r.KeyID] = append(t.byKey[r.KeyID], n)
}

// A walk is what a look-up goes over: some entries, by their places, or all of them; and what else
// an entry must be, nil: nothing.
type walk struct {
	places []uint32
	all    bool
	match  func(*entry) bool
}

// walk finds the events of a look-up; ok is false for an attribute that CloudTrail does not know.
func (s *Sim) walk(key, value string) (w walk, ok bool) {
	t := &s.trail
	over := func(match func(*entry) bool) (walk, bool) { return walk{all: true, match: match}, true }
	switch key {
	case "":
		return over(nil)
	case "AccessKeyId":
		return walk{places: t.byKey[value]}, true
	case "ResourceName":
		return walk{places: t.byResource[value]}, true
	case "EventId":
		return over(func(e *entry) bool { return uuid(s.opt.Salt, "event", e.seq) == value })
	case "EventName", "EventSource":
		return over(func(e *entry) bool {
			service, action, _ := strings.Cut(t.text[e.action], ":")
			return key == "EventName" && action == value || key == "EventSource" && service+".amazonaws.com" == value
		})
	case "ReadOnly":
		return over(func(e *entry) bool { return strconv.FormatBool(e.read) == value })
	case "Username":
		user, known := t.words[value]
		return over(func(e *entry) bool { return known && e.user == user })
	case "ResourceType":
		i := slices.IndexFunc(resourceKinds, func(k resourceKind) bool { return k.kind == value })
		return over(func(e *entry) bool { return i >= 0 && e.resource&(1<<i) != 0 })
	default:
		return walk{}, false
	}
}

// len is how many entries there are to go over, at the i-th of them.
func (w walk) len(t *trail) int {
	if w.all {
		return len(t.entries)
	}
	return len(w.places)
}

func (w walk) at(t *trail, i int) *entry {
	if w.all {
		return &t.entries[i]
	}
	return &t.entries[w.places[i]]
}

// append notes a record that the journal has, and the last use of its key.
func (s *Sim) append(r *Record, at int64) {
	if r.Identity == nil {
		return // a caller nobody knows leaves no event
	}
	s.trail.add(r, at)
	if r.Code == "InvalidClientTokenId" || r.Code == "SignatureDoesNotMatch" {
		return // not authenticated: last-used does not move
	}
	if last := s.lastUsed[r.KeyID]; r.At.UnixMilli() > last.ms {
		s.lastUsed[r.KeyID] = lastUse{r.At.UnixMilli(), s.trail.word(r.Service), s.trail.word(r.Region)}
	}
}
