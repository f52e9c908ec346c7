// Package jsoniter is encoding/json in the place of github.com/json-iterator/go, as far as
// etcd's client/v2 asks for that: it decodes the replies of the v2 API.
//
// The library finds methods by their names. Where a program does that, Go's linker keeps
// every exported method of every type: a quarter of the daemon's file, and 4 MiB of its memory.
//
// encoding/json takes field names in any case, which the library was told not to: etcd's
// replies have no two fields that differ in that alone.
package jsoniter

import (
	"encoding/json"
	"errors"
	"unsafe"

	"github.com/modern-go/reflect2"
)

// Config is read by nobody: these are the ways of encoding/json, but for CaseSensitive.
type Config struct{ EscapeHTML, SortMapKeys, ValidateJsonRawMessage, CaseSensitive bool }

// Froze returns what decodes.
func (Config) Froze() API { return API{} }

// API decodes.
type API struct{}

// Unmarshal is that of encoding/json.
func (API) Unmarshal(data []byte, into any) error { return json.Unmarshal(data, into) }

// RegisterExtension does nothing: client/v2's is for values of any type, which no reply of
// the key space has.
func (API) RegisterExtension(Extension) {}

// Extension is a decoder of its own for some types.
type Extension interface {
	CreateDecoder(reflect2.Type) ValDecoder
}

// DummyExtension is an Extension for no type.
type DummyExtension struct{}

// CreateDecoder implements [Extension].
func (*DummyExtension) CreateDecoder(reflect2.Type) ValDecoder { return nil }

// ValDecoder decodes one value.
type ValDecoder interface {
	Decode(into unsafe.Pointer, from *Iterator)
}

// Iterator is what a ValDecoder would read from. As none is ever called, nothing makes one.
type Iterator struct{ Error error }

// ValueType tells values apart by their first byte.
type ValueType int

// NumberValue is a number's.
const NumberValue ValueType = 0

// Number is as it stands in the text.
type Number string

var errUnused = errors.New("no decoder of its own is called")

// WhatIsNext tells nothing.
func (i *Iterator) WhatIsNext() ValueType { i.Error = errUnused; return NumberValue }

// ReadVal reads nothing.
func (i *Iterator) ReadVal(any) { i.Error = errUnused }

// Read reads nothing.
func (i *Iterator) Read() any { i.Error = errUnused; return nil }

// ReportError notes an error.
func (i *Iterator) ReportError(operation, message string) {
	i.Error = errors.New(operation + ": " + message)
}
