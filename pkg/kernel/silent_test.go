package kernel_test

import (
	"strings"
	"testing"

	"flanneld/pkg/kernel"
)

// asks is PeersChanged of a real kernel.
func asks(t testing.TB, m machine) bool {
	t.Helper()
	changed, err := m.Conn.(*kernel.Netlink).PeersChanged()
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

// TestPeersChanged: what others edit is told, what we write at most once.
func TestPeersChanged(t *testing.T) {
	m := linux(t)
	if asks(t, m) {
		t.Error("changed before there was anything")
	}
	s := kernel.NewSyncer(m)
	pass := func(want kernel.State, writes int) {
		t.Helper()
		apply(t, s, want, writes)
		asks(t, m) // a device of the kernel's does not tell who wrote
		if asks(t, m) {
			t.Error("our own writes are a change again")
		}
	}
	pass(guarded(22, 23), 7)
	pass(guarded(22, 24), 2)
	for _, fault := range peerFaults {
		m.sh(t, keyed(22, fault.hand))
		if !asks(t, m) {
			t.Errorf("%s: not noticed", fault.name)
		}
		pass(guarded(22, 24), 1)
	}
	m.sh(t, `wg set flannel-wg listen-port 51999`)
	if !asks(t, m) {
		t.Error("another port was not noticed")
	}
	pass(guarded(22, 24), 1)
	pass(guarded(22, 24), 0)

	m.sh(t, `ip link del flannel-wg`)
	if _, err := s.Apply(kernel.State{}); err != nil || asks(t, m) {
		t.Errorf("a device that is gone has changed; error: %v", err)
	}
}

// TestPeersChangedWhenShown: who reads a device to show it, as the status does, takes no edit away
// from who is to repair it.
func TestPeersChangedWhenShown(t *testing.T) {
	m := linux(t)
	s := kernel.NewSyncer(m)
	apply(t, s, guarded(22), 7-1)
	asks(t, m)
	m.sh(t, `wg set flannel-wg listen-port 51999`)
	if _, err := m.Links(); err != nil {
		t.Fatal(err)
	}
	if !asks(t, m) {
		t.Error("an edit that was shown is no change any more")
	}
}

// A device that is gone has changed as long as nobody looks.
func TestPeersChangedWithTheDevice(t *testing.T) {
	for name, want := range map[string]kernel.State{"flannel-wg": guarded(22), "flannel0": carried(22)} {
		t.Run(name, func(t *testing.T) {
			m := linux(t)
			s := kernel.NewSyncer(m)
			if _, err := s.Apply(want); err != nil {
				t.Fatal(err)
			}
			asks(t, m)
			m.sh(t, `ip link del `+name)
			eventually(t, "the end of the device is a change", func() bool { return asks(t, m) })
			if _, err := s.Apply(want); err != nil {
				t.Fatal(err)
			}
			asks(t, m)
			if asks(t, m) {
				t.Error("the device made anew has changed")
			}
		})
	}
}

// Others' devices are neither read nor watched.
func TestPeersOfOthersAreNotRead(t *testing.T) {
	if !kernelHasWireGuard() {
		return // then strangers' devices of user space are no WireGuard devices to the kernel
	}
	m := linux(t)
	m.sh(t, keyed(22, `ip link add wg0 type wireguard
		wg set wg0 listen-port 7
		wg set wg0 peer {K} allowed-ips 10.9.0.0/16`))
	if _, err := kernel.NewSyncer(m).Apply(guarded(22)); err != nil {
		t.Fatal(err)
	}
	asks(t, m)
	m.sh(t, `wg set wg0 listen-port 8`)
	if asks(t, m) {
		t.Error("another's device has changed")
	}
	if strings.Contains(output(t, "ip -d link show wg0"), "alias") {
		t.Error("another's device has our mark")
	}
}
