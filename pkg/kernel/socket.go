package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// socket is a conversation with the kernel (netlink(7)), one question at a time.
// It is for what comes in thousands: its buffers are used again and again, and
// the answers are not copied.
type socket struct {
	fd      int
	port    uint32 // its address
	seq     uint32
	send    []byte
	last    int // where in send the last request begins
	receive []byte
}

// largestAnswer is what the kernel puts into one message of a list at most.
const largestAnswer = 32 << 10 // bytes

func openSocket() (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	s := &socket{fd: fd, receive: make([]byte, largestAnswer)}
	// Old kernels lack them: short answers, reasons, and lists of no more than what was asked for.
	for _, option := range []int{unix.NETLINK_CAP_ACK, unix.NETLINK_EXT_ACK, unix.NETLINK_GET_STRICT_CHK} {
		_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, option, 1)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
		s.close()
		return nil, fmt.Errorf("set the time limit of a netlink socket: %w", err)
	}
	if s.port, err = bind(fd); err != nil {
		s.close()
		return nil, fmt.Errorf("bind a netlink socket: %w", err)
	}
	return s, nil
}

// bind has the kernel choose the socket's address.
func bind(fd int) (port uint32, err error) {
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, err
	}
	address, err := unix.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	return address.(*unix.SockaddrNetlink).Pid, nil
}

func (s *socket) close() { _ = unix.Close(s.fd) }

// begin appends a request to what is to be sent: its command and fixed part.
func (s *socket) begin(command, flags int, fixed []byte) {
	s.seq++
	s.last = len(s.send)
	s.send = binary.NativeEndian.AppendUint32(s.send, uint32(unix.SizeofNlMsghdr+len(fixed)))
	s.send = binary.NativeEndian.AppendUint16(s.send, uint16(command))
	s.send = binary.NativeEndian.AppendUint16(s.send, uint16(flags|unix.NLM_F_REQUEST))
	s.send = binary.NativeEndian.AppendUint32(s.send, s.seq)
	s.send = binary.NativeEndian.AppendUint32(s.send, 0) // the kernel knows whom it answers
	s.send = append(s.send, fixed...)
}

// add appends an attribute to the request begun last.
func (s *socket) add(kind uint16, value []byte) {
	s.send = binary.NativeEndian.AppendUint16(s.send, uint16(unix.SizeofRtAttr+len(value)))
	s.send = binary.NativeEndian.AppendUint16(s.send, kind)
	s.send = append(s.send, value...)
	s.send = append(s.send, make([]byte, aligned(len(value))-len(value))...)
	binary.NativeEndian.PutUint32(s.send[s.last:], uint32(len(s.send)-s.last))
}

func (s *socket) addNumber(kind uint16, n int) {
	var value [4]byte
	binary.NativeEndian.PutUint32(value[:], uint32(n))
	s.add(kind, value[:])
}

// flush sends what there is to send.
func (s *socket) flush() error {
	err := unix.Sendto(s.fd, s.send, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	s.send = s.send[:0]
	return err
}

// ask sends the request begun last and passes on the bodies of the answer's
// messages, each good until f returns. A list that the kernel changed meanwhile
// ends with netlink.ErrDumpInterrupted.
func (s *socket) ask(f func(body []byte)) error {
	if err := s.flush(); err != nil {
		return err
	}
	l := listener{seq: s.seq, f: f}
	for {
		messages, err := s.read()
		if err != nil {
			return err
		}
		if over, err := l.listen(messages); over {
			return err
		}
	}
}

// listener follows the answer to one request.
type listener struct {
	seq         uint32
	f           func(body []byte)
	interrupted bool // an entry may be missing that was there all the time
}

func (l *listener) listen(messages iter.Seq2[unix.NlMsghdr, []byte]) (over bool, err error) {
	for h, body := range messages {
		if h.Seq != l.seq {
			continue // an answer to an earlier request that was given up
		}
		l.interrupted = l.interrupted || h.Flags&unix.NLM_F_DUMP_INTR != 0
		if h.Type == unix.NLMSG_DONE || h.Type == unix.NLMSG_ERROR {
			if err = replyError(h, body); err == nil && l.interrupted {
				err = netlink.ErrDumpInterrupted
			}
			return true, err
		}
		l.f(body)
		if h.Flags&unix.NLM_F_MULTI == 0 {
			return true, nil
		}
	}
	return false, nil
}

// read receives messages.
func (s *socket) read() (iter.Seq2[unix.NlMsghdr, []byte], error) {
	n, _, err := unix.Recvfrom(s.fd, s.receive, unix.MSG_TRUNC)
	for err == unix.EINTR { // signal(7): with a time limit the kernel does not go on by itself
		n, _, err = unix.Recvfrom(s.fd, s.receive, unix.MSG_TRUNC)
	}
	switch {
	case err != nil:
		return nil, err
	case n > len(s.receive):
		return nil, errors.New("an answer of the kernel's is longer than any should be")
	}
	return messages(s.receive[:n]), nil
}

// messages are those that b consists of, up to one that is cut short.
func messages(b []byte) iter.Seq2[unix.NlMsghdr, []byte] {
	return func(yield func(unix.NlMsghdr, []byte) bool) {
		for len(b) >= unix.SizeofNlMsghdr {
			h := unix.NlMsghdr{
				Len: binary.NativeEndian.Uint32(b), Type: binary.NativeEndian.Uint16(b[4:]),
				Flags: binary.NativeEndian.Uint16(b[6:]),
				Seq:   binary.NativeEndian.Uint32(b[8:]), Pid: binary.NativeEndian.Uint32(b[12:]),
			}
			if h.Len < unix.SizeofNlMsghdr || int64(h.Len) > int64(len(b)) || !yield(h, b[unix.SizeofNlMsghdr:h.Len]) {
				return
			}
			b = b[min(aligned(int(h.Len)), len(b)):]
		}
	}
}

// attributes are those that b consists of (rtnetlink(7)), up to one that is cut
// short.
func attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofRtAttr {
			size, kind := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])
			if size < unix.SizeofRtAttr || size > len(b) || !yield(kind, b[unix.SizeofRtAttr:size]) {
				return
			}
			b = b[min(aligned(size), len(b)):]
		}
	}
}

// aligned is where the next message or attribute begins.
func aligned(size int) int { return (size + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// replyError says how a request ended: an error number, the request's header, and
// perhaps its words (linux/netlink.h: struct nlmsgerr). At a list's end there
// may be nothing.
func replyError(h unix.NlMsghdr, body []byte) error {
	const header = 4 + unix.SizeofNlMsghdr
	if len(body) < 4 {
		return nil
	}
	errno := int32(binary.NativeEndian.Uint32(body))
	if errno == 0 {
		return nil
	}
	err := error(syscall.Errno(-errno))
	if h.Flags&unix.NLM_F_ACK_TLVS == 0 || h.Flags&unix.NLM_F_CAPPED == 0 || len(body) < header {
		return err
	}
	for kind, value := range attributes(body[header:]) {
		if kind == unix.NLMSGERR_ATTR_MSG {
			return fmt.Errorf("%w: %s", err, unix.ByteSliceToString(value))
		}
	}
	return err
}
