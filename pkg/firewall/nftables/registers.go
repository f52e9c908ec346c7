package nftables

import (
	"bytes"

	"flanneld/pkg/firewall/rules"
)

// field is a value of which some bits are known: those that are set in known. Unknown
// bits are 0 in value.
type field struct{ value, known []byte }

// fullyKnown is a field of which all bits are known.
func fullyKnown(value []byte) field {
	return field{value, bytes.Repeat([]byte{0xff}, len(value))}
}

// fullyUnknown is a field of which no bit is known.
func fullyUnknown(size int) field { return field{make([]byte, size), make([]byte, size)} }

func (f field) isFullyKnown() bool {
	return bytes.Count(f.known, []byte{0xff}) == len(f.known)
}

// is compares a field with a value of its length.
func (f field) is(value []byte) rules.Truth {
	out := rules.Yes
	for i, v := range value {
		switch {
		case (f.value[i]^v)&f.known[i] != 0:
			return rules.No
		case f.known[i] != 0xff:
			out = rules.Maybe
		}
	}
	return out
}

// within reports whether a field is at least from and at most to.
func (f field) within(from, to []byte) rules.Truth {
	if bytes.Equal(from, to) {
		return f.is(from)
	}
	return rules.Known(f.isFullyKnown(), bytes.Compare(from, f.value) <= 0 && bytes.Compare(f.value, to) <= 0)
}

// registers of a rule: sixteen of four bytes each, which the kernel also numbers as
// four of sixteen bytes.
type registers struct{ field }

const registerBytes = 16 * 4

func newRegisters() registers { return registers{fullyUnknown(registerBytes)} }

// at is the offset of a register, by its number in the kernel.
func at(register uint32) int {
	switch {
	case 1 <= register && register <= 4:
		return int(register-1) * 16
	case 8 <= register && register < 8+16:
		return int(register-8) * 4
	}
	return registerBytes
}

// get is size bytes from a register on.
func (r registers) get(register uint32, size int) field {
	start := at(register)
	if size < 0 || start+size > registerBytes {
		return fullyUnknown(max(size, 0))
	}
	return field{r.value[start : start+size], r.known[start : start+size]}
}

// set loads a register. The kernel pads its last four bytes with zeros.
func (r registers) set(register uint32, f field) {
	start := at(register)
	end := min(start+(len(f.value)+3)/4*4, registerBytes)
	clear(r.value[start:end])
	for i := range r.known[start:end] {
		r.known[start+i] = 0xff
	}
	copy(r.value[start:end], f.value)
	copy(r.known[start:end], f.known) // unknown bits are 0 in value
}
