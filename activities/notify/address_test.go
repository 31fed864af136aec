package notify_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/activities/notify"
)

func TestAddressesOfContacts(t *testing.T) {
	tests := map[string]struct {
		channel, address string
		bad              string
	}{
		"mail":                  {channel: "email", address: "security@customer.example"},
		"mail with a tag":       {channel: "email", address: "on-call+rekey@mail.customer.example"},
		"local mail":            {channel: "email", address: "root@localhost"},
		"webhook":               {channel: "webhook", address: "https://hooks.customer.example/rekey?tenant=1"},
		"name and mail":         {channel: "email", address: "Eve <eve@customer.example>", bad: "not a mail address"},
		"two mails":             {channel: "email", address: "a@b.example,c@d.example", bad: "not a mail address"},
		"line end":              {channel: "email", address: "a@b.example\nBcc: c@d.example", bad: "not a mail address"},
		"no domain":             {channel: "email", address: "eve@", bad: "not a mail address"},
		"bare name":             {channel: "email", address: "eve", bad: "not a mail address"},
		"host without a domain": {channel: "email", address: "eve@intranet", bad: "not a mail address"},
		"letters beyond ASCII":  {channel: "email", address: "eve@bücher.example", bad: "ASCII"},
		"too long":              {channel: "email", address: strings.Repeat("a", 250) + "@b.example", bad: "not a mail address"},
		"empty":                 {channel: "email", address: "", bad: "not a mail address"},
		"relative URL":          {channel: "webhook", address: "/hooks", bad: "https://host/path"},
		"another scheme":        {channel: "webhook", address: "file:///etc/passwd", bad: "https://host/path"},
		"password in the URL":   {channel: "webhook", address: "https://user:x@h.example/", bad: "no user or password"},
		"fragment":              {channel: "webhook", address: "https://h.example/#x", bad: "fragment"},
		"unknown channel":       {channel: "fax", address: "1", bad: "email or webhook"},
		"no channel":            {channel: "", address: "a@b.example", bad: "channel is missing"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := notify.CheckAddress(tt.channel, tt.address)
			if tt.bad == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tt.bad)
			if len(tt.address) > 5 {
				require.NotContains(t, err.Error(), tt.address, "an address belongs to a person")
			}
		})
	}
}
