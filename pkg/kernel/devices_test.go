package kernel_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"k8s.io/klog/v2"

	"flanneld/pkg/kernel"
)

const (
	newDevice = `ip link add flannel.1 address 0a:39:13:5c:8e:15 mtu 1450 type vxlan id 1 local 10.4.7.21 dev ens33 dstport 8472 nolearning
		ip link set flannel.1 alias flanneld
		ip addr add 172.7.21.0/32 dev flannel.1
		ip link set flannel.1 up`
	// formerDevice is as flannel v0.11 makes it.
	formerDevice = `ip link add flannel.1 address 0a:39:13:5c:8e:15 mtu 1450 type vxlan id 1 local 10.4.7.21 dev ens33 dstport 8472 nolearning
		ip addr add 172.7.21.0/32 dev flannel.1
		ip link set flannel.1 up`
)

func TestNewDevice(t *testing.T) {
	play(t,
		step{want: tunnel(), ops: newDevice, shows: `
			ip addr add 172.7.21.0/32 dev flannel.1
			ip link add flannel.1 address 0a:39:13:5c:8e:15 mtu 1450 type vxlan id 1 local 10.4.7.21 dev ens33 dstport 8472 nolearning alias flanneld up`},
		step{restart: true, want: tunnel()},
		step{want: kernel.State{}, ops: `ip link del flannel.1 (not wanted any more)`, shows: `-`},
	)
}

// A compatible device is used as it is, so no packet is lost: the mark is all
// that it gets.
func TestCompatibleDeviceIsReused(t *testing.T) {
	eachMachine(t, func(t *testing.T, l tongue, m machine) {
		m.sh(t, formerDevice)
		before := linkOf(t, m, l.hand("flannel.1"))
		result, err := kernel.NewSyncer(m).Apply(l.state(tunnel()))
		if err != nil {
			t.Fatal(err)
		}
		compare(t, "ops", texts(result.Ops), l.ops(`ip link set flannel.1 alias flanneld`))
		if after := linkOf(t, m, l.hand("flannel.1")); after.Index != before.Index {
			t.Errorf("the device was recreated: index %d, then %d", before.Index, after.Index)
		}
	})
}

func linkOf(t testing.TB, m machine, name string) kernel.Link {
	t.Helper()
	links, err := m.Links()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if l.Name == name {
			return l
		}
	}
	t.Fatalf("no interface %s", name)
	return kernel.Link{}
}

func TestIncompatibleDeviceIsRecreated(t *testing.T) {
	const vxlan = `ip link add flannel.1 address 0a:39:13:5c:8e:15 mtu 1450 type vxlan `
	for name, c := range map[string]struct{ hand, why string }{
		"VNI":           {vxlan + `id 2 local 10.4.7.21 dev ens33 dstport 8472 nolearning`, "its VNI is 2, not 1"},
		"port":          {vxlan + `id 1 local 10.4.7.21 dev ens33 dstport 4789 nolearning`, "its UDP port is 4789, not 8472"},
		"local address": {vxlan + `id 1 local 10.4.7.121 dev ens33 dstport 8472 nolearning`, "its local address is 10.4.7.121, not 10.4.7.21"},
		"learning":      {vxlan + `id 1 local 10.4.7.21 dev ens33 dstport 8472`, "its learning is true, not false"},
		"GBP":           {vxlan + `id 1 local 10.4.7.21 dev ens33 dstport 8472 nolearning gbp`, "its GBP is true, not false"},
		"interface": {"ip link add ens34 type bridge\n" + vxlan + `id 1 local 10.4.7.21 dev ens34 dstport 8472 nolearning`,
			"its interface is ens34, not ens33"},
		"kind": {`ip link add flannel.1 type bridge`, `it is of kind "bridge", not vxlan`},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, step{hand: c.hand, want: tunnel(), ops: "ip link del flannel.1 (" + c.why + ")\n" + newDevice})
		})
	}
}

func TestRecreationIsLogged(t *testing.T) {
	var log bytes.Buffer
	klog.SetOutput(&log)
	defer klog.SetOutput(io.Discard)
	m := fake(t)
	m.sh(t, `ip link add flannel.1 address 0a:39:13:5c:8e:15 mtu 1450 type vxlan id 2 local 10.4.7.21 dev ens33 dstport 8472 nolearning`)
	if _, err := kernel.NewSyncer(m).Apply(tunnel()); err != nil {
		t.Fatal(err)
	}
	klog.Flush()
	if want := `"Wrote to the kernel" command="ip link del flannel.1" reason="its VNI is 2, not 1"` + "\n"; !strings.Contains(log.String(), want) {
		t.Errorf("log lacks %q:\n%s", want, log.String())
	}
}

func TestDeviceOptions(t *testing.T) {
	all := with(tunnel(), func(s *kernel.State) {
		d := &s.Devices[0]
		*d = withKind(*d, func(v *kernel.VXLAN) { v.VNI, v.Port, v.GBP, v.Learning = 0, 4789, true, true })
		d.Name, d.NoChecksumOffload = "flannel.0", true
	})
	play(t,
		step{
			want: all,
			ops: `ip link add flannel.0 address 0a:39:13:5c:8e:15 mtu 1450 type vxlan id 0 local 10.4.7.21 dev ens33 dstport 4789 gbp
				ip link set flannel.0 alias flanneld
				ethtool -K flannel.0 tx-checksum-ip-generic off
				ip addr add 172.7.21.0/32 dev flannel.0
				ip link set flannel.0 up`,
			shows: `ip addr add 172.7.21.0/32 dev flannel.0
				ip link add flannel.0 address 0a:39:13:5c:8e:15 mtu 1450 type vxlan id 0 local 10.4.7.21 dev ens33 dstport 4789 gbp alias flanneld up # checksums by the CPU`,
		},
		step{restart: true, want: all},
	)
}

// Others' devices stay, whatever they are called; ours go, by their mark or
// because this daemon made them.
func TestStaleDevices(t *testing.T) {
	vxlan := func(name, rest string) string {
		return "ip link add " + name + " address 0a:00:00:00:00:01 mtu 1450 type vxlan " + rest + " local 10.4.7.21 dev ens33 dstport 8472 nolearning\n"
	}
	second := with(tunnel(), func(s *kernel.State) {
		s.Devices[0] = withKind(device(), func(v *kernel.VXLAN) { v.VNI = 2 })
		s.Devices[0].Name = "flannel.2"
	})
	const others = `ip link add cali.77 address 0a:00:00:00:00:01 mtu 1450 type vxlan id 77 local 10.4.7.21 dev ens33 dstport 8472 nolearning
		ip link add flannel.7 address 0a:00:00:00:00:01 mtu 1450 type vxlan id 7 local 10.4.7.21 dev ens33 dstport 8472 nolearning alias hand-made`
	play(t,
		step{
			hand: `ip link add br7 type bridge
				ip link set br7 alias flanneld
				` + vxlan("cali.77", "id 77") + vxlan("flannel.7", "id 7") + `ip link set flannel.7 alias hand-made
				` + vxlan("flannel.9", "id 9") + `ip link set flannel.9 alias flanneld`,
			want: partial(tunnel()), ops: newDevice,
		},
		step{want: tunnel(), ops: `ip link del flannel.9 (not wanted any more)`},
		step{
			hand: `ip link set flannel.1 alias x`,
			want: second,
			ops: `ip link add flannel.2 address 0a:39:13:5c:8e:15 mtu 1450 type vxlan id 2 local 10.4.7.21 dev ens33 dstport 8472 nolearning
				ip link set flannel.2 alias flanneld
				ip addr add 172.7.21.0/32 dev flannel.2
				ip link set flannel.2 up
				ip link del flannel.1 (not wanted any more)`,
		},
		step{restart: true, want: plain(), ops: `ip link del flannel.2 (not wanted any more)`, shows: others},
		step{hand: `ip link del br7`, want: plain()},
	)
}

// The old and the new VNI's devices stand side by side for a while.
func TestTwoDevicesSideBySide(t *testing.T) {
	next := withKind(device(), func(v *kernel.VXLAN) { v.VNI = 2 })
	next.Name, next.MAC = "flannel.2", macOf(221)
	both := tunnel(22)
	both.Devices = append(both.Devices, next)
	both = join(both, through("flannel.2", 23))
	after := join(kernel.State{Devices: []kernel.Device{next}}, join(through("flannel.2", 22), through("flannel.2", 23)))
	play(t,
		step{want: both, ops: newDevice + `
			ip link add flannel.2 address 0a:39:13:5c:8e:dd mtu 1450 type vxlan id 2 local 10.4.7.21 dev ens33 dstport 8472 nolearning
			ip link set flannel.2 alias flanneld
			ip addr add 172.7.21.0/32 dev flannel.2
			ip link set flannel.2 up
			bridge fdb replace 0a:39:13:5c:8e:16 dev flannel.1 dst 10.4.7.22 self permanent
			bridge fdb replace 0a:39:13:5c:8e:17 dev flannel.2 dst 10.4.7.23 self permanent
			ip neigh replace 172.7.22.0 lladdr 0a:39:13:5c:8e:16 dev flannel.1 nud permanent
			ip neigh replace 172.7.23.0 lladdr 0a:39:13:5c:8e:17 dev flannel.2 nud permanent
			ip route add 172.7.22.0/24 via 172.7.22.0 dev flannel.1 onlink proto 77
			ip route add 172.7.23.0/24 via 172.7.23.0 dev flannel.2 onlink proto 77`},
		step{want: after, ops: `
			bridge fdb replace 0a:39:13:5c:8e:16 dev flannel.2 dst 10.4.7.22 self permanent
			ip neigh replace 172.7.22.0 lladdr 0a:39:13:5c:8e:16 dev flannel.2 nud permanent
			ip route replace 172.7.22.0/24 via 172.7.22.0 dev flannel.2 onlink proto 77 (was 172.7.22.0/24 via 172.7.22.0 dev flannel.1 onlink proto 77)
			ip link del flannel.1 (not wanted any more)`, shows: `
			bridge fdb add 0a:39:13:5c:8e:16 dev flannel.2 dst 10.4.7.22 self permanent
			bridge fdb add 0a:39:13:5c:8e:17 dev flannel.2 dst 10.4.7.23 self permanent
			ip addr add 172.7.21.0/32 dev flannel.2
			ip link add flannel.2 address 0a:39:13:5c:8e:dd mtu 1450 type vxlan id 2 local 10.4.7.21 dev ens33 dstport 8472 nolearning alias flanneld up
			ip neigh add 172.7.22.0 lladdr 0a:39:13:5c:8e:16 dev flannel.2 nud permanent
			ip neigh add 172.7.23.0 lladdr 0a:39:13:5c:8e:17 dev flannel.2 nud permanent
			ip route add 172.7.22.0/24 via 172.7.22.0 dev flannel.2 onlink proto 77
			ip route add 172.7.23.0/24 via 172.7.23.0 dev flannel.2 onlink proto 77`},
	)
}

// A new MAC makes Linux forget all neighbours of the device.
func TestNewMAC(t *testing.T) {
	moved := with(tunnel(22), func(s *kernel.State) { s.Devices[0].MAC = macOf(121) })
	play(t,
		step{want: tunnel(22), ops: newDevice + newPeer22},
		step{want: moved, ops: `
			ip link set flannel.1 address 0a:39:13:5c:8e:79 (it was 0a:39:13:5c:8e:15)
			repair: ip neigh replace 172.7.22.0 lladdr 0a:39:13:5c:8e:16 dev flannel.1 nud permanent`},
	)
}

// What was on a device that is made anew comes back in the same pass.
func TestRecreationTakesPeersAlong(t *testing.T) {
	moved := with(tunnel(22), func(s *kernel.State) { s.Devices[0] = withKind(device(), func(v *kernel.VXLAN) { v.Port = 4789 }) })
	play(t,
		step{want: tunnel(22, 23), ops: newDevice + newPeers},
		step{restart: true, want: moved, ops: `ip link del flannel.1 (its UDP port is 8472, not 4789)
			` + strings.Replace(newDevice, "8472", "4789", 1) + newPeer22},
	)
}

// A device without any address loses its routes: the new one comes first. An
// administrator's network on the device stays.
func TestNewSubnet(t *testing.T) {
	moved := with(tunnel(22), func(s *kernel.State) { s.Devices[0].Addrs = ownAddr("172.7.99.0") })
	const add, del = "ip addr add 172.7.99.0/32 dev flannel.1\n", "ip addr del 172.7.21.0/32 dev flannel.1"
	play(t,
		step{want: tunnel(22), ops: newDevice + newPeer22},
		step{hand: `ip addr add 192.168.9.1/24 dev flannel.1`, want: partial(moved), ops: add},
		step{want: moved, ops: del},
		step{want: tunnel(22), ops: "ip addr add 172.7.21.0/32 dev flannel.1\nip addr del 172.7.99.0/32 dev flannel.1"},
	)
}

// An address that somebody else put on the device stays. Ours are those that
// this daemon wrote, whatever the network, and the starts of the network's
// subnets, which an earlier run may have written.
func TestAddressesOfOthers(t *testing.T) {
	moved := with(tunnel(22), func(s *kernel.State) { s.Devices[0].Addrs = ownAddrIn("10.9.4.0", "10.9.0.0/16") })
	const others = `ip addr add 192.0.2.9/32 dev flannel.1
		ip addr add 172.7.99.5/32 dev flannel.1
		ip addr add 172.7.64.0/18 dev flannel.1
		ip addr add 198.51.100.0/32 dev flannel.1`
	play(t,
		step{want: tunnel(22), ops: newDevice + newPeer22},
		step{hand: others, want: tunnel(22)},
		step{restart: true, want: tunnel(22), shows: withPeer22 + "\n" + others},
		step{hand: `ip addr add 172.7.99.0/32 dev flannel.1`, want: tunnel(22), ops: `ip addr del 172.7.99.0/32 dev flannel.1`},
		step{want: partial(moved), ops: `ip addr add 10.9.4.0/32 dev flannel.1`},
		step{want: moved, ops: `ip addr del 172.7.21.0/32 dev flannel.1`},
	)
}
