package export

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"rekey/internal/audit"
)

// CEF writes ArcSight Common Event Format, version 0, one event a line without a
// syslog prefix. Escaping (Micro Focus, "Implementing ArcSight CEF", Character
// Encoding): in the header "\" and "|"; in the extension "\", "=" and line breaks.
func CEF(w io.Writer, events []audit.Event) error {
	for _, e := range events {
		name := e.Type
		if e.Verb != "" {
			name += " " + e.Verb
		}
		ext := []string{}
		add := func(key, value string) {
			if value != "" {
				ext = append(ext, key+"="+cefValue(value))
			}
		}
		if at, ok := millis(e.Time); ok {
			add("rt", strconv.FormatInt(at, 10))
		}
		if at, ok := millis(e.SourceTime); ok {
			add("start", strconv.FormatInt(at, 10))
		}
		add("externalId", e.Incident+"/"+strconv.FormatInt(e.Seq, 10))
		add("cat", e.Phase)
		add("suser", e.Actor)
		add("act", e.Verb)
		add("outcome", e.Result)
		add("reason", e.Rule)
		add("requestContext", e.RequestID)
		for i, custom := range []struct{ label, value string }{
			{"incident", e.Incident}, {"item", e.FP}, {"keyId", e.Attrs[audit.AttrKeyID]}, {"approval", e.Approval}, {"waveHash", e.WaveHash}, {"auth", e.Auth},
		} {
			if custom.value != "" {
				n := strconv.Itoa(i + 1)
				add("cs"+n, custom.value)
				add("cs"+n+"Label", custom.label)
			}
		}
		if e.Attempt > 0 {
			add("cn1", strconv.Itoa(e.Attempt))
			add("cn1Label", "attempt")
		}
		add("msg", pairs(e.Attrs))
		if _, err := fmt.Fprintf(w, "CEF:0|rekey|rekey|%d|%s|%s|%d|%s\n", e.V, cefHeader(e.Type), cefHeader(name), cefSeverity(e), strings.Join(ext, " ")); err != nil {
			return err
		}
	}
	return nil
}

// cefHeader also loses line breaks, which a header cannot hold.
func cefHeader(s string) string {
	return strings.NewReplacer(`\`, `\\`, `|`, `\|`, "\n", " ", "\r", " ").Replace(s)
}

func cefValue(s string) string {
	return strings.NewReplacer(`\`, `\\`, `=`, `\=`, "\n", `\n`, "\r", `\r`).Replace(s)
}

// cefSeverity is 0 to 10.
func cefSeverity(e audit.Event) int {
	switch severity(e) {
	case 4:
		return 8
	case 3:
		return 5
	}
	return 2
}
