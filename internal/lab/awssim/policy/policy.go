// Package policy parses and evaluates IAM policy documents the way AWS does for requests within
// one account: an explicit Deny wins, then any Allow, then the implicit deny.
//
// Rules: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html,
// grammar: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html,
// operators: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html.
// Left out, because nothing in the lab needs them: policy variables, ForAllValues/ForAnyValue,
// Binary* and Numeric* operators. A document that uses them is refused when it is put, so no
// document is ever half understood.
//
// To add an operator: one entry in the table in condition.go.
package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Document is a parsed policy.
type Document struct {
	Version    string
	Statements []Statement
}

// Statement is one statement of a policy.
type Statement struct {
	Sid          string
	Deny         bool
	Actions      []string
	NotActions   []string
	Resources    []string
	NotResources []string
	Principals   []string // AWS principals; only in trust policies; "*" is anyone
	Conditions   []Condition
}

// Condition is one operator on one context key.
type Condition struct {
	Operator string
	Key      string
	Values   []string
}

// Decision is the outcome of an evaluation.
type Decision int

// Decisions, weakest first.
const (
	ImplicitDeny Decision = iota
	Allow
	ExplicitDeny
)

// Context holds the condition keys of a request, lower case; an absent key is left out.
type Context map[string]string

// Request is what is asked.
type Request struct {
	Action   string // service:Action
	Resource string // ARN or *
	Context  Context
}

// ErrMalformed is wrapped by every parse error (AWS: MalformedPolicyDocument).
var ErrMalformed = errors.New("malformed policy document")

type rawStatement struct {
	Sid         string
	Effect      string
	Action      *stringList
	NotAction   *stringList
	Resource    *stringList
	NotResource *stringList
	Principal   json.RawMessage
	Condition   map[string]map[string]stringList
}

// stringList is a JSON string or list of strings; booleans are read as their text.
type stringList []string

func (l *stringList) UnmarshalJSON(data []byte) error {
	var one any
	if err := json.Unmarshal(data, &one); err != nil {
		return err
	}
	list, ok := one.([]any)
	if !ok {
		list = []any{one}
	}
	for _, v := range list {
		switch v := v.(type) {
		case string:
			*l = append(*l, v)
		case bool:
			*l = append(*l, fmt.Sprint(v))
		default:
			return errors.New("wants a string or a list of strings")
		}
	}
	return nil
}

// Parse reads a policy document and refuses what Evaluate would not understand.
func Parse(text string) (*Document, error) {
	var raw struct {
		Version   string
		ID        string `json:"Id"`
		Statement json.RawMessage
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&raw); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	var statements []rawStatement
	body := bytes.TrimSpace(raw.Statement)
	switch {
	case len(body) == 0:
		return nil, fmt.Errorf("%w: no Statement", ErrMalformed)
	case body[0] == '{':
		statements = make([]rawStatement, 1)
		if err := strict(body, &statements[0]); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
	default:
		if err := strict(body, &statements); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
	}
	doc := &Document{Version: raw.Version}
	for i, s := range statements {
		st, err := s.compile()
		if err != nil {
			return nil, fmt.Errorf("%w: statement %d: %w", ErrMalformed, i, err)
		}
		doc.Statements = append(doc.Statements, st)
	}
	return doc, nil
}

func strict(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	return dec.Decode(v)
}

func (s rawStatement) compile() (Statement, error) {
	st := Statement{Sid: s.Sid}
	switch s.Effect {
	case "Allow":
	case "Deny":
		st.Deny = true
	default:
		return st, fmt.Errorf("Effect %q is neither Allow nor Deny", s.Effect)
	}
	if (s.Action == nil) == (s.NotAction == nil) {
		return st, errors.New("wants Action or NotAction")
	}
	if s.Action != nil {
		st.Actions = *s.Action
	} else {
		st.NotActions = *s.NotAction
	}
	if s.Resource != nil {
		st.Resources = *s.Resource
	}
	if s.NotResource != nil {
		st.NotResources = *s.NotResource
	}
	if len(s.Principal) > 0 {
		principals, err := parsePrincipal(s.Principal)
		if err != nil {
			return st, err
		}
		st.Principals = principals
	}
	if st.Principals == nil && st.Resources == nil && st.NotResources == nil {
		return st, errors.New("wants Resource or NotResource")
	}
	for op, keys := range s.Condition {
		if _, ok := operator(op); !ok {
			return st, fmt.Errorf("condition operator %q is not known to the lab", op)
		}
		for key, values := range keys {
			st.Conditions = append(st.Conditions, Condition{Operator: op, Key: strings.ToLower(key), Values: values})
		}
	}
	return st, nil
}

func parsePrincipal(data json.RawMessage) ([]string, error) {
	var text string
	if json.Unmarshal(data, &text) == nil {
		if text != "*" {
			return nil, fmt.Errorf("Principal %q", text)
		}
		return []string{"*"}, nil
	}
	var byType map[string]stringList
	if err := json.Unmarshal(data, &byType); err != nil {
		return nil, err
	}
	out := []string{}
	for kind, names := range byType {
		for _, n := range names {
			if kind == "AWS" {
				out = append(out, n)
			} else {
				out = append(out, kind+":"+n) // Service and Federated never match a user or session here
			}
		}
	}
	return out, nil
}

// Evaluate gives the decision of a set of documents.
func Evaluate(docs []*Document, r Request) Decision {
	result := ImplicitDeny
	for _, d := range docs {
		for i := range d.Statements {
			s := &d.Statements[i]
			if !s.applies(r) {
				continue
			}
			if s.Deny {
				return ExplicitDeny
			}
			result = Allow
		}
	}
	return result
}

func (s *Statement) applies(r Request) bool {
	if s.Actions != nil && !matchAny(s.Actions, r.Action, true) || s.NotActions != nil && matchAny(s.NotActions, r.Action, true) {
		return false
	}
	if s.Resources != nil && !matchAny(s.Resources, r.Resource, false) || s.NotResources != nil && matchAny(s.NotResources, r.Resource, false) {
		return false
	}
	return s.conditionsHold(r.Context)
}

func (s *Statement) conditionsHold(ctx Context) bool {
	for _, c := range s.Conditions {
		if !c.holds(ctx) {
			return false
		}
	}
	return true
}

// Trusts evaluates a trust policy for a caller: ARN, account id and action. named tells whether
// the caller's own ARN is named, which needs no Allow on the caller's side within one account.
func Trusts(doc *Document, callerARN, account, action string, ctx Context) (decision Decision, named bool) {
	root := "arn:aws:iam::" + account + ":root"
	for i := range doc.Statements {
		s := &doc.Statements[i]
		if s.Actions != nil && !matchAny(s.Actions, action, true) || !s.conditionsHold(ctx) {
			continue
		}
		for _, p := range s.Principals {
			if p != "*" && p != root && p != account && p != callerARN {
				continue
			}
			if s.Deny {
				return ExplicitDeny, false
			}
			decision = Allow
			named = named || p == callerARN
		}
	}
	return decision, named
}

// DeniesAll tells whether the document denies every action on every resource without condition.
func (d *Document) DeniesAll() bool {
	return d.denies(func(s *Statement) bool { return len(s.Conditions) == 0 })
}

// DeniesOlderSessions tells whether it denies everything to sessions issued before a time.
func (d *Document) DeniesOlderSessions() bool { return d.deniesOn("aws:tokenissuetime") }

// DeniesBySource tells whether it denies everything by source address.
func (d *Document) DeniesBySource() bool { return d.deniesOn("aws:sourceip") }

func (d *Document) deniesOn(key string) bool {
	return d.denies(func(s *Statement) bool {
		for _, c := range s.Conditions {
			if c.Key == key {
				return true
			}
		}
		return false
	})
}

func (d *Document) denies(cond func(*Statement) bool) bool {
	for i := range d.Statements {
		s := &d.Statements[i]
		if s.Deny && matchAny(s.Actions, "any:Thing", true) && matchAny(s.Resources, "*", false) && cond(s) {
			return true
		}
	}
	return false
}

func matchAny(patterns []string, s string, fold bool) bool {
	for _, p := range patterns {
		if Match(p, s, fold) {
			return true
		}
	}
	return false
}

// Match matches a pattern with * (any text) and ? (one byte), without backtracking beyond the
// last star, so that its time is bounded by len(pattern) x len(s).
func Match(pattern, s string, fold bool) bool {
	if fold {
		pattern, s = strings.ToLower(pattern), strings.ToLower(s)
	}
	p, i, star, mark := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}
