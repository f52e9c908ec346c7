package udptunnel

import (
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"flanneld/pkg/tun"
)

// Types and codes of ICMP errors (RFC 792, RFC 1191).
const (
	icmpUnreachable = 3
	icmpExceeded    = 11
	codeNet         = 0
	codeTooBig      = 4
	quoted          = 576 - ipShortest - 8 // the whole error has 576 bytes at the most (RFC 1812, 4.3.2.3)
)

// errorSender tells senders what became of their packets, as a router does. The errors
// leave by a raw socket, like those of the kernel itself: it would not take packets
// with one of its own addresses as the source from the device.
type errorSender struct {
	socket *os.File
	source atomic.Uint32 // 0: the kernel chooses
	pace   pace
}

func newErrorSender() (*errorSender, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, fmt.Errorf("open a raw socket for ICMP errors (it takes CAP_NET_RAW): %w", err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 0) // nothing is read from it
	return &errorSender{socket: os.NewFile(uintptr(fd), "raw ICMP"), pace: pace{now: time.Now}}, nil
}

func (e *errorSender) setSource(a netip.Addr) {
	n := uint32(0)
	if a.Is4() {
		n = number(a)
	}
	e.source.Store(n)
}

func (e *errorSender) unreachable(ip []byte) { e.say(icmpUnreachable, codeNet, 0, ip) }
func (e *errorSender) expired(ip []byte)     { e.say(icmpExceeded, 0, 0, ip) }

// tooBig tells the sender of a packet that must not be fragmented how large it may be.
func (e *errorSender) tooBig(ip []byte, mtu int) {
	if be16(ip[ipFragment:])&dontFragment != 0 {
		e.say(icmpUnreachable, codeTooBig, uint32(mtu), ip)
	}
}

func (e *errorSender) say(kind, code byte, rest uint32, about []byte) {
	if !deserves(about) || !e.pace.allows(be32(about[ipSource:])^be32(about[ipTarget:])) {
		return
	}
	packet := icmpError(kind, code, rest, e.source.Load(), about)
	var to [4]byte
	copy(to[:], about[ipSource:])
	_ = tun.Control(e.socket, func(fd int) error {
		return unix.Sendto(fd, packet, unix.MSG_DONTWAIT, &unix.SockaddrInet4{Addr: to})
	})
}

// deserves reports whether there may be an error about a packet (RFC 1812, 4.3.2.7):
// not about an error, not about fragments but the first, not to those who are no host.
func deserves(ip []byte) bool {
	if be16(ip[ipFragment:])&fragmentAt != 0 || !ofHost(be32(ip[ipSource:])) || !ofHost(be32(ip[ipTarget:])) {
		return false
	}
	if ip[ipProtocol] != protocolICMP {
		return true
	}
	inner := ip[headerLength(ip):]
	if len(inner) == 0 {
		return false
	}
	switch inner[0] { // requests and replies
	case 0, 8, 13, 14, 15, 16, 17, 18:
		return true
	}
	return false
}

// icmpError is the packet that says it. The kernel fills the identifier in, the
// checksum of the header, and a source that is zero.
func icmpError(kind, code byte, rest, source uint32, about []byte) []byte {
	about = about[:min(len(about), quoted)]
	p := make([]byte, ipShortest+8+len(about))
	p[0], p[1] = 0x45, 0xc0 // internetwork control (RFC 1812, 4.3.2.5)
	put16(p[ipLength:], uint16(len(p)))
	p[ipTTL], p[ipProtocol] = 64, protocolICMP
	put32(p[ipSource:], source)
	copy(p[ipTarget:], about[ipSource:ipSource+4])
	message := p[ipShortest:]
	message[0], message[1] = kind, code
	put32(message[4:], rest)
	copy(message[8:], about)
	put16(message[2:], ^sum16(message))
	return p
}

// Rates of errors, as Linux' own (icmp_msgs_per_sec, icmp_msgs_burst, icmp_ratelimit).
const (
	perSecond   = 1000
	burst       = 50
	pairBurst   = 6
	pairEvery   = time.Second
	pairBuckets = 256
)

// pace bounds the errors, in all and about each pair of hosts.
type pace struct {
	now   func() time.Time
	mu    sync.Mutex
	all   bucket
	pairs [pairBuckets]struct {
		key uint32
		bucket
	}
}

// bucket fills by one token every so often.
type bucket struct {
	tokens float64
	filled time.Time
}

func (b *bucket) take(now time.Time, every time.Duration, most float64) bool {
	if b.filled.IsZero() {
		b.tokens = most
	} else {
		b.tokens = min(b.tokens+float64(now.Sub(b.filled))/float64(every), most)
	}
	b.filled = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// allows reports whether there may be an error about a pair of hosts now. Pairs that
// share a bucket, of which few do, take each other's place there.
func (p *pace) allows(pair uint32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	b := &p.pairs[(pair*2654435761)>>24]
	if b.key != pair {
		b.key, b.bucket = pair, bucket{}
	}
	return b.take(now, pairEvery, pairBurst) && p.all.take(now, time.Second/perSecond, burst)
}
