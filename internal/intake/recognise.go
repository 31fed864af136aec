package intake

import (
	"bytes"
	"fmt"
	"regexp"

	"rekey/activities"
	"rekey/internal/secret/redact"
)

// A recogniser tells what looks like a secret, by the patterns of every provider
// and the generic ones.
type recogniser struct{ r *redact.Redactor }

// Patterns are the secret patterns of every provider, for a redactor.
func Patterns(ds []activities.Descriptor) ([]redact.Pattern, error) {
	var out []redact.Pattern
	for _, d := range ds {
		for _, p := range d.Secrets {
			re, err := regexp.Compile(p)
			if err != nil {
				return nil, fmt.Errorf("a secret pattern of provider %s does not compile: %w", d.Code, err)
			}
			out = append(out, redact.Pattern{Name: d.Code, Regexp: re})
		}
	}
	return out, nil
}

func (r recogniser) looksSecret(s string) bool { return r.r.String(s) != s }

// count tells how many secrets of a known shape are in text.
func (r recogniser) count(text []byte) int {
	mark := []byte("[redacted:")
	return bytes.Count(r.r.Bytes(text), mark) - bytes.Count(text, mark)
}
