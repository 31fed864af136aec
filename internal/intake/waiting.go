package intake

import (
	_ "embed"
	"fmt"
	"strings"

	"rekey/internal/playbook"
	"rekey/playbooks"
)

//go:embed waiting.yaml
var waitingText string

// waiting is the playbook of a report that none takes. It is written for the
// report's own provider and kind; a vendor's test message is only recorded,
// anything else asks a person before it starts.
func waiting(c *checked, quorum int) (*candidate, error) {
	start := playbooks.StartAsk
	if c.confidence == "sample" {
		start = playbooks.StartRecord
	}
	text := strings.NewReplacer("PROVIDER", c.key.Provider, "KIND", c.key.Kind, "START", string(start)).Replace(waitingText)
	pb, problems := playbook.Parse("none", []byte(text))
	if err := problems.Err(); err != nil {
		return nil, fmt.Errorf("intake: the playbook for reports that none takes: %w", err)
	}
	digest, err := playbook.DigestOf(pb)
	if err != nil {
		return nil, fmt.Errorf("intake: %w", err)
	}
	tighten(pb, quorum)
	return newCandidate(pb, digest)
}
