package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"flanneld/pkg/inet"
)

// Query is a packet of a [Gather]: an echo request that must not be cut into pieces on its way.
type Query struct {
	Dst  netip.Addr
	Size int // bytes, headers included
	// TTL is how many hosts may have it, the last of which drops and answers it unless it is
	// the target; 0: as many as usual.
	TTL int
}

// Heard is what came back of a Query.
type Heard struct {
	Answer
	RTT  time.Duration // to the answer, by the kernel's clock where it received that; 0: not known
	Held bool          // this host did not let the packet go: Text says why
}

// Gather sends all queries at once, from the first of the sources of their family that this
// host has, and then sleeps: answers wait in the sockets, and wake nobody. The sockets take no
// other ICMP packets, and are there for that time only. Timed asks for round trips, which takes
// some milliseconds more. It needs CAP_NET_RAW; the error is
// unix.EPERM where that is lacking, and ctx's where that ends.
func Gather(
	ctx context.Context, sources []netip.Addr, queries []Query, wait time.Duration, timed bool,
) ([]Heard, error) {
	heard := make([]Heard, len(queries))
	var open []*gathering
	defer func() {
		for _, g := range open {
			unix.Close(g.fd)
		}
	}()
	for _, f := range inet.Families() {
		if slices.ContainsFunc(queries, func(q Query) bool { return inet.Of(q.Dst) == f }) {
			g, err := gather(f, sources)
			if err != nil {
				return nil, err
			}
			open = append(open, g)
		}
	}
	if timed {
		if err := sleep(ctx, stamping); err != nil {
			return nil, err
		}
	}
	for _, g := range open {
		if err := g.sendAll(queries, heard); err != nil {
			return nil, err
		}
	}
	if err := sleep(ctx, wait); err != nil {
		return nil, err
	}
	for _, g := range open {
		g.receive(queries, heard)
	}
	return heard, nil
}

// stamping is how long the kernel may take until it notes when packets come. Where nobody has
// asked for that, it does not.
const stamping = 20 * time.Millisecond

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// gathering is a socket of one family.
type gathering struct {
	wire
	family inet.Family
	fd, id int
	ttl    int         // that it is set to; 0: as usual
	sent   []time.Time // when each query was
}

// gather opens a raw socket. It is none of the runtime's, which would look at each packet as
// it comes.
func gather(f inet.Family, sources []netip.Addr) (*gathering, error) {
	g := &gathering{wire: wires[f], family: f, id: rand.IntN(1 << 16)}
	domain := unix.AF_INET
	if f == inet.IPv6 {
		domain = unix.AF_INET6
	}
	fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, g.protocol)
	if err != nil {
		return nil, fmt.Errorf("open a raw socket of %v: %w", f, err)
	}
	g.fd = fd
	if err := g.prepare(sources); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return g, nil
}

func (g *gathering) prepare(sources []netip.Addr) error {
	filter, err := bpf.Assemble(answersTo(g.family, g.id))
	if err != nil {
		return fmt.Errorf("assemble a filter of packets: %w", err)
	}
	program := make([]unix.SockFilter, len(filter))
	for i, f := range filter {
		program[i] = unix.SockFilter{Code: f.Op, Jt: f.Jt, Jf: f.Jf, K: f.K}
	}
	err = errors.Join(
		unix.SetsockoptSockFprog(g.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}),
		unix.SetsockoptInt(g.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		// What the kernel was told of the path before says nothing of the path now.
		unix.SetsockoptInt(g.fd, g.level, g.whole, unix.IP_PMTUDISC_PROBE),
	)
	if err != nil {
		return fmt.Errorf("prepare a raw socket of %v: %w", g.family, err)
	}
	err = fmt.Errorf("this host has no address of %v to send from", g.family)
	for _, src := range sources {
		if inet.Of(src) != g.family {
			continue
		}
		if err = unix.Bind(g.fd, sockaddr(src)); err == nil {
			return nil
		}
		err = fmt.Errorf("send from %v: %w", src, err)
	}
	return err
}

func sockaddr(a netip.Addr) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4()}
	}
	return &unix.SockaddrInet6{Addr: a.As16()}
}

// answersTo is a filter that takes echo replies, and what is said of echo requests, with an
// id. The kernel shows it a packet of IPv4 from the IP header on, one of IPv6 from ICMP's.
func answersTo(f inet.Family, id int) []bpf.Instruction {
	begin := bpf.Instruction(bpf.LoadMemShift{Off: 0})
	if f == inet.IPv6 {
		begin = bpf.LoadConstant{Dst: bpf.RegX, Val: 0}
	}
	return []bpf.Instruction{
		begin,
		bpf.LoadIndirect{Off: 0, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(typeOf(wires[f].reply)), SkipFalse: 2},
		bpf.LoadIndirect{Off: atID, Size: 2},
		bpf.Jump{Skip: 1},
		bpf.LoadIndirect{Off: uint32(quotedAt(f) + atID), Size: 2}, // a packet that is shorter is dropped
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(id), SkipFalse: 1},
		bpf.RetConstant{Val: 1 << 16},
		bpf.RetConstant{Val: 0},
	}
}

// Where an echo has its identifier and its sequence number, of two bytes each.
const (
	atID  = 4
	atSeq = 6
)

// quotedAt is where an ICMP error has the echo that it is about.
func quotedAt(f inet.Family) int {
	return wires[f].headers // its own header is as long as an echo's; then comes our IP header, without options
}

// typeOf is a type of ICMP as packets have it.
func typeOf(t icmp.Type) byte {
	switch t := t.(type) {
	case ipv4.ICMPType:
		return byte(t)
	case ipv6.ICMPType:
		return byte(t)
	}
	return 0
}

// number is the query that a message which the filter has let pass is about.
func (g *gathering) number(message []byte) (int, bool) {
	at := atSeq
	if len(message) > 0 && message[0] != typeOf(g.reply) {
		at += quotedAt(g.family)
	}
	if len(message) < at+2 {
		return 0, false
	}
	return int(binary.BigEndian.Uint16(message[at:])), true
}

// sendAll sends the queries of the family. The number of one is that in the packet as well.
func (g *gathering) sendAll(queries []Query, heard []Heard) error {
	g.sent = make([]time.Time, len(queries))
	for i, q := range queries {
		if inet.Of(q.Dst) != g.family {
			continue
		}
		if q.TTL != g.ttl {
			if err := g.setTTL(g.fd, q.TTL); err != nil {
				return fmt.Errorf("set the TTL of packets to %v: %w", q.Dst, err)
			}
			g.ttl = q.TTL
		}
		packet, err := g.packet(q.Size, g.id, i)
		if err != nil {
			return err
		}
		g.sent[i] = time.Now()
		heard[i] = g.unsent(unix.Sendto(g.fd, packet, 0, sockaddr(q.Dst)))
	}
	return nil
}

// unsent is what the error of a send says of a packet; nil: nothing yet.
func (g *gathering) unsent(err error) Heard {
	if err == nil {
		return Heard{}
	}
	held := func(by error) bool { return errors.Is(err, by) } // of other errors: there is no route
	return Heard{Answer: g.wire.unsent(err), Held: slices.ContainsFunc([]error{unix.EPERM, unix.ENOBUFS, unix.EAGAIN}, held)}
}

// receive takes what has come.
func (g *gathering) receive(queries []Query, heard []Heard) {
	packet, control := make([]byte, 2048), make([]byte, 64) // an answer's end does not matter
	woken := time.Now()
	for {
		n, controls, _, from, err := unix.Recvmsg(g.fd, packet, control, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return
		}
		message := packet[:n]
		var src netip.Addr
		switch from := from.(type) {
		case *unix.SockaddrInet4:
			src = netip.AddrFrom4(from.Addr)
			if message = afterHeader(message); message == nil {
				continue
			}
		case *unix.SockaddrInet6:
			src = netip.AddrFrom16(from.Addr)
		}
		i, whole := g.number(message)
		if !whole || i >= len(queries) || inet.Of(queries[i].Dst) != g.family || heard[i].Answered {
			continue
		}
		if a, ours := answer(message, src, queries[i].Dst, g.id, i); ours {
			heard[i] = Heard{Answer: a}
			if at := received(control[:controls]); at.After(g.sent[i]) && at.Before(woken) {
				heard[i].RTT = at.Sub(g.sent[i])
			}
		}
	}
}

// afterHeader is what follows the IP header of an IPv4 packet; nil: it is none.
func afterHeader(packet []byte) []byte {
	if len(packet) == 0 {
		return nil
	}
	length := int(packet[0]&0xf) * 4
	if length < ipv4.HeaderLen || length > len(packet) {
		return nil
	}
	return packet[length:]
}

// received is when the kernel received a packet, which it says beside it; zero: it does not. It
// has no monotonic time, so that the clock may have been set since.
func received(control []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return time.Time{}
	}
	for _, m := range messages {
		if m.Header.Level != unix.SOL_SOCKET || m.Header.Type != unix.SCM_TIMESTAMPNS {
			continue
		}
		switch half := len(m.Data) / 2; half { // seconds and nanoseconds, as long as a C long is
		case 8:
			return time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[half:])))
		case 4:
			return time.Unix(int64(binary.NativeEndian.Uint32(m.Data)), int64(binary.NativeEndian.Uint32(m.Data[half:])))
		}
	}
	return time.Time{}
}
