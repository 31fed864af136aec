package lab

import (
	"encoding/json"

	"rekey/internal/lab/awssim"
)

// Effect is one line of the effect log: a mutating call of the engine, refused ones too, or any
// call that changed something, with the objects as they are after it. Secret values in it are sealed.
type Effect struct {
	*awssim.Record
	Result string       `json:"result"`
	Puts   []awssim.Put `json:"puts,omitempty"`
}

// Append is the simulator's journal: every finished call comes here, with the lock held. All go
// into the trail, what changed something into the effect log besides.
func (w *world) Append(r *awssim.Record, puts []awssim.Put) (at int64) {
	w.seen.record(r, w.alias)
	w.line = r.AppendJSON(w.line[:0])
	if !r.ReadOnly && (len(puts) > 0 || r.Label == "engine") {
		w.effects.append(w.line[:len(w.line)-1], []byte(`,"result":"`+r.Result()+`"`), putsJSON(puts), []byte{'}'})
	}
	at = w.trail.append(w.line)
	if !r.ReadOnly && !w.seedOnly && r.Code == "" {
		w.noticeChange(r)
	}
	return at
}

// putsJSON writes objects that are JSON already.
func putsJSON(puts []awssim.Put) []byte {
	if len(puts) == 0 {
		return nil
	}
	out := []byte(`,"puts":`)
	sep := byte('[')
	for _, p := range puts {
		id, err := json.Marshal(p.ID)
		if err != nil {
			panic("lab: a name does not marshal: " + err.Error())
		}
		out = append(append(append(append(out, sep), `{"kind":"`...), p.Kind...), `","id":`...)
		out = append(out, id...)
		if p.Value != nil {
			out = append(append(out, `,"value":`...), p.Value...)
		}
		out, sep = append(out, '}'), ','
	}
	return append(out, ']')
}

// Record reads a record of the trail. Safe without the lock.
func (w *world) Record(at int64) (*awssim.Record, error) {
	line, err := w.trail.line(at)
	if err != nil {
		return nil, err
	}
	r := &awssim.Record{}
	return r, json.Unmarshal(line, r)
}
