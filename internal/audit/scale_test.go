package audit_test

import (
	"bytes"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/audit"
	"rekey/internal/audit/audittest"
)

// BenchmarkExportVerify is the budget of design section 13: 100,000 events sealed
// and verified in at most 10 s.
func BenchmarkExportVerify(b *testing.B) {
	s := signer(b)
	events := audittest.Many("inc-1", 100_000)
	for b.Loop() {
		var out bytes.Buffer
		_, err := audit.Write(&out, audit.Content{Incident: "inc-1", Events: events}, s)
		require.NoError(b, err)
		require.Equal(b, audit.Verified, verify(out.Bytes(), s.Key).Result)
		b.ReportMetric(float64(out.Len())/(1<<20), "MiB")
	}
}

// TestVerifyHoldsHashesNotEvents: memory grows by the hashes, not by the bundle.
func TestVerifyHoldsHashesNotEvents(t *testing.T) {
	s := signer(t)
	b, _ := seal(t, audit.Content{Incident: "inc-1", Events: audittest.Many("inc-1", 20_000)}, s)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	require.Equal(t, audit.Verified, verify(b, s.Key).Result)
	runtime.ReadMemStats(&after)
	// A leaf, its line's hash and twice the tree are 160 bytes; slices that grow
	// and the text of the leaf make it some hundred. An event is 600.
	allocated := after.TotalAlloc - before.TotalAlloc
	require.Less(t, allocated, uint64(len(b)), "%d bytes allocated in all for a bundle of %d", allocated, len(b))
}
