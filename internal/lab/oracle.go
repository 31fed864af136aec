package lab

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"

	"rekey/internal/lab/awssim"
	"rekey/internal/lab/control"
)

// observer keeps what the oracle tells of calls.
type observer struct {
	uses   []*control.Use
	last   map[useKind]*control.Use
	ledger ledger
}

// useKind says which uses are alike; alike and equal in result they are one entry.
type useKind struct{ key, source, ip, call, label string }

func newObserver() observer { return observer{last: map[useKind]*control.Use{}, ledger: newLedger()} }

func (o *observer) record(r *awssim.Record, alias func(string) string) {
	if r.Label == "engine" {
		o.ledger.add(r)
	}
	kind := useKind{r.KeyID, r.Source, r.SourceIP, r.Service + ":" + r.Action, r.Label}
	result := r.Result()
	if u := o.last[kind]; u != nil && u.Result == result {
		u.N++
		u.Last = control.Time{Time: r.At}
		return
	}
	u := &control.Use{Key: r.KeyID, Alias: alias(r.KeyID), At: control.Time{Time: r.At}, Last: control.Time{Time: r.At}, N: 1, Source: r.Source, IP: r.SourceIP, ASN: r.ASN, Call: kind.call, Result: result, Label: r.Label}
	o.last[kind] = u
	o.uses = append(o.uses, u)
}

func targetOf(r *awssim.Record) string {
	for _, p := range []string{"userName", "roleName", "secretId", "name", "roleArn"} {
		if v, ok := r.Params[p].(string); ok {
			return v
		}
	}
	return ""
}

// calls reads the engine's mutating calls from the effect log, up to a place in it. It needs no
// lock.
func (w *world) calls(upTo int64) ([]control.Call, error) {
	if err := w.effects.flush(upTo); err != nil {
		return nil, err
	}
	out := []control.Call{}
	in := bufio.NewReaderSize(io.NewSectionReader(w.effects.file, 0, upTo), 1<<20)
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		var r awssim.Record
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, err
		}
		if r.Label == "engine" {
			out = append(out, callOf(&r))
		}
	}
}

// oracle gives the truth as it is now, without the calls.
func (w *world) oracle() control.Oracle {
	st := w.sim.State()
	out := control.Oracle{Now: control.Time{Time: w.now()}, Keys: []control.Key{}, Uses: make([]control.Use, 0, len(w.seen.uses)),
		Dependents: []control.Dependent{}, Kills: slices.Clone(w.st.Kills), Sessions: []control.Session{}, Policies: []control.Policy{}, Stores: []control.Store{},
		Rules: []control.Rule{}, Jobs: []control.Job{}, Backoff: w.backoff()}
	for _, id := range slices.Sorted(maps.Keys(st.Keys)) {
		k := st.Keys[id]
		if w.own(id) {
			continue
		}
		out.Keys = append(out.Keys, control.Key{ID: id, Alias: w.alias(id), User: k.User, State: strings.ToLower(k.Status), Alive: w.sim.Alive(id),
			MintedBy: k.MintedBy, Created: control.Time{Time: k.Created}})
	}
	for _, u := range w.seen.uses {
		out.Uses = append(out.Uses, *u)
	}
	out.Dependents = w.dependents()
	for _, id := range slices.Sorted(maps.Keys(st.Sessions)) {
		s := st.Sessions[id]
		out.Sessions = append(out.Sessions, control.Session{ID: id, Kind: s.Kind, Parent: s.Parent, User: s.User, Role: s.Role, Issued: control.Time{Time: s.Issued},
			Expires: control.Time{Time: s.Expires}, Usable: w.sim.Usable(id), Engine: s.Engine})
	}
	for _, name := range slices.Sorted(maps.Keys(st.Users)) {
		u := st.Users[name]
		out.Policies = append(out.Policies, policies("user/"+name, u.Inline, u.Attached)...)
	}
	for _, name := range slices.Sorted(maps.Keys(st.Roles)) {
		r := st.Roles[name]
		out.Policies = append(out.Policies, policies("role/"+name, r.Inline, r.Attached)...)
	}
	for _, name := range slices.Sorted(maps.Keys(st.Secrets)) {
		id, _ := w.sim.StoredKey(name)
		out.Stores = append(out.Stores, control.Store{Name: name, KeyID: id, Versions: len(st.Secrets[name].Versions)})
	}
	for _, name := range slices.Sorted(maps.Keys(st.Rules)) {
		r := st.Rules[name]
		out.Rules = append(out.Rules, control.Rule{Name: name, ARN: r.ARN, By: r.By, Created: control.Time{Time: r.Created}})
	}
	for _, j := range w.st.Jobs {
		job := control.Job{Name: j.Name, Due: control.Time{Time: j.Due}, Over: j.Over}
		if !j.Ran.IsZero() {
			job.Ran = &control.Time{Time: j.Ran}
		}
		out.Jobs = append(out.Jobs, job)
	}
	return out
}

// own tells whether a key is the lab's own: the engine's, or that of the people.
func (w *world) own(id string) bool { return id == w.st.EngineKey || id == w.st.OperatorKey }

func policies(principal string, inline map[string]string, attached []string) []control.Policy {
	var out []control.Policy
	for _, name := range slices.Sorted(maps.Keys(inline)) {
		out = append(out, control.Policy{Principal: principal, Name: name, Inline: true, Document: inline[name]})
	}
	for _, arn := range slices.Sorted(slices.Values(attached)) {
		out = append(out, control.Policy{Principal: principal, Name: arn})
	}
	return out
}

// dependents adds up the consumers of each dependent; an outage that goes on counts up to now.
func (w *world) dependents() []control.Dependent {
	out := []control.Dependent{}
	at := map[string]int{}
	for _, c := range w.consumers {
		if !c.Dependent {
			continue
		}
		i, ok := at[c.ID]
		if !ok {
			i = len(out)
			at[c.ID] = i
			out = append(out, control.Dependent{ID: c.ID, OnKey: c.KeyID})
		}
		d := &out[i]
		outage := c.OutageMS
		if !c.Failing.IsZero() {
			outage += w.now().Sub(c.Failing).Milliseconds()
		}
		d.OutageMS = max(d.OutageMS, outage)
		d.Uses += c.Uses
		d.Failures += c.Failures
	}
	return out
}
