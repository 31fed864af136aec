package playbooks

import "embed"

// FS holds <name>/playbook.yaml and <name>/README.md of every shipped playbook.
//
//go:embed */playbook.yaml */README.md
var FS embed.FS
