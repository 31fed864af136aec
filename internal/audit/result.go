package audit

import "slices"

// SchemaVerify is the schema name of [Result].
const SchemaVerify = "rekey.verify/v1"

// Result is what `rekey audit verify --json` prints (contracts section 4).
type Result struct {
	Schema       string           `json:"schema"`
	File         string           `json:"file"`
	Result       string           `json:"result"`
	Incident     string           `json:"incident,omitempty"`
	Origin       string           `json:"origin,omitempty"`
	BundleSchema int              `json:"bundle_schema,omitempty"`
	Events       int64            `json:"events"`
	Root         string           `json:"root,omitempty"`
	Checkpoint   ResultCheckpoint `json:"checkpoint"`
	Final        bool             `json:"final"`
	Redaction    ResultRedaction  `json:"redaction"`
	Anchors      Anchors          `json:"anchors"`
	// Previous is the digest of the bundle that this one was proven to extend.
	Previous  string   `json:"previous,omitempty"`
	Proved    []string `json:"proved"`
	NotProved []string `json:"not_proved"`
	Faults    []Fault  `json:"faults"`
	// FaultsMore counts faults beyond [Options.MaxFaults].
	FaultsMore int `json:"faults_more,omitempty"`
}

// The values of [Result].Result.
const (
	Verified   = "verified"
	Failed     = "failed"
	Unreadable = "unreadable"
)

// ExitCode is the exit code of `rekey audit verify` (contracts section 5).
func (r Result) ExitCode() int {
	switch r.Result {
	case Verified:
		return 0
	case Failed:
		return 4
	}
	return 1
}

// ResultCheckpoint says what was signed, and by which keys.
type ResultCheckpoint struct {
	Size int64       `json:"size"`
	Keys []ResultKey `json:"keys"`
}

// ResultKey is one key that signed. Trusted means that the caller named it.
type ResultKey struct {
	Name    string `json:"name"`
	Hash    string `json:"hash"`
	Trusted bool   `json:"trusted"`
}

// ResultRedaction says for whom the bundle was redacted; Audience is "" for the
// full one.
type ResultRedaction struct {
	Audience string `json:"audience"`
	Hidden   int64  `json:"hidden"`
}

// Anchors count proofs of third parties.
type Anchors struct {
	RFC3161 int `json:"rfc3161"`
	Witness int `json:"witness"`
}

// A Fault is one thing that is not as it was sealed. Index counts events from 0,
// Line the lines of File from 1; both are left out where they do not apply.
type Fault struct {
	Code   string `json:"code"`
	Index  *int64 `json:"index,omitempty"`
	File   string `json:"file,omitempty"`
	Line   int64  `json:"line,omitempty"`
	Detail string `json:"detail"`
}

// Fault codes (contracts section 4).
const (
	EventChanged     = "event-changed"
	EventMissing     = "event-missing"
	EventAdded       = "event-added"
	EventReordered   = "event-reordered"
	PageChanged      = "page-changed"
	RootDiffers      = "root-differs"
	SignatureBad     = "signature-bad"
	KeyUnknown       = "key-unknown"
	SizeDiffers      = "size-differs"
	ManifestDiffers  = "manifest-differs"
	RedactionDiffers = "redaction-differs"
	Truncated        = "truncated"
	Spliced          = "spliced"
)

// maxFaults bounds what a verifier remembers of a file that is wrong throughout.
const maxFaults = 100

// findings collects faults up to a bound.
type findings struct {
	max   int
	list  []Fault
	more  int
	codes map[string]bool
}

func (f *findings) add(faults ...Fault) {
	for _, fault := range faults {
		if f.codes == nil {
			f.codes = map[string]bool{}
		}
		f.codes[fault.Code] = true
		if len(f.list) >= f.max {
			f.more++
			continue
		}
		f.list = append(f.list, fault)
	}
}

func (f *findings) count() int { return len(f.list) + f.more }

func (f *findings) hasFile(name string) bool {
	return slices.ContainsFunc(f.list, func(fault Fault) bool { return fault.File == name })
}
