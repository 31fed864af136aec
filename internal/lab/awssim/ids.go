package awssim

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
)

// Secrets are never stored: they are derived from the salt of this run (a 0600 file of the lab)
// and the public id, and so survive a restart without lying in the snapshot or the effect log.

func derive(salt []byte, parts ...string) []byte {
	m := hmac.New(sha256.New, salt)
	for _, p := range parts {
		m.Write([]byte(p))
		m.Write([]byte{0})
	}
	return m.Sum(nil)
}

// secretOf gives the 40-character secret of an access key id.
func secretOf(salt []byte, keyID string) string {
	return base64.StdEncoding.EncodeToString(derive(salt, "secret", keyID))[:40]
}

// tokenOf gives the session token of an ASIA id.
func tokenOf(salt []byte, keyID string) string {
	var raw []byte
	for i := range 8 {
		raw = append(raw, derive(salt, "token", keyID, strconv.Itoa(i))...)
	}
	return base64.StdEncoding.EncodeToString(raw)
}

// accessKeyID makes an id with the given prefix (AKIA, ASIA) that matches AWS's pattern and
// decodes offline to the account, as trufflehog's GetAccountNumFromID reads it: base32 of id[4:],
// first 6 bytes big-endian, bits 7..46.
func accessKeyID(salt []byte, prefix, account string, n int64) string {
	number, _ := strconv.ParseUint(account, 10, 64)
	random := derive(salt, "id", prefix, strconv.FormatInt(n, 10))
	var raw [10]byte
	// The top bit is set, as in ids made since 2019: the fifth character is then never I or J.
	head := uint64(1)<<47 | number<<7 | uint64(random[0]&0x7f)
	var word [8]byte
	binary.BigEndian.PutUint64(word[:], head)
	copy(raw[:6], word[2:])
	copy(raw[6:], random[1:5])
	return prefix + base32.StdEncoding.EncodeToString(raw[:])
}

// AccountOf decodes the account of an access key id offline; ok is false for ids that carry none.
func AccountOf(keyID string) (account string, ok bool) {
	if len(keyID) != 20 || keyID[4] == 'I' || keyID[4] == 'J' {
		return "", false
	}
	raw, err := base32.StdEncoding.DecodeString(keyID[4:])
	if err != nil {
		return "", false
	}
	var word [8]byte
	copy(word[2:], raw[:6])
	z := binary.BigEndian.Uint64(word[:])
	return fmt.Sprintf("%012d", (z&0x7fffffffff80)>>7), true
}

// uniqueID makes an IAM unique id: AIDA, AROA, AGPA + 17 characters.
func uniqueID(salt []byte, prefix, name string) string {
	return prefix + base32.StdEncoding.EncodeToString(derive(salt, prefix, name))[:17]
}

// uuid makes a version-4-shaped id from a counter.
func uuid(salt []byte, kind string, n int64) string {
	b := derive(salt, kind, strconv.FormatInt(n, 10))
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:16])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// seal encrypts a stored secret value, so that no file of the lab holds one in clear.
func seal(salt, plain []byte) ([]byte, error) {
	aead, err := sealer(salt)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	return aead.Seal(nonce, nonce, plain, nil), nil
}

func open(salt, sealed []byte) ([]byte, error) {
	aead, err := sealer(salt)
	if err != nil {
		return nil, err
	}
	if len(sealed) < aead.NonceSize() {
		return nil, errors.New("sealed value is too short")
	}
	return aead.Open(nil, sealed[:aead.NonceSize()], sealed[aead.NonceSize():], nil)
}

func sealer(salt []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(derive(salt, "seal"))
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
