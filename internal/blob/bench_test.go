package blob

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/codec/keyring"
)

// row is about as large and as repetitive as a row of a page of a large incident.
func row(page, n int) map[string]any {
	fp := Hash(fmt.Append(nil, page, n))[len(hashPrefix):]
	return map[string]any{
		"fp": "fp1_" + fp, "short": fp[:12], "provider": "awsiam", "account": "prod", "kind": "user-access-key",
		"key_id": "KEY" + fp[12:29], "strategy": "revoke-now", "rule": "abuse", "wave": page, "step": "Probe",
		"principal": "arn:aws:iam::123456789012:user/svc-" + fp[:8],
		"death":     map[string]any{"state": "proving", "refusals": n % 3, "needed": 3, "first_refused": "2026-11-21T03:00:00.000Z", "last_alive": "2026-11-21T02:59:58.000Z", "rung": "key", "vantages": []string{"eu-central-1", "us-east-1"}},
		"adoption":  map[string]any{"state": "distributed", "new_key_id": "KEY" + fp[32:49], "receipts": 1, "dependents": 2, "cut_over": 1},
		"outcomes": []any{
			map[string]any{"verb": "Disable", "outcome": "done", "attempt": 1, "at": "2026-11-21T03:00:01.000Z", "request_id": fp[:36]},
			map[string]any{"verb": "EndSessions", "outcome": "done", "attempt": 1, "at": "2026-11-21T03:00:02.000Z", "request_id": fp[20:56]},
		},
	}
}

// samplePage is a page of 500 rows of about a kilobyte.
func samplePage(t testing.TB, n int) []byte {
	t.Helper()
	rows := make([]any, 500)
	for i := range rows {
		rows[i] = row(n, i)
	}
	b, err := json.Marshal(map[string]any{"schema": "rekey.page/v1", "rows": rows})
	require.NoError(t, err)
	return b
}

// BenchmarkPut keeps new pages of 500 rows, as many at once as named, packed or as they
// are, as builds before did.
func BenchmarkPut(b *testing.B) {
	for _, packed := range []bool{true, false} {
		for _, n := range []int{1, 8, 32} {
			b.Run(fmt.Sprintf("packed=%t/writers=%d", packed, n), func(b *testing.B) {
				d, page := dir(b), samplePage(b, 0)
				put := func(content []byte) error {
					_, err := d.Put(ctx, content)
					return err
				}
				if !packed {
					put = func(content []byte) error {
						hash := Hash(content)
						path, err := d.path(hash)
						if err != nil {
							return err
						}
						return d.place(path, sealFrame([]byte(plainMagic), d.keys, keyring.Blob, hash, content))
					}
				}
				b.SetBytes(int64(len(page)))
				var next atomic.Int64
				var wg sync.WaitGroup
				b.ResetTimer()
				for range n {
					wg.Go(func() {
						for {
							i := next.Add(1)
							if i > int64(b.N) {
								return
							}
							if err := put(append(fmt.Append(nil, i), page...)); err != nil {
								b.Error(err)
							}
						}
					})
				}
				wg.Wait()
			})
		}
	}
}

// BenchmarkPutAgain keeps a page that is there.
func BenchmarkPutAgain(b *testing.B) {
	d, page := dir(b), samplePage(b, 0)
	for b.Loop() {
		_, err := d.Put(ctx, page)
		require.NoError(b, err)
	}
}

// BenchmarkGet reads a page of 500 rows.
func BenchmarkGet(b *testing.B) {
	d, page := dir(b), samplePage(b, 0)
	hash, err := d.Put(ctx, page)
	require.NoError(b, err)
	b.SetBytes(int64(len(page)))
	for b.Loop() {
		_, err := d.Get(ctx, hash)
		require.NoError(b, err)
	}
}

// BenchmarkPassJournal is the journal of a pass over a page: opened, 500 intents and 500
// outcomes of an idempotent verb, sealed and closed.
func BenchmarkPassJournal(b *testing.B) {
	rec := []byte(`{"kind":"outcome","fp":"fp1_` + Hash(nil)[len(hashPrefix):] + `","attempt":1,"at":"2026-11-21T03:00:00.000Z","result":"` + strings.Repeat("r", 250) + `"}`)
	for _, term := range []uint64{0, 1} {
		b.Run(fmt.Sprintf("term=%d", term), func(b *testing.B) {
			d := dir(b)
			n := 0
			for b.Loop() {
				n++
				j, err := d.OpenJournal(ctx, fmt.Sprintf("inc/%d", n), term)
				require.NoError(b, err)
				for i := range 1000 {
					require.NoError(b, j.Append(ctx, append(fmt.Append(nil, n, i), rec...), false))
				}
				_, err = j.Seal(ctx, nil)
				require.NoError(b, err)
				require.NoError(b, j.Close())
			}
		})
	}
}

// BenchmarkOpenJournal opens and closes new journals with one record each.
func BenchmarkOpenJournal(b *testing.B) {
	for _, term := range []uint64{0, 1} {
		for _, durable := range []bool{false, true} {
			b.Run(fmt.Sprintf("term=%d/durable=%t", term, durable), func(b *testing.B) {
				d := dir(b)
				n := 0
				for b.Loop() {
					n++
					j, err := d.OpenJournal(ctx, fmt.Sprintf("inc/%d", n), term)
					require.NoError(b, err)
					require.NoError(b, j.Append(ctx, []byte("intent"), durable))
					require.NoError(b, j.Close())
				}
			})
		}
	}
}
