package awssim

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// AppendJSON writes a record as encoding/json would, without reflection: every call of an account
// is written, and what the lab spends on it the caller waits for.
func (r *Record) AppendJSON(b []byte) []byte {
	b = append(b, `{"seq":`...)
	b = strconv.AppendInt(b, r.Seq, 10)
	b = appendTime(append(b, `,"at":`...), r.At)
	b = appendTime(append(b, `,"logged_at":`...), r.LoggedAt)
	b = appendText(append(b, `,"event_id":`...), r.EventID)
	b = appendText(append(b, `,"request_id":`...), r.RequestID)
	b = appendText(append(b, `,"key_id":`...), r.KeyID)
	if len(r.Identity) > 0 {
		b = append(append(b, `,"identity":`...), r.Identity...)
	}
	b = appendField(b, "user", r.User)
	b = appendField(b, "username", r.Username)
	b = appendText(append(b, `,"service":`...), r.Service)
	b = appendText(append(b, `,"action":`...), r.Action)
	b = appendText(append(b, `,"region":`...), r.Region)
	b = appendText(append(b, `,"source_ip":`...), r.SourceIP)
	if r.ASN != 0 {
		b = strconv.AppendInt(append(b, `,"asn":`...), int64(r.ASN), 10)
	}
	b = appendField(b, "user_agent", r.UserAgent)
	b = appendFlag(b, "read_only", r.ReadOnly)
	if len(r.Params) > 0 {
		b = appendMap(append(b, `,"params":`...), r.Params)
	}
	if len(r.Elements) > 0 {
		b = appendMap(append(b, `,"elements":`...), r.Elements)
	}
	b = appendField(b, "code", r.Code)
	b = appendField(b, "message", r.Message)
	b = appendText(append(b, `,"label":`...), r.Label)
	b = appendField(b, "source", r.Source)
	b = appendField(b, "verb", r.Verb)
	b = appendField(b, "target_key", r.TargetKey)
	b = appendFlag(b, "lost", r.Lost)
	b = appendFlag(b, "same", r.Same)
	b = appendField(b, "stop", r.Stop)
	return append(b, '}')
}

func appendField(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(append(append(b, ',', '"'), name...), '"', ':')
	return appendText(b, value)
}

func appendFlag(b []byte, name string, value bool) []byte {
	if !value {
		return b
	}
	return append(append(append(b, ',', '"'), name...), `":true`...)
}

func appendTime(b []byte, t time.Time) []byte {
	return append(t.AppendFormat(append(b, '"'), time.RFC3339Nano), '"')
}

// appendText writes a string. What needs escaping is left to encoding/json.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= utf8.RuneSelf || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return append(b, marshal(s)...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

func appendMap(b []byte, m map[string]any) []byte {
	b = append(b, '{')
	for i, k := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendText(b, k), ':')
		if s, ok := m[k].(string); ok {
			b = appendText(b, s)
		} else {
			b = append(b, marshal(m[k])...)
		}
	}
	return append(b, '}')
}

// marshal is for our own values, which always can be written.
func marshal(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic("awssim: a record does not marshal: " + err.Error())
	}
	return raw
}
