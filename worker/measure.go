package worker

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Timings are durations that were measured, in any order.
type Timings []time.Duration

// Percentile is the nearest rank: the smallest measured duration that at least p
// percent of all do not exceed. It never makes up a value between two. 0 without
// measurements; p is held to 1 to 100.
func (t Timings) Percentile(p int) time.Duration {
	if len(t) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(t))
	p = min(max(p, 1), 100)
	return sorted[(p*len(sorted)+99)/100-1]
}

// Max is the longest.
func (t Timings) Max() time.Duration { return t.Percentile(100) }

// Ms is d in whole milliseconds, rounded up: a figure never flatters.
func Ms(d time.Duration) int64 {
	return int64((max(d, 0) + time.Millisecond - 1) / time.Millisecond)
}

// Machine describes what was measured on: processor, cores, kernel, Go, and how
// busy it was at that moment. What cannot be read is left out.
func Machine() string {
	parts := []string{processor(), fmt.Sprintf("%d cores", runtime.NumCPU()), runtime.GOOS + "/" + runtime.GOARCH}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		parts = append(parts, "kernel "+strings.TrimSpace(string(b)))
	}
	parts = append(parts, runtime.Version())
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		if f := strings.Fields(string(b)); len(f) > 1 {
			parts = append(parts, "load average "+f[0]+" over 1 min, "+f[1]+" over 5 min")
		}
	}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ", ")
}

// processor reads the first "model name" of /proc/cpuinfo (proc(5)).
func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	for s := bufio.NewScanner(f); s.Scan(); {
		if key, value, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
