package kernel_test

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/kernel/kerneltest"
	"flanneld/pkg/wgdevice"
)

var peers = []int{22, 23, 24, 25}

// drawState draws what some cluster may want: one device, two or none, and each
// peer reached in one way or not at all.
func drawState(t *rapid.T) kernel.State {
	s := kernel.State{}
	for i, name := range []string{"flannel.1", "flannel.2"} {
		if !rapid.Bool().Draw(t, name) {
			continue
		}
		d := withKind(device(), func(v *kernel.VXLAN) {
			v.VNI = i + 1
			v.Learning = rapid.IntRange(0, 4).Draw(t, "learning") == 0
		})
		d.Name = name
		d.Addrs = ownAddr(rapid.SampledFrom([]string{"172.7.21.0", "172.7.99.0"}).Draw(t, "address"))
		s.Devices = append(s.Devices, d)
	}
	s, ways := join(s, drawPeerDevices(t)), len(s.Devices)
	for _, n := range peers {
		way := rapid.IntRange(0, 1+len(s.Devices)).Draw(t, fmt.Sprint("way to ", n))
		switch {
		case way == 1:
			s = join(s, plain(n))
		case way > 1+ways:
			s = join(s, drawPeer(t, s.Devices[way-2].Name, n))
		case way > 1:
			p := through(s.Devices[way-2].Name, n)
			if rapid.Bool().Draw(t, "other MAC") {
				p.Neighbours[0].MAC, p.FDB[0].MAC = macOf(n+100), macOf(n+100)
			}
			if rapid.Bool().Draw(t, "other address") {
				p.FDB[0].Dst, p.Routes[0].Peer = ipOf(n+100), ipOf(n+100)
			}
			s = join(s, p)
		}
	}
	return s
}

// watchSubnets looks after each write at which peer each subnet is. What it returns sees that it
// was never at two, and where it is at one before and after, never at none.
func watchSubnets(m machine) func(*rapid.T, []kernel.Op) {
	type place struct {
		dev    string
		subnet netip.Prefix
	}
	look := func() map[place]int {
		at := map[place]int{}
		for _, dev := range []string{"flannel-wg", "flannel0"} {
			e, _ := m.Entries(kernel.Link{Name: dev})
			for _, p := range e.Peers {
				for _, s := range p.Subnets() {
					at[place{dev, s}]++
				}
			}
		}
		return at
	}
	k := m.Conn.(*kerneltest.Kernel)
	seen := []map[place]int{look()}
	var watch func(string) error
	watch = func(string) error {
		k.Fail = nil // which asks it too
		seen = append(seen, look())
		k.Fail = watch
		return nil
	}
	k.Fail = watch
	return func(t *rapid.T, ops []kernel.Op) {
		k.Fail = nil
		anew := map[string]bool{}
		for _, o := range ops {
			if _, device := o.Object.(kernel.Device); device {
				anew[o.Dev()] = true
			}
		}
		seen = append(seen, look())
		for p, n := range seen[0] {
			for _, now := range seen {
				if stays := seen[len(seen)-1][p] > 0 && !anew[p.dev]; now[p] > 1 || n > 0 && stays && now[p] == 0 {
					t.Fatalf("%v of %s was at %d peers for a while", p.subnet, p.dev, now[p])
				}
			}
		}
	}
}

// drawPeerDevices draws devices that have a table of hosts of their own, and one route for all.
func drawPeerDevices(t *rapid.T) (s kernel.State) {
	for _, d := range []kernel.Device{guarded().Devices[0], carried().Devices[0]} {
		if !rapid.Bool().Draw(t, d.Name) {
			continue
		}
		if w, is := d.Kind.(kernel.WireGuard); is && rapid.Bool().Draw(t, "other settings") {
			w.Private, w.Port = secretOf(121), 51821
			d.Kind = w
		}
		s.Devices = append(s.Devices, d)
		if len(s.Routes) == 0 && rapid.Bool().Draw(t, "whole by "+d.Name) {
			s.Routes = append(s.Routes, wholeBy(d.Name))
		}
	}
	return s
}

func drawPeer(t *rapid.T, dev string, n int) kernel.State {
	p := wgPeer(n)
	if p.Dev = dev; dev != "flannel-wg" {
		p.Key = wgdevice.Key{}
	} else {
		p.Keepalive = rapid.SampledFrom([]int{0, 25}).Draw(t, "keepalive")
		if rapid.Bool().Draw(t, "another's key") { // which has another subnet, or none
			p.Key = keyOf(n + 100)
		}
		if rapid.Bool().Draw(t, "PSK") {
			p.PSK = secretOf(200)
		}
	}
	if rapid.Bool().Draw(t, "other endpoint") {
		p.Endpoint = endpointOf(n+100, wgPort)
	}
	s := kernel.State{Peers: []kernel.Peer{p}}
	if rapid.Bool().Draw(t, "route of its own") {
		s.Routes = []kernel.Route{{Dst: subnetOf(n), Dev: dev, Peer: ipOf(n)}}
	}
	return s
}

// drawHand draws commands that an administrator may type. Objects of his own
// have numbers from 90 on.
func drawHand(t *rapid.T) []string {
	edit := rapid.Custom(func(t *rapid.T) string {
		n := rapid.SampledFrom(peers).Draw(t, "peer")
		dev := rapid.SampledFrom([]string{"flannel.1", "flannel.2"}).Draw(t, "device")
		own := rapid.IntRange(90, 92).Draw(t, "own")
		commands := []string{
			fmt.Sprintf("ip route del 172.7.%d.0/24", n),
			fmt.Sprintf("ip route replace 172.7.%d.0/24 via 10.4.7.%d dev ens33", n, own),
			fmt.Sprintf("ip route replace 172.7.%d.0/24 via 10.4.7.%d dev ens33 proto static", n, own),
			fmt.Sprintf("ip route replace 172.7.%d.0/24 via 10.4.7.%d dev ens33 proto 77 mtu 900", n, own),
			fmt.Sprintf("ip route prepend 172.7.%d.0/24 via 10.4.7.%d dev ens33", n, own),
			fmt.Sprintf("ip route append 172.7.%d.0/24 via 10.4.7.%d dev ens33", n, own),
			fmt.Sprintf("ip route add 172.7.%d.0/24 via 172.7.%d.0 dev %s onlink", n, n, dev),
			fmt.Sprintf("ip route add 172.7.%d.0/24 via 10.4.7.%d dev ens33 proto 77 metric 7", n, n),
			fmt.Sprintf("ip neigh del 172.7.%d.0 dev %s", n, dev),
			fmt.Sprintf("ip neigh replace 172.7.%d.0 lladdr 0a:00:00:00:01:%d dev %s nud permanent", n, own, dev),
			fmt.Sprintf("bridge fdb del 0a:39:13:5c:8e:%02x dev %s dst 10.4.7.%d self", n, dev, n),
			fmt.Sprintf("bridge fdb replace 0a:39:13:5c:8e:%02x dev %s dst 10.4.7.%d self permanent", n, dev, own),
			"ip addr flush dev " + dev, "ip link set " + dev + " down", "ip link del " + dev, "ip link set " + dev + " mtu 1400",
			"ip link set " + dev + " address 0a:00:00:00:00:99", "ip link set " + dev + " alias x",

			fmt.Sprintf("ip route add 172.7.%d.0/24 via 10.4.7.%d dev ens33", own, own),
			fmt.Sprintf("ip route add 172.7.%d.0/24 via 10.4.7.%d dev ens33 metric %d", n, own, own),
			fmt.Sprintf("ip neigh replace 172.7.%d.1 lladdr 0a:00:00:00:00:%d dev %s nud permanent", own, own, dev),
			fmt.Sprintf("bridge fdb replace 0a:00:00:00:00:%d dev %s dst 10.4.7.%d self permanent", own, dev, own),
			fmt.Sprintf("ip link add cali.%d address 0a:00:00:00:00:01 mtu 1450 type vxlan id %d local 10.4.7.21 dev ens33 dstport 8472", own, own),
		}
		for _, hop := range []string{fmt.Sprintf("via 10.4.7.%d dev ens33", own), fmt.Sprintf("via 10.4.7.%d dev ens33 proto 77", own), "blackhole"} {
			commands = append(commands,
				fmt.Sprintf("ip nexthop add id {%d} %s", n, hop), fmt.Sprintf("ip nexthop replace id {%d} %s", n, hop),
			)
		}
		commands = append(commands,
			fmt.Sprintf("ip nexthop del id {%d}", n),
			fmt.Sprintf("ip route replace 172.7.%d.0/24 nhid {%d} proto 77", n, rapid.SampledFrom(peers).Draw(t, "other peer")),
			fmt.Sprintf("ip nexthop replace id %d via 10.4.7.%d dev ens33", own, own),
			fmt.Sprintf("ip route add 172.7.%d.0/24 nhid %d", own, own),
			fmt.Sprintf("ip route replace 172.7.%d.0/24 nhid %d proto 77", n, own),
		)
		key := rapid.SampledFrom([]int{n, n + 100, own}).Draw(t, "key")
		set := fmt.Sprintf("wg set flannel-wg peer %v ", keyOf(key))
		commands = append(commands,
			set+"remove", set+fmt.Sprintf("endpoint 10.4.7.%d:7", own), set+"persistent-keepalive 7",
			set+"preshared-key "+text64(secretOf(own)), set+`allowed-ips ""`, set+fmt.Sprintf("allowed-ips 172.7.%d.0/24", n),
			set+fmt.Sprintf("allowed-ips 172.7.%d.0/24,172.7.%d.0/24", n, own),
			"wg set flannel-wg listen-port 51999", "wg set flannel-wg private-key "+text64(secretOf(own)),
			"ip link del flannel-wg", "ip link del flannel0", "ip link set flannel-wg alias x", "ip link set flannel0 alias x",
			"ip tuntap add dev flannel0 mode tun", "ip tuntap add dev flannel-wg mode tun", "ip link set flannel0 down",
			"ip link add flannel-wg mtu 1420 type wireguard", "ip addr flush dev flannel-wg", "ip link set flannel0 mtu 1300",
			"ip route del 172.7.0.0/16", fmt.Sprintf("ip route replace 172.7.0.0/16 via 10.4.7.%d dev ens33", own),
			fmt.Sprintf("ip route add 172.7.0.0/16 via 10.4.7.%d dev ens33 proto static", own),
			"ip route add 172.7.0.0/16 dev flannel0",
		)
		return ids(rapid.SampledFrom(commands).Draw(t, "command"))
	})
	return rapid.SliceOfN(edit, 0, 6).Draw(t, "typed by hand")
}

// Whatever was wanted before and whatever was typed meanwhile: one pass brings
// what is wanted, the next writes nothing, and no object of others is touched.
func TestApplyConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := tongues()[rapid.IntRange(0, 1).Draw(t, "family")]
		m := l.in(fakeOf(l.family))
		from := rapid.SampledFrom([]int{0, 2, 1000})
		m.Conn.(*kerneltest.Kernel).NoWireGuard = rapid.Bool().Draw(t, "no WireGuard in the kernel")
		s := kernel.NewSyncerFrom(m, from.Draw(t, "next hop objects from"))
		for range rapid.IntRange(1, 5).Draw(t, "rounds") {
			if rapid.IntRange(0, 3).Draw(t, "restart") == 0 {
				m.Conn = m.restart()
				s = kernel.NewSyncerFrom(m, from.Draw(t, "next hop objects from"))
			}
			for _, command := range drawHand(t) {
				_ = m.run(command) // deleting what is not there fails, as it should
			}
			want := l.state(drawState(t))
			want.Partial = rapid.IntRange(0, 3).Draw(t, "partial") == 0
			before := lines(kerneltest.Render(m))
			steady := watchSubnets(m)
			result, err := s.Apply(want)
			if err != nil {
				t.Fatal(err)
			}
			steady(t, result.Ops)
			after := lines(kerneltest.Render(m))
			t.Logf("wrote\n%s\nand has\n%s", texts(result.Ops), strings.Join(after, "\n"))
			checkWanted(t, l, want, result.Conflicts, asPlain(after))
			if !want.Partial {
				checkUnused(t, before, after)
			}
			checkOthers(t, l, result.Ops, before, after)
			if again, err := s.Apply(want); err != nil || len(again.Ops) > 0 {
				t.Fatalf("the next pass wrote\n%s\nerror: %v", texts(again.Ops), err)
			}
		}
	})
}

var (
	byNexthop = regexp.MustCompile(` nhid (\d+)`)
	ownObject = regexp.MustCompile(`^ip nexthop add id (1[23]\d{8}) (.*) proto 77$`)
)

// asPlain has the routes by next hop objects of ours as if they were plain.
func asPlain(state []string) (out []string) {
	hops := map[string]string{}
	for _, line := range state {
		if m := ownObject.FindStringSubmatch(line); m != nil {
			hops[m[1]] = m[2]
		}
	}
	for _, line := range state {
		if ownObject.MatchString(line) {
			continue
		}
		out = append(out, byNexthop.ReplaceAllStringFunc(line, func(nhid string) string {
			if hop := hops[byNexthop.FindStringSubmatch(nhid)[1]]; hop != "" {
				return " " + hop
			}
			return nhid
		}))
	}
	return out
}

// checkUnused sees that no object of ours is left that no route leads to, unless it was so before.
func checkUnused(t *rapid.T, before, after []string) {
	unused := func(state []string) map[string]bool {
		ids := map[string]bool{}
		for _, line := range state {
			if m := ownObject.FindStringSubmatch(line); m != nil {
				ids[m[1]] = true
			}
		}
		for _, line := range state {
			if m := byNexthop.FindStringSubmatch(line); m != nil {
				delete(ids, m[1])
			}
		}
		return ids
	}
	was := unused(before)
	for id := range unused(after) {
		if !was[id] {
			t.Fatalf("next hop object %s is left over", id)
		}
	}
}

// checkWanted compares a kernel with one that has nothing but what is wanted.
func checkWanted(t *rapid.T, l tongue, want kernel.State, conflicts []kernel.Conflict, after []string) {
	want.Routes = slices.DeleteFunc(slices.Clone(want.Routes), func(r kernel.Route) bool {
		return slices.ContainsFunc(conflicts, func(c kernel.Conflict) bool { return c.Dst == r.Dst })
	})
	pure := fakeOf(l.family)
	if _, err := kernel.NewSyncer(pure).Apply(want); err != nil {
		t.Fatal(err)
	}
	wanted := lines(kerneltest.Render(pure))
	for _, line := range wanted {
		ok := slices.Contains(after, line)
		if !ok {
			t.Fatalf("lacks %s", line)
		}
	}
	for _, line := range after {
		ours := strings.Contains(line, "proto 77") || strings.Contains(line, "alias flanneld") || ofPeers(want, line)
		if ours && !want.Partial && !slices.Contains(wanted, line) && !inFront(line, conflicts) {
			t.Fatalf("has %s", line)
		}
	}
}

// ofPeers tells a peer on a wanted device.
func ofPeers(want kernel.State, line string) bool {
	return slices.ContainsFunc(want.Devices, func(d kernel.Device) bool {
		return strings.HasPrefix(line, "wg set "+d.Name+" ") || strings.HasPrefix(line, d.Name+": ")
	})
}

// inFront: a route of ours may stand behind one of an administrator's.
func inFront(line string, conflicts []kernel.Conflict) bool {
	return slices.ContainsFunc(conflicts, func(c kernel.Conflict) bool { return strings.Contains(line, c.Dst.String()) })
}

// checkOthers sees that what is not ours stays, but for what was on a device
// that had to be made anew or whose MAC was put right.
func checkOthers(t *rapid.T, l tongue, ops []kernel.Op, before, after []string) {
	behind, subnets, swept := "dev ens33 proto 3 metric", "172.7.9", "172.7.99.0"
	if l.family == inet.IPv6 {
		behind, subnets, swept = "dev ens33 proto 3 metric 20", "fc00:7:0:9", "fc00:7:0:99::"
	}
	disturbed := map[string]bool{}
	for _, o := range ops {
		s, setting := o.Object.(kernel.Setting)
		if _, device := o.Object.(kernel.Device); device || setting && s.MAC != (kernel.MAC{}) {
			disturbed[o.Dev()] = true
		}
	}
	for _, line := range before {
		others := strings.Contains(line, behind) || strings.Contains(line, subnets) || strings.Contains(line, "cali.") ||
			strings.Contains(line, "fdb add 0a:00:00:00:00:9")
		words := strings.Fields(line)
		dev := words[slices.Index(words, "dev")+1]
		if others && !strings.Contains(line, swept) && !disturbed[dev] && !slices.Contains(after, line) {
			t.Fatalf("lost another's %s", line)
		}
	}
}
