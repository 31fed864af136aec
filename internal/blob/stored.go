package blob

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"rekey/internal/codec/keyring"
	"rekey/internal/deflate"
)

// The stored form of a blob is a magic, one byte length of the key id, the key id and
// the ciphertext, of the content as it is or packed. Which of the two is authenticated
// with it, so that packed bytes are never taken for content.
const (
	plainMagic  = "rekeyb1\n"
	packedMagic = "rekeyb2\n"
	// packFrom is the size in bytes from which packing is tried.
	packFrom = 512
	// MaxStored is the longest stored form: what packing makes longer is not packed.
	MaxStored = len(plainMagic) + 1 + 64 + keyring.Overhead + MaxSize
)

func packedContext(hash string) string { return hash + "\x00" + deflate.Name }

// Encode gives the name of plaintext and its stored form: packed where that is
// shorter, and encrypted. Every kind of store keeps the same form.
func Encode(keys *keyring.Keyring, plaintext []byte) (hash string, stored []byte, err error) {
	if hash, err = sized(plaintext); err != nil {
		return "", nil, err
	}
	return hash, encode(keys, hash, plaintext), nil
}

// sized names plaintext, unless it is too large for a blob.
func sized(plaintext []byte) (hash string, err error) {
	if len(plaintext) > MaxSize {
		return "", fmt.Errorf("blob store: %d bytes are more than a blob holds (%d): split it into pages", len(plaintext), MaxSize)
	}
	return Hash(plaintext), nil
}

func encode(keys *keyring.Keyring, hash string, plaintext []byte) []byte {
	if len(plaintext) >= packFrom {
		if packed := deflate.Pack(plaintext); len(packed) < len(plaintext) {
			return sealFrame([]byte(packedMagic), keys, keyring.Blob, packedContext(hash), packed)
		}
	}
	return sealFrame([]byte(plainMagic), keys, keyring.Blob, hash, plaintext)
}

// Decode gives the content of a stored form, checked against its name. It fails with
// *CorruptError and *keyring.MissingKeyError.
func Decode(keys *keyring.Keyring, hash string, stored []byte) ([]byte, error) {
	return decode(keys, hash, stored, MaxSize)
}

func decode(keys *keyring.Keyring, hash string, stored []byte, most int) ([]byte, error) {
	context := hash
	body, ok := bytes.CutPrefix(stored, []byte(plainMagic))
	packed := false
	if !ok {
		body, packed = bytes.CutPrefix(stored, []byte(packedMagic))
		context = packedContext(hash)
	}
	if !ok && !packed {
		return nil, &CorruptError{Hash: hash, Why: "not a blob file"}
	}
	plain, err := openFrame(keys, keyring.Blob, context, body)
	var missing *keyring.MissingKeyError
	if errors.As(err, &missing) {
		return nil, fmt.Errorf("blob %s: %w", hash, err)
	}
	if err != nil {
		return nil, &CorruptError{Hash: hash, Why: "does not decrypt", Err: err}
	}
	if packed {
		if plain, err = deflate.Unpack(plain, most); err != nil {
			return nil, &CorruptError{Hash: hash, Why: "does not unpack", Err: err}
		}
	}
	if Hash(plain) != hash {
		return nil, &CorruptError{Hash: hash, Why: "holds other content"}
	}
	return plain, nil
}

// sealFrame appends key id and ciphertext to dst.
func sealFrame(dst []byte, keys *keyring.Keyring, u keyring.Usage, context string, plain []byte) []byte {
	id, sealed := keys.Seal(u, context, plain)
	dst = slices.Grow(dst, 1+len(id)+len(sealed))
	return append(append(append(dst, byte(len(id))), id...), sealed...) //nolint:gosec // a key id is at most 64 bytes
}

func openFrame(keys *keyring.Keyring, u keyring.Usage, context string, data []byte) ([]byte, error) {
	if len(data) == 0 || len(data) < 1+int(data[0]) {
		return nil, &keyring.CorruptError{ID: "?"}
	}
	n := 1 + int(data[0])
	return keys.Open(u, string(data[1:n]), context, data[n:])
}
