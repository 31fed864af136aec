package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"rekey/internal/audit"
)

// duration writes d as a person says it, with two units at most.
func duration(d time.Duration) string {
	switch {
	case d < 0:
		return "–"
	case d < time.Minute:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", d.Seconds()), ".0") + " s"
	case d < time.Hour:
		return fmt.Sprintf("%d min %02d s", d/time.Minute, d%time.Minute/time.Second)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %02d min", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%d d %02d h", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// clock writes a time in UTC to the second; the zero time is a dash.
func clock(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}

// when writes a time that stands as text; what is no time stays as it is.
func when(text string) string {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return text
	}
	return clock(t)
}

// words writes counts as "3 done, 1 unclear", most first.
func words(counts map[string]int) string {
	keys := make([]string, 0, len(counts))
	for k := range counts {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int {
		if counts[a] != counts[b] {
			return counts[b] - counts[a]
		}
		return strings.Compare(a, b)
	})
	for i, k := range keys {
		keys[i] = fmt.Sprintf("%d %s", counts[k], k)
	}
	return strings.Join(keys, ", ")
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func facts(m map[string]string) string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for i, k := range keys {
		keys[i] = k + ": " + m[k]
	}
	return strings.Join(keys, "; ")
}

// short is the part of a fingerprint that people see.
func short(fp string) string {
	_, hex, ok := strings.Cut(fp, "_")
	if !ok {
		hex = fp
	}
	if len(hex) > 12 {
		return hex[:12]
	}
	return hex
}

func shortHash(h string) string {
	if hex, ok := strings.CutPrefix(h, "sha256:"); ok && len(hex) > 12 {
		return hex[:12]
	}
	return h
}

// name is how an item is called in a line of text.
func name(item *audit.ItemStory) string { return first(item.KeyID, short(item.FP)) }

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

func toldClass(result string) string {
	switch result {
	case "delivered", "acknowledged":
		return "good"
	case "bounced":
		return "bad"
	}
	return ""
}
