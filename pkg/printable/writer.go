package printable

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// The colours that [People] lets pass.
const (
	Red   = "\x1b[31m"
	Green = "\x1b[32m"
	Reset = "\x1b[0m"
)

// People is a door to w for text in lines, which may be coloured: whatever else does
// not print becomes a question mark.
func People(w io.Writer) io.Writer { return door{w, people} }

// longestRecord bounds a line of the log, in bytes. Its values are bounded before.
const longestRecord = 32 << 10

// Record is a door to a log: each write is one line, whatever is in it. With breaks,
// which is for stack traces, a write may have several.
func Record(w io.Writer, breaks bool) io.Writer {
	if breaks {
		return door{w, Lines}
	}
	return door{w, func(s string) string { return Bounded(strings.TrimSuffix(s, "\n"), longestRecord) + "\n" }}
}

// JSONRecord is a door to a log of JSON objects, one with each write.
func JSONRecord(w io.Writer) io.Writer {
	return door{w, func(s string) string { return string(JSON([]byte(s))) }}
}

// door writes to w what clean makes of each write.
type door struct {
	w     io.Writer
	clean func(string) string
}

func (d door) Write(p []byte) (int, error) {
	if _, err := io.WriteString(d.w, d.clean(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}

func people(s string) string {
	var out strings.Builder
	for {
		at, colour := firstColour(s)
		out.WriteString(Lines(s[:at]) + colour)
		if colour == "" {
			return out.String()
		}
		s = s[at+len(colour):]
	}
}

// firstColour finds the first colour in s; none: it is at the end.
func firstColour(s string) (at int, colour string) {
	at = len(s)
	for _, c := range []string{Red, Green, Reset} {
		if i := strings.Index(s, c); i >= 0 && i < at {
			at, colour = i, c
		}
	}
	return at, colour
}

// JSON is a JSON document in which what does not print is written as \u1234: to
// whoever decodes it it is the same.
func JSON(document []byte) []byte {
	out := make([]byte, 0, len(document))
	for len(document) > 0 {
		r, size := utf8.DecodeRune(document)
		switch {
		case r == '\n' || prints(r):
			out = append(out, document[:size]...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		document = document[size:]
	}
	return out
}
