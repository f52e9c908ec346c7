// Package printable makes text from outside fit for a terminal or a log: what a
// store, a kernel object or another program says may hold anything.
package printable

import (
	"strings"
	"unicode"
)

// Line is s on one line: every character that does not print, and every byte
// that is no UTF-8, becomes a question mark.
func Line(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return '?'
		}
		return r
	}, s)
}

// Bounded is Line of the first most bytes of s.
func Bounded(s string, most int) string {
	if len(s) > most {
		s = s[:most]
	}
	return Line(s)
}
