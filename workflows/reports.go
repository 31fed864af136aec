package workflows

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"rekey/internal/canon"
	"rekey/internal/event"
	"rekey/internal/statement"
	"rekey/internal/view"
	"rekey/playbooks"
)

// What an incident keeps of its reports. Its state is carried over whenever a run
// continues as new, so it must stay small in a storm too: the reports themselves
// are in the history, each a signal and an event of the bundle.
const (
	// wholeReports is how many are kept whole whatever they say; further ones only
	// where they say something new, up to mostReports.
	wholeReports = 20
	mostReports  = 400
	// mostTaken is how many ids of reports are known, the latest: a report that is
	// sent again later than that counts again.
	mostTaken = 50_000
	// mostRepeats bounds the lines of [IncidentState.Repeats].
	mostRepeats = 200
)

// changeReports is the version of runs that count reports which say nothing new and
// do not make a scope version of each.
const changeReports = "reports-coalesce"

// A Repeat counts reports of one source that say nothing new.
type Repeat struct {
	Source string `json:"source"`
	// Actor is who reported, where it is one of the incident's people: a reporter
	// does not approve the response.
	Actor string    `json:"actor,omitempty"`
	N     int       `json:"n"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	// Unread are those of them that did say something new when there was no room.
	Unread int `json:"unread,omitempty"`
	// Chain is the hash over all of them in their order (hex SHA-256 of the chain
	// before and the digest that the report's statement carries): who has the
	// chapters can tell that none is missing.
	Chain string `json:"chain"`
}

// A Taken is the set of reports that an incident has, by their ids: 8 bytes each, in
// the order in which they came.
type Taken []byte

const takenSize = 8

func takenID(id string) [takenSize]byte {
	sum := sha256.Sum256([]byte(id))
	return [takenSize]byte(sum[:takenSize])
}

// Has tells whether the report is among them.
func (t Taken) Has(id string) bool {
	want := takenID(id)
	for i := 0; i+takenSize <= len(t); i += takenSize {
		if [takenSize]byte(t[i:]) == want {
			return true
		}
	}
	return false
}

// With is the set with one more.
func (t Taken) With(id string) Taken {
	key := takenID(id)
	return append(t, key[:]...)
}

// Last are the latest n.
func (t Taken) Last(n int) Taken {
	if over := len(t) - n*takenSize; over > 0 {
		return t[over:]
	}
	return t
}

// taken looks ids up fast: a storm asks for each of thousands.
type taken map[[takenSize]byte]bool

func newTaken(st *IncidentState) taken {
	out := taken{}
	for i := 0; i+takenSize <= len(st.Taken); i += takenSize {
		out[[takenSize]byte(st.Taken[i:])] = true
	}
	return out
}

// adoptReports takes over the state of a build that kept every report whole and read
// all keys again for each.
func (st *IncidentState) adoptReports() {
	for _, rep := range st.Reports {
		st.Taken = st.Taken.With(rep.ID)
	}
	st.News = len(st.Reports)
}

// note remembers a report; false: it was sent twice.
func (r *incident) note(id string) bool {
	key := takenID(id)
	if r.taken[key] {
		return false
	}
	r.taken[key] = true
	r.st.Taken = r.st.Taken.With(id)
	if len(r.st.Taken) > (mostTaken+mostTaken/10)*takenSize { // in bulk: the rest is copied
		gone := r.st.Taken[:len(r.st.Taken)-mostTaken*takenSize]
		for i := 0; i < len(gone); i += takenSize {
			delete(r.taken, [takenSize]byte(gone[i:]))
		}
		r.st.Taken = slices.Clone(r.st.Taken[len(gone):])
	}
	return true
}

// takeReports receives evidence. Reports are cheap: many become one new scope
// version.
func (r *incident) takeReports(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, SignalReport)
	for {
		var rep Report
		if !take(ctx, ch, &rep) {
			return
		}
		r.addReports(ctx, []Report{rep})
	}
}

// takeBatches receives what came in together.
func (r *incident) takeBatches(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, SignalReports)
	for {
		var b ReportBatch
		if !take(ctx, ch, &b) {
			return
		}
		r.addReports(ctx, b.Reports)
	}
}

// drainReports takes the reports that no coroutine has read before a run ends.
func (r *incident) drainReports(ctx workflow.Context) {
	one := workflow.GetSignalChannel(ctx, SignalReport)
	for {
		var rep Report
		if !one.ReceiveAsync(&rep) {
			break
		}
		r.addReports(ctx, []Report{rep})
	}
	many := workflow.GetSignalChannel(ctx, SignalReports)
	for {
		var b ReportBatch
		if !many.ReceiveAsync(&b) {
			return
		}
		r.addReports(ctx, b.Reports)
	}
}

// addReports takes reports: each is an event, and is kept whole or counted.
func (r *incident) addReports(ctx workflow.Context, reps []Report) {
	var events []event.Event
	for _, rep := range reps {
		if e, ok := r.addReport(ctx, rep); ok {
			events = append(events, e)
		}
	}
	recordAll(ctx, r.clk.Now(ctx), events)
}

func (r *incident) addReport(ctx workflow.Context, rep Report) (event.Event, bool) {
	if r.taken[takenID(rep.ID)] {
		return event.Event{}, false
	}
	if r.clk.virtual && r.clk.now.IsZero() {
		r.clk.now = rep.Received
	}
	if err := r.checkTrigger(rep); err != nil {
		r.refuse(ctx, rep.Statement.Statement, view.CodeForged, err.Error())
		if len(r.st.Reports) > 0 {
			return event.Event{}, false
		}
		// Nothing else is known: the report stands, but proposes only.
		rep.Ceiling = "propose"
	}
	r.note(rep.ID)
	if rep.Secret != "" && (r.st.Forgotten || r.st.SecretSince.IsZero()) {
		r.st.Forgotten, r.st.SecretSince = false, rep.Received
	}
	// What comes after the end is for the next run, which knows nothing yet.
	says := r.saysNew(rep)
	room := len(r.st.Reports) < mostReports || !r.st.Closed.IsZero()
	if (!says || !room) && workflow.GetVersion(ctx, changeReports, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		says, room = true, true
	}
	if len(r.st.Reports) < wholeReports || says && room {
		r.st.Reports = append(r.st.Reports, rep)
		if says {
			r.st.News = len(r.st.Reports)
		}
		r.changed = true
	} else {
		r.count(ctx, rep, says)
	}
	r.stir = true
	return event.Event{
		Type: event.EventTrigger, Actor: rep.Actor, Auth: rep.Statement.Statement.Method, FP: rep.Key.FP,
		SourceTime: canon.Time(rep.Claimed),
		Attrs: map[string]string{
			"report": rep.ID, "source": rep.Source, "source_kind": rep.SourceKind, "confidence": rep.Confidence, "digest": rep.Statement.Statement.Text,
		},
	}, true
}

// saysNew tells whether a report says anything that changes what is to be done: about
// another key, a key whose item has ended, another secret, file, place, or something
// worse than what is known.
func (r *incident) saysNew(rep Report) bool {
	if len(r.st.Reports) == 0 || !r.st.Closed.IsZero() || rep.SourceKind == "tripwire" || rank(rep.Severity) < rank(r.st.Severity) {
		return true
	}
	if i, ok := r.findView(rep.Key.FP); ok && r.st.Views[i].EndState != "" || !ok && r.st.ScopeVersion > 0 {
		return true
	}
	var same, secret, exposure, sure, claimed, alias bool
	var copies, files []string
	for _, old := range r.st.Reports {
		if old.Key.FP != rep.Key.FP {
			continue
		}
		same = true
		secret = secret || old.Secret == rep.Secret
		alias = alias || old.Alias == rep.Alias
		exposure = exposure || old.Exposure == rep.Exposure
		sure = sure || old.Confidence == rep.Confidence || old.Confidence == "confirmed"
		claimed = claimed || !old.Claimed.IsZero() && !rep.Claimed.Before(old.Claimed)
		copies = append(copies, old.Copies...)
		for _, e := range old.Evidence {
			files = append(files, e.Hash)
		}
	}
	return !same || !sure || rep.Secret != "" && !secret || rep.Alias != "" && !alias || rep.Exposure != "" && !exposure || !rep.Claimed.IsZero() && !claimed ||
		slices.ContainsFunc(rep.Copies, func(c string) bool { return !slices.Contains(copies, c) }) ||
		slices.ContainsFunc(rep.Evidence, func(e Evidence) bool { return !slices.Contains(files, e.Hash) })
}

// count adds a report that is not kept whole to those of its source.
func (r *incident) count(ctx workflow.Context, rep Report, unread bool) {
	source, actor := rep.Source, ""
	if slices.ContainsFunc(r.set.People, func(p statement.Person) bool { return p.Actor == rep.Actor }) {
		actor = rep.Actor
	}
	find := func() int {
		return slices.IndexFunc(r.st.Repeats, func(c Repeat) bool { return c.Source == source && c.Actor == actor })
	}
	i := find()
	if i < 0 && len(r.st.Repeats) >= mostRepeats {
		source = "others"
		i = find()
	}
	if i < 0 {
		r.st.Repeats = append(r.st.Repeats, Repeat{Source: source, Actor: actor, First: rep.Received})
		i = len(r.st.Repeats) - 1
	}
	c := &r.st.Repeats[i]
	c.N++
	c.Last = rep.Received
	sum := sha256.Sum256([]byte(c.Chain + "\x00" + rep.Statement.Statement.Text))
	c.Chain = hex.EncodeToString(sum[:])
	if !unread {
		return
	}
	if !slices.ContainsFunc(r.st.Repeats, func(c Repeat) bool { return c.Unread > 0 }) {
		r.human(ctx, view.Human{What: fmt.Sprintf("%d reports said something new: further ones are only on record (trigger.received) and not read for the scope. Look through them with `rekey audit export`, and report again what is missing", mostReports)})
	}
	c.Unread++
}

// repeats is how many reports are only counted.
func (st *IncidentState) repeats() int {
	n := 0
	for _, c := range st.Repeats {
		n += c.N
	}
	return n
}

// reread asks for a new scope version because of a report of what is known: at once
// where it says something new, otherwise some time after the last version, together
// with whatever comes until then. A drill's time does not pass for this.
func (r *incident) reread(ctx workflow.Context, news bool) {
	due := r.st.ScopedAt.Add(rereadSpan)
	if news || r.clk.virtual || !r.clk.Now(ctx).Before(due) {
		r.st.Scoping, r.st.Reread, r.st.RereadAt = true, true, time.Time{}
		return
	}
	if r.st.RereadAt.IsZero() {
		r.st.RereadAt = due
	}
}

// rereadDue begins the scope version that reports wait for.
func (r *incident) rereadDue(ctx workflow.Context) {
	if due := r.st.RereadAt; !due.IsZero() && !r.clk.Now(ctx).Before(due) {
		r.st.Scoping, r.st.Reread, r.st.RereadAt = true, true, time.Time{}
	}
}

// triage looks at new reports: the first decides about contain on report, each
// asks for a new scope version.
func (r *incident) triage(ctx workflow.Context) error {
	for r.st.Triaged < len(r.st.Reports) {
		rep := r.st.Reports[r.st.Triaged]
		first, news := r.st.Triaged == 0, r.st.Triaged < r.st.News
		r.st.Triaged++
		if first {
			r.st.Scoping, r.st.Reread = true, false
			r.st.Opened = rep.Received
			typ := event.EventOpened
			attrs := map[string]string{"playbook": r.pb.Name, "digest": r.set.Digest}
			if r.in.Reopened != nil {
				typ = event.EventReopened
				attrs["reopened_from"] = r.in.Reopened.Digest
				attrs["reopened_run"] = r.in.Reopened.Run
			}
			record(ctx, r.clk.Now(ctx), event.Event{Type: typ, Actor: rep.Actor, Attrs: attrs})
			if err := r.admit(ctx, rep); err != nil {
				return err
			}
		} else {
			r.reread(ctx, news)
			r.redo(ctx, rep)
		}
		if rep.Severity != "" {
			r.raise(ctx, rep.Severity)
		}
	}
	return nil
}

// raise sets a severity that is not lower than the one there is.
func (r *incident) raise(ctx workflow.Context, level string) {
	if rank(level) < rank(r.st.Severity) {
		r.st.Severity = level
		r.upsert(ctx)
	}
}

// rank orders severities, the worst first; what is none is last.
func rank(level string) int {
	if i := slices.Index(playbooks.Levels(), playbooks.Level(level)); i >= 0 {
		return i
	}
	return len(playbooks.Levels())
}

func (r *incident) isReporter(actor string) bool {
	return slices.ContainsFunc(r.st.Reports, func(rep Report) bool { return rep.Actor == actor }) ||
		slices.ContainsFunc(r.st.Repeats, func(c Repeat) bool { return c.Actor != "" && c.Actor == actor })
}
