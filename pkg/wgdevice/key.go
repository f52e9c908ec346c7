package wgdevice

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
)

// Key is a public key of Curve25519.
type Key [32]byte

// Secret is a private key of Curve25519, or a pre-shared key. It is not shown by fmt, log or
// encoding/json, whatever has it, with one exception: package fmt asks no method of what is in an
// unexported field, and would print its bytes. So nobody prints a struct with such a field.
type Secret [32]byte

// hidden is how a Secret is shown.
const hidden = "(secret)"

// ParseKey reads a key as wg(8) and leases have it: 44 characters of base64.
func ParseKey(text string) (Key, error) {
	k, err := decode(text)
	if err != nil {
		return Key{}, fmt.Errorf("read a public key: %w", err)
	}
	return k, nil
}

// ParseSecret reads a pre-shared key, as ParseKey does. Errors do not repeat it.
func ParseSecret(text string) (Secret, error) {
	s, err := decode(text)
	if err != nil {
		return Secret{}, fmt.Errorf("read a secret key: %w", err)
	}
	return s, nil
}

// decode is strict: each key has but one text.
func decode(text string) (key [32]byte, err error) {
	var buf [33]byte // room for all that 44 characters can hold
	if len(text) == 44 {
		var n int
		if n, err = base64.StdEncoding.Strict().Decode(buf[:], []byte(text)); err == nil && n == len(key) {
			return [32]byte(buf[:]), nil
		}
	}
	return key, errors.New("it must be 44 characters of base64, as `wg genkey` and `wg pubkey` print them")
}

func encode(key [32]byte) string { return base64.StdEncoding.EncodeToString(key[:]) }

// String is the key in base64.
func (k Key) String() string { return encode(k) }

// IsZero reports whether there is no key.
func (k Key) IsZero() bool { return k == Key{} }

// NewSecret makes a private key.
func NewSecret() (s Secret) {
	_, _ = rand.Read(s[:]) // it never fails
	return s.clamped()
}

// clamped has the bits set that every private key has, as RFC 7748 demands in chapter 5:
// a device tells its key in this form.
func (s Secret) clamped() Secret {
	s[0] &= 248
	s[31] = s[31]&127 | 64
	return s
}

// Public is the public key of a private one; that of none is none.
func (s Secret) Public() (k Key) {
	if s.IsZero() {
		return k
	}
	private, err := ecdh.X25519().NewPrivateKey(s[:])
	if err != nil {
		panic(err) // 32 bytes are always one
	}
	copy(k[:], private.PublicKey().Bytes())
	return k
}

// IsZero reports whether there is no key.
func (s Secret) IsZero() bool { return s == Secret{} }

// String hides the key.
func (Secret) String() string { return hidden }

// GoString hides the key.
func (Secret) GoString() string { return hidden }

// Format hides the key from every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// MarshalJSON hides the key.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + hidden + `"`), nil }

// MarshalText hides the key, also where it is the key of a map.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }
