// Package notify is the contract between rekey and the channels through which it
// speaks to people: a thread or an issue that follows an incident ([Recorder]),
// and messages to owners and customers ([Sender]).
//
// A channel is one folder below activities/notify and one line in
// activities/notify/all. It knows nothing of Temporal. Its failures are
// *activities.Fault, classed by the channel. No channel is ever waited for by a
// containment: the workflows that call it are their own.
//
// Everything in a [Card], a [Line] and a [Notice] is plain text: a channel escapes
// it for its own markup, so that no name, reason or note can mention, link or
// format. None of it holds a secret.
package notify

import (
	"context"
	"time"

	"rekey/activities"
)

// Delivery is what a channel promises about a message whose answer was lost.
type Delivery string

// Promises of delivery (design section 4).
const (
	// Idempotent: the same message sent twice is one message.
	Idempotent Delivery = "idempotent"
	// Detectable: whether it arrived can be looked up, so it is sent once.
	Detectable Delivery = "detectable"
	// AtMostOnce: it cannot be looked up. A lost answer is Unclear and goes to a
	// person; it is never sent again by itself.
	AtMostOnce Delivery = "at-most-once"
)

// A Descriptor is what rekey knows of a channel without calling it.
type Descriptor struct {
	Code     string   `json:"code"` // "slack", "github", "email", "webhook"
	Name     string   `json:"name"`
	Docs     string   `json:"docs"`
	Delivery Delivery `json:"delivery"`
	// Permissions are what its credential needs, in the vendor's words.
	Permissions []string `json:"permissions,omitempty"`
	// Limits are the vendor's, for `rekey doctor` and the documentation.
	Limits []activities.Limit `json:"limits,omitempty"`
}

// A Channel is a folder's offer: what it is, and how to open the configured one.
type Channel struct {
	Descriptor Descriptor
	// Open makes the client from channels.<code> of rekey.yaml. It makes no call.
	// The returned value is a Recorder, a Sender or both, safe for concurrent use.
	// Settings and credentials have the names of the configuration, without _file.
	Open func(activities.Account, activities.Deps) (any, error)
}

// A Recorder follows an incident in one place: a card that is kept true, and lines
// that tell the story in order.
//
// Every method may be called twice with the same request, by two processes, one of
// which died between any two of its lines. With Recheck set an earlier call may
// have succeeded: the recorder looks for the request's marker first and gives what
// it finds instead of making a second one.
type Recorder interface {
	// Open makes the incident's place and shows the card there.
	Open(context.Context, OpenRequest) (Place, error)
	// Append adds one line to the place. It gives the vendor's id of it; an empty id
	// means that this channel does not show lines of that kind (it says which).
	Append(context.Context, AppendRequest) (string, error)
	// Update shows the card as it is now. Idempotent.
	Update(context.Context, UpdateRequest) error
	// Close says that the incident is over (or, with Card.State open again, that it
	// was reopened). Idempotent.
	Close(context.Context, UpdateRequest) error
}

// A Place is where an incident is followed: a channel and a message timestamp, a
// repository and an issue number. It holds no secret.
type Place struct {
	Channel string `json:"channel"` // "slack", "github"
	Where   string `json:"where"`   // channel id, or owner/repo
	ID      string `json:"id"`      // timestamp, or issue number
	URL     string `json:"url,omitempty"`
}

// OpenRequest makes a place.
type OpenRequest struct {
	Incident string   `json:"incident"`
	Target   string   `json:"target"` // "#incidents", "acme/security"
	Labels   []string `json:"labels,omitempty"`
	Card     Card     `json:"card"`
	// Marker is found again in the place: the incident's id, or with its life.
	Marker  string `json:"marker"`
	Recheck bool   `json:"recheck,omitempty"`
}

// AppendRequest adds a line.
type AppendRequest struct {
	Incident string `json:"incident"`
	Place    Place  `json:"place"`
	Line     Line   `json:"line"`
	// Marker is Incident and the line's number: unique in the place.
	Marker  string `json:"marker"`
	Recheck bool   `json:"recheck,omitempty"`
}

// UpdateRequest shows a card.
type UpdateRequest struct {
	Incident string `json:"incident"`
	Place    Place  `json:"place"`
	Card     Card   `json:"card"`
	// Marker as in OpenRequest; empty: the incident's id.
	Marker string `json:"marker,omitempty"`
}

// A Line is one turning point.
type Line struct {
	N    int64     `json:"n"` // 1, 2, …
	At   time.Time `json:"at"`
	Kind string    `json:"kind"` // of the Kind… constants
	Text string    `json:"text"`
	// Urgent lines are worth a ping of the channel's own kind (never of a person
	// named in text).
	Urgent bool `json:"urgent,omitempty"`
}

// Kinds of a [Line].
const (
	KindOpened   = "opened"
	KindPhase    = "phase"
	KindScope    = "scope"
	KindPlan     = "plan"
	KindAsk      = "ask" // votes are wanted
	KindVote     = "vote"
	KindRefused  = "refused" // a decision that was not accepted
	KindDead     = "dead"    // an old key is proven dead
	KindEnd      = "end"     // an item ended otherwise
	KindHuman    = "human"   // a person must do something
	KindHold     = "hold"
	KindNotice   = "notice"
	KindAdopt    = "adopted" // a replacement on its way to its dependents
	KindNote     = "note"
	KindContain  = "contained"
	KindClosed   = "closed"
	KindSealed   = "sealed"
	KindReopened = "reopened"
)

// A Card is an incident on half a page: what the person on call must see.
type Card struct {
	Incident string `json:"incident"`
	Title    string `json:"title"` // the playbook's title
	Phase    string `json:"phase"`
	State    string `json:"state"` // open, waiting, contained, all-clear
	Severity string `json:"severity"`
	// Key names the first item for people: provider, account, kind, short
	// fingerprint, public id.
	Key      string    `json:"key"`
	Reporter string    `json:"reporter,omitempty"`
	Opened   time.Time `json:"opened"`
	// Contained and Closed are zero until then.
	Contained time.Time `json:"contained,omitzero"`
	Closed    time.Time `json:"closed,omitzero"`

	Scope Scope `json:"scope"`
	// Steps counts items by where they stand: "waiting", "Disable", "Probe", …, and
	// Ends counts them by end state. Both are sorted by Name.
	Steps []Count `json:"steps,omitempty"`
	Ends  []Count `json:"ends,omitempty"`
	// Dead counts old keys proven dead, by grade.
	Dead []Count `json:"dead,omitempty"`
	// Notices counts messages to owners and customers by state: queued, sent,
	// delivered, bounced, acknowledged, unclear. None: nothing is said about notices.
	Notices []Count `json:"notices,omitempty"`
	// Breaks are the dependents that the plan interrupts.
	Breaks []Break `json:"breaks,omitempty"`
	// Asks are the open questions, Tasks the open steps of people; both bounded,
	// More… say how many there are besides.
	Asks      []Ask  `json:"asks,omitempty"`
	Tasks     []Task `json:"tasks,omitempty"`
	MoreAsks  int    `json:"more_asks,omitempty"`
	MoreTasks int    `json:"more_tasks,omitempty"`
	// Items are the first few, More says how many there are besides.
	Items  []Item `json:"items,omitempty"`
	More   int    `json:"more,omitempty"`
	Bundle string `json:"bundle,omitempty"` // digest
	UI     string `json:"ui,omitempty"`     // link to the Temporal UI
	// Chat: votes are taken in Slack too. False where it is not configured, or where
	// this incident is about what Slack rests on.
	Chat bool `json:"chat,omitempty"`
}

// Scope in numbers.
type Scope struct {
	Version, Items, Open, Reachable int
	Unseen, Dark                    int
}

// A Count is a number with a name.
type Count struct {
	Name string `json:"name"`
	N    int    `json:"n"`
}

// A Break is a dependent that is interrupted.
type Break struct {
	Dependent string        `json:"dependent"`
	Owner     string        `json:"owner,omitempty"`
	Outage    time.Duration `json:"outage"`
	Budget    time.Duration `json:"budget,omitempty"`
}

// An Ask is a question to people with its price.
type Ask struct {
	Approval string `json:"approval"`
	For      string `json:"for"` // strategy, irreversible, rung, restore, …
	What     string `json:"what"`
	Wave     int    `json:"wave,omitempty"`
	WaveHash string `json:"wave_hash"`
	Strategy string `json:"strategy,omitempty"`
	Items    int    `json:"items"`
	// Price: calls and who breaks.
	Calls   int       `json:"calls,omitempty"`
	Breaks  []Break   `json:"breaks,omitempty"`
	Roles   []string  `json:"roles"`
	Needed  int       `json:"needed"`
	Outside int       `json:"outside,omitempty"` // of them outside of chat
	Votes   []Vote    `json:"votes,omitempty"`
	Expires time.Time `json:"expires,omitzero"`
}

// A Vote that was given.
type Vote struct {
	Actor string `json:"actor"`
	Role  string `json:"role,omitempty"`
	Vote  string `json:"vote"`
	Auth  string `json:"auth"`
}

// A Task is a step that a person must do.
type Task struct {
	ID    string    `json:"id"`
	What  string    `json:"what"`
	Owner string    `json:"owner,omitempty"`
	Due   time.Time `json:"due,omitzero"`
}

// An Item in one line.
type Item struct {
	Short    string `json:"short"`
	Key      string `json:"key"`
	Strategy string `json:"strategy,omitempty"`
	Step     string `json:"step,omitempty"`
	Death    string `json:"death,omitempty"`
	Grade    string `json:"grade,omitempty"`
	Adoption string `json:"adoption,omitempty"`
	End      string `json:"end,omitempty"`
	Waits    string `json:"waits,omitempty"`
}

// A Sender sends one notice to one recipient.
type Sender interface {
	// Send hands the message over. The result's Outcome is Done when the channel
	// has accepted it; a lost answer is a Fault of class unclear.
	Send(context.Context, SendRequest) (SendResult, error)
}

// SendRequest is one rendered message to one recipient. To is read from the
// contact file inside the activity: it is in no history.
type SendRequest struct {
	Incident string `json:"incident"`
	// ID is the same for every attempt: Message-ID of a mail, idempotency key of a
	// webhook.
	ID string `json:"id"`
	// Ref is the owner or customer, such as "C033": a key of its own signs what a
	// customer gets.
	Ref     string `json:"ref"`
	To      string `json:"to"`
	Subject string `json:"subject"`
	Text    string `json:"text"` // plain text, UTF-8
	// Data is the same in a form for machines, canonical JSON; only for channels
	// that take it.
	Data    []byte `json:"data,omitempty"`
	Attempt int    `json:"attempt"`
	Recheck bool   `json:"recheck,omitempty"`
}

// SendResult is the channel's receipt.
type SendResult struct {
	activities.Result
	// Receipt is the vendor's id of the message.
	Receipt string `json:"receipt,omitempty"`
}
