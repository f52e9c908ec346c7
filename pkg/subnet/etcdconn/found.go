package etcdconn

import "strings"

// Found is what lies at an absolute key.
type Found struct {
	Value   string
	Blocked string // it is a directory, and what takes that away; by the v2 API alone
}

// Quote quotes a word for a shell, where that is needed.
func Quote(word string) string {
	plain := func(r rune) bool {
		return r < 0x80 && (strings.ContainsRune("-_./:=,@%+", r) ||
			'0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z')
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
