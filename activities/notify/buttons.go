package notify

import (
	"regexp"
	"strings"
)

// Action ids of the buttons of a card. A channel that draws them and the server that
// takes the click share these names and [ButtonValue].
const (
	ActionApprove = "rekey_approve"
	ActionDeny    = "rekey_deny"
)

// buttonV is the first field of a button's value: a card that was drawn by an older
// build is still on the wall after an upgrade.
const buttonV = "v1"

var buttonRE = regexp.MustCompile(`^v1:(inc-[0-9a-f]{12}):(a[1-9][0-9]{0,5}):((?:sha256:[0-9a-f]{64})?)$`)

// ButtonValue is the value of an approve or deny button: which question of which
// incident, bound to the wave as it was shown ("v1:<incident>:<approval id>:<wave
// hash>"). Whoever sees the message can read it and send it: it names a question and
// permits nothing. The wave hash is empty for a question that is about no wave. It is
// at most 103 bytes, below Slack's 2,000
// (https://docs.slack.dev/reference/block-kit/block-elements/button-element).
func ButtonValue(incident, approval, waveHash string) string {
	return strings.Join([]string{buttonV, incident, approval, waveHash}, ":")
}

// ParseButton takes a [ButtonValue] apart; ok is false for anything else, whoever
// sent it.
func ParseButton(value string) (incident, approval, waveHash string, ok bool) {
	m := buttonRE.FindStringSubmatch(value)
	if m == nil {
		return "", "", "", false
	}
	return m[1], m[2], m[3], true
}
