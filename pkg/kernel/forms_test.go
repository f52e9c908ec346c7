package kernel_test

import (
	"strings"
	"testing"

	"flanneld/pkg/kernel"
)

// What iproute2 shows is what flannel's users know, but for our marks.
func TestFormsThatUsersKnow(t *testing.T) {
	m := linux(t)
	if _, err := kernel.NewSyncer(m).Apply(join(tunnel(22), plain(23))); err != nil {
		t.Fatal(err)
	}
	compare(t, "ip route", output(t, "ip route show"), `
		10.4.7.0/24 dev ens33 proto kernel scope link src 10.4.7.21
		172.7.22.0/24 via 172.7.22.0 dev flannel.1 proto 77 onlink
		172.7.23.0/24 via 10.4.7.23 dev ens33 proto 77`)
	compare(t, "ip neigh", output(t, "ip neigh show dev flannel.1"), `172.7.22.0 lladdr 0a:39:13:5c:8e:16 PERMANENT`)
	compare(t, "bridge fdb", output(t, "bridge fdb show dev flannel.1"), `0a:39:13:5c:8e:16 dst 10.4.7.22 self permanent`)
	contains(t, output(t, "ip -d link show flannel.1"), "mtu 1450", "link/ether 0a:39:13:5c:8e:15", "alias flanneld",
		"vxlan id 1 local 10.4.7.21 dev ens33", "dstport 8472 nolearning")
	contains(t, output(t, "ip -4 addr show flannel.1"), "inet 172.7.21.0/32 scope global flannel.1", ",UP,")
	if s := output(t, "ip -d link show flannel.1"); strings.Contains(s, "gbp") {
		t.Error("GBP without being asked for:\n", s)
	}
}

// An entry may lead into another VNI, which its short form does not show.
func TestEntryIntoAnotherVNI(t *testing.T) {
	m := linux(t)
	s := kernel.NewSyncer(m)
	for _, hand := range []string{``, `bridge fdb replace 0a:39:13:5c:8e:16 dev flannel.1 dst 10.4.7.22 vni 9 self permanent`} {
		m.sh(t, hand)
		if _, err := s.Apply(tunnel(22)); err != nil {
			t.Fatal(err)
		}
		compare(t, "bridge fdb", output(t, "bridge fdb show dev flannel.1"), `0a:39:13:5c:8e:16 dst 10.4.7.22 self permanent`)
	}
}

// A bridge keeps entries of its own under the name of its port.
func TestDeviceInABridge(t *testing.T) {
	m := linux(t)
	s := kernel.NewSyncer(m)
	if _, err := s.Apply(tunnel(22)); err != nil {
		t.Fatal(err)
	}
	m.sh(t, `ip link add br0 type bridge
		ip link set flannel.1 master br0
		bridge fdb add 0a:39:13:5c:8e:16 dev flannel.1 master permanent`)
	if result, err := s.Apply(tunnel(22)); err != nil || len(result.Ops) > 0 {
		t.Errorf("a pass writes\n%s\nerror: %v", texts(result.Ops), err)
	}
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("no %q in:\n%s", p, text)
		}
	}
}

// The kernel's own view of the offload's absence: the feature is off, and comes
// back when somebody switches it on.
func TestChecksumsByTheCPU(t *testing.T) {
	m := linux(t)
	want := tunnel(22)
	s := kernel.NewSyncer(m)
	for _, quiet := range []bool{false, true} {
		want.Devices[0].NoChecksumOffload = quiet
		if _, err := s.Apply(want); err != nil {
			t.Fatal(err)
		}
		if l := linkOf(t, m, "flannel.1"); l.NoChecksumOffload != quiet {
			t.Errorf("asked for checksums by the CPU: %v, found: %v", quiet, l.NoChecksumOffload)
		}
	}
	m.sh(t, `offload on flannel.1`)
	if linkOf(t, m, "flannel.1").NoChecksumOffload {
		t.Fatal("a hand cannot switch the offload on")
	}
	if _, err := s.Apply(want); err != nil {
		t.Fatal(err)
	}
	if !linkOf(t, m, "flannel.1").NoChecksumOffload {
		t.Error("the offload stays on")
	}
}
