package probe

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"flanneld/pkg/inet"
)

// Many is the network of this host for thousands of packets that wait for their answers at
// the same time. A raw socket gets a copy of each ICMP message that comes in; so it has one
// for each family, and hands answers on by their sequence numbers.
type Many struct {
	ctx     context.Context // ends with the first error, or by Close
	end     context.CancelCauseFunc
	limit   *rate.Limiter
	reading sync.WaitGroup
	sent    atomic.Int64

	mu      sync.Mutex
	sockets map[inet.Family]*shared // those that something was sent by
	sources map[netip.Addr]error    // why an address that was to send cannot; nil: it can
}

var _ Network = (*Many)(nil)

// PacketsPerSecond is the most that a Many sends. It is some 200 KB a second of small packets,
// and for a while a few MB of full ones: no queue of a network card or a tunnel overflows.
const PacketsPerSecond = 2000

// inARow is how many packets leave without a pause.
const inARow = 50

// Open begins. What it sends needs CAP_NET_RAW. When ctx ends, what waits for an answer ends with
// its error.
func Open(ctx context.Context) *Many {
	ctx, end := context.WithCancelCause(ctx)
	return &Many{
		ctx: ctx, end: end, limit: rate.NewLimiter(PacketsPerSecond, inARow),
		sockets: map[inet.Family]*shared{}, sources: map[netip.Addr]error{},
	}
}

// Close ends what waits for an answer, with the error net.ErrClosed.
func (m *Many) Close() {
	m.mu.Lock()
	m.end(net.ErrClosed)
	for _, s := range m.sockets {
		s.conn.Close()
	}
	m.mu.Unlock()
	m.reading.Wait()
}

// Sent is how many packets were sent. Of a TCP connection the first alone counts.
func (m *Many) Sent() int64 { return m.sent.Load() }

// Ping implements Network.
func (m *Many) Ping(src, dst netip.Addr, size int, wait time.Duration) (Answer, error) {
	return m.ping(src, dst, size, 0, wait)
}

// Step implements Network.
func (m *Many) Step(src, dst netip.Addr, hops int, wait time.Duration) (Answer, error) {
	return m.ping(src, dst, Small, hops+1, wait)
}

// Connect implements Network.
func (m *Many) Connect(src, dst netip.Addr, wait time.Duration) (Answer, error) {
	if err := m.turn(); err != nil {
		return Answer{}, err
	}
	a, err := connect(m.ctx, src, dst, wait)
	if m.ctx.Err() != nil {
		return Answer{}, m.ended()
	}
	return a, err
}

// ProbeUDP implements Network.
func (m *Many) ProbeUDP(src netip.Addr, to netip.AddrPort, wait time.Duration) (Answer, error) {
	if err := m.turn(); err != nil {
		return Answer{}, err
	}
	return Host{}.ProbeUDP(src, to, wait)
}

// turn waits until another packet may be sent.
func (m *Many) turn() error {
	if m.limit.Wait(m.ctx) != nil {
		return m.ended()
	}
	m.sent.Add(1)
	return nil
}

func (m *Many) ended() error { return fmt.Errorf("send packets: %w", context.Cause(m.ctx)) }

func (m *Many) ping(src, dst netip.Addr, size, ttl int, wait time.Duration) (Answer, error) {
	s, err := m.socket(src)
	if err != nil {
		return Answer{}, err
	}
	if err := m.turn(); err != nil {
		return Answer{}, err
	}
	seq, answer, err := s.expect(dst)
	if err != nil {
		return Answer{}, fmt.Errorf("ping %v: %w", dst, err)
	}
	defer s.forget(seq)
	switch err := s.send(src, dst, size, ttl, seq); {
	case err != nil && m.ctx.Err() != nil:
		return Answer{}, m.ended()
	case err != nil:
		return s.unsent(err), nil
	}
	patience := time.NewTimer(wait)
	defer patience.Stop()
	select {
	case a := <-answer:
		return a, nil
	case <-patience.C:
		return Answer{}, nil
	case <-m.ctx.Done():
		return Answer{}, m.ended()
	}
}

// socket is the one that an address sends by. Why an address cannot send is found out first:
// sendmsg(2) would take that for a lack of a route.
func (m *Many) socket(src netip.Addr) (*shared, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := wires[inet.Of(src)]
	err, known := m.sources[src]
	if !known {
		var conn net.PacketConn
		if conn, err = w.listen(src, 0); err == nil {
			conn.Close()
		}
		m.sources[src] = err
	}
	s := m.sockets[inet.Of(src)]
	switch {
	case m.ctx.Err() != nil:
		return nil, m.ended()
	case err == nil && s == nil:
		if s, err = w.share(); err == nil {
			m.sockets[inet.Of(src)] = s
			m.reading.Go(func() { m.end(s.read()) })
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open a raw socket at %v: %w", src, err)
	}
	return s, nil
}

// shared is a raw socket that many packets are sent by.
type shared struct {
	wire
	conn *net.IPConn
	id   int // of all of its packets: a connection tracker takes those to one address for one flow

	sending sync.Mutex // of who may use ttl
	ttl     int        // that the socket is set to; 0: as usual

	mu      sync.Mutex
	last    uint16
	waiting map[uint16]waiting // by sequence number
}

// waiting is a packet without an answer.
type waiting struct {
	dst    netip.Addr
	answer chan<- Answer // has room for one
}

// share opens a socket for messages that are answers.
func (w wire) share() (*shared, error) {
	anywhere := netip.IPv4Unspecified()
	if w.protocol == protocolOfIPv6 {
		anywhere = netip.IPv6Unspecified()
	}
	conn, err := w.listen(anywhere, 0)
	if err != nil {
		return nil, err
	}
	s := &shared{
		wire: w, conn: conn.(*net.IPConn), id: rand.IntN(1 << 16), last: uint16(rand.Uint32()), waiting: map[uint16]waiting{},
	}
	if err := s.takeAnswers(); err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

// takeAnswers has the kernel keep back what else comes in, others' echo requests above all.
func (s *shared) takeAnswers() error {
	types := []icmp.Type{s.reply}
	for t := range s.refusals {
		types = append(types, t)
	}
	if s.protocol == protocolOfIPv6 {
		var f ipv6.ICMPFilter
		f.SetAll(true)
		for _, t := range types {
			f.Accept(t.(ipv6.ICMPType))
		}
		return ipv6.NewPacketConn(s.conn).SetICMPFilter(&f)
	}
	var f ipv4.ICMPFilter
	f.SetAll(true)
	for _, t := range types {
		f.Accept(t.(ipv4.ICMPType))
	}
	return ipv4.NewPacketConn(s.conn).SetICMPFilter(&f)
}

// expect finds a sequence number for a packet that will be sent.
func (s *shared) expect(dst netip.Addr) (seq uint16, answer <-chan Answer, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) > 1<<15 {
		return 0, nil, errors.New("too many packets wait for an answer")
	}
	for taken := true; taken; {
		s.last++
		_, taken = s.waiting[s.last]
	}
	c := make(chan Answer, 1)
	s.waiting[s.last] = waiting{dst, c}
	return s.last, c, nil
}

func (s *shared) forget(seq uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, seq)
}

func (s *shared) send(src, dst netip.Addr, size, ttl int, seq uint16) error {
	packet, err := s.packet(size, s.id, int(seq))
	if err != nil {
		return err
	}
	s.sending.Lock()
	defer s.sending.Unlock()
	if ttl != s.ttl { // beside the packet, no kernel before Linux 3.13 takes one
		if err := s.set(ttl); err != nil {
			return err
		}
	}
	_, _, err = s.conn.WriteMsgIP(packet, from(src), &net.IPAddr{IP: dst.AsSlice()})
	return err
}

// set sets the TTL of the packets that follow. The caller holds s.sending.
func (s *shared) set(ttl int) error {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = s.setTTL(int(fd), ttl) })
	if err = errors.Join(err, failed); err == nil {
		s.ttl = ttl
	}
	return err
}

// read hands answers on until the socket fails, or is closed.
func (s *shared) read() error {
	buffer := make([]byte, 1<<16)
	for {
		n, from, err := s.conn.ReadFromIP(buffer)
		if err != nil {
			return fmt.Errorf("read answers: %w", err)
		}
		by, _ := netip.AddrFromSlice(from.IP)
		s.deliver(buffer[:n], by.Unmap())
	}
}

// deliver hands a message to who waits for it; what nobody waits for is others'.
func (s *shared) deliver(packet []byte, from netip.Addr) {
	m, ok := s.wire.read(packet, from)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	seq := uint16(m.seq)
	if w, there := s.waiting[seq]; there && m.isTo(w.dst, s.id, m.seq) {
		delete(s.waiting, seq) // the first answer counts
		w.answer <- m.Answer
	}
}

// from is what sendmsg(2) takes beside a packet: the address that it is from.
func from(src netip.Addr) []byte {
	if inet.Of(src) == inet.IPv6 {
		return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: src.As16()})
	}
	return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: src.As4()})
}
