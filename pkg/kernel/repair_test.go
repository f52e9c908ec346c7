package kernel_test

import (
	"slices"
	"strings"
	"testing"

	"flanneld/pkg/kernel"
	"flanneld/pkg/kernel/kerneltest"
)

// faults are what a hand, another program or the hardware does to a host.
var faults = []struct{ name, hand string }{
	{"nothing", ``},
	{"route deleted", `ip route del 172.7.22.0/24`},
	{"route leads elsewhere", `ip route replace 172.7.22.0/24 via 10.4.7.99 dev ens33`},
	{"route of another protocol", `ip route replace 172.7.22.0/24 via 10.4.7.22 dev ens33 proto static`},
	{"route is a blackhole", `ip route replace blackhole 172.7.22.0/24`},
	{"routes flushed", `ip route del 172.7.22.0/24
		ip route del 172.7.23.0/24
		ip route del 172.7.24.0/24`},
	{"neighbour deleted", `ip neigh del 172.7.22.0 dev flannel.1`},
	{"neighbour with another MAC", `ip neigh replace 172.7.22.0 lladdr 0a:00:00:00:00:99 dev flannel.1 nud permanent`},
	{"neighbour not permanent", `ip neigh replace 172.7.22.0 lladdr 0a:39:13:5c:8e:16 dev flannel.1 nud reachable`},
	{"fdb entry deleted", `bridge fdb del 0a:39:13:5c:8e:16 dev flannel.1 dst 10.4.7.22 self`},
	{"fdb entry to another host", `bridge fdb replace 0a:39:13:5c:8e:16 dev flannel.1 dst 10.4.7.99 self permanent`},
	{"fdb entry not permanent", `bridge fdb replace 0a:39:13:5c:8e:16 dev flannel.1 dst 10.4.7.22 self dynamic`},
	{"fdb entry into another VNI", `bridge fdb replace 0a:39:13:5c:8e:16 dev flannel.1 dst 10.4.7.22 vni 9 self permanent`},
	{"fdb entry to another port", `bridge fdb replace 0a:39:13:5c:8e:16 dev flannel.1 dst 10.4.7.22 port 4789 self permanent`},
	{"fdb entry by another interface", `bridge fdb replace 0a:39:13:5c:8e:16 dev flannel.1 dst 10.4.7.22 via lo self permanent`},
	{"device without its address", `ip addr flush dev flannel.1`},
	{"device with another address too", `ip addr add 172.7.99.0/32 dev flannel.1`},
	{"device down", `ip link set flannel.1 down`},
	{"device down and up", `ip link set flannel.1 down
		ip link set flannel.1 up`},
	{"device deleted", `ip link del flannel.1`},
	{"device with another MTU", `ip link set flannel.1 mtu 1400`},
	{"device with another MAC", `ip link set flannel.1 address 0a:00:00:00:00:99`},
	{"device without our mark", `ip link set flannel.1 alias x`},
	{"device of another make", `ip link del flannel.1
		ip link add flannel.1 address 0a:39:13:5c:8e:15 mtu 1450 type vxlan id 9 local 10.4.7.21 dev ens33 dstport 4789`},
	{"checksum offload on", `offload on flannel.1`},
	{"NIC down and up", `ip link set ens33 down
		ip link set ens33 up`},
	{"NIC gone and back", `ip link del ens33
		ip link add ens33 type bridge
		ip addr add 10.4.7.21/24 dev ens33
		ip link set ens33 up`},
	{"NIC without and with a carrier", `ip link set wire down
		ip link set wire up`},
	{"next hop object deleted", `ip nexthop del id {22}`},
	{"next hop object leads elsewhere", `ip nexthop replace id {22} via 10.4.7.99 dev ens33`},
	{"next hop object is a blackhole", `ip nexthop replace id {22} blackhole`},
	{"next hop object is another's", `ip nexthop replace id {22} via 10.4.7.99 dev ens33 proto static`},
	{"all next hop objects deleted", `ip nexthop del id {22}
		ip nexthop del id {23}
		ip nexthop del id {24}`},
	{"route by another next hop object", `ip route replace 172.7.22.0/24 nhid {23} proto 77`},
	{"NIC without and with its address", `ip addr flush dev ens33
		ip addr add 10.4.7.21/24 dev ens33`},
	{"WireGuard device deleted", `ip link del flannel-wg`},
	{"WireGuard device down and up", "ip link set flannel-wg down\nip link set flannel-wg up"},
	{"WireGuard device with another MTU", `ip link set flannel-wg mtu 1400`},
	{"WireGuard device without its address", `ip addr flush dev flannel-wg`},
	{"another TUN device", "ip link del flannel-wg\nip tuntap add dev flannel-wg mode tun"},
	{"peer removed", keyed(22, removePeerLine)},
	{"peer with another's key", keyed(22, removePeerLine) + "\n" + strings.ReplaceAll(keyed(99, setPeerLine), "{N}", "22")},
	{"peers edited", keyed(22, `wg set flannel-wg peer {K} endpoint 10.4.7.99:7 persistent-keepalive 9 preshared-key {K}`) + "\n" +
		keyed(23, `wg set flannel-wg peer {K} allowed-ips 172.7.22.0/24,172.7.23.0/24,172.7.96.0/20`)},
}

// TestRepair makes every fault in each mode, beside objects of others: one pass
// brings the wanted state back, and whatever the fault left of the others'
// stays.
func TestRepair(t *testing.T) {
	const othersRoutes = `
		ip route add 172.7.91.0/24 via 10.4.7.91 dev ens33
		ip route add 172.7.92.0/24 via 10.4.7.92 dev ens33 proto static
		ip route add 172.7.22.0/24 via 10.4.7.93 dev ens33 proto static metric 50`
	othersNexthops := ids(`
		ip nexthop add id 9 via 10.4.7.91 dev ens33
		ip route add 172.7.93.0/24 nhid 9
		ip nexthop add id {93} via 10.4.7.93 dev ens33 proto static`)
	quiet := tunnel(22, 23, 24)
	quiet.Devices[0].NoChecksumOffload = true
	for _, mode := range []struct {
		name   string
		want   kernel.State
		others string
		from   int // so many routes by next hop objects
	}{
		{"host-gw", plain(22, 23, 24), othersRoutes, 1000},
		{"vxlan", quiet, othersRoutes + strangers, 1000},
		{"DirectRouting", join(tunnel(22), plain(23, 24)), othersRoutes + strangers, 1000},
		{"host-gw by next hop objects", plain(22, 23, 24), othersRoutes + othersNexthops, 0},
		{"wireguard", toHosts(guarded(22, 23, 24)), othersRoutes, 1000},
		{"DirectRouting by next hop objects", join(tunnel(22), plain(23, 24)), othersRoutes + othersNexthops + strangers, 0},
	} {
		for _, fault := range faults {
			guard := mode.name == "wireguard"
			if guard != strings.Contains(fault.hand, "flannel-wg") && (!guard || strings.Contains(fault.hand, "nexthop")) {
				continue
			}
			host := strings.HasPrefix(mode.name, "host-gw") || guard
			if mode.name != "vxlan" && strings.Contains(fault.hand, "offload") || host && strings.Contains(fault.hand, "flannel.1") ||
				mode.from > 0 && strings.Contains(fault.hand, "{") {
				continue
			}
			t.Run(strings.ReplaceAll(mode.name+"/"+fault.name, " ", "_"), func(t *testing.T) {
				eachMachine(t, func(t *testing.T, l tongue, m machine) {
					repair(t, m, mode.from, l.state(mode.want), mode.others, ids(fault.hand))
				})
			})
		}
	}
}

func repair(t *testing.T, m machine, from int, want kernel.State, others, fault string) {
	s := kernel.NewSyncerFrom(m, from)
	if _, err := s.Apply(want); err != nil {
		t.Fatal(err)
	}
	ours := lines(kerneltest.Render(m))
	m.sh(t, others)
	with := kerneltest.Render(m)
	if result, err := s.Apply(want); err != nil || len(result.Ops) > 0 || kerneltest.Render(m) != with {
		t.Fatalf("others' objects made a pass write\n%s\nerror: %v", texts(result.Ops), err)
	}
	theirs := slices.DeleteFunc(lines(with), func(line string) bool { return slices.Contains(ours, line) })

	m.sh(t, fault)
	broken := lines(kerneltest.Render(m))
	theirs = slices.DeleteFunc(theirs, func(line string) bool { return !slices.Contains(broken, line) })
	result, err := s.Apply(want)
	if err != nil {
		t.Fatal(err)
	}
	healed := slices.Sorted(slices.Values(slices.Concat(ours, theirs)))
	compare(t, "state after\n"+texts(result.Ops), kerneltest.Render(m), strings.Join(healed, "\n"))
	undone := slices.ContainsFunc(ours, func(line string) bool { return !slices.Contains(broken, line) })
	if repairs := slices.ContainsFunc(result.Ops, func(o kernel.Op) bool { return o.Repair }); undone != repairs {
		t.Errorf("repairs: %v in\n%s", repairs, texts(result.Ops))
	}
	if result, err := s.Apply(want); err != nil || len(result.Ops) > 0 {
		t.Errorf("the next pass writes\n%s\nerror: %v", texts(result.Ops), err)
	}
}
