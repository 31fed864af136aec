package report

import (
	"strings"
	"time"

	"rekey/internal/audit"
)

// A placeRow is one place where the incident was followed; Where is "" while the
// channel gave none.
type placeRow struct {
	Channel, Target, Where, ID, URL string
	From, Closed                    time.Time
	State                           string // what the place was closed as
	Outages                         []*outageRow
	Lines                           []lineRow
	Total, MoreOutages              int
}

// An outageRow is a time in which a channel did not keep up. To is zero while it
// does not; GaveUp is when it was tried for the last time.
type outageRow struct {
	From, To, GaveUp time.Time
	Why, Class       string
}

type lineRow struct {
	Number, Kind, Text string
	Said, Taken        time.Time
	Shown              bool // the channel gave a receipt: it shows lines of that kind
}

// followed reads what a channel was told, and when it did not keep up. A channel has
// one record per incident, so an outage is of the place that it had last.
func (p *page) followed(e *audit.Event, at time.Time) {
	row := p.place(e)
	if row == nil {
		return
	}
	switch e.Type {
	case audit.EventRecordBehind:
		row.behind(e, at)
	case audit.EventRecordCaught:
		o := row.outage()
		if o == nil {
			o = row.begin(&outageRow{From: timeOf(e.Attrs[audit.AttrSince], at)})
		}
		o.To = at
	default:
		row.told(e, at)
	}
}

// place finds the row of an event, or makes one. It gives nil where the table is
// full.
func (p *page) place(e *audit.Event) *placeRow {
	var last *placeRow
	for _, row := range p.Places {
		if row.Channel == e.Attrs[audit.AttrChannel] {
			last = row
		}
	}
	where, id := e.Attrs[audit.AttrWhere], e.Attrs[audit.AttrID]
	known := where != "" || id != ""
	if last == nil || (known && last.Where+last.ID != "" && (last.Where != where || last.ID != id)) {
		if len(p.Places) >= MaxRows {
			return nil
		}
		last = &placeRow{Channel: e.Attrs[audit.AttrChannel]}
		p.Places = append(p.Places, last)
	}
	if known {
		last.Where, last.ID = where, id
		last.URL = first(e.Attrs[audit.AttrURL], last.URL)
	}
	last.Target = first(e.Attrs[audit.AttrTarget], last.Target)
	return last
}

func (r *placeRow) told(e *audit.Event, at time.Time) {
	if r.From.IsZero() {
		r.From = at
	}
	switch e.Verb {
	case audit.RecordAppend:
		r.Total++
		if len(r.Lines) < MaxRows {
			r.Lines = append(r.Lines, lineRow{
				Number: e.Attrs[audit.AttrLine], Kind: e.Attrs[audit.AttrKind], Text: e.Attrs[audit.AttrText],
				Said: timeOf(e.Attrs[audit.AttrSaid], at), Taken: at, Shown: e.Attrs[audit.AttrReceipt] != "",
			})
		}
	case audit.RecordClose:
		// A close with an open card says that the incident was reopened.
		r.State, r.Closed = e.Attrs[audit.AttrState], at
		if r.State == "open" || r.State == "waiting" {
			r.State, r.Closed = "", time.Time{}
		}
	}
}

func (r *placeRow) behind(e *audit.Event, at time.Time) {
	o := r.outage()
	if o == nil { // else it goes on: nothing has caught up between
		o = r.begin(&outageRow{From: timeOf(e.Attrs[audit.AttrSince], at)})
	}
	if e.Result == audit.RecordGaveUp {
		o.GaveUp = at
	}
	if o.Why == "" {
		o.Class, o.Why = e.Result, e.Attrs[audit.AttrWhy]
		if op := e.Attrs[audit.AttrOp]; op != "" {
			o.Why = strings.TrimSuffix(op+": "+o.Why, ": ")
		}
		if permission := e.Attrs[audit.AttrPermission]; permission != "" {
			o.Why += " (needs " + permission + ")"
		}
	}
}

// outage is the one that is not over, or nil.
func (r *placeRow) outage() *outageRow {
	if n := len(r.Outages); n > 0 && r.Outages[n-1].To.IsZero() && r.Outages[n-1].GaveUp.IsZero() {
		return r.Outages[n-1]
	}
	return nil
}

// begin adds an outage; beyond MaxRows the oldest gives way and is counted.
func (r *placeRow) begin(o *outageRow) *outageRow {
	r.Outages = append(r.Outages, o)
	if len(r.Outages) > MaxRows {
		r.Outages = r.Outages[1:]
		r.MoreOutages++
	}
	return o
}

// More is how many lines were told that the table leaves to events.jsonl.
func (r *placeRow) More() int { return r.Total - len(r.Lines) }

func timeOf(text string, otherwise time.Time) time.Time {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t
	}
	return otherwise
}
