package nftables

import (
	"bytes"

	"flanneld/pkg/printable"
)

// longestText bounds names and comments. The kernel bounds names at 255 bytes, and
// everything else that is said of a rule at 256.
const maxText = 256

// textOf is what somebody has named or said, fit to be printed: up to its first
// zero byte, on one line.
func textOf(text []byte) string {
	text, _, _ = bytes.Cut(text, []byte{0})
	return printable.Bounded(string(text), maxText)
}

// commentOf finds the comment in what user space has attached to a rule, a row of
// type, length, value. (The library's reader for it trusts the lengths.)
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
