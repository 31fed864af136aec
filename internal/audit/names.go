package audit

import (
	"fmt"
	"strconv"
	"strings"
)

// Files of a bundle.
const (
	fileEvents     = "events.jsonl"
	fileLeaves     = "leaves.txt"
	fileCheckpoint = "checkpoint"
	fileManifest   = "manifest.json"
	fileSignature  = "manifest.sig"
	fileKeys       = "key.pub"
	filePrevious   = "previous.json"
	fileApprovals  = "approvals.json"
	fileEvidence   = "evidence.json"
	fileOutside    = "outside.json"
	fileIncident   = "incident.json"
	fileReport     = "report.html"
	fileRedaction  = "redaction.json"
	dirPlans       = "plans/"
	dirNotices     = "notices/"
	dirChapters    = "chapters/"
	dirPages       = "pages/"
)

// maxName is the longest name of a file in a bundle.
const maxName = 255

// validName allows what unpacks to the same file everywhere: no upper case (two
// names would be one on some systems), no "..", no absolute path, no device names'
// special characters.
func validName(name string) bool {
	if name == "" || len(name) > maxName {
		return false
	}
	start := true
	for i := range len(name) {
		c := name[i]
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			start = false
		case (c == '-' || c == '_' || c == '.') && !start:
		case c == '/' && !start && name[i-1] != '.':
			start = true
		default:
			return false
		}
	}
	return !start && name[len(name)-1] != '.'
}

// safeName writes any text as one part of a valid name: bytes outside of
// a-z, 0-9, "-" and "." become "_" and two hex digits, "/" becomes "-".
func safeName(text string) string {
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-' && i > 0, c == '.' && i > 0:
			b.WriteByte(c)
		case c == '/':
			b.WriteByte('-')
		default:
			// A leading "x" keeps the name from beginning with a sign.
			if b.Len() == 0 {
				b.WriteByte('x')
			}
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return b.String()
}

// ChapterName is the file that holds the history of one run of a workflow.
func ChapterName(workflow, run string) string {
	return dirChapters + safeName(workflow) + "-" + safeName(run) + ".json.gz"
}

// PageName is the file that holds the page with the hash "sha256:<hex>".
func PageName(hash string) string {
	return dirPages + strings.TrimPrefix(hash, "sha256:") + ".json"
}

// quoteName makes a name from an untrusted zip fit for a report.
func quoteName(name string) string {
	if validName(name) {
		return name
	}
	if len(name) > 80 {
		name = name[:80]
	}
	return strconv.QuoteToASCII(name)
}
