package kernel

import (
	"encoding/binary"
	"fmt"
	"syscall"
	"unsafe"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// batch sends many requests in one message each way. The kernel works through
// them in order while it takes the message; it answers only the last, which
// asks for it, and those that fail (netlink(7), NLM_F_ACK). That halves the
// time of a request on its own.
type batch struct {
	socket  int
	seq     uint32
	send    []byte
	receive []byte
}

// batchSize is so small that the answers fit the socket's buffer, were every
// request to fail.
const batchSize = 64

func openBatch() (*batch, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	b := &batch{socket: fd, receive: make([]byte, 32<<10)}
	for _, option := range []int{unix.NETLINK_CAP_ACK, unix.NETLINK_EXT_ACK} { // short answers, with reasons
		_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, option, 1) // old kernels lack them
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
		b.close()
		return nil, fmt.Errorf("set the time limit of a netlink socket: %w", err)
	}
	return b, nil
}

func (b *batch) close() { _ = unix.Close(b.socket) }

// exchange carries out up to batchSize requests and returns an error, or nil,
// for each.
func (b *batch) exchange(requests []*nl.NetlinkRequest) []error {
	errs := make([]error, len(requests))
	if len(requests) == 0 {
		return errs
	}
	first := b.seq + 1
	b.send = b.send[:0]
	for i, r := range requests {
		b.seq++
		r.Seq = b.seq
		if i == len(requests)-1 {
			r.Flags |= unix.NLM_F_ACK
		}
		b.send = append(b.send, r.Serialize()...)
	}
	err := unix.Sendto(b.socket, b.send, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	for over := false; err == nil && !over; {
		over, err = b.answers(first, errs)
	}
	if err != nil { // what became of them is unknown
		for i := range errs {
			errs[i] = fmt.Errorf("talk to the kernel: %w", err)
		}
	}
	return errs
}

// answers reads one message of answers; over says that the last request's was
// among them.
func (b *batch) answers(first uint32, errs []error) (over bool, err error) {
	n, _, err := unix.Recvfrom(b.socket, b.receive, 0)
	if err != nil {
		return false, err
	}
	messages, err := syscall.ParseNetlinkMessage(b.receive[:n])
	if err != nil {
		return false, err
	}
	for _, m := range messages {
		i := m.Header.Seq - first
		if m.Header.Type != unix.NLMSG_ERROR || i >= uint32(len(errs)) || len(m.Data) < 4 {
			continue // an answer to an earlier exchange that was given up
		}
		errs[i] = answer(m)
		over = over || int(i) == len(errs)-1
	}
	return over, nil
}

// answer reads a struct nlmsgerr: the error, the request's header, and perhaps
// the kernel's words (linux/netlink.h).
func answer(m syscall.NetlinkMessage) error {
	errno := int32(binary.NativeEndian.Uint32(m.Data))
	if errno == 0 {
		return nil
	}
	err := error(syscall.Errno(-errno))
	const header = 4 + unix.SizeofNlMsghdr
	if m.Header.Flags&unix.NLM_F_ACK_TLVS == 0 || m.Header.Flags&unix.NLM_F_CAPPED == 0 || len(m.Data) < header {
		return err
	}
	attrs, _ := nl.ParseRouteAttr(m.Data[header:])
	for _, a := range attrs {
		if a.Attr.Type == unix.NLMSGERR_ATTR_MSG {
			return fmt.Errorf("%w: %s", err, unix.ByteSliceToString(a.Value))
		}
	}
	return err
}

// The requests that come in large numbers.

func routeRequest(command, flags int, r FoundRoute, index int) *nl.NetlinkRequest {
	m := &nl.RtMsg{RtMsg: unix.RtMsg{
		Family: unix.AF_INET, Dst_len: uint8(r.Dst.Bits()), Table: unix.RT_TABLE_MAIN,
		Protocol: uint8(r.Protocol), Scope: unix.RT_SCOPE_UNIVERSE, Type: unix.RTN_UNICAST,
	}}
	if command == unix.RTM_DELROUTE { // of whatever type and scope
		m.Type, m.Scope = unix.RTN_UNSPEC, unix.RT_SCOPE_NOWHERE
	}
	if r.OnLink {
		m.Flags = unix.RTNH_F_ONLINK
	}
	request := nl.NewNetlinkRequest(command, flags)
	request.AddData(m)
	request.AddData(nl.NewRtAttr(unix.RTA_DST, r.Dst.Addr().AsSlice()))
	if r.Via.IsValid() { // a route with several next hops has no one gateway and device
		request.AddData(nl.NewRtAttr(unix.RTA_GATEWAY, r.Via.AsSlice()))
	}
	if index != 0 {
		request.AddData(nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(index))))
	}
	if r.Metric != 0 {
		request.AddData(nl.NewRtAttr(unix.RTA_PRIORITY, nl.Uint32Attr(uint32(r.Metric))))
	}
	return request
}

// ndmsg is a struct ndmsg (linux/neighbour.h).
type ndmsg struct{ unix.NdMsg }

func (m *ndmsg) Len() int { return unix.SizeofNdMsg }

func (m *ndmsg) Serialize() []byte {
	return (*(*[unix.SizeofNdMsg]byte)(unsafe.Pointer(&m.NdMsg)))[:]
}

func neighbourRequest(verb Verb, m unix.NdMsg, dst []byte, mac MAC) *nl.NetlinkRequest {
	command, flags := unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE
	if verb == Delete {
		command, flags = unix.RTM_DELNEIGH, 0
	}
	m.State = unix.NUD_PERMANENT
	request := nl.NewNetlinkRequest(command, flags)
	request.AddData(&ndmsg{m})
	request.AddData(nl.NewRtAttr(unix.NDA_DST, dst))
	request.AddData(nl.NewRtAttr(unix.NDA_LLADDR, mac[:]))
	return request
}
