package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// CardWithoutTunnels gives the host's ens33 a network card that computes
// checksums for the kernel, as all do, but only those of plain packets. The
// kernel leaves to it those of packets inside of a tunnel too, and so they stay
// as good as empty: whoever gets such a packet drops it. That is what hosts
// suffered from whose TCP hung over vxlan, while pings, whose checksums the
// kernel computes itself, went through.
func (h *Host) CardWithoutTunnels() {
	h.lab.t.Helper()
	p, wire := h.nics[0].port, h.lab.wire
	name := fmt.Sprintf("card%d", h.lab.counter.Add(1))
	pair := &netlink.Veth{LinkAttrs: upLink(name, 0), PeerName: name + "x"}
	h.lab.must("make a network card", wire.nl.LinkAdd(pair))
	h.lab.must("make a network card", wire.nl.LinkSetMasterByIndex(named(name+"x"), p.segment.bridge))
	h.lab.must("make a network card", wire.setUp(name+"x"))
	h.lab.must("make a network card", wire.awaitCarrier(name+"x"))
	h.lab.must("make a network card", wire.nl.LinkSetNoMaster(named(p.name)))

	inner, outer := h.lab.frames(p.name), h.lab.frames(name)
	var working sync.WaitGroup
	working.Go(func() { forward(inner, outer, true) })
	working.Go(func() { forward(outer, inner, false) })
	h.lab.onClose(func() {
		inner.Close()
		outer.Close()
		working.Wait()
	})
}

// frames opens an interface of the wire for reading and writing frames. Each has a
// struct virtio_net_hdr in front, with the checksum that is left to the card
// (packet(7), PACKET_VNET_HDR).
func (l *Lab) frames(link string) *os.File {
	l.t.Helper()
	var file *os.File
	l.must("open "+link, l.wire.do(func() error {
		all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		file = os.NewFile(uintptr(fd), link)
		index, err := l.wire.nl.LinkByName(link)
		if err != nil {
			return err
		}
		return errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
			unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index.Attrs().Index}),
		)
	}))
	return file
}

const (
	needsChecksum = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM, in the first byte
	checksumStart = 6 // offset in the header of the first byte that the checksum covers
	headerLength  = 10
	etherType     = headerLength + 12
)

// plainStart is where TCP or UDP begins in a plain frame.
func plainStart(frame []byte) uint16 {
	if len(frame) > etherType+1 && binary.BigEndian.Uint16(frame[etherType:]) == unix.ETH_P_IPV6 {
		return 14 + 40
	}
	return 14 + 20
}

// forward is the card at work in one direction, until one of its ends is closed.
// What comes from outside has been computed there.
func forward(from, to *os.File, sends bool) {
	frame := make([]byte, headerLength+1<<16)
	for {
		n, err := from.Read(frame)
		switch {
		case errors.Is(err, os.ErrClosed):
			return
		case err != nil || n < headerLength:
			continue // a frame too long for a tunnel's is as good as lost
		}
		if sends && binary.NativeEndian.Uint16(frame[checksumStart:]) > plainStart(frame[:n]) {
			frame[0] &^= needsChecksum
		}
		_, _ = to.Write(frame[:n]) // what cannot be sent is lost
	}
}
