package kernel

import (
	"encoding/binary"
	"fmt"
	"iter"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"flanneld/pkg/inet"
)

// batchSize is so small that the answers fit the socket's buffer, were every
// request to fail.
const batchSize = 64

// exchange carries out the requests that were begun, as many as errs has room
// for, and sets an error, or nil, for each. All go in one message: the kernel
// works through them in order while it takes it, and answers only the last,
// which asks for it, and those that fail (netlink(7), NLM_F_ACK). That halves
// the time of a request on its own.
func (s *socket) exchange(errs []error) {
	first := s.seq - uint32(len(errs)) + 1
	flags := s.send[s.last+6:]
	binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|unix.NLM_F_ACK)
	err := s.flush()
	for over := false; err == nil && !over; {
		over, err = s.verdicts(first, errs)
	}
	if err != nil { // what became of them is unknown
		for i := range errs {
			errs[i] = fmt.Errorf("talk to the kernel: %w", err)
		}
	}
}

// askEach sends the requests that were begun, as many as errs has room for, each of which
// has one message for an answer. It passes on the answers' bodies, each good until f
// returns, and sets an error, or nil, for each.
func (s *socket) askEach(errs []error, f func(i int, body []byte)) {
	first := s.seq - uint32(len(errs)) + 1
	err := s.flush()
	for left := len(errs); err == nil && left > 0; {
		var answers iter.Seq2[unix.NlMsghdr, []byte]
		if answers, err = s.read(); err != nil {
			break
		}
		for h, body := range answers {
			i := h.Seq - first
			if i >= uint32(len(errs)) {
				continue // an answer to an earlier request that was given up
			}
			left--
			if h.Type == unix.NLMSG_ERROR {
				errs[i] = replyError(h, body)
			} else {
				f(int(i), body)
			}
		}
	}
	if err != nil { // which of them were answered is of no use
		for i := range errs {
			errs[i] = fmt.Errorf("talk to the kernel: %w", err)
		}
	}
}

// verdicts reads one message of answers; over says that the last request's was
// among them.
func (s *socket) verdicts(first uint32, errs []error) (over bool, err error) {
	messages, err := s.read()
	if err != nil {
		return false, err
	}
	for h, body := range messages {
		i := h.Seq - first
		if h.Type != unix.NLMSG_ERROR || i >= uint32(len(errs)) {
			continue // an answer to an earlier exchange that was given up
		}
		errs[i] = replyError(h, body)
		over = over || int(i) == len(errs)-1
	}
	return over, nil
}

// The requests that come in large numbers.

func (s *socket) beginRoute(command, flags int, r FoundRoute, index int) {
	m := nl.RtMsg{RtMsg: unix.RtMsg{
		Family: numberOf(inet.Of(r.Dst.Addr())), Dst_len: uint8(r.Dst.Bits()), Table: unix.RT_TABLE_MAIN,
		Protocol: uint8(r.Protocol), Scope: unix.RT_SCOPE_UNIVERSE, Type: unix.RTN_UNICAST,
	}}
	if command == unix.RTM_DELROUTE { // of whatever type and scope
		m.Type, m.Scope = unix.RTN_UNSPEC, unix.RT_SCOPE_NOWHERE
	}
	if r.OnLink && r.Nexthop == 0 {
		m.Flags = unix.RTNH_F_ONLINK
	}
	s.begin(command, flags, m.Serialize())
	s.add(unix.RTA_DST, r.Dst.Addr().AsSlice())
	if r.Nexthop != 0 { // beside which the kernel takes neither gateway nor interface
		s.addNumber(rtaNextHop, int(r.Nexthop))
	} else {
		if r.sameFamily() { // one with several next hops has no one gateway, one over the other family no such gateway
			s.add(unix.RTA_GATEWAY, r.Via.AsSlice())
		}
		if index != 0 {
			s.addNumber(unix.RTA_OIF, index)
		}
	}
	if r.Metric != 0 {
		s.addNumber(unix.RTA_PRIORITY, r.Metric)
	}
}

func (s *socket) beginNexthop(a Action, n Nexthop, index int) {
	var m [unix.SizeofNhmsg]byte
	if a == Delete {
		s.begin(unix.RTM_DELNEXTHOP, 0, m[:])
		s.addNumber(unix.NHA_ID, int(n.ID))
		return
	}
	flags := unix.NLM_F_CREATE | unix.NLM_F_EXCL
	if a == Replace {
		flags = unix.NLM_F_CREATE | unix.NLM_F_REPLACE
	}
	m[0], m[2] = numberOf(inet.Of(n.Via)), Protocol
	if n.OnLink {
		binary.NativeEndian.PutUint32(m[4:], unix.RTNH_F_ONLINK)
	}
	s.begin(unix.RTM_NEWNEXTHOP, flags, m[:])
	s.addNumber(unix.NHA_ID, int(n.ID))
	s.addNumber(unix.NHA_OIF, index)
	s.add(unix.NHA_GATEWAY, n.Via.AsSlice())
}

func (s *socket) beginNeighbour(a Action, m netlink.Ndmsg, dst netip.Addr, mac MAC) {
	command, flags := unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE
	if a == Delete {
		command, flags = unix.RTM_DELNEIGH, 0
	}
	m.State = unix.NUD_PERMANENT
	s.begin(command, flags, m.Serialize())
	s.add(unix.NDA_DST, dst.AsSlice())
	s.add(unix.NDA_LLADDR, mac[:])
}
