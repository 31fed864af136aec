// Package deflate packs what is about to be encrypted: payloads (internal/codec) and
// blobs (internal/blob) of large incidents are repetitive JSON. RFC 1951
// (https://www.rfc-editor.org/rfc/rfc1951), fast rather than small: it runs inside
// workflow tasks.
//
// The length of a ciphertext then tells how repetitive the text is. That is nothing to
// guess a secret from: no secret is in what rekey encrypts this way
// (docs/threat-notes.md).
package deflate

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"sync"
)

// Name of the form in what says how something was packed.
const Name = "deflate"

// ErrTooLarge says that packed bytes grow to more than the caller allows.
var ErrTooLarge = errors.New("unpacks to more than is allowed")

// A writer keeps over a megabyte of tables, too much to make for each page.
var writers = sync.Pool{New: func() any {
	w, err := flate.NewWriter(io.Discard, flate.BestSpeed)
	if err != nil {
		panic(err) // the level is a constant
	}
	return w
}}

// Pack gives the packed form of plain, which may be longer than plain.
func Pack(plain []byte) []byte {
	w, ok := writers.Get().(*flate.Writer)
	if !ok {
		panic("the pool holds writers alone")
	}
	defer writers.Put(w)
	var b bytes.Buffer
	w.Reset(&b)
	_, _ = w.Write(plain) // into memory
	_ = w.Close()
	return b.Bytes()
}

// Unpack undoes Pack. It reads no further than most bytes, and fails with ErrTooLarge
// where there is more, and where packed is not the whole of what Pack gave.
func Unpack(packed []byte, most int) ([]byte, error) {
	src := bytes.NewReader(packed)
	plain, err := io.ReadAll(io.LimitReader(flate.NewReader(src), int64(most)+1))
	switch {
	case err != nil:
		return nil, err
	case len(plain) > most:
		return nil, ErrTooLarge
	case src.Len() > 0:
		return nil, errors.New("something follows the packed bytes")
	}
	return plain, nil
}
