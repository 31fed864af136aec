package estate_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/estate"
	"rekey/internal/estate/estatetest"
	"rekey/workflows"
)

var sizes = []int{1_000, 10_000, 100_000}

// BenchmarkClosure goes from one key to every other of an estate that hangs together,
// and describes each.
func BenchmarkClosure(b *testing.B) {
	for _, n := range sizes {
		e := written(b, estatetest.Whole(n, 1), "estate.jsonl")
		from := []estate.From{given(b, e, estatetest.KeyID(n/2))}
		b.Run(fmt.Sprintf("keys=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			spent := processor(b)
			for b.Loop() {
				got := 0
				sum, err := e.Closure(from, estate.Unlimited, now, func(workflows.Scoped) bool { got++; return true })
				require.NoError(b, err)
				require.Equal(b, n, got)
				require.Equal(b, n, sum.Reachable)
			}
			spent()
		})
		b.Run(fmt.Sprintf("count/keys=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			spent := processor(b)
			for b.Loop() {
				_, err := e.Closure(from, estate.Unlimited, now, nil)
				require.NoError(b, err)
			}
			spent()
		})
	}
}

// BenchmarkClosureOfOnePlace is the worst a place can be: all keys lie there, each for
// an hour of its own, and all were made by one.
func BenchmarkClosureOfOnePlace(b *testing.B) {
	for _, n := range sizes {
		path := filepath.Join(b.TempDir(), "estate.jsonl")
		f, err := os.Create(path)
		require.NoError(b, err)
		for i := range n {
			at := now.Add(-time.Duration(n-i) * time.Hour)
			fmt.Fprintf(f, `{"keys":[{"id":"k-%d","provider":"lab","account":"prod","kind":"key","parent":"k-0"}],"copies":[{"key":"k-%d","where":"host/1","registered":true,"from":%q,"until":%q}]}`+"\n",
				i, i, at.Format(time.RFC3339), at.Add(time.Hour).Format(time.RFC3339))
		}
		require.NoError(b, f.Close())
		e, err := estate.Load([]string{path}, nil, fingers(b))
		require.NoError(b, err)
		from := []estate.From{given(b, e, "k-0")}
		b.Run(fmt.Sprintf("keys=%d", n), func(b *testing.B) {
			spent := processor(b)
			for b.Loop() {
				sum, err := e.Closure(from, estate.Unlimited, now, nil)
				require.NoError(b, err)
				require.Equal(b, n, sum.Reachable)
			}
			spent()
		})
	}
}

// BenchmarkLoad loads an estate of usual shape, and says what it costs to keep.
func BenchmarkLoad(b *testing.B) {
	for _, name := range []string{"estate.jsonl", "estate.yaml"} {
		for _, n := range sizes {
			b.Run(fmt.Sprintf("%s/keys=%d", filepath.Ext(name)[1:], n), func(b *testing.B) {
				estates, customers, err := estatetest.Usual(n, 1).Files(b.TempDir(), name)
				require.NoError(b, err)
				info, err := os.Stat(estates[0])
				require.NoError(b, err)
				fp := fingers(b)
				b.SetBytes(info.Size())
				b.ReportAllocs()
				var e *estate.Estate
				before := heap()
				spent := processor(b)
				for b.Loop() {
					e, err = estate.Load(estates, customers, fp)
					require.NoError(b, err)
				}
				spent()
				b.ReportMetric(float64(heap()-before)/float64(n), "heldB/key")
				runtime.KeepAlive(e)
			})
		}
	}
}

// BenchmarkDirectory reads whom to tell, as each message does.
func BenchmarkDirectory(b *testing.B) {
	for _, name := range []string{"estate.jsonl", "estate.yaml"} {
		b.Run(filepath.Ext(name)[1:]+"/keys=100000", func(b *testing.B) {
			estates, customers, err := estatetest.Usual(100_000, 1).Files(b.TempDir(), name)
			require.NoError(b, err)
			b.ReportAllocs()
			spent := processor(b)
			for b.Loop() {
				_, err := estate.LoadDirectory(estates, customers)
				require.NoError(b, err)
			}
			spent()
		})
	}
}

// processor reports how much processor time each round took: the machine may be
// shared, and then the wall says little.
func processor(b *testing.B) func() {
	used := func() time.Duration {
		var u syscall.Rusage
		require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	return func() { b.ReportMetric(float64((used()-before).Microseconds())/1000/float64(b.N), "cpu-ms/op") }
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
