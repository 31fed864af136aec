// Package all is the list of channels. A new channel is one folder and one line in
// [Channels].
package all

import (
	"rekey/activities/notify"
	"rekey/activities/notify/email"
	"rekey/activities/notify/github"
	"rekey/activities/notify/slack"
	"rekey/activities/notify/webhook"
)

// Channels lists every channel, by code. It is kept by hand: no init, no blank
// imports.
func Channels() []notify.Channel {
	return []notify.Channel{
		email.Channel(),
		github.Channel(),
		slack.Channel(),
		webhook.Channel(),
	}
}

// Lookup finds a channel by its code.
func Lookup(code string) (notify.Channel, bool) {
	for _, c := range Channels() {
		if c.Descriptor.Code == code {
			return c, true
		}
	}
	return notify.Channel{}, false
}
