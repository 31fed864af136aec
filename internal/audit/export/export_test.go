package export_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/audit"
	"rekey/internal/audit/audittest"
	"rekey/internal/audit/export"
)

// hostile is an event whose every text tries to break out of its field.
func hostile() audit.Event {
	evil := "=cmd|'/C calc'!A0 a=b \\ <script>alert(1)</script> [x](http://e) @all\r\nCEF:0|forged"
	return audit.Event{V: 1, Seq: 3, Incident: "inc-1", Type: audit.EventRefused, Time: "2026-11-21T03:00:00.000Z", Actor: evil, Auth: "a|b=c", Verb: `V|\`, Result: evil,
		Attempt: 2, Attrs: map[string]string{"why": evil}, Redaction: audit.Internal}
}

func TestGolden(t *testing.T) {
	all, _ := audittest.Sample()
	var events, followed []audit.Event
	for _, e := range all {
		switch e.Type {
		case audit.EventRecordTold, audit.EventRecordBehind, audit.EventRecordCaught:
			followed = append(followed, e)
		default:
			events = append(events, e)
		}
	}
	picked := append(events[:14:14], events[17])
	picked = append(append(picked, followed...), hostile())
	for _, format := range []string{"csv", "cef", "ocsf", "markdown"} {
		t.Run(format, func(t *testing.T) {
			var got bytes.Buffer
			require.NoError(t, export.Write(&got, format, picked))
			path := filepath.Join("testdata", "golden."+format)
			if os.Getenv("REKEY_UPDATE_GOLDEN") == "1" {
				require.NoError(t, os.WriteFile(path, got.Bytes(), 0o600))
			}
			want, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, string(want), got.String())
		})
	}
}

func TestUnknownFormat(t *testing.T) {
	require.ErrorContains(t, export.Write(&bytes.Buffer{}, "pdf", nil), "cef, csv, jsonl, markdown, ocsf")
}

func TestJSONLReadsBackEqual(t *testing.T) {
	events, _ := audittest.Sample()
	var got bytes.Buffer
	require.NoError(t, export.Write(&got, "jsonl", events))
	var back []audit.Event
	for line := range strings.Lines(got.String()) {
		e, err := audit.Decode([]byte(strings.TrimSuffix(line, "\n")))
		require.NoError(t, err)
		back = append(back, e)
	}
	require.Equal(t, events, back)
}

// TestHostileText: one event stays one record, and stays text.
func TestHostileText(t *testing.T) {
	e := hostile()
	write := func(format string) string {
		var b bytes.Buffer
		require.NoError(t, export.Write(&b, format, []audit.Event{e}))
		return b.String()
	}
	t.Run("cef", func(t *testing.T) {
		out := write("cef")
		require.Equal(t, 1, strings.Count(out, "\n"))
		require.True(t, strings.HasPrefix(out, `CEF:0|rekey|rekey|1|statement.refused|statement.refused V\|\\|5|rt=1795230000000 `), out)
		require.Contains(t, out, `cs6=a|b\=c cs6Label=auth`)
		require.Contains(t, out, `a\=b \\ `)
		require.Contains(t, out, `@all\r\nCEF:0|forged`)
	})
	t.Run("csv", func(t *testing.T) {
		rows, err := csv.NewReader(strings.NewReader(write("csv"))).ReadAll()
		require.NoError(t, err)
		require.Len(t, rows, 2)
		require.True(t, strings.HasPrefix(rows[1][6], "'=cmd"), "no formula")
	})
	t.Run("markdown", func(t *testing.T) {
		out := write("markdown")
		require.Equal(t, 5, strings.Count(out, "\n"))
		require.NotContains(t, out, "<script>")
		require.NotContains(t, out, "](")
		require.NotContains(t, out, "@all")
	})
}

// TestOCSFRequired holds each record against what the pinned schema requires of its
// class (github.com/ocsf/ocsf-schema: events/base_event.json, incident_finding.json,
// entity_management.json, remediation_activity.json, objects/metadata.json,
// finding_info.json).
func TestOCSFRequired(t *testing.T) {
	events, _ := audittest.Sample()
	var out bytes.Buffer
	require.NoError(t, export.Write(&out, "ocsf", append(events, hostile())))
	base := []string{"activity_id", "category_uid", "class_uid", "type_uid", "severity_id", "time", "metadata"}
	required := map[int][]string{2005: {"finding_info_list", "status_id"}, 3004: {"entity"}, 7001: {"command_uid"}}
	activities := map[int][]int{2005: {1, 2, 3}, 3004: {1, 2, 3, 4, 8, 9}, 7001: {1, 2, 3, 4}}
	statuses := map[int][]int{2005: {0, 1, 2, 3, 4, 5, 99}, 3004: {0, 1, 2, 99}, 7001: {0, 1, 2, 3, 4, 5, 6, 99}}
	seen := map[int]int{}
	uids := map[string]bool{}
	for line := range strings.Lines(out.String()) {
		var r struct {
			Class     int                    `json:"class_uid"`
			Category  int                    `json:"category_uid"`
			Activity  int                    `json:"activity_id"`
			Type      int                    `json:"type_uid"`
			Status    int                    `json:"status_id"`
			Severity  int                    `json:"severity_id"`
			Time      int64                  `json:"time"`
			Assignee  any                    `json:"assignee"`
			StatusTxt string                 `json:"status"`
			Entity    struct{ UID string }   `json:"entity"`
			Findings  []struct{ UID string } `json:"finding_info_list"`
			Metadata  struct {
				Version string
				UID     string
				Product struct {
					Name string
				}
			}
		}
		var keys map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &r))
		require.NoError(t, json.Unmarshal([]byte(line), &keys))
		for _, key := range append(base, required[r.Class]...) {
			require.Contains(t, keys, key, line)
		}
		require.Contains(t, activities[r.Class], r.Activity)
		require.Contains(t, statuses[r.Class], r.Status)
		require.Equal(t, r.Class/1000, r.Category)
		require.Equal(t, r.Class*100+r.Activity, r.Type)
		require.Contains(t, []int{1, 2, 3, 4, 5}, r.Severity)
		require.Greater(t, r.Time, int64(1_700_000_000_000), "milliseconds")
		require.Equal(t, "1.8.0", r.Metadata.Version)
		require.NotEmpty(t, r.Metadata.Product.Name)
		require.False(t, uids[r.Metadata.UID], "an event is identified once")
		uids[r.Metadata.UID] = true
		switch r.Class {
		case 2005:
			require.NotEmpty(t, r.Findings[0].UID)
			require.NotNil(t, r.Assignee, "at least one of assignee, assignee_group")
		case 3004:
			require.NotEmpty(t, r.Entity.UID)
		}
		seen[r.Class]++
	}
	require.Len(t, seen, 3, "each class occurs")
}
