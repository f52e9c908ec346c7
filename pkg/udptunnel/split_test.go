package udptunnel

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// wire is a sender whose messages stay here, one datagram each, as the kernel would send
// them; refuse says which messages it does not take.
type wire struct {
	*sender
	datagrams [][]byte
	to        []target
	messages  int
	wrong     int // messages that no kernel takes
	refuse    func(datagrams, size int) unix.Errno
}

func newWire(mtu int) *wire {
	w := &wire{refuse: func(int, int) unix.Errno { return 0 }}
	w.sender = newSender(fakeConn{}, &counters{}, features{split: true}, func(*target) int { return mtu })
	w.one = func(_ uintptr, h *unix.Msghdr) unix.Errno { return w.take(h) }
	w.many = func(_ uintptr, all []message) (int, unix.Errno) {
		for i := range all {
			if errno := w.take(&all[i].header); errno != 0 && i > 0 {
				return i, 0 // the error is the next call's
			} else if errno != 0 {
				return 0, errno
			}
		}
		return len(all), 0
	}
	return w
}

// take is the kernel's sendmsg, with its bounds.
func (w *wire) take(h *unix.Msghdr) unix.Errno {
	all := bytesOf(unsafe.Slice(h.Iov, h.Iovlen))
	size, count := len(all), 1
	if h.Control != nil {
		c := (*segmentSize)(unsafe.Pointer(h.Control))
		size = int(binary.NativeEndian.Uint16(c.value[:]))
		count = (len(all) + size - 1) / size
	}
	if len(all) > 65507 || count > 64 || size == 0 {
		w.wrong++
		return unix.EINVAL
	}
	if errno := w.refuse(count, size); errno != 0 {
		return errno
	}
	w.messages++
	for len(all) > 0 {
		w.datagrams = append(w.datagrams, all[:min(size, len(all))])
		w.to = append(w.to, *(*target)(unsafe.Pointer(h.Name)))
		all = all[min(size, len(all)):]
	}
	return 0
}

// large is a packet as the kernel hands it over, to be cut: with its header.
func large(kind byte, size, payload int) (vn, ip []byte) {
	inner, protocol, header := tcpChecksum, byte(protocolTCP), tcpShortest+12
	if kind == gsoUDP {
		inner, protocol, header = udpChecksum, protocolUDP, udpHeader
	}
	vn = make([]byte, headerSpace)
	vn[vnetFlags], vn[vnetKind] = needsChecksum, kind
	putVnet(vn, vnetHeader, 200) // only a hint
	putVnet(vn, vnetSize, size)
	putVnet(vn, vnetStart, ipShortest)
	putVnet(vn, vnetOffset, inner)
	ip = make([]byte, ipShortest+header+payload)
	copy(ip, []byte{0x45, 0, 0, 0, 0xff, 0xfe, 0x40, 0, 64, protocol, 0, 0, 172, 7, 21, 2, 172, 7, 22, 2, 0, 9, 0, 80})
	put16(ip[ipLength:], uint16(len(ip)))
	if kind == gsoTCP4 {
		put32(ip[ipShortest+tcpSequence:], 0xffffff00)
		ip[ipShortest+tcpOffset], ip[ipShortest+tcpFlags] = byte(header)/4<<4, flagACK|flagPSH|flagFIN|flagCWR
	} else {
		put16(ip[ipShortest+udpLength:], uint16(header+payload))
	}
	put16(ip[ipShortest+inner:], naivePseudo(ip))
	for i := range payload {
		ip[ipShortest+header+i] = byte(i * 7)
	}
	return vn, sealed(ip)
}

func newOut(w *wire, routes ...Route) *outbound {
	t, err := newTable(routes)
	if err != nil {
		panic(err)
	}
	p := &atomic.Pointer[table]{}
	p.Store(t)
	return newOutbound(fakeConn{}, p, w.sender, silent())
}

// TestCutPackets: what the kernel hands over at once arrives as the packets that it
// stands for, each with all checksums.
func TestCutPackets(t *testing.T) {
	for _, kind := range []byte{gsoTCP4, gsoUDP} {
		rapid.Check(t, func(t *rapid.T) {
			size, payload := rapid.IntRange(1, 1500).Draw(t, "size"), rapid.IntRange(1, 65400).Draw(t, "payload")
			vn, ip := large(kind, size, payload)
			w := newWire(0)
			o := newOut(w, route(t, "172.7.22.0/24", "10.4.7.22:8285"))
			came := append([]byte(nil), ip...)
			o.carry(o.routes.Load(), vn, ip)
			w.flush()
			header := ipShortest + udpHeader
			if kind == gsoTCP4 {
				header = ipShortest + tcpShortest + 12
			}
			at := 0
			for i, d := range w.datagrams {
				if !valid(d) || fold(pseudo(d)+uint64(len(d)-ipShortest)+uint64(naive(d[ipShortest:]))) != 0xffff {
					t.Fatalf("packet %d is % x", i, d[:header])
				}
				last := at+len(d)-header == payload
				if string(d[header:]) != string(came[header+at:][:len(d)-header]) || !last && len(d)-header != size {
					t.Fatalf("packet %d has other contents, or %d bytes of them", i, len(d)-header)
				}
				if d[ipTTL] != 63 || be16(d[ipID:]) != 0xfffe+uint16(i) {
					t.Fatalf("packet %d: % x", i, d[:header])
				}
				if kind == gsoTCP4 {
					flags := byte(flagACK)
					if i == 0 {
						flags |= flagCWR
					}
					if last {
						flags |= flagPSH | flagFIN
					}
					if got := d[ipShortest+tcpFlags]; got != flags || be32(d[ipShortest+tcpSequence:]) != 0xffffff00+uint32(at) {
						t.Fatalf("packet %d: flags %#x, want %#x; % x", i, got, flags, d[:header])
					}
				} else if int(be16(d[ipShortest+udpLength:])) != len(d)-ipShortest {
					t.Fatalf("packet %d: % x", i, d[:header])
				}
				at += len(d) - header
			}
			if s := w.count.read(); at != payload || int(s.Packets) != len(w.datagrams) || s.Dropped != [reasons]uint64{} {
				t.Errorf("%d bytes of %d; %+v", at, payload, s)
			}
		})
	}
}

func route(t rapid.TB, dst, to string) Route {
	t.Helper()
	return Route{netip.MustParsePrefix(dst), netip.MustParseAddrPort(to)}
}

// TestBatchesKeepOrderAndBounds: datagrams of any sizes to several peers leave as they
// came, in messages that the kernel takes.
func TestBatchesKeepOrderAndBounds(t *testing.T) {
	peers := []*target{{Addr: [4]byte{1}}, {Addr: [4]byte{2}}}
	few := 0
	rapid.Check(t, func(t *rapid.T) {
		w := newWire(0)
		var came [][]byte
		var to []target
		size, peer := 100, 0
		n, turns := rapid.IntRange(1, 300).Draw(t, "datagrams"), rapid.SampledFrom([]int{9, 999}).Draw(t, "turns")
		for i := range n {
			if rapid.IntRange(0, turns).Draw(t, "another") == 0 {
				size, peer = rapid.SampledFrom([]int{1, 52, 1400, 1472, 9000, 65507}).Draw(t, "size"), rapid.IntRange(0, 1).Draw(t, "peer")
			}
			d := make([]byte, size)
			d[0] = byte(i)
			cut := rapid.IntRange(1, size).Draw(t, "head")
			w.datagram(peers[peer], d[:cut], d[cut:])
			came, to = append(came, d), append(to, *peers[peer])
		}
		w.flush()
		if len(w.datagrams) != n || w.wrong > 0 {
			t.Fatalf("%d of %d, and %d messages that no kernel takes", len(w.datagrams), n, w.wrong)
		}
		for i := range came {
			if string(came[i]) != string(w.datagrams[i]) || to[i] != w.to[i] {
				t.Fatalf("datagram %d is another one", i)
			}
		}
		if w.messages < n/3 {
			few++
		}
	})
	if few < 5 {
		t.Errorf("only %d times datagrams were joined", few)
	}
}

// TestFewMessages: what can be joined is.
func TestFewMessages(t *testing.T) {
	for _, tt := range []struct{ size, datagrams, messages int }{{100, 200, 4}, {1472, 88, 2}, {40000, 3, 3}} {
		w := newWire(0)
		to := &target{}
		for range tt.datagrams {
			w.datagram(to, make([]byte, tt.size), nil)
		}
		w.flush()
		if w.messages != tt.messages || len(w.datagrams) != tt.datagrams || w.wrong > 0 {
			t.Errorf("%d datagrams of %d bytes: %d arrive in %d messages, %d are wrong", tt.datagrams, tt.size, len(w.datagrams), w.messages, w.wrong)
		}
	}
}

// TestWhatIsNotSplit: a kernel that will not split messages gets single ones, and is
// asked again later; a path that is narrow concerns its peer alone.
func TestWhatIsNotSplit(t *testing.T) {
	near, far := &target{Addr: [4]byte{1}}, &target{Addr: [4]byte{2}}
	send := func(w *wire) {
		for i := range 12 {
			w.datagram([]*target{near, far}[i/4%2], make([]byte, 1472), nil)
		}
		w.flush()
	}
	for name, tt := range map[string]struct {
		errno unix.Errno
		mtu   int
		want  int // messages each time
		lost  uint64
	}{
		"the interface computes no checksums": {unix.EIO, 1500, 12, 0},
		"the path is narrow":                  {unix.EMSGSIZE, 1400, 12, 0},
		"as older kernels say it":             {unix.EINVAL, 1400, 12, 0},
		"a firewall":                          {unix.EPERM, 1500, 0, 60},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWire(tt.mtu)
			now := time.Unix(1000, 0)
			w.now = func() time.Time { return now }
			asked := 0
			w.refuse = func(datagrams, _ int) unix.Errno {
				if datagrams > 1 {
					asked++
					return tt.errno
				}
				return 0
			}
			var asks [5]int
			for i, later := range []time.Duration{0, time.Second, 20 * time.Second, 2 * time.Minute, 3 * time.Minute} {
				now = time.Unix(1000, 0).Add(later)
				before, had := asked, w.messages
				send(w)
				if asks[i] = asked - before; w.messages-had != tt.want {
					t.Errorf("after %v: %d messages, want %d", later, w.messages-had, tt.want)
				}
			}
			if asks[0] == 0 || tt.lost == 0 && asks[1] != 0 || asks[3]+asks[4] == 0 {
				t.Errorf("the kernel was asked %v times", asks)
			}
			if s := w.count.read(); s.Dropped[Refused] != tt.lost || s.Packets != 60-tt.lost {
				t.Errorf("%+v", s)
			}
		})
	}
}
