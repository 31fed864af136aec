// Package playbook loads, checks, evaluates and draws playbooks.
//
// [Parse] turns a file into a [playbooks.Playbook] or says, for each mistake, its
// line, column and mend. An [Evaluator] decides the strategy of an item from facts.
// [Schema], [Mermaid] and [Digest] are for editors, people and pins.
//
// # Extending the format
//
// A new key is a field in package playbooks with yaml, json and
// jsonschema_description tags: decoder, schema and unknown-key hints come from
// them. What may not be written there is a check in check.go (values), lint.go
// (danger) or provider.go (what the provider must have), with a code of its own in
// code.go and a row in the table test. A new fact is a row in
// [playbooks.FactTable]. Then run go generate.
package playbook

import (
	"fmt"

	"rekey/internal/canon"
	"rekey/playbooks"
)

//go:generate go run rekey/internal/gen/playbookdocs

// An Option changes what [Parse] checks.
type Option func(*options)

type options struct {
	providers ProviderInfo
	folder    string
}

// WithProviders also checks what the playbook asks of its provider.
func WithProviders(p ProviderInfo) Option { return func(o *options) { o.providers = p } }

// InFolder also checks that the playbook's name is its folder's.
func InFolder(name string) Option { return func(o *options) { o.folder = name } }

// Parse reads a playbook. file is the name that problems carry. The playbook is
// nil when a problem forbids its use; with warnings alone it is given.
func Parse(file string, src []byte, opts ...Option) (*playbooks.Playbook, Problems) {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	d, pb := decode(file, src)
	if pb == nil {
		return nil, d.problems.sorted()
	}
	c := &checker{document: d, pb: pb}
	c.head(o.folder)
	c.values()
	c.rules()
	c.approvals()
	c.restore(o.providers)
	c.danger()
	if o.providers != nil {
		c.provider(o.providers)
	}
	problems := d.problems.sorted()
	if problems.Failed() {
		return nil, problems
	}
	return pb, problems
}

// Digest is "sha256:" and the hash of the canonical JSON (RFC 8785) of the parsed
// playbook: comments, order of keys and layout do not change it.
func Digest(src []byte) (string, error) {
	pb, problems := Parse("playbook.yaml", src)
	if pb == nil {
		return "", problems.Err()
	}
	return DigestOf(pb)
}

// DigestOf is the [Digest] of a parsed playbook.
func DigestOf(pb *playbooks.Playbook) (string, error) {
	h, err := canon.HashOf(pb)
	if err != nil {
		return "", fmt.Errorf("playbook %s: %w", pb.Name, err)
	}
	return h, nil
}
