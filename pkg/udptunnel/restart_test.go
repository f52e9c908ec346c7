package udptunnel_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"flanneld/internal/lab"
	"flanneld/pkg/udptunnel"
)

// Take, Keep and Forget are a service manager's.
func (k keeper) Take(name string) *os.File {
	if k[name] == nil {
		return nil
	}
	return again(k[name])
}

func (k keeper) Keep(name string, f *os.File) error {
	k[name] = again(f)
	return nil
}

func (k keeper) Forget(name string) error {
	if k[name] != nil {
		_ = k[name].Close()
		delete(k, name)
	}
	return nil
}

func (k keeper) close() {
	for name := range k {
		_ = k.Forget(name)
	}
}

// again is another descriptor of the same file.
func again(f *os.File) *os.File {
	raw, err := f.SyscallConn()
	if err != nil {
		panic(err)
	}
	copied := -1
	_ = raw.Control(func(fd uintptr) { copied, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	if err != nil {
		panic(err)
	}
	return os.NewFile(uintptr(copied), f.Name())
}

// flow is a datagram each millisecond from one container to another.
type flow struct {
	from, to *net.UDPConn
	sent     int
	received chan int
}

func newFlow(t testing.TB, from, to *end) *flow {
	f := &flow{received: make(chan int, 1)}
	f.to = udp(t, to.box.Node, addrPort(to.box.IP, 7), netip.AddrPort{})
	f.from = udp(t, from.box.Node, addrPort(from.box.IP, 0), addrPort(to.box.IP, 7))
	go func() { // until what is on its way has arrived
		n, buffer := 0, make([]byte, 100)
		for {
			_ = f.to.SetReadDeadline(time.Now().Add(2 * time.Second))
			if _, err := f.to.Read(buffer); err != nil {
				f.received <- n
				return
			}
			n++
		}
	}()
	return f
}

// run sends until stop is closed.
func (f *flow) run(stop chan struct{}) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_, _ = f.from.Write([]byte("x"))
			f.sent++
		case <-stop:
			return
		}
	}
}

// restart restarts the tunnel of one of two hosts while there is traffic both ways, and
// says what is lost of what it sends and of what it gets.
func restart(t testing.TB, store udptunnel.Store, pause time.Duration) (out, in int) {
	t.Helper()
	l := lab.New(t)
	a, b := newEnd(l, 21), newEnd(l, 22)
	a.open(t, store)
	b.open(t, nil)
	a.routes(t, b)
	b.routes(t, a)
	a.box, b.box = a.Container("c"), b.Container("c")
	a.box.Reach(b.box, soon)
	flows := []*flow{newFlow(t, a, b), newFlow(t, b, a)}
	stop := make(chan struct{})
	var running sync.WaitGroup
	for _, f := range flows {
		running.Go(func() { f.run(stop) })
	}
	time.Sleep(100 * time.Millisecond)
	began := time.Now()
	if err := a.tunnel.Close(); err != nil {
		t.Error(err)
	}
	time.Sleep(pause)
	a.open(t, store)
	a.routes(t, b)
	t.Logf("the tunnel was not there for %v", time.Since(began))
	time.Sleep(100 * time.Millisecond)
	close(stop)
	running.Wait()
	return flows[0].sent - <-flows[0].received, flows[1].sent - <-flows[1].received
}

// TestRestartLosesNothing where the descriptors are kept: what comes meanwhile waits in
// the device's queue and in the socket's. (Of the device's, 500 packets.)
func TestRestartLosesNothing(t *testing.T) {
	kept := keeper{}
	defer kept.close()
	if out, in := restart(t, kept, 300*time.Millisecond); out != 0 || in != 0 {
		t.Errorf("%d packets are lost of those that it sends, %d of those that it gets", out, in)
	}
}

// BenchmarkRestart is what a restart costs at once, and what it costs where the next
// process comes after a tenth of a second.
func BenchmarkRestart(b *testing.B) {
	b.ReportMetric(0, "ns/op")
	for _, pause := range []time.Duration{0, 100 * time.Millisecond} {
		out, in := restart(b, nil, pause)
		b.Logf("after %v, without a store: %d packets out are lost, %d in, at one a millisecond", pause, out, in)
		kept := keeper{}
		out, in = restart(b, kept, pause)
		b.Logf("after %v, with a store: %d packets out are lost, %d in", pause, out, in)
		kept.close()
	}
}

// TestAdopts what fits, and nothing else.
func TestAdopts(t *testing.T) {
	l := lab.New(t)
	e := newEnd(l, 21)
	kept := keeper{}
	defer kept.close()
	adopted := func(local string, want bool) {
		t.Helper()
		on(t, e.Node, func() (err error) {
			e.tunnel, err = udptunnel.Open(udptunnel.Options{Name: "flannel0", Local: netip.MustParseAddrPort(local), Store: kept})
			return err
		})
		if got := e.tunnel.Adopted(); got != want {
			t.Errorf("at %s: adopted: %v", local, got)
		}
		if err := e.tunnel.Close(); err != nil {
			t.Error(err)
		}
	}
	adopted("10.4.7.21:8285", false)
	adopted("10.4.7.21:8285", true)
	adopted("10.4.7.21:8286", false) // another port
	adopted("10.4.7.21:8286", true)
	e.Run("ip", "link", "delete", "flannel0")
	adopted("10.4.7.21:8286", false) // another device
	if err := errors.Join(e.tunnel.Close(), udptunnel.Forget(kept, "flannel0")); err != nil || len(kept) != 0 {
		t.Errorf("%v; kept are %v", err, kept)
	}
	e.open(t, kept) // nobody is attached to it
}

// TestDeletedDevice: a tunnel whose device goes says so, and another one can be opened.
func TestDeletedDevice(t *testing.T) {
	l := lab.New(t)
	a, b := newEnd(l, 21), newEnd(l, 22)
	connect(t, a, b)
	if err := a.tunnel.Err(); err != nil {
		t.Error(err)
	}
	a.Run("ip", "link", "delete", "flannel0")
	select {
	case <-a.tunnel.Failed():
	case <-time.After(soon):
		t.Fatal("nobody notices")
	}
	if err := a.tunnel.Err(); err == nil || !strings.Contains(err.Error(), "flannel0") {
		t.Error(err)
	}
	if err := a.tunnel.Close(); err != nil {
		t.Error(err)
	}
	a.open(t, nil)
	a.routes(t, b)
	a.box.Reach(b.box, soon)
}

// TestPacketsWaitForTheTable: what is sent before it is there is carried, and not
// answered with an error.
func TestPacketsWaitForTheTable(t *testing.T) {
	l := lab.New(t)
	a, b := newEnd(l, 21), newEnd(l, 22)
	a.open(t, nil)
	a.box = a.Container("c")
	peer := udp(t, b.Node, b.external(), netip.AddrPort{})
	inner := udp(t, a.box.Node, addrPort(a.box.IP, 7), netip.MustParseAddrPort("172.7.22.2:9000"))
	for range 100 {
		send(t, inner, []byte("early"), netip.AddrPort{})
	}
	time.Sleep(100 * time.Millisecond) // for a loop that would not wait
	a.routes(t, b)
	for range 100 {
		if got, _ := receive(t, peer); string(got[28:]) != "early" {
			t.Fatalf("% x", got)
		}
	}
	if s := a.tunnel.Stats().Out; s.Dropped != [4]uint64{} {
		t.Errorf("%+v", s)
	}
}

// TestErrorsSayWhatToDo: the port is taken, the address is not there.
func TestErrorsSayWhatToDo(t *testing.T) {
	l := lab.New(t)
	e := newEnd(l, 21)
	udp(t, e.Node, e.external(), netip.AddrPort{})
	for local, want := range map[string]string{
		"10.4.7.21:8285": "sport = 8285", "10.4.7.99:8285": "no interface of this host", "[fd00::1]:8285": "IPv4", "10.4.7.21:0": "port",
	} {
		on(t, e.Node, func() error {
			tunnel, err := udptunnel.Open(udptunnel.Options{Name: "flannel0", Local: netip.MustParseAddrPort(local)})
			if err == nil {
				_ = tunnel.Close()
			}
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v; want %q", local, err, want)
			}
			return nil
		})
	}
}
