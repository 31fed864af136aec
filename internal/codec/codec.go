// Package codec encrypts every payload that reaches Temporal, and decrypts them
// for workers, clients and, through Handler, for the Temporal UI.
//
// A payload becomes {metadata: {encoding: "binary/encrypted", "rekey-key-id":
// <id>}, data: nonce and AES-256-GCM ciphertext of the whole payload}. Keys are
// internal/codec/keyring's, the same that encrypt blobs.
//
// A large payload is packed before it is encrypted (metadata "rekey-pack": "deflate",
// which the encryption binds): an incident's state is carried over whole when its run
// continues as new, and 200 items late in their life are more than the 2 MB that the
// server takes.
//
// Decode refuses everything else, so nobody who can write to the server can feed
// plaintext to a worker. There is no exception: what Temporal keeps in the clear
// (search attributes, ids, type names, identities, failure types) does not pass
// through a codec at all (SDK 1.50: internal_search_attributes.go uses the
// default converter), and the SDK's own query results, such as
// __temporal_workflow_metadata with the current details, do pass through it and
// come encrypted (internal_workflow.go, RawValue).
package codec

import (
	"errors"
	"fmt"
	"unicode/utf8"

	commonpb "go.temporal.io/api/common/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/proto"

	"rekey/internal/codec/keyring"
	"rekey/internal/deflate"
)

const (
	// Encoding marks an encrypted payload.
	Encoding = "binary/encrypted"
	// KeyIDField is the metadata field that names the key.
	KeyIDField = "rekey-key-id"
	// PackField is the metadata field that says that the text was packed, and how.
	PackField = "rekey-pack"
	// packFrom is the size from which a payload is packed; smaller ones are most of
	// them, and cost more than they win.
	packFrom = 256 << 10
	// maxUnpacked bounds what a packed payload may grow to.
	maxUnpacked = 24 << 20
	// MaxPayload is the largest payload that Encode takes, in bytes before
	// encryption and, for a large one, after packing: below the server's 2 MB limit of one blob
	// (https://docs.temporal.io/self-hosted-guide/defaults).
	MaxPayload = 2<<20 - 4096
	// maxEncoded leaves room for what other releases may allow.
	maxEncoded = 8 << 20
)

// A PlaintextError says that a payload came unencrypted.
type PlaintextError struct{ Encoding string }

func (e *PlaintextError) Error() string {
	return fmt.Sprintf("refused a payload that is not encrypted (encoding %q): every client must use rekey's data converter; if none of ours sent it, someone else can write to the Temporal namespace", e.Encoding)
}

// A TooLargeError says that a payload is larger than Temporal takes.
type TooLargeError struct{ Size int }

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("a payload of %d bytes is larger than %d: put it into the blob store and pass its hash", e.Size, MaxPayload)
}

// A MalformedError says that a payload is encrypted but not one of ours.
type MalformedError struct{ Why string }

func (e *MalformedError) Error() string { return "refused a malformed payload: " + e.Why }

type codec struct{ keys *keyring.Keyring }

// New returns the payload codec. It is safe for concurrent use.
func New(keys *keyring.Keyring) converter.PayloadCodec { return codec{keys} }

// Encode encrypts each payload with its metadata. It fails with *TooLargeError.
func (c codec) Encode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out := make([]*commonpb.Payload, len(payloads))
	for i, p := range payloads {
		if p == nil {
			return nil, &MalformedError{"a nil payload"}
		}
		plain, err := proto.MarshalOptions{Deterministic: true}.Marshal(p)
		if err != nil {
			return nil, &MalformedError{"it does not marshal"}
		}
		how := ""
		if len(plain) >= packFrom && len(plain) <= maxUnpacked {
			if packed := deflate.Pack(plain); len(packed) < len(plain) {
				how, plain = deflate.Name, packed
			}
		}
		if len(plain) > MaxPayload {
			return nil, &TooLargeError{Size: len(plain)}
		}
		id, sealed := c.keys.Seal(keyring.Payload, how, plain)
		out[i] = &commonpb.Payload{
			Metadata: map[string][]byte{converter.MetadataEncoding: []byte(Encoding), KeyIDField: []byte(id)},
			Data:     sealed,
		}
		if how != "" {
			out[i].Metadata[PackField] = []byte(how)
		}
	}
	return out, nil
}

// Decode decrypts each payload. It fails with *PlaintextError, *MalformedError,
// *keyring.CorruptError or *keyring.MissingKeyError, and then gives nothing.
func (c codec) Decode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out := make([]*commonpb.Payload, len(payloads))
	for i, p := range payloads {
		if enc := string(p.GetMetadata()[converter.MetadataEncoding]); enc != Encoding {
			return nil, &PlaintextError{Encoding: printable(enc)}
		}
		if len(p.GetData()) > maxEncoded {
			return nil, &MalformedError{"too large"}
		}
		how := string(p.GetMetadata()[PackField])
		if how != "" && how != deflate.Name {
			return nil, &MalformedError{"packed in an unknown way: by a newer build?"}
		}
		plain, err := c.keys.Open(keyring.Payload, string(p.GetMetadata()[KeyIDField]), how, p.GetData())
		if err != nil {
			return nil, err
		}
		if how != "" {
			if plain, err = unpack(plain); err != nil {
				return nil, err
			}
		}
		out[i] = &commonpb.Payload{}
		if err := proto.Unmarshal(plain, out[i]); err != nil {
			return nil, &MalformedError{"no payload inside"}
		}
	}
	return out, nil
}

func unpack(packed []byte) ([]byte, error) {
	plain, err := deflate.Unpack(packed, maxUnpacked)
	if errors.Is(err, deflate.ErrTooLarge) {
		return nil, &MalformedError{"too large"}
	}
	if err != nil {
		return nil, &MalformedError{"it does not unpack"}
	}
	return plain, nil
}

// printable bounds what an error repeats of a foreign payload.
func printable(s string) string {
	if len(s) > 40 || !utf8.ValidString(s) {
		return "unknown"
	}
	return s
}

// NewDataConverter is the SDK's default converter behind the codec, for every
// client and worker.
func NewDataConverter(keys *keyring.Keyring) converter.DataConverter {
	return converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), New(keys))
}

// Limits of what a failure carries; longer text is cut.
const (
	maxMessage = 8 << 10
	maxStack   = 64 << 10
)

type failureConverter struct {
	plain *temporal.DefaultFailureConverter // details encrypted, message and stack not yet
	dc    converter.DataConverter
}

// NewFailureConverter encrypts messages and stack traces of failures too (the
// SDK's EncodeCommonAttributes), for every client and worker. Failure types stay
// readable. A message is cut at 8 KiB and a stack trace at 64 KiB: the SDK's own
// converter panics when either does not fit a payload.
func NewFailureConverter(keys *keyring.Keyring) converter.FailureConverter {
	dc := NewDataConverter(keys)
	return &failureConverter{
		plain: temporal.NewDefaultFailureConverter(temporal.DefaultFailureConverterOptions{DataConverter: dc}),
		dc:    dc,
	}
}

// ErrorToFailure implements converter.FailureConverter.
func (c *failureConverter) ErrorToFailure(err error) *failurepb.Failure {
	f := c.plain.ErrorToFailure(err)
	if f == nil {
		return nil
	}
	f = proto.CloneOf(f) // it may be shared with the error it came from
	for link := f; link != nil; link = link.GetCause() {
		if link.GetEncodedAttributes() != nil {
			continue // it came from a history, encrypted
		}
		link.Message, link.StackTrace = cut(link.GetMessage(), maxMessage), cut(link.GetStackTrace(), maxStack)
		if err := converter.EncodeCommonFailureAttributes(c.dc, link); err != nil {
			// Nothing of it may go out in the clear.
			link.Message, link.StackTrace = "Encoded failure", ""
		}
	}
	return f
}

// FailureToError implements converter.FailureConverter.
func (c *failureConverter) FailureToError(f *failurepb.Failure) error {
	return c.plain.FailureToError(f)
}

func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
