package awsiam

import (
	"encoding/json"
	"strings"
)

// values is a JSON string or list of strings, as IAM allows in most places.
type values []string

// UnmarshalJSON takes both forms, and the booleans and numbers that conditions
// may hold.
func (v *values) UnmarshalJSON(b []byte) error {
	var many []any
	if err := json.Unmarshal(b, &many); err != nil {
		var one any
		if err := json.Unmarshal(b, &one); err != nil {
			return err
		}
		many = []any{one}
	}
	*v = nil
	for _, x := range many {
		switch x := x.(type) {
		case string:
			*v = append(*v, x)
		default:
			raw, err := json.Marshal(x)
			if err != nil {
				return err
			}
			*v = append(*v, string(raw))
		}
	}
	return nil
}

// MarshalJSON writes a single value bare, which saves characters of the quota
// (2,048 for all inline policies of a user).
func (v values) MarshalJSON() ([]byte, error) {
	if len(v) == 1 {
		return json.Marshal(v[0])
	}
	return json.Marshal([]string(v))
}

type statement struct {
	Sid         string                       `json:"Sid,omitempty"`
	Effect      string                       `json:"Effect"`
	Action      values                       `json:"Action,omitempty"`
	NotAction   values                       `json:"NotAction,omitempty"`
	Resource    values                       `json:"Resource,omitempty"`
	NotResource values                       `json:"NotResource,omitempty"`
	Condition   map[string]map[string]values `json:"Condition,omitempty"`
}

type statements []statement

// UnmarshalJSON takes one statement or a list.
func (s *statements) UnmarshalJSON(b []byte) error {
	var many []statement
	if err := json.Unmarshal(b, &many); err == nil {
		*s = many
		return nil
	}
	var one statement
	if err := json.Unmarshal(b, &one); err != nil {
		return err
	}
	*s = statements{one}
	return nil
}

// onlyDenies tells that a policy takes rights away and gives none.
func (d document) onlyDenies() bool {
	for _, s := range d.Statement {
		if s.Effect != "Deny" {
			return false
		}
	}
	return len(d.Statement) > 0
}

// matches is IAM's matching of actions: "*" and "?" as wildcards, case ignored
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_action.html).
func matches(pattern, s string) bool {
	return wild(strings.ToLower(pattern), strings.ToLower(s))
}

func wild(p, s string) bool {
	star, mark, i, j := -1, 0, 0, 0
	for j < len(s) {
		switch {
		case i < len(p) && p[i] == '*':
			star, mark = i, j
			i++
		case i < len(p) && (p[i] == '?' || p[i] == s[j]):
			i++
			j++
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}
