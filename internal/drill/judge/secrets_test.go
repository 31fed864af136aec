package judge

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSecretsAreFoundWhereverTheyLie(t *testing.T) {
	gz := func(t *testing.T, b []byte) []byte {
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		_, err := w.Write(b)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		return out.Bytes()
	}
	zipped := func(t *testing.T, name string, b []byte) []byte {
		var out bytes.Buffer
		z := zip.NewWriter(&out)
		w, err := z.Create(name) // compressed
		require.NoError(t, err)
		_, err = w.Write(b)
		require.NoError(t, err)
		require.NoError(t, z.Close())
		return out.Bytes()
	}
	tests := map[string]struct {
		put  func(t *testing.T, in *Input, secret []byte)
		want string // in the detail; empty: held
	}{
		"nowhere": {put: func(*testing.T, *Input, []byte) {}},
		"in a database": {
			put: func(t *testing.T, in *Input, s []byte) {
				write(t, filepath.Join(in.Data, "temporal.db"), append(bytes.Repeat([]byte{0}, 3<<20), s...))
			}, want: "temporal.db (raw)",
		},
		"over the border of two reads": {
			put: func(t *testing.T, in *Input, s []byte) {
				f := newFinder(in.Secrets)
				long := []byte(hex.EncodeToString(s)) // the longest form
				require.Len(t, long, f.longest)
				for _, back := range []int{0, 1, 7, 8, len(s), len(long) - 1, len(long)} {
					text := append(bytes.Repeat([]byte{'x'}, cap(f.buf)-back), long...)
					write(t, filepath.Join(in.Data, "a"+strings.Repeat("b", back)), append(text, bytes.Repeat([]byte{'y'}, 1<<20)...))
				}
			}, want: "and 2 more",
		},
		"in the sealed store": {
			put:  func(t *testing.T, in *Input, s []byte) { write(t, filepath.Join(in.Data, "sealed", "x.sealed"), s) },
			want: "sealed/x.sealed (raw)",
		},
		"in a log": {
			put: func(t *testing.T, in *Input, s []byte) {
				write(t, in.Logs[0], append([]byte("level=WARN secret="), s...))
			}, want: "log engine.log (raw)",
		},
		"in JSON": {
			put: func(t *testing.T, in *Input, s []byte) {
				b, err := json.Marshal(map[string]string{"k": string(s)})
				require.NoError(t, err)
				write(t, filepath.Join(in.Data, "x.json"), b)
			}, want: "x.json (JSON)",
		},
		"in a form": {
			put: func(t *testing.T, in *Input, s []byte) {
				write(t, in.Logs[0], []byte(url.Values{"SecretAccessKey": {string(s)}}.Encode()))
			}, want: "(URL)",
		},
		"in hex": {
			put:  func(t *testing.T, in *Input, s []byte) { write(t, in.Logs[0], []byte(hex.EncodeToString(s))) },
			want: "(hex)",
		},
		"in HEX": {
			put: func(t *testing.T, in *Input, s []byte) {
				write(t, in.Logs[0], []byte(strings.ToUpper(hex.EncodeToString(s))))
			}, want: "(hex)",
		},
		"in base64, first place": {
			put: func(t *testing.T, in *Input, s []byte) {
				write(t, in.Logs[0], []byte(base64.StdEncoding.EncodeToString(append([]byte("abc"), append(s, "de"...)...))))
			}, want: "(base64)",
		},
		"in base64, second place": {
			put: func(t *testing.T, in *Input, s []byte) {
				write(t, in.Logs[0], []byte(base64.StdEncoding.EncodeToString(append([]byte("a"), append(s, "de"...)...))))
			}, want: "(base64)",
		},
		"in base64 for URLs, third place": {
			put: func(t *testing.T, in *Input, s []byte) {
				write(t, in.Logs[0], []byte(base64.URLEncoding.EncodeToString(append([]byte("ab"), append(s, 'd')...))))
			}, want: "(base64)",
		},
		"in a member of a bundle": {
			put:  func(t *testing.T, in *Input, s []byte) { in.Bundle = zipped(t, "notices/1.json", s) },
			want: "bundle/notices/1.json (raw)",
		},
		"in a packed history of a bundle": {
			put: func(t *testing.T, in *Input, s []byte) {
				history := []byte(`{"payload":"` + base64.StdEncoding.EncodeToString(append([]byte(`{"secret":"`), s...)) + `"}`)
				in.Bundle = zipped(t, "chapters/1.json.gz", gz(t, history))
			}, want: "bundle/chapters/1.json.gz (unpacked) (base64)",
		},
		"in a bundle that is kept": {
			put: func(t *testing.T, in *Input, s []byte) {
				write(t, filepath.Join(in.Data, "bundles", "inc.zip"), zipped(t, "events.jsonl", s))
			}, want: "bundles/inc.zip/events.jsonl (raw)",
		},
		"in what only looks packed": {
			put: func(t *testing.T, in *Input, s []byte) {
				write(t, filepath.Join(in.Data, "x"), append([]byte{0x1f, 0x8b, 0, 0}, s...))
			}, want: "x (raw)",
		},
		"in the lab's own directory": {
			put: func(t *testing.T, in *Input, s []byte) { write(t, filepath.Join(in.Data, "lab", "engine-key"), s) },
		},
		"in a directory that is merely called so": {
			put:  func(t *testing.T, in *Input, s []byte) { write(t, filepath.Join(in.Data, "blobs", "lab", "x"), s) },
			want: "blobs/lab/x (raw)",
		},
		"all but its last byte": {
			put: func(t *testing.T, in *Input, s []byte) { write(t, in.Logs[0], s[:len(s)-1]) },
		},
		"a log that is not there": {
			put:  func(_ *testing.T, in *Input, _ []byte) { in.Logs = append(in.Logs, "/nowhere/worker.log") },
			want: "log worker.log cannot be searched",
		},
		"a data directory that is not there": {
			put:  func(_ *testing.T, in *Input, _ []byte) { in.Data = "/nowhere/data" },
			want: "the data directory cannot be searched",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			in := goodWorld(t)
			in.Secrets = append(in.Secrets, newSecret(t), []byte("short"))
			tt.put(t, &in, in.Secrets[1])
			got := newBench(in).secretBytes().as("G4")
			require.NotContains(t, got.Detail, string(in.Secrets[1]), "the detail is no second leak")
			require.Positive(t, got.Checked)
			if tt.want == "" {
				require.Equal(t, Held, got.State, got.Detail)
				require.Equal(t, "1 secrets are too short to be told from chance", got.Detail)
				return
			}
			require.Equal(t, Violated, got.State)
			require.Contains(t, got.Detail, tt.want)
		})
	}
}

func TestSecretsWithoutSubject(t *testing.T) {
	secret := newSecret(t)
	for name, in := range map[string]Input{
		"no secrets":         {Data: t.TempDir(), Bundle: []byte("x")},
		"nothing to search":  {Secrets: [][]byte{secret}},
		"only short secrets": {Secrets: [][]byte{[]byte("short")}, Data: t.TempDir()},
	} {
		t.Run(name, func(t *testing.T) {
			got := newBench(in).secretBytes().as("G4")
			require.Equal(t, NotApplicable, got.State)
			require.NotEmpty(t, got.Detail)
		})
	}
}

// TestEverySecretOfManyIsFound goes through many secrets at once, as at --scale.
func TestEverySecretOfManyIsFound(t *testing.T) {
	var secrets [][]byte
	var text bytes.Buffer
	for range 2000 {
		s := newSecret(t)
		secrets = append(secrets, s)
		text.WriteString("x")
		text.WriteString(base64.StdEncoding.EncodeToString(s))
	}
	found, err := newFinder(secrets).find(&text)
	require.NoError(t, err)
	got := map[int]bool{}
	for _, p := range found {
		got[p.secret] = true
	}
	require.Len(t, got, len(secrets))
}

func TestAnUnreadableFileIsNotClean(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("skipped: root may read everything")
	}
	in := goodWorld(t)
	path := filepath.Join(in.Data, "secret.db")
	write(t, path, []byte("x"))
	require.NoError(t, os.Chmod(path, 0))
	require.Contains(t, newBench(in).secretBytes().as("G4").Detail, "secret.db cannot be searched")
}

func BenchmarkFind(b *testing.B) {
	secrets := [][]byte{bytes.Repeat([]byte("0123456789"), 4)}
	text := bytes.Repeat([]byte("the quick brown fox jumps over the lazy dog "), 1<<20/44)
	f := newFinder(secrets)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := f.find(bytes.NewReader(text)); err != nil {
			b.Fatal(err)
		}
	}
}
