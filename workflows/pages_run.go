package workflows

import "rekey/internal/page"

// PagesRun is what a run over pages hands to its next run.
type PagesRun struct {
	Groups []page.Group `json:"groups"`
	Passes int          `json:"passes"`
	Facts  string       `json:"facts"`
}
