package page

import (
	"bytes"
	"html"

	"flanneld/pkg/printable"
)

// literal is markup, which is written as it is. Only constants of this package become one, as
// a string does not without a conversion, of which there is none: all other text is escaped.
type literal string

// longestText bounds a text on the page, in bytes, before it is escaped.
const longestText = 600

// markup is a document that grows.
type markup struct{ bytes.Buffer }

// raw appends markup.
func (m *markup) raw(all ...literal) {
	for _, l := range all {
		m.WriteString(string(l))
	}
}

// text appends what is to be read: bounded, printable, and unable to leave the element or the
// quoted attribute that it stands in.
func (m *markup) text(s string) {
	m.WriteString(html.EscapeString(printable.Bounded(s, longestText)))
}

// in appends an element with a text. Its opening tag is that without the brackets, such as
// `p class="msg"`.
func (m *markup) in(tag literal, s string) {
	m.raw("<", tag, ">")
	m.text(s)
	m.raw("</", name(tag), ">")
}

// attribute appends one to a tag that is still open.
func (m *markup) attribute(name literal, value string) {
	m.raw(" ", name, `="`)
	m.text(value)
	m.raw(`"`)
}

// name is that of a tag, without its attributes.
func name(tag literal) literal {
	for i, c := range tag {
		if c == ' ' {
			return tag[:i]
		}
	}
	return tag
}
