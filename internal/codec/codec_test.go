package codec_test

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/proto"

	"rekey/internal/codec"
	"rekey/internal/codec/keyring"
	"rekey/internal/secret"
)

func ring(t testing.TB, dir string) *keyring.Keyring {
	t.Helper()
	k, err := keyring.Open(keyring.Options{Dir: dir, Create: true, Now: time.Now})
	require.NoError(t, err)
	return k
}

func canary(t testing.TB) string {
	t.Helper()
	b := make([]byte, 20)
	_, err := rand.Read(b)
	require.NoError(t, err)
	return hex.EncodeToString(b)
}

type state struct {
	Name  string
	Count int
	None  *state
}

func TestValuesGoThroughEncrypted(t *testing.T) {
	dc := codec.NewDataConverter(ring(t, t.TempDir()))
	word := canary(t)
	in := []any{word, state{Name: word, Count: 3}, []byte(word), nil, "", []byte{}, true, converter.NewRawValue(&commonpb.Payload{})}
	ps, err := dc.ToPayloads(in...)
	require.NoError(t, err)
	for _, p := range ps.Payloads {
		require.Equal(t, codec.Encoding, string(p.Metadata["encoding"]))
		require.NotEmpty(t, p.Metadata[codec.KeyIDField])
		require.Len(t, p.Metadata, 2, "no metadata of the plaintext outside")
		wire, err := proto.Marshal(p)
		require.NoError(t, err)
		require.NotContains(t, string(wire), word)
		require.NotContains(t, string(wire), "json/plain")
	}
	var s string
	var st state
	var b []byte
	var none *state
	var empty string
	var emptyBytes []byte
	var yes bool
	var raw converter.RawValue
	require.NoError(t, dc.FromPayloads(ps, &s, &st, &b, &none, &empty, &emptyBytes, &yes, &raw))
	require.Equal(t, []any{word, state{Name: word, Count: 3}, []byte(word), "", true}, []any{s, st, b, empty, yes})
	require.Nil(t, none)
	require.Empty(t, emptyBytes)

	again, err := dc.ToPayload(word)
	require.NoError(t, err)
	require.NotEqual(t, ps.Payloads[0].Data, again.Data, "the same value looks different each time")
	nothing, err := dc.ToPayloads()
	require.NoError(t, err)
	require.NoError(t, dc.FromPayloads(nothing))
}

func TestASecretNeverBecomesAPayload(t *testing.T) {
	dc := codec.NewDataConverter(ring(t, t.TempDir()))
	word := canary(t)
	for _, v := range []any{secret.New([]byte(word)), struct{ V secret.Value }{secret.New([]byte(word))}} {
		_, err := dc.ToPayload(v)
		require.ErrorContains(t, err, "refusing to serialise")
		require.NotContains(t, err.Error(), word)
	}
}

func TestDecodeRefusesWhatIsNotOurs(t *testing.T) {
	dir := t.TempDir()
	c := codec.New(ring(t, dir))
	plain, err := converter.GetDefaultDataConverter().ToPayload("hello")
	require.NoError(t, err)
	good, err := c.Encode([]*commonpb.Payload{plain})
	require.NoError(t, err)
	foreign, err := codec.New(ring(t, t.TempDir())).Encode([]*commonpb.Payload{plain})
	require.NoError(t, err)

	relabel := func(change func(*commonpb.Payload)) *commonpb.Payload {
		p := proto.CloneOf(good[0])
		change(p)
		return p
	}
	var plaintext *codec.PlaintextError
	var corrupt *keyring.CorruptError
	for name, c2 := range map[string]struct {
		p    *commonpb.Payload
		want any
	}{
		"plaintext":        {plain, &plaintext},
		"null":             {&commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte("binary/null")}}, &plaintext},
		"empty":            {&commonpb.Payload{}, &plaintext},
		"nil":              {nil, &plaintext},
		"odd encoding":     {relabel(func(p *commonpb.Payload) { p.Metadata["encoding"] = []byte("\xff\xfe") }), &plaintext},
		"another's key":    {foreign[0], &corrupt},
		"changed":          {relabel(func(p *commonpb.Payload) { p.Data[20] ^= 1 }), &corrupt},
		"no data":          {relabel(func(p *commonpb.Payload) { p.Data = nil }), &corrupt},
		"no key id":        {relabel(func(p *commonpb.Payload) { delete(p.Metadata, codec.KeyIDField) }), &corrupt},
		"a path as key id": {relabel(func(p *commonpb.Payload) { p.Metadata[codec.KeyIDField] = []byte("../current") }), &corrupt},
	} {
		out, err := c.Decode([]*commonpb.Payload{good[0], c2.p})
		require.ErrorAs(t, err, c2.want, name)
		require.Nil(t, out, "%s: nothing of the list", name)
		require.NotContains(t, err.Error(), "hello")
	}
	_, err = c.Decode([]*commonpb.Payload{relabel(func(p *commonpb.Payload) { p.Metadata[codec.KeyIDField] = []byte("k1999-01") })})
	var missing *keyring.MissingKeyError
	require.ErrorAs(t, err, &missing)
	require.Equal(t, "k1999-01", missing.ID)
	_, err = c.Encode([]*commonpb.Payload{nil})
	require.Error(t, err)
	require.NoError(t, os.Remove(filepath.Join(dir, string(good[0].Metadata[codec.KeyIDField])+".key")))
	_, err = c.Decode(good)
	require.NoError(t, err, "a running process keeps its keys")
}

func TestPayloadSizeLimit(t *testing.T) {
	c := codec.New(ring(t, t.TempDir()))
	noise := make([]byte, codec.MaxPayload) // cannot be packed
	_, _ = rand.Read(noise)
	fits := &commonpb.Payload{Data: noise[100:]}
	out, err := c.Encode([]*commonpb.Payload{fits})
	require.NoError(t, err)
	require.Less(t, proto.Size(out[0]), 2<<20, "what fits here fits there")
	back, err := c.Decode(out)
	require.NoError(t, err)
	require.True(t, proto.Equal(fits, back[0]))
	_, err = c.Encode([]*commonpb.Payload{{Data: noise}})
	var large *codec.TooLargeError
	require.ErrorAs(t, err, &large)
	require.ErrorContains(t, err, "blob store")
}

// TestLargePayloadsArePacked: the state of an incident of 200 items is more than the
// server takes, and repeats itself.
func TestLargePayloadsArePacked(t *testing.T) {
	c := codec.New(ring(t, t.TempDir()))
	state := &commonpb.Payload{
		Metadata: map[string][]byte{"encoding": []byte("json/plain")},
		Data:     bytes.Repeat([]byte(`{"verb":"Disable","outcome":"done","attempt":1},`), 4*codec.MaxPayload/48),
	}
	out, err := c.Encode([]*commonpb.Payload{state})
	require.NoError(t, err)
	require.Less(t, proto.Size(out[0]), codec.MaxPayload/4)
	back, err := c.Decode(out)
	require.NoError(t, err)
	require.True(t, proto.Equal(state, back[0]))

	small, err := c.Encode([]*commonpb.Payload{{Data: []byte("small")}})
	require.NoError(t, err)
	require.NotContains(t, small[0].Metadata, codec.PackField, "what earlier builds wrote and read")

	t.Run("the mark is bound", func(t *testing.T) {
		for name, mark := range map[string]func(p *commonpb.Payload){
			"taken off": func(p *commonpb.Payload) { delete(p.Metadata, codec.PackField) },
			"another":   func(p *commonpb.Payload) { p.Metadata[codec.PackField] = []byte("zip") },
		} {
			forged := proto.CloneOf(out[0])
			mark(forged)
			_, err := c.Decode([]*commonpb.Payload{forged})
			require.Error(t, err, name)
		}
		forged := proto.CloneOf(small[0])
		forged.Metadata[codec.PackField] = []byte("deflate")
		_, err := c.Decode([]*commonpb.Payload{forged})
		require.Error(t, err, "put on")
	})
	_, err = c.Encode([]*commonpb.Payload{{Data: make([]byte, 25<<20)}})
	var large *codec.TooLargeError
	require.ErrorAs(t, err, &large, "what nobody would unpack is not packed")
}

func TestRotation(t *testing.T) {
	dir := t.TempDir()
	k := ring(t, dir)
	dc := codec.NewDataConverter(k)
	before, err := dc.ToPayload("before")
	require.NoError(t, err)
	require.NoError(t, k.Add("next"))
	require.NoError(t, k.Activate("next"))
	after, err := dc.ToPayload("after")
	require.NoError(t, err)
	require.Equal(t, "next", string(after.Metadata[codec.KeyIDField]))
	other := codec.NewDataConverter(ring(t, dir))
	for want, p := range map[string]*commonpb.Payload{"before": before, "after": after} {
		var got string
		require.NoError(t, other.FromPayload(p, &got))
		require.Equal(t, want, got)
	}
}

func TestFailuresAreEncrypted(t *testing.T) {
	k := ring(t, t.TempDir())
	fc := codec.NewFailureConverter(k)
	word, cause := canary(t), canary(t)
	err := temporal.NewApplicationErrorWithCause("outer "+word, "denied", errors.New("inner "+cause), word)
	f := fc.ErrorToFailure(err)
	wire, merr := proto.Marshal(f)
	require.NoError(t, merr)
	require.NotContains(t, string(wire), word)
	require.NotContains(t, string(wire), cause)
	require.Equal(t, "denied", f.GetApplicationFailureInfo().GetType(), "the class stays readable")

	back := fc.FailureToError(proto.CloneOf(f))
	require.ErrorContains(t, back, "outer "+word)
	require.ErrorContains(t, errors.Unwrap(back), "inner "+cause)
	var app *temporal.ApplicationError
	require.ErrorAs(t, back, &app)
	var detail string
	require.NoError(t, app.Details(&detail))
	require.Equal(t, word, detail)
	require.True(t, proto.Equal(f, fc.ErrorToFailure(back)), "passing it on encrypts it once, not twice")

	huge := fc.ErrorToFailure(errors.New(strings.Repeat("é", 3<<20)))
	require.Less(t, proto.Size(huge), 64<<10, "no panic, no payload that the server refuses")
	require.ErrorContains(t, fc.FailureToError(huge), "éé")
	require.Nil(t, fc.ErrorToFailure(nil))

	shared := &failurepb.Failure{Message: "activity StartToClose timeout", FailureInfo: &failurepb.Failure_TimeoutFailureInfo{TimeoutFailureInfo: &failurepb.TimeoutFailureInfo{}}}
	fromServer := fc.FailureToError(shared)
	require.NotContains(t, fc.ErrorToFailure(fromServer).String(), "StartToClose")
	require.Equal(t, "activity StartToClose timeout", shared.Message, "what it was made from is left alone")
}

func FuzzDecode(f *testing.F) {
	c := codec.New(ring(f, f.TempDir()))
	plain := &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: []byte(`"x"`)}
	good, err := c.Encode([]*commonpb.Payload{plain})
	require.NoError(f, err)
	f.Add([]byte(codec.Encoding), good[0].Metadata[codec.KeyIDField], good[0].Data)
	f.Add([]byte("json/plain"), []byte(nil), []byte(`"x"`))
	f.Add([]byte(codec.Encoding), []byte("../x"), []byte{0})
	f.Fuzz(func(t *testing.T, encoding, id, data []byte) {
		out, err := c.Decode([]*commonpb.Payload{{Metadata: map[string][]byte{"encoding": encoding, codec.KeyIDField: id}, Data: data}})
		if err == nil && (!bytes.Equal(data, good[0].Data) || !proto.Equal(out[0], plain)) {
			t.Fatal("something else than what was sealed decodes")
		}
	})
}
