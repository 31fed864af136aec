package slackapp

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"regexp"
	"time"

	"rekey/activities/notify"
)

// Kinds of a request.
const (
	kindCommand = "command" // /rekey …
	kindButton  = "button"  // approve or deny on a card
	kindReason  = "reason"  // the modal that asks why
)

// A request is one thing that one person asked, as it lies in the inbox.
type request struct {
	ID      string    `json:"-"`
	Kind    string    `json:"kind"`
	At      time.Time `json:"at"` // when it was accepted
	Team    string    `json:"team"`
	User    string    `json:"user"`
	Channel string    `json:"channel,omitempty"`
	Text    string    `json:"text,omitempty"`
	// Action and Value are a button's.
	Action  string `json:"action,omitempty"`
	Value   string `json:"value,omitempty"`
	Trigger string `json:"trigger,omitempty"`
	// Respond is Slack's response_url.
	Respond string `json:"respond,omitempty"`
	// home is the workspace that the payload says the user belongs to.
	Home string `json:"home,omitempty"`
}

var (
	teamRE    = regexp.MustCompile(`^[TE][A-Z0-9]{2,20}$`)
	userRE    = regexp.MustCompile(`^[UW][A-Z0-9]{2,20}$`)
	channelRE = regexp.MustCompile(`^[A-Z][A-Z0-9]{2,20}$`)
)

// key is the name of a request in the inbox: the same bytes from Slack are the same
// request, whenever and through whichever replica they come. Slack puts a new
// trigger_id into each.
func keyOf(kind string, raw []byte) string {
	h := sha256.New()
	h.Write([]byte("rekey slack request v1\x00" + kind + "\x00"))
	h.Write(raw)
	return hex.EncodeToString(h.Sum(nil))
}

// nonce of what the request says to an incident: a repeat carries the same.
func (r *request) nonce() string { return "sl-" + r.ID[:40] }

// fromForm reads a slash command: application/x-www-form-urlencoded, or the same as
// JSON in Socket Mode
// (https://docs.slack.dev/interactivity/implementing-slash-commands#app_command_handling).
func fromForm(f url.Values) (request, bool) {
	r := request{
		Kind: kindCommand, Team: f.Get("team_id"), User: f.Get("user_id"), Channel: f.Get("channel_id"), Text: f.Get("text"),
		Trigger: f.Get("trigger_id"), Respond: f.Get("response_url"),
	}
	if e := f.Get("enterprise_id"); f.Get("is_enterprise_install") == "true" && e != "" {
		r.Team = e
	}
	return r, r.valid()
}

func (r *request) valid() bool {
	if !channelRE.MatchString(r.Channel) {
		r.Channel = ""
	}
	return teamRE.MatchString(r.Team) && userRE.MatchString(r.User) && r.Trigger != "" && len(r.Trigger) < 512 && len(r.Respond) < 2048
}

// interaction is what rekey reads of a payload of block_actions or view_submission
// (https://docs.slack.dev/reference/interaction-payloads/block_actions-payload,
// …/view-interactions-payload). The card itself, which comes along, is not read.
type interaction struct {
	Type        string `json:"type"`
	TriggerID   string `json:"trigger_id"`
	ResponseURL string `json:"response_url"`
	Team        *struct {
		ID string `json:"id"`
	} `json:"team"`
	Enterprise *struct {
		ID string `json:"id"`
	} `json:"enterprise"`
	OrgWide bool `json:"is_enterprise_install"`
	User    struct {
		ID     string `json:"id"`
		TeamID string `json:"team_id"`
	} `json:"user"`
	Channel struct {
		ID string `json:"id"`
	} `json:"channel"`
	Actions []struct {
		ActionID string `json:"action_id"`
		Value    string `json:"value"`
	} `json:"actions"`
	View struct {
		CallbackID      string `json:"callback_id"`
		PrivateMetadata string `json:"private_metadata"`
		State           struct {
			Values map[string]map[string]struct {
				Value string `json:"value"`
			} `json:"values"`
		} `json:"state"`
	} `json:"view"`
}

// Names in the modal that asks for the reason of a denial.
const (
	reasonModal = "rekey_deny_reason"
	reasonBlock = "why"
	reasonInput = "text"
)

// modalState travels through the modal; Slack gives it back as it was.
type modalState struct {
	Value   string `json:"value"`
	Respond string `json:"respond"`
	Channel string `json:"channel,omitempty"`
}

// fromInteraction reads a payload. ours is false for what is none of rekey's buttons
// and needs no more than an acknowledgement (a link button, a closed view).
func fromInteraction(raw []byte) (r request, ours, ok bool) {
	var in interaction
	if err := json.Unmarshal(raw, &in); err != nil {
		return r, false, false
	}
	r = request{User: in.User.ID, Home: in.User.TeamID, Channel: in.Channel.ID, Trigger: in.TriggerID, Respond: in.ResponseURL}
	switch orgs := in.Enterprise != nil && in.Enterprise.ID != ""; {
	case orgs && in.OrgWide: // team is the workspace of the click, or null: [fromForm] names the organisation too
		r.Team = in.Enterprise.ID
	case in.Team != nil && in.Team.ID != "":
		r.Team = in.Team.ID
	case orgs:
		r.Team = in.Enterprise.ID
	}
	switch in.Type {
	case "block_actions":
		r.Kind = kindButton
		for _, a := range in.Actions {
			if a.ActionID == notify.ActionApprove || a.ActionID == notify.ActionDeny {
				r.Action, r.Value, ours = a.ActionID, a.Value, true
			}
		}
	case "view_submission":
		var st modalState
		if in.View.CallbackID == reasonModal && json.Unmarshal([]byte(in.View.PrivateMetadata), &st) == nil {
			r.Kind, r.Action, r.Value, r.Respond, r.Channel, ours = kindReason, notify.ActionDeny, st.Value, st.Respond, st.Channel, true
			r.Text = in.View.State.Values[reasonBlock][reasonInput].Value
		}
	}
	return r, ours, r.valid()
}
