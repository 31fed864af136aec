// Package all is the list of providers. A new provider is one folder and one line
// in [Providers]; the tests of this package say what it still lacks.
package all

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"rekey/activities"
	"rekey/activities/awsiam"
	"rekey/activities/postgres"
)

// Providers lists every provider, by code. It is kept by hand: no init, no blank
// imports.
func Providers() []activities.Provider {
	return []activities.Provider{
		awsiam.Provider(),
		postgres.Provider(),
	}
}

// A Registry finds providers and recognises their keys. It is immutable.
type Registry struct {
	providers []activities.Provider
	kinds     []kind
	secrets   []*regexp.Regexp
}

type kind struct {
	provider, kind string
	pattern        *regexp.Regexp
}

// A Match is a key id that was recognised in a text.
type Match struct {
	Provider, Kind, ID string
	// Start and End are its place in the text, in bytes.
	Start, End int
}

// NewRegistry holds the providers given; it fails on a code used twice and on a
// pattern that does not compile.
func NewRegistry(providers ...activities.Provider) (*Registry, error) {
	r := &Registry{}
	for _, p := range providers {
		d := p.Descriptor
		if _, ok := r.Lookup(d.Code); ok {
			return nil, fmt.Errorf("provider code %q is used twice", d.Code)
		}
		r.providers = append(r.providers, p)
		for _, k := range d.Kinds {
			re, err := regexp.Compile(k.Pattern)
			if err != nil {
				return nil, fmt.Errorf("provider %s, kind %s: pattern: %w", d.Code, k.Kind, err)
			}
			r.kinds = append(r.kinds, kind{d.Code, k.Kind, re})
		}
		for _, s := range d.Secrets {
			re, err := regexp.Compile(s)
			if err != nil {
				return nil, fmt.Errorf("provider %s: redaction pattern: %w", d.Code, err)
			}
			r.secrets = append(r.secrets, re)
		}
	}
	return r, nil
}

// Default holds [Providers].
func Default() (*Registry, error) { return NewRegistry(Providers()...) }

// Providers are those held, in order.
func (r *Registry) Providers() []activities.Provider { return slices.Clone(r.providers) }

// Lookup finds a provider by its code.
func (r *Registry) Lookup(code string) (activities.Provider, bool) {
	i := slices.IndexFunc(r.providers, func(p activities.Provider) bool { return p.Descriptor.Code == code })
	if i < 0 {
		return activities.Provider{}, false
	}
	return r.providers[i], true
}

// Recognise finds the key ids in a text, in the order in which they stand there.
// One id gives one match: the first provider's that knows it. Where a pattern has a
// group, the group is the id and the rest its surroundings.
func (r *Registry) Recognise(text string) []Match {
	var out []Match
	for _, k := range r.kinds {
		for _, at := range k.pattern.FindAllStringSubmatchIndex(text, -1) {
			if len(at) > 2 && at[2] >= 0 {
				at = at[2:4]
			}
			m := Match{Provider: k.provider, Kind: k.kind, ID: text[at[0]:at[1]], Start: at[0], End: at[1]}
			if !slices.ContainsFunc(out, func(o Match) bool { return o.Start < m.End && m.Start < o.End }) {
				out = append(out, m)
			}
		}
	}
	slices.SortFunc(out, func(a, b Match) int { return a.Start - b.Start })
	return out
}

// Kind checks a key id that a person gave for a provider and tells its kind. want
// may be empty. The error is a sentence for that person and never repeats what
// may be a secret.
func (r *Registry) Kind(provider, want, id string) (string, error) {
	p, ok := r.Lookup(provider)
	if !ok {
		codes := make([]string, len(r.providers))
		for i, p := range r.providers {
			codes[i] = p.Descriptor.Code
		}
		return "", fmt.Errorf("unknown provider %q; there is %s", provider, strings.Join(codes, ", "))
	}
	got, err := p.Descriptor.CheckID(id)
	if err != nil {
		return "", err
	}
	if want != "" && want != got {
		return "", fmt.Errorf("%s is a %s, not a %s", id, got, want)
	}
	return got, nil
}

// Redactions are the patterns of what must be taken out of any text. Where a
// pattern has a group, the group is the secret; else the whole match is.
func (r *Registry) Redactions() []*regexp.Regexp { return slices.Clone(r.secrets) }
