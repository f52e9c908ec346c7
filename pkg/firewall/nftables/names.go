package nftables

import (
	"bytes"

	"flanneld/pkg/printable"
)

// maxText bounds names and comments. The kernel bounds names at 255 bytes, and the
// user data of a rule at 256.
const maxText = 256

// textOf is a name or a comment in printable form: up to its first zero byte, on one
// line.
func textOf(text []byte) string {
	text, _, _ = bytes.Cut(text, []byte{0})
	return printable.Bounded(string(text), maxText)
}

// commentOf finds the comment in a rule's user data, a sequence of type, length and
// value. (The library's parser for it does not check the lengths.)
func commentOf(userData []byte) string {
	const comment = 0
	for len(userData) >= 2 {
		kind, size, rest := userData[0], int(userData[1]), userData[2:]
		if size > len(rest) {
			return ""
		}
		if kind == comment {
			return textOf(rest[:size])
		}
		userData = rest[size:]
	}
	return ""
}
