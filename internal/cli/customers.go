package cli

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"rekey/activities/notify/webhook"
	"rekey/internal/estate"
	"rekey/internal/secret"
	"rekey/playbooks"
)

func (a *app) customersCommand() *cobra.Command {
	return family("customers", "Look at who is told when a key is cut, and hand out webhook secrets",
		example("rekey customers check", "rekey customers webhook-secret C033"),
		a.customersCheckCommand(), a.customersSecretCommand())
}

// Shapes of `customers check --json`. Addresses are in none: the answer goes into
// tickets and logs.
type (
	customersJSON struct {
		Schema     string          `json:"schema"`
		Digest     string          `json:"digest"` // of the customers files
		Channels   []string        `json:"channels"`
		Recipients []recipientJSON `json:"recipients"`
		// Untold are keys whose cut nobody is told of by a channel.
		Untold []untoldJSON `json:"untold"`
		Faults []faultJSON  `json:"faults"`
	}
	recipientJSON struct {
		Audience      string        `json:"audience"`
		Ref           string        `json:"ref"`
		ContractHours int           `json:"contract_hours"`
		Keys          []string      `json:"keys"`
		Contacts      []contactJSON `json:"contacts"`
		Reachable     bool          `json:"reachable"`
	}
	contactJSON struct {
		Order   int    `json:"order"`
		Channel string `json:"channel"`
		Usable  bool   `json:"usable"`
		Why     string `json:"why,omitempty"`
	}
	untoldJSON struct {
		Key string `json:"key"`
		Why string `json:"why"`
	}
	faultJSON struct {
		What string `json:"what"`
		Do   string `json:"do"`
	}
)

// noticeChannels are those that carry notices.
func noticeChannels() []string { return []string{"email", "webhook"} }

func (a *app) customersCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Check the files of owners and customers: who can be told now, and which keys have nobody",
		Long: `check reads the estate and customers files that rekey.yaml names and says, for each
owner and customer, which of their contacts can be used with the channels that are
configured, and which keys have nobody who can be told. It sends nothing and calls
nobody: "rekey doctor" tries the channels themselves. Addresses are not shown.

It fails (exit code 1) when a file is wrong, when an owner or customer cannot be
told by any channel, or when a key of the estate has nobody to tell.`,
		Example: example("rekey customers check", "rekey customers check --json"),
		Args:    exactly(),
		RunE: func(*cobra.Command, []string) error {
			s, err := a.settings()
			if err != nil {
				return err
			}
			dir, err := estate.LoadDirectory(s.Estate.Files, s.Customers.Files)
			if err != nil {
				return Failed(CodeFaultsFound, "mend that line; nobody can be told by a channel until then", "%s", err)
			}
			known, err := a.estateKeys(s)
			if err != nil {
				return Failed(CodeFaultsFound, "mend that line", "%s", err)
			}
			out := checkCustomers(dir, known, s.ConfiguredChannels())
			if a.asJSON {
				writeJSON(a.io.Out, out)
			} else {
				fmt.Fprintln(a.io.Out, strings.Join(customersText(out), "\n"))
			}
			if len(out.Faults) > 0 {
				return said(CodeFaultsFound, fmt.Sprintf("%d faults", len(out.Faults)))
			}
			return nil
		},
	}
}

// estateKeys reads the keys of the estate. Their fingerprints are not used here: a
// key made for this moment will do.
func (a *app) estateKeys(s settings) ([]estate.Key, error) {
	fp, err := secret.NewFingerprinter(bytes.Repeat([]byte{1}, secret.KeySize))
	if err != nil {
		return nil, err
	}
	e, err := estate.Load(s.Estate.Files, s.Customers.Files, fp)
	if err != nil {
		return nil, err
	}
	return e.Keys(), nil
}

// checkCustomers tells who can be told with the channels given.
func checkCustomers(dir *estate.Directory, keys []estate.Key, channels []string) customersJSON {
	out := customersJSON{Schema: "rekey.customers/v1", Digest: dir.Digest, Channels: []string{}, Recipients: []recipientJSON{}, Untold: []untoldJSON{}, Faults: []faultJSON{}}
	fault := func(do, format string, args ...any) {
		out.Faults = append(out.Faults, faultJSON{fmt.Sprintf(format, args...), do})
	}
	for _, c := range noticeChannels() {
		if slices.Contains(channels, c) {
			out.Channels = append(out.Channels, c)
		}
	}
	reached := map[string]bool{}   // audience/ref
	customers := map[string]bool{} // keys that a customer is told of
	for _, r := range dir.All() {
		j := recipientJSON{Audience: r.Audience, Ref: r.Ref, ContractHours: r.ContractHours, Keys: append([]string{}, r.Keys...), Contacts: []contactJSON{}}
		for _, c := range r.Contacts {
			one := contactJSON{Order: c.Order, Channel: c.Channel, Usable: slices.Contains(out.Channels, c.Channel)}
			switch {
			case one.Usable:
				j.Reachable = true
			case slices.Contains(noticeChannels(), c.Channel):
				one.Why = "channels." + c.Channel + " is not configured in rekey.yaml"
			default:
				one.Why = "no notice goes by " + c.Channel
			}
			j.Contacts = append(j.Contacts, one)
		}
		if !j.Reachable {
			fault("give it a contact, or configure the channel of one: a person is asked to tell them until then", "%s %s cannot be told by any channel", r.Audience, r.Ref)
		}
		reached[r.Audience+"/"+r.Ref] = j.Reachable
		if j.Reachable && r.Audience == playbooks.AudienceCustomer {
			for _, k := range r.Keys {
				customers[k] = true
			}
		}
		out.Recipients = append(out.Recipients, j)
	}
	for _, k := range keys {
		why := ""
		switch {
		case customers[k.ID]:
		case k.Owner == "":
			why = "it has no owner and no customer who can be told"
		case !reached[playbooks.AudienceOwner+"/"+k.Owner]:
			why = "its owner " + k.Owner + " has no contact that can be used"
		}
		if why != "" {
			out.Untold = append(out.Untold, untoldJSON{k.ID, why})
			fault("give its owner a contact under owners of the estate file, or name it in the keys of a customer", "nobody can be told of key %s: %s", k.ID, why)
		}
	}
	return out
}

func customersText(c customersJSON) []string {
	out := []string{"channels that carry notices: " + or(strings.Join(c.Channels, " "), "none is configured: a person tells everybody")}
	t := table{}
	t.add("WHO", "REF", "CONTACTS", "CONTRACT", "KEYS")
	for _, r := range c.Recipients {
		var contacts []string
		for _, one := range r.Contacts {
			text := fmt.Sprintf("%d %s", one.Order, one.Channel)
			if !one.Usable {
				text += " (" + one.Why + ")"
			}
			contacts = append(contacts, text)
		}
		hours := "-"
		if r.ContractHours > 0 {
			hours = fmt.Sprintf("%d h", r.ContractHours)
		}
		t.add(r.Audience, r.Ref, or(strings.Join(contacts, ", "), "none"), hours, strconv.Itoa(len(r.Keys)))
	}
	if len(c.Recipients) > 0 {
		out = append(out, t.lines("")...)
	}
	for _, f := range c.Faults {
		out = append(out, "fault: "+f.What+": "+f.Do)
	}
	if len(c.Faults) == 0 {
		out = append(out, "everybody who is named can be told")
	}
	for i := range out {
		out[i] = clean(out[i])
	}
	return out
}

func (a *app) customersSecretCommand() *cobra.Command {
	var audience string
	cmd := &cobra.Command{
		Use:   "webhook-secret REF",
		Short: "Write the secret with which one customer checks our webhooks, to hand it over",
		Long: `webhook-secret writes to stdout the secret ("whsec_" and base64) with which the
customer or owner REF checks the signature of what rekey posts to them. It is derived
from channels.webhook.signing_key_file and REF: it is theirs alone, the same each
time, and kept nowhere. It is never logged; give it to them by a way that you trust,
such as a file:  rekey customers webhook-secret C033 > c033.secret

While the key file holds an older key on its second line, requests are signed with
both. docs/notices.md has the code that checks a request.`,
		Example: example("rekey customers webhook-secret C033 > c033.secret", "rekey customers webhook-secret payments --audience owner"),
		Args:    exactly("REF"),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := a.settings()
			if err != nil {
				return err
			}
			dir, err := estate.LoadDirectory(s.Estate.Files, s.Customers.Files)
			if err != nil {
				return Failed(CodeFailed, "`rekey customers check` says more", "%s", err)
			}
			who, ok := dir.Find(audience, args[0])
			if !ok {
				return Usage(suggest(args[0], refs(dir, audience), "`rekey customers check` lists who is known"), "no %s has that ref", audience)
			}
			if !slices.ContainsFunc(who.Contacts, func(c estate.Contact) bool { return c.Channel == webhook.Code }) {
				return Usage("give it a contact with channel webhook first", "%s %s has no webhook", audience, who.Ref)
			}
			key, err := signingKey(s)
			if err != nil {
				return err
			}
			if a.asJSON {
				writeJSON(a.io.Out, object{{"schema", "rekey.webhook-secret/v1"}, {"audience", audience}, {"ref", who.Ref}, {"secret", key.Secret(who.Ref)}})
				return nil
			}
			if a.io.OutTTY {
				a.tell("the secret of %s %s; whoever has it can forge our notices to them", audience, who.Ref)
			}
			fmt.Fprintln(a.io.Out, key.Secret(who.Ref))
			return nil
		},
	}
	audience = playbooks.AudienceCustomer
	choice(cmd, &audience, "audience", "who REF is", playbooks.AudienceCustomer, playbooks.AudienceOwner)
	return cmd
}

func refs(dir *estate.Directory, audience string) []string {
	var out []string
	for _, r := range dir.All() {
		if r.Audience == audience {
			out = append(out, r.Ref)
		}
	}
	return out
}

// signingKey reads the current key of the channel.
func signingKey(s settings) (webhook.Key, error) {
	acc, ok := s.Channel(webhook.Code)
	if !ok {
		return webhook.Key{}, Usage("add it to rekey.yaml: channels: {webhook: {signing_key_file: …}}, a key is made with `openssl rand -base64 32`", "channels.webhook is not configured")
	}
	raw, err := acc.Credential("signing_key")
	if err != nil {
		return webhook.Key{}, Failed(CodeFailed, "put the key there, mode 0600", "channels.webhook.signing_key_file cannot be read")
	}
	defer raw.Destroy()
	keys, err := webhook.Keys(raw.Reveal())
	if err != nil {
		return webhook.Key{}, Failed(CodeFailed, "mend that file", "%s", err)
	}
	return keys[0], nil
}
