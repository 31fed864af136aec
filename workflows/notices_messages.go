package workflows

import (
	"time"

	"rekey/activities"
	"rekey/internal/view"
)

// TypeNotices is the workflow type of a wave's notices.
const TypeNotices = "Notices"

// Names of signals and activities about notices.
const (
	// SignalOrder is what a wave wants told ([NoticeOrder]).
	SignalOrder = "notice-order"
	// SignalNotice is what came of it, for the incident and the wave ([NoticeEvent]).
	SignalNotice = "notice-event"

	ActivityRender     = "engine.Render"     // RenderInput -> RenderResult
	ActivityNoticeText = "engine.NoticeText" // NoticeTextInput -> NoticeTextResult
	ActivitySend       = "notify.Send"       // SendInput -> SendResult
)

// NoticesID is the workflow id of the notices of a wave.
func NoticesID(incident string, n int) string {
	return IncidentID(incident) + "/notices/" + itoa(n)
}

// Classes of a notice.
const (
	noticeWarn = "warn" // before the cut
	noticeCut  = "cut"  // after it
)

// States of a notice. Sent: the channel has taken it; delivered: the recipient's own
// system has.
const (
	noticeQueued       = "queued"
	noticeSent         = "sent"
	noticeDelivered    = "delivered"
	noticeBounced      = "bounced"
	noticeAcknowledged = "acknowledged"
	noticeUnclear      = "unclear"
	noticeSuperseded   = "superseded" // a later version took its place before it was sent
)

// NoticesInput starts the notices of a wave, or their next run. It names nobody:
// owners and customers by ref, their addresses are in files.
type NoticesInput struct {
	Incident string        `json:"incident"`
	Wave     int           `json:"wave"`
	Virtual  bool          `json:"virtual,omitempty"`
	Now      time.Time     `json:"now"`
	First    NoticeOrder   `json:"first"`
	State    *NoticesState `json:"state,omitempty"`
}

// A NoticeOrder is one group of recipients to be told the same kind of thing.
type NoticeOrder struct {
	Seq   int64  `json:"seq"`
	Class string `json:"class,omitempty"`
	// Title, Exposure and Since are what the incident knows of the exposure.
	Title      string            `json:"title,omitempty"`
	Exposure   string            `json:"exposure,omitempty"`
	Since      time.Time         `json:"since,omitzero"`
	Cutoff     time.Time         `json:"cutoff,omitzero"`
	Recipients []NoticeRecipient `json:"recipients,omitempty"`
	// Last: the wave wants nothing more.
	Last bool `json:"last,omitempty"`
}

// A NoticeRecipient is one owner or customer and what they are told of.
type NoticeRecipient struct {
	Audience string `json:"audience"`
	Ref      string `json:"ref"`
	Template string `json:"template"`
	// Channels that the playbook names and rekey.yaml configures, in order.
	Channels []string     `json:"channels"`
	Version  int          `json:"version"`
	Items    []NoticeItem `json:"items"`
}

// A NoticeItem is one key in a notice.
type NoticeItem struct {
	Key      activities.Key `json:"key"`
	NewKeyID string         `json:"new_key_id,omitempty"`
	Stores   []string       `json:"stores,omitempty"`
	Cut      time.Time      `json:"cut,omitzero"` // when it was cut
	Created  time.Time      `json:"created,omitzero"`
	// Promoted: abuse was seen, so it was cut before the time of the warning.
	Promoted bool `json:"promoted,omitempty"`
}

// RenderInput asks for the messages of an order.
type RenderInput struct {
	Incident string      `json:"incident"`
	Order    NoticeOrder `json:"order"`
	// IDs are those of the notices, by recipient.
	IDs []string  `json:"ids"`
	Now time.Time `json:"now"`
}

// RenderResult gives one message per recipient, in their order.
type RenderResult struct {
	Messages []Rendered `json:"messages"`
}

// Rendered is one message: its hash in the blob store, and by which contacts it can
// go.
type Rendered struct {
	Text     string    `json:"text,omitempty"`
	Contacts []Contact `json:"contacts,omitempty"`
	// ContractHours of a customer.
	ContractHours int `json:"contract_hours,omitempty"`
	// Why there is no message, or no contact.
	Why string `json:"why,omitempty"`
}

// A Contact is one way to reach a recipient. The address stays in the file.
type Contact struct {
	Order   int    `json:"order"`
	Channel string `json:"channel"`
}

// NoticeTextInput asks for a rendered message, for a person who sends it by hand.
type NoticeTextInput struct {
	Text string `json:"text"`
}

// NoticeTextResult is its subject and text.
type NoticeTextResult struct {
	Text string `json:"text"`
}

// SendInput hands one message to one contact.
type SendInput struct {
	Incident string `json:"incident"`
	// ID is the same for every attempt at this contact.
	ID       string  `json:"id"`
	Audience string  `json:"audience"`
	Ref      string  `json:"ref"`
	Contact  Contact `json:"contact"`
	Text     string  `json:"text"` // hash of the message
	// Round is how often a person had it sent again: each has a journal of its own.
	Round   int `json:"round,omitempty"`
	Attempt int `json:"attempt"`
}

// SendResult is what came of an attempt. It holds no address and no vendor text.
type SendResult struct {
	Outcome activities.Outcome `json:"outcome,omitempty"`
	Class   activities.Class   `json:"class,omitempty"`
	Detail  string             `json:"detail,omitempty"`
	AfterMs int64              `json:"after_ms,omitempty"`
	Status  int                `json:"status,omitempty"`
	Receipt string             `json:"receipt,omitempty"`
	// Again: the channel takes a repeat for the same message, so unclear is asked
	// again. Delivered: its answer was the recipient's own.
	Again     bool `json:"again,omitempty"`
	Delivered bool `json:"delivered,omitempty"`
	// Recovered: the journal of an earlier attempt has told it.
	Recovered bool      `json:"recovered,omitempty"`
	At        time.Time `json:"at"`
}

// Kinds of [NoticeEvent].
const (
	noticeTold  = "notice" // a notice's state
	noticeHuman = "human"  // a person is needed, or no longer
	noticeEnded = "ended"  // nothing is left to tell
)

// A NoticeEvent is what the notices of a wave tell the incident and the wave.
type NoticeEvent struct {
	Wave   int          `json:"wave"`
	Seq    int64        `json:"seq"`
	Kind   string       `json:"kind"`
	Notice *view.Notice `json:"notice,omitempty"`
	Human  *view.Human  `json:"human,omitempty"`
	// Chapters are the kept histories of the runs before, once nothing is left to tell.
	Chapters []Chapter `json:"chapters,omitempty"`
}
