package udptunnel

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// mostReceived is the number of messages of one system call. One has up to 64 KB of datagrams.
	mostReceived = 32
	messageSize  = 1 << 16
	// mostErrors in a row are no longer of earlier datagrams, each of which makes one at most.
	mostErrors = 10_000
)

// inbound carries packets from peers to the device.
type inbound struct {
	socket syscall.RawConn
	write  *writer
	icmp   *errorSender
	count  *counters

	buffer   []byte // of mostReceived messages; the kernel gives it memory as far as it is used
	messages [mostReceived]message
	pieces   [mostReceived]unix.Iovec
	controls [mostReceived]segmentSize
	n        int
	errno    unix.Errno
	receive  func(fd uintptr) bool
}

func newInbound(socket syscall.RawConn, write *writer, icmp *errorSender, count *counters) *inbound {
	in := &inbound{socket: socket, write: write, icmp: icmp, count: count, buffer: make([]byte, mostReceived*messageSize)}
	for i := range in.messages {
		in.pieces[i] = vector(in.buffer[i*messageSize:][:messageSize])
		in.messages[i].header.Iov = &in.pieces[i]
		in.messages[i].header.SetIovlen(1)
		in.messages[i].header.Control = (*byte)(unsafe.Pointer(&in.controls[i]))
		in.messages[i].header.SetControllen(controlSpace)
	}
	in.receive = func(fd uintptr) bool {
		for {
			if in.n, in.errno = receiveMessages(fd, in.messages[:]); in.errno != unix.EINTR {
				return in.errno != unix.EAGAIN
			}
		}
	}
	return in
}

// run carries packets until the socket or the device is closed (nil), or the device is gone.
func (in *inbound) run() error {
	for failed := 0; ; {
		if err := in.socket.Read(in.receive); err != nil {
			if closed(err) {
				return nil
			}
			return fmt.Errorf("wait for datagrams: %w", err)
		}
		if in.errno != 0 { // an earlier datagram's, which is cleared by being read
			if failed++; failed == mostErrors {
				return fmt.Errorf("receive datagrams: %w", in.errno)
			}
			continue
		}
		failed = 0
		for i := range in.messages[:in.n] {
			in.message(i)
		}
		in.write.flush()
		if in.write.err != nil {
			if closed(in.write.err) {
				return nil
			}
			return fmt.Errorf("write packets to the TUN device: %w", in.write.err)
		}
	}
}

// message carries the datagrams of one message.
func (in *inbound) message(i int) {
	m := &in.messages[i]
	all := in.buffer[i*messageSize:][:m.length]
	size := in.controls[i].get(int(m.header.Controllen))
	if size <= 0 {
		size = len(all)
	}
	m.header.SetControllen(controlSpace) // for the next one
	if m.header.Flags&unix.MSG_TRUNC != 0 || len(all) == 0 {
		in.count.drop(Garbage, 1)
		return
	}
	for len(all) > 0 {
		d := all[:min(size, len(all))]
		all = all[len(d):]
		in.datagram(d)
	}
}

// datagram carries one packet, unless it is none.
func (in *inbound) datagram(ip []byte) {
	if !valid(ip) {
		in.count.drop(Garbage, 1)
		return
	}
	if !step(ip) {
		in.count.drop(Expired, 1)
		in.icmp.expired(ip)
		return
	}
	in.write.packet(ip)
}
