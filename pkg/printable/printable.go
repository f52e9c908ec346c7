// Package printable makes text from outside fit for a terminal or a log: what a
// store, a kernel object, a certificate or another program says may hold anything,
// and be of any length.
//
// Each sink has one door, which everything goes through: [Record] before the log,
// [People] before what commands print, [JSON] before what they print for scripts.
// What is to stay on one line, such as a cell of a table, is made so by [Line] or
// [Bounded] beforehand: a door cannot tell whose line break it sees.
package printable

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Line is s on one line: every character that does not print, and every byte
// that is no UTF-8, becomes a question mark.
func Line(s string) string { return strings.Map(orMark, s) }

// Lines is Line, but for line breaks and tabs, which stay.
func Lines(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return r
		}
		return orMark(r)
	}, s)
}

func orMark(r rune) rune {
	if !prints(r) {
		return '?'
	}
	return r
}

func prints(r rune) bool { return unicode.IsPrint(r) && r != unicode.ReplacementChar }

// Longest is how long a value in the log, and a sentence for people, may be, in
// bytes.
const Longest = 2000

// cut ends a text of which there was more.
const cut = "…"

// Bounded is Line of s, and of the first most bytes of it where it is longer, with
// "…" behind them.
func Bounded(s string, most int) string {
	begin, more := begin(s, most)
	return Line(begin) + more
}

// Some are the first of several texts, and how many more there are, after the last
// word.
func Some(texts []string, most int, between, last string) string {
	text := strings.Join(texts[:min(len(texts), most)], between)
	if more := len(texts) - most; more > 0 {
		text += fmt.Sprintf("%s %d more", last, more)
	}
	return text
}

// Quoted is s, or what Bounded would show of it, as Go writes strings: what does not
// print can be told.
func Quoted(s string, most int) string {
	begin, more := begin(s, most)
	return strconv.Quote(begin) + more
}

func begin(s string, most int) (begin, more string) {
	if len(s) <= most {
		return s, ""
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most], cut
}
