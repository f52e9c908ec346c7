package kernel_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"flanneld/pkg/kernel"
	"flanneld/pkg/kernel/kerneltest"
)

// hold takes a UDP port until the returned function is called.
func hold(t testing.TB, address string) (free func()) {
	t.Helper()
	conn, err := net.ListenPacket("udp4", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return func() { conn.Close() }
}

// TestPortOfAnotherProgram: the error says what to do, nothing half is left in the way, and once
// the port is free, the next pass does all.
func TestPortOfAnotherProgram(t *testing.T) {
	for name, c := range map[string]struct {
		want, moved kernel.State
		port        string
	}{
		"WireGuard": {guarded(22, 23), with(guarded(22, 23), func(s *kernel.State) {
			s.Devices[0].Kind = kernel.WireGuard{Private: secretOf(21), Port: 51999}
		}), ":51999"},
		"UDP": {carried(22, 23), with(carried(22, 23), func(s *kernel.State) {
			s.Devices[0].Kind = kernel.UDP{Local: endpointOf(21, 51999)}
		}), "10.4.7.21:51999"},
	} {
		for _, way := range []string{"new", "moved", "restarted"} {
			t.Run(name+"/"+way, func(t *testing.T) {
				m := linux(t)
				s := kernel.NewSyncer(m)
				before := map[string]kernel.State{"moved": c.want, "restarted": c.moved}[way]
				if _, err := s.Apply(before); err != nil {
					t.Fatal(err)
				}
				if way == "restarted" {
					m.Conn = m.restart()
					s = kernel.NewSyncer(m)
					if kernelHasWireGuard() && name == "WireGuard" {
						return // whose device never let go of the port
					}
				}
				free := hold(t, c.port)
				for range 2 {
					_, err := s.Apply(c.moved)
					if !errors.Is(err, unix.EADDRINUSE) || !strings.Contains(err.Error(), "ss -lunp") {
						t.Errorf("with the port in use: %v", err)
					}
				}
				free()
				if _, err := s.Apply(c.moved); err != nil {
					t.Fatal(err)
				}
				pure := fake(t)
				apply := kernel.NewSyncer(pure)
				if _, err := apply.Apply(c.moved); err != nil {
					t.Fatal(err)
				}
				compare(t, "state", kerneltest.Render(m), kerneltest.Render(pure))
			})
		}
	}
}

// TestStaleDevicesOfUserspaceEnd: with the device goes what served it, so its port is free.
func TestStaleDevicesOfUserspaceEnd(t *testing.T) {
	for name, hand := range map[string]string{"not wanted": "", "deleted by hand": "ip link del flannel-wg\nip link del flannel0"} {
		t.Run(name, func(t *testing.T) {
			m := linux(t)
			s := kernel.NewSyncer(m)
			if _, err := s.Apply(join(guarded(22), toHosts(carried(23)))); err != nil {
				t.Fatal(err)
			}
			m.sh(t, hand)
			if _, err := s.Apply(kernel.State{}); err != nil {
				t.Fatal(err)
			}
			hold(t, ":51820")
			hold(t, "10.4.7.21:8285")
			if _, err := os.Stat("/var/run/wireguard/flannel-wg.sock"); err == nil {
				t.Error("its socket is still there")
			}
		})
	}
}

// TestMissingDeviceAmongPeers: each write has its own error, whatever goes to a device at once.
func TestMissingDeviceAmongPeers(t *testing.T) {
	m := linux(t)
	if _, err := kernel.NewSyncer(m).Apply(guarded(22)); err != nil {
		t.Fatal(err)
	}
	astray := wgPeer(25)
	astray.Dev = "flannel-wg9"
	replace := func(p kernel.Peer) kernel.Op { return kernel.Op{Action: kernel.Replace, Object: p} }
	errs := m.Do(replace(wgPeer(23)), replace(astray), replace(wgPeer(24)), replace(astray),
		kernel.Op{Action: kernel.Delete, Object: astray}, kernel.Op{Action: kernel.Delete, Object: wgPeer(22)})
	for i, err := range errs {
		if astray := i == 1 || i == 3; errors.Is(err, unix.ENODEV) != astray || astray != (err != nil) {
			t.Errorf("write %d: %v", i, err)
		}
	}
	want := peerLines(setPeerLine, 23, 24)
	for _, line := range lines(want) {
		if !strings.Contains(kerneltest.Render(m), line) {
			t.Errorf("lacks %s", line)
		}
	}
}

// TestLogShowsNoKey but public ones, and has one line for many peers.
func TestLogShowsNoKey(t *testing.T) {
	var log bytes.Buffer
	klog.SetOutput(&log)
	defer klog.SetOutput(io.Discard)
	m := linux(t)
	s := kernel.NewSyncer(m)
	want := guarded(22)
	want.Peers[0].PSK = secretOf(201)
	for _, hand := range []string{``, `wg set flannel-wg private-key ` + text64(secretOf(202)),
		keyed(22, `wg set flannel-wg peer {K} preshared-key `+text64(secretOf(203))), `ip link set flannel-wg down`} {
		m.sh(t, hand)
		if _, err := s.Apply(want); err != nil {
			t.Fatal(err)
		}
	}
	hold(t, ":51999")
	want.Devices[0].Kind = kernel.WireGuard{Private: secretOf(204), Port: 51999}
	result, err := s.Apply(want)
	klog.Flush()
	all := log.String() + fmt.Sprint(err) + fmt.Sprintf("%v %+v %#v", result, want, want)
	for _, n := range []int{21, 201, 202, 203, 204} {
		hex := strings.ToLower(fmt.Sprintf("%x", [32]byte(secretOf(n))))
		if strings.Contains(all, text64(secretOf(n))) || strings.Contains(all, hex) {
			t.Errorf("secret %d is shown", n)
		}
	}
	if !strings.Contains(all, keyOf(22).String()) || !strings.Contains(all, "private-key (secret)") {
		t.Errorf("the log lacks public keys:\n%s", log.String())
	}
	log.Reset()
	if _, err := kernel.NewSyncer(fake(t)).Apply(manyGuarded(4000)); err != nil {
		t.Fatal(err)
	}
	klog.Flush()
	if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "replace peer: 4000") {
		t.Errorf("%d lines:\n%.1000s", n, log.String())
	}
}

// TestPeersOfAFailingDevice: they wait for it, and for nothing else.
func TestPeersOfAFailingDevice(t *testing.T) {
	m := fake(t)
	k := m.Conn.(*kerneltest.Kernel)
	k.Fail = func(call string) error {
		if strings.HasPrefix(call, "ip link add flannel-wg") {
			return unix.ENOMEM
		}
		return nil
	}
	s := kernel.NewSyncer(m)
	want := join(guarded(22, 23), toHosts(carried(24)))
	result, err := s.Apply(want)
	if !errors.Is(err, unix.ENOMEM) || strings.Count(err.Error(), ";") > 0 || strings.Contains(texts(result.Ops), "flannel-wg") {
		t.Errorf("%v\n%s", err, texts(result.Ops))
	}
	if !strings.Contains(k.String(), "flannel0: add 172.7.24.0/24") {
		t.Errorf("the other device lacks its peer:\n%s", k)
	}
	k.Fail = nil
	apply(t, s, want, 4+2+1)
}

// TestPeersEditedAgainAndAgain are repaired ever later, and others at once.
func TestPeersEditedAgainAndAgain(t *testing.T) { synctest.Test(t, editPeersAgainAndAgain) }

func editPeersAgainAndAgain(t *testing.T) {
	m := fake(t)
	s := kernel.NewSyncer(m)
	apply(t, s, guarded(22, 23), 7)
	held := false
	for range 100 {
		m.sh(t, keyed(22, removePeerLine))
		result, err := s.Apply(guarded(22, 23))
		if err != nil {
			t.Fatal(err)
		}
		if held = len(result.Ops) == 0; held {
			if result.Again == 0 || len(result.Objects) != 1 || !strings.HasPrefix(result.Objects[0], keyed(22, "wg set flannel-wg peer {K} endpoint")) {
				t.Errorf("contested: %v", result.Contention)
			}
			break
		}
	}
	if !held {
		t.Fatal("a hundred repairs at once")
	}
	m.sh(t, keyed(23, removePeerLine))
	apply(t, s, guarded(22, 23), 1)
	time.Sleep(time.Hour)
	apply(t, s, guarded(22, 23), 1)
	// A peer that nobody knows goes at once, however often.
	for range 100 {
		m.sh(t, keyed(99, `wg set flannel-wg peer {K} endpoint 10.4.7.99:51820 allowed-ips 172.7.99.0/24`))
		apply(t, s, guarded(22, 23), 1)
	}
}

// memoryStore keeps descriptors as a service manager does.
type memoryStore map[string]*os.File

func (m memoryStore) Take(name string) *os.File {
	if m[name] == nil {
		return nil
	}
	return dup(m[name])
}

func (m memoryStore) Keep(name string, f *os.File) error {
	_ = m.Forget(name)
	m[name] = dup(f)
	return nil
}

func (m memoryStore) Forget(name string) error {
	if f := m[name]; f != nil {
		delete(m, name)
		return f.Close()
	}
	return nil
}

func dup(f *os.File) *os.File {
	var fd int
	raw, err := f.SyscallConn()
	if err == nil {
		err = raw.Control(func(of uintptr) { fd, err = unix.FcntlInt(of, unix.F_DUPFD_CLOEXEC, 0) })
	}
	if err != nil {
		panic(err)
	}
	return os.NewFile(uintptr(fd), f.Name())
}

// TestNothingIsKeptOfDevicesThatAreGone: a port that nobody listens at is free.
func TestNothingIsKeptOfDevicesThatAreGone(t *testing.T) {
	for _, way := range []string{"not wanted", "not wanted after a restart", "deleted by hand"} {
		t.Run(way, func(t *testing.T) {
			m, store := linux(t), memoryStore{}
			m.Conn.(*kernel.Netlink).Store = store
			s := kernel.NewSyncer(m)
			if _, err := s.Apply(carried(22)); err != nil {
				t.Fatal(err)
			}
			switch way {
			case "not wanted after a restart":
				m.Conn = m.restart()
				m.Conn.(*kernel.Netlink).Store = store
				s = kernel.NewSyncer(m)
				if len(store) != 2 {
					t.Errorf("%d descriptors are kept over the restart", len(store))
				}
			case "deleted by hand":
				m.sh(t, `ip link del flannel0`)
			}
			if _, err := s.Apply(kernel.State{}); err != nil {
				t.Fatal(err)
			}
			if len(store) != 0 {
				t.Errorf("%d descriptors are kept", len(store))
			}
			hold(t, "10.4.7.21:8285")
		})
	}
}

// TestPeerThatATunnelRefuses is no peer of it: the others are, once it is gone.
func TestPeerThatATunnelRefuses(t *testing.T) {
	m := linux(t)
	s := kernel.NewSyncer(m)
	want := carried(22, 23)
	want.Peers[1].Endpoint = netip.AddrPort{}
	for range 2 {
		if _, err := s.Apply(want); err == nil {
			t.Error("no error for a peer without an address")
		}
	}
	apply(t, s, carried(22, 24), 2)
	apply(t, s, carried(22, 24), 0)
}
