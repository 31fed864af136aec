package secret_test

import (
	"bytes"
	"crypto/rand"
	"encoding"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/davecgh/go-spew/spew"
	"github.com/stretchr/testify/require"
	yaml "go.yaml.in/yaml/v3"

	"rekey/internal/secret"
)

// holder is how a careless caller would keep a secret.
type holder struct {
	Name   string
	Secret secret.Value
	hidden secret.Value
	Many   []secret.Value
	ByName map[string]secret.Value
	Ptr    *secret.Value
}

func canary(t *testing.T) (string, holder) {
	t.Helper()
	raw := make([]byte, 24)
	_, err := rand.Read(raw)
	require.NoError(t, err)
	text := base64.StdEncoding.EncodeToString(raw)
	v := secret.New([]byte(text))
	return text, holder{Name: "x", Secret: v, hidden: v, Many: []secret.Value{v}, ByName: map[string]secret.Value{"k": v}, Ptr: &v}
}

// shows reports whether out holds the secret as text, as a byte list in decimal
// or hex, or in hex.
func shows(out, text string) bool {
	decimal := strings.Trim(fmt.Sprint([]byte(text)), "[]")
	goHex := strings.TrimSuffix(fmt.Sprintf("%#v", []byte(text)), "}")
	_, goHex, _ = strings.Cut(goHex, "{")
	return strings.Contains(out, text) || strings.Contains(out, decimal) || strings.Contains(out, goHex) ||
		strings.Contains(strings.ToLower(out), hex.EncodeToString([]byte(text)))
}

func TestFormattingNeverShowsTheSecret(t *testing.T) {
	for range 20 {
		text, h := canary(t)
		require.True(t, shows(fmt.Sprintf("%x", text), text), "the detector must see a leak")
		require.True(t, shows(fmt.Sprintf("%v", []byte(text)), text), "the detector must see a leak")
		for _, verb := range strings.Split("v +v #v s q x X d t b o O c U e f g T p w + #x # x", " ") {
			for _, arg := range []any{h.Secret, &h.Secret, h, &h, h.Many, h.ByName, []any{h}} {
				out := fmt.Sprintf("%"+verb, arg)
				require.False(t, shows(out, text), "%%%s shows the secret of %T", verb, arg)
			}
		}
		require.Equal(t, secret.Mark, fmt.Sprintf("%x", h.Secret))
		require.False(t, shows(fmt.Sprint(h)+fmt.Sprintln(h), text))
		require.False(t, shows(fmt.Errorf("open %v: %w", h, errors.New(h.Secret.String())).Error(), text))
		deep := spew.ConfigState{DisableMethods: true, Indent: " "}
		require.False(t, shows(deep.Sdump(h), text), "a printer that reads unexported fields shows the secret")
	}
}

func TestSerialisingIsRefused(t *testing.T) {
	encoders := map[string]func(any) ([]byte, error){
		"json": json.Marshal,
		"yaml": yaml.Marshal,
		"xml":  xml.Marshal,
		"gob": func(v any) ([]byte, error) {
			var b bytes.Buffer
			err := gob.NewEncoder(&b).Encode(v)
			return b.Bytes(), err
		},
		"text": func(v any) ([]byte, error) { return v.(encoding.TextMarshaler).MarshalText() },
		"bin":  func(v any) ([]byte, error) { return v.(encoding.BinaryMarshaler).MarshalBinary() },
	}
	for name, encode := range encoders {
		t.Run(name, func(t *testing.T) {
			for range 20 {
				text, h := canary(t)
				out, err := encode(h.Secret)
				require.ErrorContains(t, err, "refusing to serialise")
				require.False(t, shows(string(out)+err.Error(), text))
				if name == "text" || name == "bin" || name == "xml" { // xml has no maps: a struct fails for that reason already
					continue
				}
				out, err = encode(struct{ V secret.Value }{h.Secret})
				require.ErrorContains(t, err, "refusing to serialise")
				require.False(t, shows(string(out)+err.Error(), text))
			}
		})
	}
	var v secret.Value
	require.ErrorIs(t, json.Unmarshal([]byte(`"x"`), &v), secret.ErrSerialise)
}

func TestLoggingNeverShowsTheSecret(t *testing.T) {
	for range 20 {
		text, h := canary(t)
		var b bytes.Buffer
		for _, handler := range []slog.Handler{slog.NewTextHandler(&b, nil), slog.NewJSONHandler(&b, nil)} {
			log := slog.New(handler).With("with", h.Secret)
			log.Info("m", "v", h.Secret, "p", &h.Secret, "h", h, "hp", &h, slog.Group("g", "v", h.Secret), "l", h.Many)
		}
		require.False(t, shows(b.String(), text))
		require.Contains(t, b.String(), "v="+secret.Mark)
	}
}

func TestValueKeepsItsOwnBytes(t *testing.T) {
	in := []byte("from the caller")
	v := secret.New(in)
	clear(in)
	require.Equal(t, "from the caller", string(v.Reveal()))
	out := v.Reveal()
	clear(out)
	require.Equal(t, "from the caller", string(v.Reveal()), "what Reveal gives is a copy")

	same, other := secret.New([]byte("from the caller")), secret.New([]byte("from the"))
	require.True(t, v.Equal(same))
	require.False(t, v.Equal(other))
	require.True(t, secret.Value{}.Equal(secret.New(nil)))

	cp := v
	v.Destroy()
	v.Destroy()
	require.True(t, cp.Empty(), "copies are destroyed with it")
	require.Nil(t, cp.Reveal())
	secret.Value{}.Destroy()
}

func TestValueIsSafeForConcurrentUse(t *testing.T) {
	v := secret.New([]byte("abcdefgh"))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if i == 4 {
				v.Destroy()
			}
			got := string(v.Reveal())
			if got != "" && got != "abcdefgh" {
				t.Errorf("half destroyed: %d bytes", len(got))
			}
		})
	}
	wg.Wait()
}
