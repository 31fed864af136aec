package config

import (
	"fmt"
	"strings"
)

// A Problem is one thing that is wrong with the configuration, and what to do.
type Problem struct {
	// Where is "rekey.yaml:3:5", "REKEY_LISTEN_HTTP" or "--listen-http".
	Where string
	// Key is the dotted key, "" when it is about the whole file.
	Key  string
	Text string
}

func (p Problem) String() string {
	if p.Key == "" {
		return p.Where + ": " + p.Text
	}
	return fmt.Sprintf("%s: %s: %s", p.Where, p.Key, p.Text)
}

// An InvalidError lists everything that is wrong with the configuration: usage,
// exit code 2. It never holds a value that could be a secret.
type InvalidError struct{ Problems []Problem }

func (e *InvalidError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}
