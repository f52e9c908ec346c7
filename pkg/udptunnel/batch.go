package udptunnel

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Bounds of a batch. The kernel takes 64 datagrams in one message at the most
// (UDP_MAX_SEGMENTS of all releases), of 65,507 bytes together.
const (
	mostMessages = 64
	mostPieces   = 1024
	mostSegments = 64
	mostBytes    = 65507
	headsSize    = 32 << 10
)

// batch collects datagrams, of which those of one size for one peer, one after the
// other, make one message.
type batch struct {
	messages  [mostMessages]message
	controls  [mostMessages]segmentSize
	joined    [mostMessages]joined
	pieces    [mostPieces]unix.Iovec // a datagram's are in a row: one or two
	begins    [mostPieces]bool       // a datagram begins here
	heads     [headsSize]byte        // of headers that were made here
	nMessages int
	nPieces   int
	nHeads    int
}

// joined says what a message is made of.
type joined struct {
	to        *target
	size      int // of each datagram but the last
	datagrams int
	bytes     int
	from      int // the first of its pieces
	pieces    int
	closed    bool // no other joins it
}

// room reports whether one more datagram with a header of so many bytes fits in.
func (b *batch) room(header int) bool {
	return b.nMessages < mostMessages && b.nPieces+2 <= mostPieces && b.nHeads+header <= headsSize
}

// head is room for a header.
func (b *batch) head(length int) []byte {
	h := b.heads[b.nHeads : b.nHeads+length : b.nHeads+length]
	b.nHeads += length
	return h
}

// add adds a datagram of head and body, of which body may be empty. Both must stay as
// they are until it is sent. Where alone is set it is a message of its own.
func (b *batch) add(to *target, head, body []byte, alone bool) {
	size := len(head) + len(body)
	var j *joined
	if b.nMessages > 0 {
		j = &b.joined[b.nMessages-1]
	}
	if alone || j == nil || j.closed || j.to != to || size > j.size ||
		j.datagrams == mostSegments || j.bytes+size > mostBytes {
		j = &b.joined[b.nMessages]
		*j = joined{to: to, size: size, from: b.nPieces, closed: alone}
		b.nMessages++
	}
	b.begins[b.nPieces] = true
	b.pieces[b.nPieces] = vector(head)
	b.nPieces++
	if len(body) > 0 {
		b.begins[b.nPieces] = false
		b.pieces[b.nPieces] = vector(body)
		b.nPieces++
	}
	j.datagrams++
	j.bytes += size
	j.pieces = b.nPieces - j.from
	j.closed = j.closed || size < j.size // a shorter one is the last
}

// finish makes messages for sendmmsg of all that was added.
func (b *batch) finish() []message {
	for i := range b.nMessages {
		j, h := &b.joined[i], &b.messages[i].header
		h.Name = (*byte)(unsafe.Pointer(j.to))
		h.Namelen = unix.SizeofSockaddrInet4
		h.Iov = &b.pieces[j.from]
		h.SetIovlen(j.pieces)
		h.Control = nil
		h.SetControllen(0)
		if j.datagrams > 1 {
			b.controls[i].set(j.size)
			h.Control = (*byte)(unsafe.Pointer(&b.controls[i]))
			h.SetControllen(controlSpace)
		}
	}
	return b.messages[:b.nMessages]
}

// single calls do with a message for each of the datagrams of message i.
func (b *batch) single(i int, do func(*unix.Msghdr)) {
	j := b.joined[i]
	h := unix.Msghdr{Name: (*byte)(unsafe.Pointer(j.to)), Namelen: unix.SizeofSockaddrInet4}
	for from := j.from; from < j.from+j.pieces; {
		until := from + 1
		for until < j.from+j.pieces && !b.begins[until] {
			until++
		}
		h.Iov = &b.pieces[from]
		h.SetIovlen(until - from)
		do(&h)
		from = until
	}
}

func (b *batch) reset() { b.nMessages, b.nPieces, b.nHeads = 0, 0, 0 }
