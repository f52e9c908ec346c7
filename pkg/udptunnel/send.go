package udptunnel

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// splitAgain is the time after which the kernel is asked anew to split messages that
	// it refused to split: the interface may be another one by then.
	splitAgain = time.Minute
	// narrowFor is the time for which a path counts as narrow. Then it is tried anew.
	narrowFor = 10 * time.Second
	// outerHeaders is the length of the IPv4 and UDP headers in front of a packet.
	outerHeaders = 28
)

// sender sends batches. It is one goroutine's.
type sender struct {
	batch
	socket syscall.RawConn
	count  *counters
	now    func() time.Time

	whole   time.Time             // until when no messages are joined; zero: none was refused
	never   bool                  // this kernel cannot split them
	narrow  map[*target]narrowed  // paths whose MTU is smaller than the interface's
	pathMTU func(*target) int     // asks the kernel; 0: it does not know
	pending []message             // of the batch that is being sent
	errno   unix.Errno            // of the first of them
	write   func(fd uintptr) bool // sends pending as far as it goes

	many func(fd uintptr, m []message) (int, unix.Errno) // the system calls
	one  func(fd uintptr, m *unix.Msghdr) unix.Errno
}

type narrowed struct {
	mtu   int
	until time.Time
}

func newSender(socket syscall.RawConn, count *counters, f features, pathMTU func(*target) int) *sender {
	s := &sender{
		socket: socket, count: count, now: time.Now,
		never: !f.split, narrow: map[*target]narrowed{}, pathMTU: pathMTU,
		many: sendMessages, one: sendMessage,
	}
	s.write = func(fd uintptr) bool {
		for len(s.pending) > 0 {
			n, errno := s.many(fd, s.pending)
			switch errno {
			case 0:
				s.pending = s.pending[n:]
			case unix.EAGAIN:
				return false // until there is room in the socket's buffer
			case unix.EINTR:
			default:
				s.errno = errno
				return true
			}
		}
		return true
	}
	return s
}

// datagram adds one to the batch, which is sent when it is full. Head and body must
// stay as they are until flush.
func (s *sender) datagram(to *target, head, body []byte) {
	if !s.room(0) {
		s.flush()
	}
	alone := s.never || !s.whole.IsZero()
	if !alone && len(s.narrow) > 0 {
		n, narrow := s.narrow[to]
		alone = narrow && len(head)+len(body)+outerHeaders > n.mtu
	}
	s.add(to, head, body, alone)
}

// flush sends all that was added.
func (s *sender) flush() {
	all := s.finish()
	s.pending = all
	for len(s.pending) > 0 {
		s.errno = 0
		if err := s.socket.Write(s.write); err != nil {
			break // closed
		}
		if s.errno != 0 {
			s.refused(len(all)-len(s.pending), s.errno)
			s.pending = s.pending[1:]
		}
	}
	s.count.drop(Refused, len(s.pending)) // none, unless the tunnel was closed
	packets, bytes := 0, 0
	for i := range all[:len(all)-len(s.pending)] {
		packets += s.joined[i].datagrams
		bytes += s.joined[i].bytes
	}
	if packets > 0 {
		s.count.carried(packets, bytes)
	}
	s.reset()
	s.expire()
}

// refused deals with a message that the kernel did not take. What it would not split,
// as the interface cannot compute checksums or the path is too narrow, is sent one by one.
func (s *sender) refused(i int, errno unix.Errno) {
	j := &s.joined[i]
	if j.datagrams == 1 {
		s.uncarried(j, 1, j.bytes)
		return
	}
	switch errno {
	case unix.EMSGSIZE, unix.EINVAL:
		if mtu := s.pathMTU(j.to); mtu > 0 && j.size+outerHeaders > mtu {
			s.narrow[j.to] = narrowed{mtu, s.now().Add(narrowFor)}
			break
		}
		fallthrough
	case unix.EIO, unix.EOPNOTSUPP:
		s.whole = s.now().Add(splitAgain)
	default:
		s.uncarried(j, j.datagrams, j.bytes)
		return
	}
	s.single(i, func(h *unix.Msghdr) {
		var errno unix.Errno
		err := s.socket.Write(func(fd uintptr) bool {
			errno = s.one(fd, h)
			return errno != unix.EAGAIN
		})
		if err != nil || errno != 0 {
			s.uncarried(j, 1, 0)
		}
	})
}

// uncarried takes packets that were not sent out of what is counted as sent.
func (s *sender) uncarried(j *joined, packets, bytes int) {
	j.datagrams -= packets
	j.bytes -= bytes
	s.count.drop(Refused, packets)
}

// expire has what was refused tried again, in time.
func (s *sender) expire() {
	if s.whole.IsZero() && len(s.narrow) == 0 {
		return
	}
	now := s.now()
	if now.After(s.whole) {
		s.whole = time.Time{}
	}
	for to, n := range s.narrow {
		if now.After(n.until) {
			delete(s.narrow, to)
		}
	}
}

// limit is the largest packet that the path to a peer takes; 0: any that the device lets through.
func (s *sender) limit(to *target) int {
	if len(s.narrow) == 0 {
		return 0
	}
	return max(s.narrow[to].mtu-outerHeaders, 0)
}

// closed reports whether an error only says that the tunnel was closed.
func closed(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded)
}
