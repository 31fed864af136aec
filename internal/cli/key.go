package cli

import (
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"rekey/activities"
	"rekey/internal/playbook"
	"rekey/internal/secret/redact"
)

// A target is a key as it was named on the command line.
type target struct{ provider, kind, keyID string }

// target reads PROVIDER[/KIND] KEY-ID. A key id that is malformed is not repeated:
// it may be a secret in the wrong place.
func (a *app) target(provider, keyID string) (target, error) {
	code, kind, _ := strings.Cut(provider, "/")
	desc, ok := a.descriptor(code)
	if !ok {
		return target{}, Usage(suggest(code, a.providerCodes(), "`rekey provider list` shows the providers there are"), "unknown provider %s", shown(code))
	}
	if kind != "" {
		if _, ok := desc.Kind(kind); !ok {
			var kinds []string
			for _, k := range desc.Kinds {
				kinds = append(kinds, k.Kind)
			}
			return target{}, Usage(suggest(kind, kinds, "it has "+strings.Join(kinds, ", ")), "%s has no kind %s", code, shown(kind))
		}
	}
	if a.looksSecret(keyID) {
		return target{}, secretInArguments()
	}
	if desc.CheckID != nil {
		found, err := desc.CheckID(keyID)
		if err != nil {
			return target{}, Usage("give the public id of the key, never its secret; `rekey provider show "+code+"` tells what it looks like", "malformed key id: %s", withoutValue(err, keyID))
		}
		if kind != "" && found != "" && found != kind {
			return target{}, Usage("leave out the kind, or check the id", "this key id is of a %s, not of a %s", found, kind)
		}
		kind = found
	}
	return target{code, kind, keyID}, nil
}

// withoutValue gives the text of err unless it repeats what was typed.
func withoutValue(err error, value string) string {
	if text := err.Error(); value == "" || !strings.Contains(text, value) {
		return text
	}
	return "it is not one of this provider"
}

// descriptors are what the providers say of themselves.
func (a *app) descriptors() playbook.Descriptors {
	out := make(playbook.Descriptors, len(a.engine.Providers))
	for i, p := range a.engine.Providers {
		out[i] = p.Descriptor
	}
	return out
}

func (a *app) descriptor(code string) (activities.Descriptor, bool) {
	return a.descriptors().Descriptor(code)
}

func (a *app) providerCodes() []string { return a.descriptors().Providers() }

// looksSecret tells whether text holds what a provider says is a secret, or what
// is one anywhere.
func (a *app) looksSecret(text string) bool {
	var o redact.Options
	for _, d := range a.descriptors() {
		for _, pattern := range d.Secrets {
			if re, err := regexp.Compile(pattern); err == nil {
				o.Patterns = append(o.Patterns, redact.Pattern{Name: d.Code, Regexp: re})
			}
		}
	}
	r, err := redact.New(o)
	return err != nil || r.String(text) != text // without a redactor nothing is known to be safe
}

func secretInArguments() error {
	return Usage("other users of this machine can see arguments, and your shell keeps them: take it out of the shell's history, treat it as exposed here too, and give it with --secret-stdin or --secret-file",
		"a secret must never be an argument; it was not used and is not shown")
}

// keyArgs takes PROVIDER[/KIND] KEY-ID. A third argument is most likely the secret.
func keyArgs(_ *cobra.Command, args []string) error {
	switch len(args) {
	case 0:
		return Usage("for example: awsiam AKIAIOSFODNN7EXAMPLE", "PROVIDER[/KIND] and KEY-ID are missing")
	case 1:
		return Usage("for example: awsiam AKIAIOSFODNN7EXAMPLE", "KEY-ID is missing")
	case 2:
		return nil
	}
	return secretInArguments()
}

// completeKey completes the provider of PROVIDER[/KIND] KEY-ID.
func (a *app) completeKey(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []cobra.Completion
	for _, d := range a.descriptors() {
		out = append(out, cobra.CompletionWithDesc(d.Code, d.Name))
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
