package udptunnel

import (
	"fmt"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// longest is the longest packet that the device hands over, with its header.
	longest = headerSpace + 1<<16
	// readsSize bounds what is read before it is sent, in bytes: it is to stay in the
	// processor's cache.
	readsSize = 4 * longest
	mostReads = mostMessages
)

// outbound carries packets from the device to peers.
type outbound struct {
	device syscall.RawConn
	routes *atomic.Pointer[table]
	send   *sender
	icmp   *errorSender
	count  *counters

	reads  [readsSize]byte
	packet [mostReads][]byte // in reads
	n      int
	err    error
	read   func(fd uintptr) bool
}

func newOutbound(device syscall.RawConn, routes *atomic.Pointer[table], send *sender, icmp *errorSender) *outbound {
	o := &outbound{device: device, routes: routes, send: send, icmp: icmp, count: send.count}
	o.read = func(fd uintptr) bool { return o.fill(fd) }
	return o
}

// run carries packets until the device is closed (nil) or gone.
func (o *outbound) run() error {
	for {
		o.n = 0
		if err := o.device.Read(o.read); err != nil {
			if closed(err) {
				return nil
			}
			return fmt.Errorf("wait for packets of the TUN device: %w", err)
		}
		t := o.routes.Load()
		for _, p := range o.packet[:o.n] {
			o.carry(t, p[:headerSpace], p[headerSpace:])
		}
		o.send.flush()
		if o.err != nil {
			return fmt.Errorf("read packets of the TUN device: %w", o.err)
		}
	}
}

// fill reads what is there, and reports whether there is anything to do.
func (o *outbound) fill(fd uintptr) bool {
	for at := 0; o.n < mostReads && len(o.reads)-at >= longest; {
		n, errno := readPacket(fd, o.reads[at:at+longest])
		switch {
		case errno == unix.EINTR:
		case errno == unix.EAGAIN:
			return o.n > 0
		case errno != 0:
			o.err = errno
			return true
		case n > headerSpace:
			o.packet[o.n] = o.reads[at : at+n]
			o.n++
			at += (n + 63) &^ 63 // packets do not share a line of the cache
		}
	}
	return true
}

// carry sends one packet, of which the kernel may have left much to do.
func (o *outbound) carry(t *table, vn, ip []byte) {
	if len(ip) < ipShortest || ip[0]>>4 != 4 {
		return // such as the router solicitations that IPv6 sends on each device
	}
	if h := headerLength(ip); h < ipShortest || h > len(ip) || int(be16(ip[ipLength:])) != len(ip) {
		o.count.drop(Garbage, 1)
		return
	}
	to := t.find(be32(ip[ipTarget:]))
	if to == nil {
		o.count.drop(NoRoute, 1)
		o.icmp.unreachable(ip)
		return
	}
	if ip[ipTTL] <= 1 {
		o.count.drop(Expired, 1)
		o.icmp.expired(ip)
		return
	}
	step(ip)
	if vn[vnetKind] == gsoNone {
		if !complete(vn, ip) {
			o.count.drop(Garbage, 1)
			return
		}
		o.fits(to, ip, len(ip))
		o.send.datagram(to, ip, nil)
		return
	}
	s, ok := cut(vn, ip)
	if !ok {
		o.count.drop(Garbage, 1)
		return
	}
	o.fits(to, ip, len(s.header)+min(s.size, len(s.payload)))
	for i := range s.count() {
		if !o.send.room(len(s.header)) {
			o.send.flush()
		}
		h := o.send.head(len(s.header))
		o.send.datagram(to, h, s.segment(h, i))
	}
}

// fits tells the sender of a packet where the path to the peer is narrower than that.
// It goes all the same, in fragments, as the error may never arrive.
func (o *outbound) fits(to *target, ip []byte, length int) {
	if limit := o.send.limit(to); limit > 0 && length > limit {
		o.icmp.tooBig(ip, limit)
	}
}
