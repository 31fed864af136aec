package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"rekey/activities"
)

func (a *app) providerCommand() *cobra.Command {
	return family("provider", "Look at providers and check our permissions", example(
		"rekey provider list", "rekey provider show awsiam", "rekey provider check awsiam"),
		a.providerListCommand(), a.providerShowCommand(), a.providerCheckCommand())
}

// Shapes of contracts section 4, `provider list --json`.
type (
	providerJSON struct {
		Code        string             `json:"code"`
		Name        string             `json:"name"`
		Docs        string             `json:"docs"`
		Configured  []string           `json:"configured"`
		Kinds       []kindJSON         `json:"kinds"`
		Limits      []activities.Limit `json:"limits"`
		Stores      []string           `json:"stores,omitempty"`
		ReadPolicy  string             `json:"read_policy,omitempty"`
		WritePolicy string             `json:"write_policy,omitempty"`
	}
	kindJSON struct {
		activities.KindInfo
		Verbs         map[activities.Verb]verbJSON `json:"verbs"`
		PropagationMs int64                        `json:"propagation_ms"`
	}
	// verbJSON leaves out what a person, who does a verb by hand, does not have.
	verbJSON struct {
		Support     activities.Support `json:"support"`
		Reversible  *bool              `json:"reversible,omitempty"`
		Idempotent  *bool              `json:"idempotent,omitempty"`
		Permissions []string           `json:"permissions,omitempty"`
		Steps       string             `json:"steps,omitempty"`
		Proof       activities.Proof   `json:"proof,omitempty"`
	}
)

func describe(d activities.Descriptor, configured []string, policies bool) providerJSON {
	p := providerJSON{Code: d.Code, Name: d.Name, Docs: d.Docs, Configured: configured, Kinds: []kindJSON{}, Limits: d.Limits, Stores: d.Stores}
	if p.Limits == nil {
		p.Limits = []activities.Limit{}
	}
	if policies {
		p.ReadPolicy, p.WritePolicy = d.ReadPolicy, d.WritePolicy
	}
	for _, k := range d.Kinds {
		j := kindJSON{KindInfo: k, Verbs: map[activities.Verb]verbJSON{}, PropagationMs: k.Propagation.Milliseconds()}
		for v, info := range k.Verbs {
			one := verbJSON{Support: info.Support, Permissions: info.Permissions, Steps: info.Steps, Proof: info.Proof}
			if info.Support == activities.ByAPI {
				one.Reversible, one.Idempotent = &info.Reversible, &info.Idempotent
			}
			j.Verbs[v] = one
		}
		p.Kinds = append(p.Kinds, j)
	}
	return p
}

func (a *app) providerListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the providers: what they can do, and which are configured",
		Example: example("rekey provider list", "rekey provider list --json"),
		Args:    exactly(),
		RunE: func(*cobra.Command, []string) error {
			cfg, err := a.settings()
			if err != nil {
				return err
			}
			list := []providerJSON{}
			t := table{}
			t.add("PROVIDER", "CONFIGURED", "KIND", "BY API", "BY HAND", "NAME")
			for _, d := range a.descriptors() {
				accounts := cfg.accounts(d.Code)
				list = append(list, describe(d, accounts, false))
				for _, k := range d.Kinds {
					api, hand := verbsBy(k)
					t.add(d.Code, or(strings.Join(accounts, " "), "-"), k.Kind, strings.Join(api, " "), or(strings.Join(hand, " "), "-"), d.Name)
				}
			}
			if a.asJSON {
				writeJSON(a.io.Out, object{{"schema", "rekey.provider/v1"}, {"providers", list}, {"next", ""}})
				return nil
			}
			fmt.Fprintln(a.io.Out, strings.Join(t.lines(""), "\n"))
			return nil
		},
	}
}

func verbsBy(k activities.KindInfo) (api, hand []string) {
	for _, v := range activities.Verbs() {
		switch info, ok := k.Verbs[v]; {
		case ok && info.Support == activities.ByAPI:
			api = append(api, string(v))
		case ok && info.Support == activities.ByHuman:
			hand = append(hand, string(v))
		}
	}
	return api, hand
}

func (a *app) providerShowCommand() *cobra.Command {
	var policy string
	cmd := &cobra.Command{
		Use:               "show PROVIDER",
		Short:             "Show all that is known of a provider, with the permissions to grant",
		Example:           example("rekey provider show awsiam", "rekey provider show awsiam --policy read > rekey-read.json"),
		Args:              exactly("PROVIDER"),
		ValidArgsFunction: a.completeKey,
		RunE: func(_ *cobra.Command, args []string) error {
			d, ok := a.descriptor(args[0])
			if !ok {
				return Usage(suggest(args[0], a.providerCodes(), "`rekey provider list` shows the providers there are"), "unknown provider %s", shown(args[0]))
			}
			switch policy {
			case "read":
				fmt.Fprintln(a.io.Out, strings.TrimRight(d.ReadPolicy, "\n"))
				return nil
			case "write":
				fmt.Fprintln(a.io.Out, strings.TrimRight(d.WritePolicy, "\n"))
				return nil
			}
			cfg, err := a.settings()
			if err != nil {
				return err
			}
			p := describe(d, cfg.accounts(d.Code), true)
			if a.asJSON {
				writeJSON(a.io.Out, object{{"schema", "rekey.provider/v1"}, {"providers", []providerJSON{p}}})
				return nil
			}
			fmt.Fprintln(a.io.Out, strings.Join(providerText(d, p, palette(a.io.colour(a.io.OutTTY))), "\n"))
			return nil
		},
	}
	choice(cmd, &policy, "policy", "write only this policy, ready to paste", "read", "write")
	return cmd
}

func providerText(d activities.Descriptor, p providerJSON, c palette) []string {
	out := []string{c.bold(d.Code) + "  " + d.Name, "  docs        " + d.Docs, "  configured  " + or(strings.Join(p.Configured, " "), "no account; add one to rekey.yaml under providers."+d.Code)}
	for _, k := range d.Kinds {
		out = append(out, "", c.bold(k.Kind))
		facts := table{}
		facts.add("looks like", k.Recogniser)
		facts.add("propagation", span(k.Propagation))
		facts.add("sessions", yesNo(k.SessionsOutlive, "outlive the key: they are ended too", "end with the key"))
		facts.add("secret", yesNo(k.ProbeWithoutSecret, "not needed to prove death", "needed to prove death by replay"))
		out = append(out, facts.lines("  ")...)
		t := table{}
		t.add("VERB", "BY", "UNDO", "TWICE", "PROVEN BY", "NEEDS")
		for _, v := range activities.Verbs() {
			info, ok := k.Verbs[v]
			switch {
			case !ok:
				t.add(string(v), "-")
			case info.Support == activities.ByHuman:
				t.add(string(v), "a person", "", "", "", info.Steps)
			default:
				undo := "-"
				if v.Mutates() {
					undo = yesNo(info.Reversible, "yes", "no")
				}
				t.add(string(v), "api", undo, yesNo(info.Idempotent, "same effect", "settled first"), or(string(info.Proof), "-"), someOf(info.Permissions))
			}
		}
		out = append(out, t.lines("  ")...)
	}
	if len(d.Limits) > 0 {
		out = append(out, "", c.bold("Limits"))
		t := table{}
		for _, l := range d.Limits {
			t.add(l.API, l.Rate, "per "+l.Per)
		}
		out = append(out, t.lines("  ")...)
	}
	if d.ReadPolicy != "" || d.WritePolicy != "" {
		out = append(out, "", fmt.Sprintf("Policies to grant: rekey provider show %s --policy read|write", d.Code))
	}
	return out
}

// someOf lists the first words and counts the others; --json and --policy have all.
func someOf(words []string) string {
	const few = 3
	if len(words) <= few+1 {
		return strings.Join(words, " ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(words[:few], " "), len(words)-few)
}

func yesNo(b bool, yes, no string) string {
	if b {
		return yes
	}
	return no
}

func (a *app) providerCheckCommand() *cobra.Command {
	if a.engine.Check == nil {
		return nil
	}
	o := CheckOptions{}
	cmd := &cobra.Command{
		Use:               "check [PROVIDER]",
		Short:             "Test our own permissions at the providers; read-only",
		Example:           example("rekey provider check", "rekey provider check awsiam --account prod --json"),
		Args:              exactly("[PROVIDER]"),
		ValidArgsFunction: a.completeKey,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				if _, ok := a.descriptor(args[0]); !ok {
					return Usage(suggest(args[0], a.providerCodes(), "`rekey provider list` shows the providers there are"), "unknown provider %s", shown(args[0]))
				}
				o.Provider = args[0]
			}
			if o.Account != "" && o.Provider == "" {
				return Usage("name the provider too", "--account is of one provider")
			}
			o.Common = a.common()
			r, err := a.engine.Check(cmd.Context(), o, a.io)
			if err != nil {
				return err
			}
			return a.renderCheck(r)
		},
	}
	cmd.Flags().StringVar(&o.Account, "account", "", "only this configured account")
	return cmd
}

func (a *app) renderCheck(r CheckResult) error {
	r.Schema = SchemaCheck
	faults := 0
	for _, acc := range r.Accounts {
		faults += len(acc.Problems)
		for _, v := range acc.Verbs {
			if v.State == "denied" {
				faults++
			}
		}
	}
	if a.asJSON {
		writeJSON(a.io.Out, r)
	} else {
		cleanAll(&r)
		if len(r.Accounts) == 0 {
			a.tell("No provider is configured: add an account to rekey.yaml under providers.")
		}
		p := palette(a.io.colour(a.io.OutTTY))
		for _, acc := range r.Accounts {
			fmt.Fprintf(a.io.Out, "%s  %s\n", p.bold(acc.Provider+"/"+acc.Account), acc.Identity)
			t := table{}
			for _, v := range acc.Verbs {
				state := v.State
				if state == "denied" {
					state = p.red(state)
				}
				t.add(v.Verb, state, prefixed("missing ", strings.Join(v.Missing, " ")))
			}
			for _, l := range t.lines("  ") {
				fmt.Fprintln(a.io.Out, l)
			}
			for _, f := range acc.Problems {
				fmt.Fprintf(a.io.Out, "  %s: %s\n", p.red(line(f.Message)), line(f.Do))
			}
		}
	}
	if faults > 0 {
		return said(CodeFaultsFound, "permissions are missing")
	}
	return nil
}
