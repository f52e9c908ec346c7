package lab

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"flanneld/pkg/inet"
)

// Pinger sends pings (ICMP echo, RFC 792 and RFC 4443) at an even pace. It costs no
// process, only two goroutines and a socket on its node.
type Pinger struct {
	to   Target
	echo echoes
	conn *icmp.PacketConn
	raw  syscall.RawConn // conn's
	// dropped is what the machine had dropped before.
	dropped Dropped

	mu       sync.Mutex
	pings    []ping // by sequence number
	onAnswer func() // nil until Stop

	stop      chan struct{}
	sending   sync.WaitGroup
	receiving sync.WaitGroup
}

// echoes is how one family sends them.
type echoes struct {
	network, any   string // of the socket
	protocol       int
	request, reply icmp.Type
}

var echoesOf = map[inet.Family]echoes{
	inet.IPv4: {"udp4", "0.0.0.0", 1, ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply},
	inet.IPv6: {"udp6", "::", 58, ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply},
}

type ping struct {
	sent     time.Time
	left     time.Time // when the kernel had it, which is later where the test had to wait for a CPU
	refused  error     // by the own network stack
	answered bool
	took     time.Duration // until the answer
}

// PingEvery starts to ping. Stop it for the result.
func (n *Node) PingEvery(interval time.Duration, to Target) *Pinger {
	n.lab.t.Helper()
	p := n.newPinger(to)
	p.dropped = dropped()
	p.sending.Go(func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			p.send()
			select {
			case <-tick.C:
			case <-p.stop:
				return
			}
		}
	})
	p.receiving.Go(p.receive)
	n.lab.onClose(p.close)
	return p
}

func (n *Node) newPinger(to Target) *Pinger {
	n.lab.t.Helper()
	p := &Pinger{to: to, echo: echoesOf[inet.Of(to.Address())], stop: make(chan struct{})}
	err := n.ns.do(func() (err error) {
		// A "ping socket" (icmp(7)): the kernel picks the echo's identifier and
		// hands us the answers to it alone.
		p.conn, err = icmp.ListenPacket(p.echo.network, p.echo.any)
		if err == nil {
			err = p.prepare()
		}
		return err
	})
	n.lab.must("open a ping socket on "+n.Name, err)
	return p
}

// prepare has the kernel keep the answers, and say when each came. On a busy machine the one
// who reads them waits for a CPU, by the second: what the kernel drops then, or what is read
// too late, was not lost by the network.
func (p *Pinger) prepare() (err error) {
	const room = 4 << 20 // bytes: a second's answers to quick pings
	var conn net.PacketConn
	if c := p.conn.IPv4PacketConn(); c != nil {
		conn = c.PacketConn
	} else {
		conn = p.conn.IPv6PacketConn().PacketConn
	}
	udp := conn.(*net.UDPConn)
	if p.raw, err = udp.SyscallConn(); err != nil {
		return err
	}
	var timed error
	return errors.Join(udp.SetReadBuffer(room), p.raw.Control(func(fd uintptr) {
		timed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	}), timed)
}

// send sends the next ping. One that cannot even be sent counts as lost.
func (p *Pinger) send() {
	p.mu.Lock()
	defer p.mu.Unlock()
	number := len(p.pings)
	echo := icmp.Echo{Seq: number & 0xffff, Data: binary.BigEndian.AppendUint64(nil, uint64(number))}
	message := icmp.Message{Type: p.echo.request, Body: &echo}
	packet, err := message.Marshal(nil)
	if err != nil {
		panic(err) // there is nothing in it that could not be marshalled
	}
	sent := time.Now()
	_, err = p.conn.WriteTo(packet, &net.UDPAddr{IP: p.to.Address().AsSlice()})
	p.pings = append(p.pings, ping{sent: sent, left: time.Now(), refused: err})
}

// receive notes answers until the deadline, if there is one yet, and those that have come by then.
func (p *Pinger) receive() {
	packet, control := make([]byte, 1500), make([]byte, 64)
	take := func(fd uintptr) {
		for {
			n, controls, _, from, err := unix.Recvmsg(int(fd), packet, control, unix.MSG_DONTWAIT)
			switch {
			case errors.Is(err, unix.EAGAIN):
				return
			case err != nil: // an ICMP error for an earlier ping, which counts as lost anyway
			case sender(from) == p.to.Address():
				p.record(packet[:n], received(control[:controls]))
			}
		}
	}
	_ = p.raw.Read(func(fd uintptr) bool { take(fd); return false })
	_ = p.raw.Control(take)
}

func sender(from unix.Sockaddr) netip.Addr {
	switch from := from.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(from.Addr)
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(from.Addr)
	}
	return netip.Addr{}
}

// received is when the kernel received the packet.
func received(control []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(control)
	if err == nil && len(messages) == 1 && messages[0].Header.Type == unix.SCM_TIMESTAMPNS {
		var at unix.Timespec
		if n, err := binary.Decode(messages[0].Data, binary.NativeEndian, &at); err == nil && n == len(messages[0].Data) {
			return time.Unix(at.Unix())
		}
	}
	return time.Now()
}

func (p *Pinger) record(packet []byte, at time.Time) {
	message, err := icmp.ParseMessage(p.echo.protocol, packet)
	if err != nil || message.Type != p.echo.reply {
		return
	}
	echo, ok := message.Body.(*icmp.Echo)
	if !ok || len(echo.Data) != 8 {
		return
	}
	number := binary.BigEndian.Uint64(echo.Data)
	p.mu.Lock()
	defer p.mu.Unlock()
	if number < uint64(len(p.pings)) && at.Sub(p.pings[number].left) <= lostAfter {
		p.pings[number].answered = true
		p.pings[number].took = at.Sub(p.pings[number].sent)
	}
	if p.onAnswer != nil {
		p.onAnswer()
	}
}

// past is a deadline that ends receive at once.
var past = time.Unix(1, 0)

func (p *Pinger) waitUntil(deadline time.Time) { _ = p.conn.SetReadDeadline(deadline) }

// awaitOutstanding sets the deadline for the answers that may still come.
func (p *Pinger) awaitOutstanding() {
	deadline := past
	for _, g := range p.pings {
		if !g.answered && g.refused == nil {
			deadline = g.left.Add(lostAfter)
		}
	}
	p.waitUntil(deadline)
}

// Stop ends the pinging, waits for the last answers and returns the result. It
// is called once.
func (p *Pinger) Stop() Stats {
	close(p.stop)
	p.sending.Wait()
	end := time.Now()
	p.mu.Lock()
	p.onAnswer = p.awaitOutstanding
	p.awaitOutstanding()
	p.mu.Unlock()
	p.receiving.Wait()
	s := p.stats(end)
	s.Dropped = dropped().since(p.dropped)
	return s
}

// close ends a Pinger whose result is not needed.
func (p *Pinger) close() {
	p.conn.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.onAnswer == nil {
		close(p.stop)
	}
}
