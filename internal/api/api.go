// Package api is what rekey's command line and server say to each other over
// HTTP. Paths:
//
//	POST /api/v1/reports                      ReportRequest  -> 202 ReportResponse
//	GET  /api/v1/incidents?state=&after=      view.List
//	GET  /api/v1/incidents/{id}               view.Incident
//	GET  /api/v1/incidents/{id}/items?after=  view.Items
//	GET  /api/v1/incidents/{id}/plan          plan.Plan
//	POST /api/v1/incidents/{id}/statements    statement.Signed -> 200 workflows' Decision
//	GET  /api/v1/incidents/{id}/bundle        application/zip (a fresh export)
//	GET  /healthz /readyz
//
// Refusals are a view.Error with status 400 (malformed), 401, 403, 404, 409
// (refused by the incident) or 503 (Temporal unreachable).
package api

import "time"

// ReportRequest reports a key. Secret is the key's secret, base64; it is sealed
// before anything is stored and never echoed.
type ReportRequest struct {
	Provider string `json:"provider"`
	Kind     string `json:"kind,omitempty"`
	Account  string `json:"account,omitempty"`
	KeyID    string `json:"key_id"`
	Secret   string `json:"secret,omitempty"`
	// Playbook is the YAML text of a playbook to use instead of the first that
	// matches; the server accepts it only where its ceilings do.
	Playbook     string         `json:"playbook,omitempty"`
	PlaybookName string         `json:"playbook_name,omitempty"`
	Severity     string         `json:"severity,omitempty"`
	Reason       string         `json:"reason,omitempty"`
	Source       string         `json:"source,omitempty"`
	Confidence   string         `json:"confidence,omitempty"`
	Exposure     string         `json:"exposure,omitempty"`
	Claimed      time.Time      `json:"claimed,omitzero"`
	Evidence     []EvidenceFile `json:"evidence,omitempty"`
	// Copies are places where the reporter saw, or left, a copy of the secret
	// ("slack/T0123/C0456"). They are in the incident's scope; no secret is in them.
	Copies []string `json:"copies,omitempty"`
	DryRun bool     `json:"dry_run,omitempty"`
	// Nonce makes the same request, sent twice, one report.
	Nonce string `json:"nonce"`
}

// EvidenceFile is a file given with a report, base64.
type EvidenceFile struct {
	Name string `json:"name"`
	Data string `json:"data"`
}

// ReportResponse says which incident has it.
type ReportResponse struct {
	Schema   string `json:"schema"` // rekey.report/v1
	Incident string `json:"incident"`
	Report   string `json:"report"`
	FP       string `json:"fp"`
	// Existing: the key belonged to this incident already.
	Existing bool   `json:"existing"`
	Reopened bool   `json:"reopened,omitempty"`
	Playbook string `json:"playbook,omitempty"`
	URL      string `json:"url,omitempty"`
	// Possession: the secret was checked against the key.
	Possession string `json:"possession,omitempty"`
}
