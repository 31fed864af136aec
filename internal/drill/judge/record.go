package judge

import (
	"archive/zip"
	"bytes"
	"fmt"
	"slices"

	"rekey/internal/audit"
)

// bundleVerifies is G8: the bundle verifies offline, and a single changed bit of an
// event is noticed.
func (b *bench) bundleVerifies() ruling {
	r := ruling{absent: "no bundle was due"}
	if len(b.in.Bundle) == 0 {
		inc := b.in.Final
		if inc.Bundle != nil || inc.Times.Sealed != "" || inc.State == "contained" || inc.State == "all-clear" {
			r.fault("%s is %s, and there is no bundle", inc.ID, inc.State)
		}
		return r
	}
	res := verify(b.in.Bundle)
	r.checked = max(res.Events, 1)
	switch {
	case res.Result != audit.Verified:
		r.fault("the bundle does not verify: %s", why(res))
		return r
	case res.Incident != b.in.Final.ID:
		r.fault("the bundle is of %s, not of %s", res.Incident, b.in.Final.ID)
	}
	bent, err := tampered(b.in.Bundle)
	if err != nil {
		r.fault("the bundle cannot be tampered with to test it: %v", err)
		return r
	}
	if res := verify(bent); res.Result == audit.Verified {
		r.fault("a changed bit in the middle of %s is not noticed", eventsFile)
	}
	return r
}

func verify(bundle []byte) audit.Result {
	return audit.Verify(bytes.NewReader(bundle), int64(len(bundle)), audit.Options{})
}

func why(res audit.Result) string {
	if len(res.Faults) > 0 {
		f := res.Faults[0]
		return fmt.Sprintf("%s: %s %s %s", res.Result, f.Code, f.File, f.Detail)
	}
	return fmt.Sprintf("%s: %v", res.Result, res.NotProved)
}

// eventsFile holds the events of a bundle.
const eventsFile = "events.jsonl"

// tampered is the bundle with one bit changed, in the middle of its events as they
// are stored.
func tampered(bundle []byte) ([]byte, error) {
	z, err := zip.NewReader(bytes.NewReader(bundle), int64(len(bundle)))
	if err != nil {
		return nil, err
	}
	for _, f := range z.File {
		if f.Name != eventsFile {
			continue
		}
		offset, err := f.DataOffset()
		if err != nil {
			return nil, err
		}
		at := offset + int64(f.CompressedSize64/2) //nolint:gosec // inside of the bundle
		if f.CompressedSize64 == 0 || at >= int64(len(bundle)) {
			return nil, fmt.Errorf("%s is empty", eventsFile)
		}
		out := slices.Clone(bundle)
		out[at] ^= 1
		return out, nil
	}
	return nil, fmt.Errorf("it holds no %s", eventsFile)
}
