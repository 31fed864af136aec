package notify

import (
	"errors"
	"net/mail"
	"net/url"
	"strings"
)

// maxMailbox is the longest mailbox of a path (RFC 5321 section 4.5.3.1.3: 256 with
// the angle brackets).
const maxMailbox = 254

// Senders lists the channels of this build that can carry a notice, by code.
func Senders() []string { return []string{"email", "webhook"} }

// CheckAddress tells what is wrong with the address of a contact, for the person
// who wrote it; nil when a notice can be sent there. The address itself is not in
// the error: it belongs to a person.
func CheckAddress(channel, address string) error {
	switch channel {
	case "email":
		return CheckMailbox(address)
	case "webhook":
		return CheckURL(address)
	case "":
		return errors.New("channel is missing: write " + strings.Join(Senders(), " or "))
	}
	return errors.New("unknown channel: write " + strings.Join(Senders(), " or "))
}

// CheckMailbox refuses what is not one bare mailbox, local@domain in ASCII: no
// display name, no list, nothing that could end a header or a command.
func CheckMailbox(s string) error {
	for _, r := range s {
		if r <= ' ' || r >= 0x7f {
			return errors.New("not a mail address: write local@domain.example without spaces, name or letters beyond ASCII")
		}
	}
	a, err := mail.ParseAddress(s)
	if err != nil || a.Name != "" || a.Address != s || len(s) > maxMailbox || !strings.Contains(s[strings.LastIndex(s, "@")+1:], ".") && !strings.HasSuffix(s, "@localhost") {
		return errors.New("not a mail address: write one as local@domain.example, without a name or brackets")
	}
	return nil
}

// CheckURL refuses what is not the absolute http or https address of a receiver.
// Whether http is allowed is for the channel to say.
func CheckURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http"):
		return errors.New("not the address of a webhook: write https://host/path")
	case u.User != nil:
		return errors.New("the address of a webhook holds no user or password: the receiver checks the signature")
	case u.Fragment != "":
		return errors.New("the address of a webhook has no fragment (#…)")
	}
	return nil
}
