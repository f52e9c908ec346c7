package nftables

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"flanneld/pkg/firewall/rules"
)

// set is a set or a map of a table.
type set struct {
	fields   []int // bytes of the parts of its keys
	interval bool
	elements []element
	partial  bool     // it has more elements than were read
	catchAll *element // for all other keys; nil: there is none
}

// element is a range of keys; each part is within from and to.
type element struct {
	from, to    []byte
	verdict     *expr.Verdict
	data        []byte
	intervalEnd bool // the first key behind an interval
}

// Constants of the kernel's API that the unix package lacks.
const (
	setDescConcat     = 2  // NFTA_SET_DESC_CONCAT
	setFieldLength    = 1  // NFTA_SET_FIELD_LEN
	elementKeyEnd     = 10 // NFTA_SET_ELEM_KEY_END
	elementIsCatchAll = 2  // NFT_SET_ELEM_CATCHALL
)

func setFrom(a answer) *set {
	s := &set{interval: a.uint32(unix.NFTA_SET_FLAGS)&unix.NFT_SET_INTERVAL != 0}
	_ = each(a.nested(unix.NFTA_SET_DESC)[setDescConcat], func(_ uint16, part []byte) {
		if p, err := parse(part); err == nil {
			s.fields = append(s.fields, int(p.uint32(setFieldLength)))
		}
	})
	if len(s.fields) == 0 {
		s.fields = []int{int(a.uint32(unix.NFTA_SET_KEY_LEN))}
	}
	return s
}

// add decodes elements as the kernel lists them.
func (s *set) add(list []byte) {
	_ = each(list, func(_ uint16, item []byte) {
		var e element
		flags := uint32(0)
		err := each(item, func(kind uint16, value []byte) {
			switch kind {
			case unix.NFTA_SET_ELEM_KEY:
				e.from = within(value, unix.NFTA_DATA_VALUE)
			case elementKeyEnd:
				e.to = within(value, unix.NFTA_DATA_VALUE)
			case unix.NFTA_SET_ELEM_DATA:
				e.data = within(value, unix.NFTA_DATA_VALUE)
				if verdict := within(value, unix.NFTA_DATA_VERDICT); verdict != nil {
					e.verdict = verdictFrom(verdict)
				}
			case unix.NFTA_SET_ELEM_FLAGS:
				if len(value) == 4 {
					flags = binary.BigEndian.Uint32(value)
				}
			}
		})
		if err != nil {
			s.partial = true
			return
		}
		e.intervalEnd = flags&unix.NFT_SET_ELEM_INTERVAL_END != 0
		switch {
		case flags&elementIsCatchAll != 0:
			s.catchAll = &e
		case len(s.elements) < maxElements:
			s.elements = append(s.elements, e)
		default:
			s.partial = true
		}
	})
}

// complete sorts the elements, and joins the two elements by which the kernel lists
// the beginning and the end of an interval.
func (s *set) complete() {
	slices.SortStableFunc(s.elements, func(a, b element) int {
		if c := bytes.Compare(a.from, b.from); c != 0 || a.intervalEnd == b.intervalEnd {
			return c
		}
		if a.intervalEnd { // one interval may end where the next begins
			return -1
		}
		return 1
	})
	if s.interval && len(s.fields) == 1 {
		var out []element
		for i, e := range s.elements {
			if e.intervalEnd {
				continue
			}
			if e.to == nil && i+1 < len(s.elements) {
				e.to = before(s.elements[i+1].from)
			} else if e.to == nil {
				e.to = bytes.Repeat([]byte{0xff}, len(e.from))
			}
			out = append(out, e)
		}
		s.elements = out
	}
	for i := range s.elements {
		if e := &s.elements[i]; e.to == nil {
			e.to = e.from
		}
	}
}

// before is the number minus one.
func before(number []byte) []byte {
	out := bytes.Clone(number)
	for i := len(out) - 1; i >= 0; i-- {
		out[i]--
		if out[i] != 0xff {
			break
		}
	}
	return out
}

// size is the number of bytes of a key. Parts begin at multiples of four.
func (s *set) size() (n int) {
	if len(s.fields) == 1 {
		return s.fields[0]
	}
	for _, f := range s.fields {
		n += (f + 3) / 4 * 4
	}
	return n
}

// find looks a key up. If it returns Maybe, the element is not known either.
func (s *set) find(key field) (rules.Truth, *element) {
	out := rules.No
	if s.partial {
		out = rules.Maybe
	}
	first, end := 0, len(s.elements)
	if len(s.fields) == 1 && key.isFullyKnown() { // elements are in order, and none overlaps another
		byEnd := func(e element, value []byte) int { return bytes.Compare(e.to, value) }
		first, _ = slices.BinarySearchFunc(s.elements, key.value, byEnd)
		end = min(first+1, end)
	}
	for i := first; i < end; i++ {
		switch e := &s.elements[i]; s.contains(e, key) {
		case rules.Yes:
			return rules.Yes, e
		case rules.Maybe:
			out = rules.Maybe
		}
	}
	if out == rules.No && s.catchAll != nil {
		return rules.Yes, s.catchAll
	}
	return out, nil
}

func (s *set) contains(e *element, key field) rules.Truth {
	out, start := rules.Yes, 0
	for _, size := range s.fields {
		end := start + size
		if end > len(e.from) || end > len(e.to) || end > len(key.value) {
			return rules.Maybe
		}
		out = min(out, field{key.value[start:end], key.known[start:end]}.within(e.from[start:end], e.to[start:end]))
		start += (size + 3) / 4 * 4
	}
	return out
}
