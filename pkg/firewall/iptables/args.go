package iptables

import "strings"

// splitArgs splits a line the way iptables-restore does: at blanks, with double
// quotes and backslashes.
func splitArgs(line string) []string {
	var out []string
	var word strings.Builder
	open, quoted, escaped := false, false, false
	for _, c := range line {
		switch {
		case escaped:
			word.WriteRune(c)
			escaped = false
		case c == '\\':
			open, escaped = true, true
		case c == '"':
			open, quoted = true, !quoted
		case c == ' ' && !quoted:
			if open {
				out = append(out, word.String())
				word.Reset()
			}
			open = false
		default:
			open = true
			word.WriteRune(c)
		}
	}
	if open {
		out = append(out, word.String())
	}
	return out
}
