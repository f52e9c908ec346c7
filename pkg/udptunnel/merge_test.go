package udptunnel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// fakeConn stands for a file: what would be done with its descriptor is done at once.
type fakeConn struct{ syscall.RawConn }

func (fakeConn) Read(f func(uintptr) bool) error  { f(0); return nil }
func (fakeConn) Write(f func(uintptr) bool) error { f(0); return nil }

func bytesOf(v []unix.Iovec) (all []byte) {
	for _, piece := range v {
		all = append(all, unsafe.Slice(piece.Base, piece.Len)...)
	}
	return all
}

// newDevice is a writer to a device that remembers what was written: each with its header.
func newDevice() (w *writer, written *[][]byte) {
	written = &[][]byte{}
	w = newWriter(fakeConn{}, &counters{})
	w.write = func(uintptr) bool { *written = append(*written, bytesOf(w.vector)); return true }
	return w, written
}

// asKernel takes what was written to the device apart, as the kernel does: into single
// packets with a checksum each. It has code of its own, so that cut is tested too.
func asKernel(t rapid.TB, written [][]byte) (packets [][]byte) {
	for _, p := range written {
		vn, ip := p[:headerSpace], p[headerSpace:]
		if !valid(ip) {
			t.Fatalf("the device gets % x", ip)
		}
		if vn[vnetKind] == gsoNone {
			packets = append(packets, ip)
			continue
		}
		size, header := int(binary.NativeEndian.Uint16(vn[vnetSize:])), int(binary.NativeEndian.Uint16(vn[vnetHeader:]))
		if got, want := be16(ip[ipShortest+tcpChecksum:]), naivePseudo(ip); got != want {
			t.Fatalf("the sum of the pseudo-header is %#x, want %#x", got, want)
		}
		for from := header; from < len(ip); from += size {
			one := append(append([]byte(nil), ip[:header]...), ip[from:min(from+size, len(ip))]...)
			put16(one[ipLength:], uint16(len(one)))
			put16(one[ipID:], be16(ip[ipID:])+uint16((from-header)/size))
			put32(one[ipShortest+tcpSequence:], be32(ip[ipShortest+tcpSequence:])+uint32(from-header))
			if from+size < len(ip) {
				one[ipShortest+tcpFlags] &^= flagPSH
			}
			packets = append(packets, sealedTCP(sealed(one)))
		}
	}
	return packets
}

func naivePseudo(ip []byte) uint16 {
	p := append([]byte(nil), ip[ipSource:ipShortest]...)
	p = append(p, 0, ip[ipProtocol])
	return naive(binary.BigEndian.AppendUint16(p, uint16(len(ip)-ipShortest)))
}

func sealedTCP(ip []byte) []byte {
	tcp := ip[ipShortest:]
	put16(tcp[tcpChecksum:], 0)
	sum := uint32(naivePseudo(ip)) + uint32(naive(tcp))
	put16(tcp[tcpChecksum:], ^uint16(sum+sum>>16))
	return ip
}

// connection makes segments of a TCP connection.
type connection struct {
	port     byte
	sequence uint32
	id       uint16
}

// segment is the next one. Now and then it is of another kind.
func (c *connection) segment(t *rapid.T) []byte {
	options := rapid.SampledFrom([]int{12, 12, 12, 0}).Draw(t, "options")
	length := rapid.SampledFrom([]int{100, 100, 100, 100, 60, 1, 0}).Draw(t, "payload")
	p := make([]byte, ipShortest+tcpShortest+options+length)
	copy(p, []byte{0x45, 0, 0, 0, 0, 0, 0x40, 0, 63, 6, 0, 0, 172, 7, 22, 2, 172, 7, 21, 2, 0, c.port, 0, 80})
	put16(p[ipLength:], uint16(len(p)))
	p[1] = rapid.SampledFrom([]byte{0, 0, 0, 0, 0, 3}).Draw(t, "congestion")
	if rapid.IntRange(0, 9).Draw(t, "fragmentable") == 0 {
		p[ipFragment] = 0
	}
	c.id += rapid.SampledFrom([]uint16{1, 1, 1, 1, 1, 5}).Draw(t, "id")
	put16(p[ipID:], c.id)
	tcp := p[ipShortest:]
	if rapid.IntRange(0, 9).Draw(t, "lost") == 0 {
		c.sequence += 100
	}
	put32(tcp[tcpSequence:], c.sequence)
	c.sequence += uint32(length)
	tcp[tcpOffset] = byte(tcpShortest+options) / 4 << 4
	tcp[tcpFlags] = flagACK | rapid.SampledFrom([]byte{0, 0, 0, 0, 0, 0, flagPSH, flagFIN, 0x02}).Draw(t, "flags")
	tcp[15] = rapid.SampledFrom([]byte{0, 0, 0, 0, 0, 1}).Draw(t, "window")
	copy(tcp[tcpShortest+options:], bytes.Repeat([]byte{byte(c.sequence), c.port}, 50))
	sealed(p)
	sealedTCP(p)
	if rapid.IntRange(0, 19).Draw(t, "broken") == 0 {
		tcp[tcpChecksum] ^= 0x55
	}
	return p
}

// TestMergingChangesNothing: whoever takes the merged packets apart has the very packets
// that came, and those of each connection in their order.
func TestMergingChangesNothing(t *testing.T) {
	merged := 0
	rapid.Check(t, func(t *rapid.T) {
		w, written := newDevice()
		var connections [mostGroups + 3]connection
		came, got := map[byte][][]byte{}, map[byte][][]byte{}
		all := rapid.IntRange(1, 400).Draw(t, "packets")
		current := 0
		for range all {
			if rapid.IntRange(0, 9).Draw(t, "turn") == 0 {
				current = rapid.IntRange(0, len(connections)-1).Draw(t, "connection")
			}
			connections[current].port = byte(current)
			p := connections[current].segment(t)
			came[byte(current)] = append(came[byte(current)], append([]byte(nil), p...))
			w.packet(p)
		}
		w.flush()
		if len(*written) < all {
			merged++
		}
		for _, p := range asKernel(t, *written) {
			got[p[ipShortest+1]] = append(got[p[ipShortest+1]], p)
		}
		for port := range came {
			compare(t, got[port], came[port])
		}
		if s := w.count.read(); s.Packets != uint64(all) {
			t.Errorf("%d packets are counted, of %d", s.Packets, all)
		}
	})
	if merged < 20 {
		t.Errorf("only %d times anything was merged", merged)
	}
}

// compare wants the same packets but for the identifiers of those that must not be
// fragmented, which mean nothing (RFC 6864).
func compare(t rapid.TB, got, want [][]byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d packets, want %d", len(got), len(want))
	}
	for i := range got {
		for _, p := range [][]byte{got[i], want[i]} {
			if be16(p[ipFragment:])&dontFragment != 0 {
				put16(p[ipID:], 0)
				sealed(p)
			}
		}
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("packet %d is\n% x, want\n% x", i+1, got[i], want[i])
		}
	}
}

// TestMergesAStream: what is right to be merged is.
func TestMergesAStream(t *testing.T) {
	w, written := newDevice()
	for i := range 40 {
		w.packet(segment(uint32(1000*i) - 5000))
	}
	w.flush()
	if len(*written) != 1 || len((*written)[0]) != headerSpace+40+40*1000 {
		t.Errorf("40 segments are %d packets", len(*written))
	}
}

// segment is one of a plain stream, of 1,000 bytes.
func segment(sequence uint32) []byte {
	p := make([]byte, ipShortest+tcpShortest+1000)
	copy(p, []byte{0x45, 0, 0, 0, 0, 1, 0x40, 0, 63, 6, 0, 0, 172, 7, 22, 2, 172, 7, 21, 2, 0, 9, 0, 80})
	put16(p[ipLength:], uint16(len(p)))
	put32(p[ipShortest+tcpSequence:], sequence)
	p[ipShortest+tcpOffset], p[ipShortest+tcpFlags] = 5<<4, flagACK
	return sealedTCP(sealed(p))
}

// FuzzDatagram: whatever a peer sends, what the device gets is valid packets whose
// bytes came, and everything is counted.
func FuzzDatagram(f *testing.F) {
	c := connection{port: 9}
	rapidSeed := rapid.Custom(func(t *rapid.T) []byte { return append(c.segment(t), c.segment(t)...) })
	for i := range 20 {
		f.Add(rapidSeed.Example(i), uint16(152))
	}
	f.Add([]byte{0x45}, uint16(0))
	w, written := newDevice()
	in := newInbound(nil, w, silent(), w.count)
	f.Fuzz(func(t *testing.T, content []byte, size uint16) {
		if len(content) > messageSize {
			return
		}
		before := w.count.read()
		*written = nil
		copy(in.buffer, content)
		in.messages[0].length = uint32(len(content))
		in.controls[0].set(0)
		in.controls[0].header.Type = unix.UDP_GRO
		binary.NativeEndian.PutUint32(in.controls[0].value[:], uint32(size))
		in.message(0)
		w.flush()
		packets := len(asKernel(t, *written))
		after := w.count.read()
		datagrams := 1
		if size > 0 && len(content) > 0 {
			datagrams = (len(content) + int(size) - 1) / int(size)
		}
		dropped := after.Dropped[Garbage] - before.Dropped[Garbage] + after.Dropped[Expired] - before.Dropped[Expired]
		if carried := int(after.Packets - before.Packets); carried != packets || carried+int(dropped) != datagrams {
			t.Errorf("%d datagrams: %d carried, %d dropped, %d packets", datagrams, carried, dropped, packets)
		}
	})
}

// silent sends no errors.
func silent() *errorSender {
	e := &errorSender{}
	e.pace.now = func() time.Time { return time.Unix(1, 0) }
	e.pace.all.filled = e.pace.now() // and empty, for ever
	return e
}

// TestNothingIsAllocated per packet, in either direction.
func TestNothingIsAllocated(t *testing.T) {
	w, _ := newDevice()
	w.write = func(uintptr) bool { return true }
	in := newInbound(nil, w, silent(), w.count)
	stream := make([]byte, 0, messageSize)
	for i := range 40 {
		stream = append(stream, segment(uint32(1000*i))...)
	}
	size := len(stream) / 40
	out := newWire(0)
	out.many = func(_ uintptr, m []message) (int, unix.Errno) { return len(m), 0 }
	o := newOut(out, route(t, "172.7.22.0/24", "10.4.7.22:8285"))
	vn, ip := large(gsoTCP4, 1400, 60000)
	for name, carry := range map[string]func(){
		"in": func() {
			copy(in.buffer, stream)
			in.messages[0].length = uint32(len(stream))
			in.messages[0].header.SetControllen(controlHeader + 4)
			in.controls[0].set(0)
			in.controls[0].header.Type = unix.UDP_GRO
			binary.NativeEndian.PutUint32(in.controls[0].value[:], uint32(size))
			in.message(0)
			w.flush()
		},
		"out": func() {
			ip[ipTTL] = 64
			o.carry(o.routes.Load(), vn, ip)
			out.flush()
		},
	} {
		if n := testing.AllocsPerRun(100, carry); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	if s := w.count.read(); s.Packets != 101*40 || s.Dropped != [reasons]uint64{} {
		t.Errorf("%+v", s)
	}
}

// TestErrorThatLasts: one of a datagram's is passed over, and one that never ends ends the tunnel.
func TestErrorThatLasts(t *testing.T) {
	w, _ := newDevice()
	in := newInbound(fakeConn{}, w, silent(), w.count)
	asked := 0
	in.receive = func(uintptr) bool {
		asked++
		if in.n, in.errno = 0, unix.ECONNREFUSED; asked%3 == 0 && asked < mostErrors {
			in.errno = 0
		}
		return true
	}
	if err := in.run(); !errors.Is(err, unix.ECONNREFUSED) || asked < 2*mostErrors-3 {
		t.Errorf("it ends after %d calls: %v", asked, err)
	}
}
