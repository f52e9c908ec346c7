package udptunnel

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// mostGroups is the number of connections whose segments are merged at a time.
const mostGroups = 8

// writer gives packets to the device.
type writer struct {
	device syscall.RawConn
	count  *counters
	groups [mostGroups]group
	n      int // groups in use, the oldest first
	order  [mostGroups]*group

	plain  [headerSpace]byte
	single [2]unix.Iovec
	vector []unix.Iovec // what is being written
	errno  unix.Errno
	err    error // no more can be written
	write  func(fd uintptr) bool
}

func newWriter(device syscall.RawConn, count *counters) *writer {
	w := &writer{device: device, count: count}
	for i := range w.groups {
		w.order[i] = &w.groups[i]
	}
	w.write = func(fd uintptr) bool {
		for {
			if w.errno = writePacket(fd, w.vector); w.errno != unix.EINTR {
				return true // a device whose queue is full drops
			}
		}
	}
	return w
}

// packet takes a valid packet, which must stay as it is until flush. Those of one
// connection keep their order.
func (w *writer) packet(ip []byte) {
	header := mergeable(ip)
	if ip[ipProtocol] == protocolTCP {
		for i := range w.n {
			g := w.order[i]
			if !g.related(ip) {
				continue
			}
			if header > 0 && g.takes(ip, header) {
				g.add(ip[header:], ip[ipShortest+tcpFlags])
				return
			}
			w.writeGroup(i)
			break
		}
	}
	if header == 0 {
		w.single[0], w.single[1] = vector(w.plain[:]), vector(ip)
		w.put(w.single[:], 1, len(ip))
		return
	}
	if w.n == mostGroups {
		w.writeGroup(0)
	}
	w.order[w.n].start(ip, header)
	w.n++
}

// flush writes all that was kept to be merged.
func (w *writer) flush() {
	for w.n > 0 {
		w.writeGroup(0)
	}
}

// writeGroup writes the group at a place in the order, and frees it.
func (w *writer) writeGroup(i int) {
	g := w.order[i]
	w.put(g.finish(), g.packets, g.packets*g.header+g.payload)
	copy(w.order[i:], w.order[i+1:w.n])
	w.n--
	w.order[w.n] = g
}

func (w *writer) put(v []unix.Iovec, packets, bytes int) {
	w.vector = v
	if err := w.device.Write(w.write); err != nil {
		w.err = err
		return
	}
	switch w.errno {
	case 0:
		w.count.carried(packets, bytes)
		return
	case unix.EBADFD:
		w.err = w.errno // the device was deleted
	}
	w.count.drop(Refused, packets) // such as EIO of a device that is down
}
