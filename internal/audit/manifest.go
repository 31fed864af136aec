package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"golang.org/x/mod/sumdb/tlog"
)

// BundleSchema is the version of the bundle's form.
const BundleSchema = 1

// manifest.json names every file of the full bundle but itself and its signature.
type manifest struct {
	BundleSchema int    `json:"bundle_schema"`
	Incident     string `json:"incident"`
	Origin       string `json:"origin"`
	State        string `json:"state"`
	Final        bool   `json:"final"`
	Events       int64  `json:"events"`
	Root         string `json:"root"`
	// Previous is the digest of the bundle that this one extends.
	Previous string         `json:"previous,omitempty"`
	Files    []manifestFile `json:"files"`
	// Redactions fix, at sealing, the one redacted form that each audience may
	// get: without this anybody could hide more and call it redaction.
	Redactions []manifestRedaction `json:"redactions"`
}

type manifestFile struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
}

type manifestRedaction struct {
	Audience string `json:"audience"`
	Hidden   int64  `json:"hidden"`
	// SHA256 is the digest of that audience's redaction.json.
	SHA256 string `json:"sha256"`
}

func (m *manifest) redaction(audience string) (manifestRedaction, bool) {
	for _, r := range m.Redactions {
		if r.Audience == audience {
			return r, true
		}
	}
	return manifestRedaction{}, false
}

// redaction.json says what a redacted bundle leaves out.
type redaction struct {
	BundleSchema int    `json:"bundle_schema"`
	Incident     string `json:"incident"`
	Audience     string `json:"audience"`
	Hidden       int64  `json:"hidden"`
	// Ranges are the hidden events, first and last index of each run.
	Ranges [][2]int64 `json:"ranges"`
	// Dropped are files of the full bundle that are not in this one.
	Dropped []string `json:"dropped"`
	// Replaced are files that are here in another form than in the full bundle.
	Replaced []manifestFile `json:"replaced"`
}

// previous.json proves that this bundle extends the last.
type previous struct {
	Digest     string      `json:"digest"`
	Checkpoint string      `json:"checkpoint"`
	Proof      []tlog.Hash `json:"proof"`
}

// readStrict decodes canonical JSON of a known shape.
func readStrict(b []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return errors.New("not JSON of the expected shape")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value")
	}
	return nil
}

// Audiences that a bundle can be redacted for.
const (
	AudienceCustomer = "customer"
	AudiencePublic   = "public"
)

// Audiences lists them, most trusted first.
func Audiences() []string { return []string{AudienceCustomer, AudiencePublic} }

// visible tells whether an audience may see an event of a redaction class. A class
// that is not known is internal.
func visible(audience, class string) bool {
	switch audience {
	case AudienceCustomer:
		return class == Customer || class == Public
	case AudiencePublic:
		return class == Public
	}
	return false
}

// kept tells which files an audience gets as they are. Everything else speaks of
// more than the events it may see: plans name dependents, notices other customers,
// chapters and pages everything.
func kept(audience, name string) bool {
	switch name {
	case fileLeaves, fileCheckpoint, fileKeys, filePrevious:
		return true
	case fileOutside:
		return audience == AudienceCustomer
	}
	return false
}

// hiddenLine stands for an event that the audience may not see.
func hiddenLine(leaf tlog.Hash) []byte {
	return fmt.Appendf(nil, `{"leaf":"%s"}`, leaf)
}

// parseHidden reads such a line.
func parseHidden(line []byte) (tlog.Hash, bool) {
	rest, ok := bytes.CutPrefix(line, []byte(`{"leaf":"`))
	if !ok {
		return tlog.Hash{}, false
	}
	text, ok := bytes.CutSuffix(rest, []byte(`"}`))
	if !ok {
		return tlog.Hash{}, false
	}
	h, err := tlog.ParseHash(string(text))
	if err != nil || h.String() != string(text) {
		return tlog.Hash{}, false
	}
	return h, true
}

// redactionOf gives redaction.json of an audience. Classes are the redaction
// classes of the events in order; events is the redacted events.jsonl.
func redactionOf(m *manifest, audience string, classes []string, events manifestFile) redaction {
	r := redaction{
		BundleSchema: BundleSchema, Incident: m.Incident, Audience: audience,
		Ranges: [][2]int64{}, Dropped: []string{}, Replaced: []manifestFile{events},
	}
	for i, class := range classes {
		if visible(audience, class) {
			continue
		}
		r.Hidden++
		if n := len(r.Ranges); n > 0 && r.Ranges[n-1][1] == int64(i)-1 {
			r.Ranges[n-1][1] = int64(i)
			continue
		}
		r.Ranges = append(r.Ranges, [2]int64{int64(i), int64(i)})
	}
	for _, f := range m.Files {
		if f.Name != fileEvents && !kept(audience, f.Name) {
			r.Dropped = append(r.Dropped, f.Name)
		}
	}
	return r
}

// expected gives the files that a bundle redacted by r must hold, without the
// manifest, its signature and redaction.json. With nil it is those of the full one.
func (m *manifest) expected(r *redaction) map[string]manifestFile {
	out := make(map[string]manifestFile, len(m.Files))
	for _, f := range m.Files {
		out[f.Name] = f
	}
	if r == nil {
		return out
	}
	for _, name := range r.Dropped {
		delete(out, name)
	}
	for _, f := range r.Replaced {
		out[f.Name] = f
	}
	return out
}
