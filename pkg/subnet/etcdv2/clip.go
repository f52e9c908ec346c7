package etcdv2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"flanneld/pkg/subnet"
)

// clip is a JSON document as it is read, without any string that is longer than
// allowed: of each the length alone is left. By etcd's v2 API all keys come in
// one reply, which is decoded as a whole; so the length of a reply is that of what
// is of use in it.
type clip struct {
	document io.Reader
	longest  int    // string, in bytes
	raw      []byte // one read
	ready    []byte // to be handed out
	err      error  // after that

	within bool // a string, which is held back until its end
	held   []byte
	length int // of the string so far, in bytes; held has all of it if it is not too long
	escape escape
	bare   int // bytes since the last string or structure: of a number, or blanks
	blank  bool
}

// escape is one that has begun: of \u1234 the digits so far.
type escape struct {
	begun  bool
	digits []byte
}

// longestBare bounds what is neither a string nor structure: a number, or a word.
const longestBare = 1 << 10

// A read begins small, as an event is, and is larger in a document that fills it.
const firstRead, laterRead = 1 << 10, 32 << 10 // bytes

func newClip(document io.Reader, longest int) *clip {
	return &clip{document: document, longest: longest, raw: make([]byte, firstRead)}
}

// Read implements [io.Reader].
func (c *clip) Read(p []byte) (int, error) {
	for len(c.ready) == 0 && c.err == nil {
		n, err := c.document.Read(c.raw)
		c.ready, c.err = c.ready[:0], err
		if !c.takeAll(c.raw[:n]) {
			c.err = errors.New("answers with something that is not etcd's JSON")
		}
		if n == len(c.raw) && n < laterRead {
			c.raw = make([]byte, laterRead)
		}
	}
	n := copy(p, c.ready)
	if c.ready = c.ready[n:]; len(c.ready) > 0 {
		return n, nil
	}
	return n, c.err
}

// takeAll reads a piece; false: no document of etcd's is like that.
func (c *clip) takeAll(piece []byte) bool {
	for len(piece) > 0 {
		if n, length := c.run(piece); n > 0 {
			if c.length <= c.longest {
				c.held = append(c.held, piece[:n]...)
			}
			c.length += length
			piece = piece[n:]
			continue
		}
		if !c.take(piece[0]) {
			return false
		}
		piece = piece[1:]
	}
	return true
}

// run is how many bytes of a string a piece begins with that can be taken at once,
// and what they stand for: all up to a quote or an escape, or one whole escape.
func (c *clip) run(piece []byte) (n, length int) {
	switch {
	case !c.within || c.escape.begun || piece[0] == '"':
		return 0, 0
	case piece[0] != '\\':
		if n = bytes.IndexAny(piece, `"\`); n < 0 {
			n = len(piece)
		}
		return n, n
	case len(piece) >= 6 && piece[1] == 'u':
		return 6, width(piece[2:6])
	case len(piece) >= 2 && piece[1] != 'u':
		return 2, 1
	}
	return 0, 0
}

// take reads one byte; false: no document of etcd's is like that.
func (c *clip) take(b byte) bool {
	switch {
	case c.within:
		c.takeOfString(b)
	case b == '"':
		c.within, c.held, c.length, c.escape = true, c.held[:0], 0, escape{}
		c.bare, c.blank = 0, false
	case b == ' ' || b == '\n' || b == '\r' || b == '\t':
		if !c.blank {
			c.ready = append(c.ready, b)
		}
		c.blank = true
		c.bare++
	default:
		c.ready, c.blank = append(c.ready, b), false
		if c.bare++; strings.IndexByte("{}[]:,", b) >= 0 {
			c.bare = 0
		}
	}
	return c.bare <= longestBare
}

func (c *clip) takeOfString(b byte) {
	end := b == '"' && !c.escape.begun
	switch {
	case !end && c.length <= c.longest:
		c.held = append(c.held, b)
	case end && c.length <= c.longest:
		c.within = false
		c.ready = append(append(append(c.ready, '"'), c.held...), '"')
	case end:
		c.within = false
		c.ready = fmt.Appendf(c.ready, "\"%s%d\"", clipMarkJSON, c.length)
	}
	c.count(b)
}

// count adds to the length of a string what a byte of its JSON stands for.
func (c *clip) count(b byte) {
	e := &c.escape
	switch {
	case !e.begun && b == '\\':
		e.begun = true
	case !e.begun:
		c.length++
	case len(e.digits) == 0 && b != 'u':
		e.begun = false
		c.length++
	default: // the u and four digits
		if e.digits = append(e.digits, b); len(e.digits) == 5 {
			c.length += width(e.digits[1:])
			*e = escape{digits: e.digits[:0]}
		}
	}
}

// width is how many bytes a character of \u1234 takes in UTF-8. Two surrogates make one
// of four.
func width(digits []byte) int {
	code := rune(0)
	for _, d := range digits {
		code = code<<4 | rune(hex(d))
	}
	if utf16.IsSurrogate(code) {
		return 2
	}
	return utf8.RuneLen(code)
}

// hex is the value of a digit; 0: it is none, and the document no JSON.
func hex(digit byte) byte {
	switch {
	case '0' <= digit && digit <= '9':
		return digit - '0'
	case 'a' <= digit|0x20 && digit|0x20 <= 'f':
		return digit | 0x20 - 'a' + 10
	}
	return 0
}

// clipMark stands before the length that is left of a string. No value of use
// begins with it.
const (
	clipMark     = "\x00clipped "
	clipMarkJSON = `\u0000clipped `
)

// clipped is the length of a value that was clipped; 0: it is as it was stored.
func clipped(value string) int {
	text, _ := strings.CutPrefix(value, clipMark)
	n, err := strconv.Atoi(text)
	if err != nil || text == value || n <= subnet.LongestValue {
		return 0
	}
	return n
}
