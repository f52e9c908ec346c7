package check

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"flanneld/pkg/condition"
	"flanneld/pkg/firewall/firewalltest"
	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/probe"
	"flanneld/pkg/status"
	"flanneld/pkg/subnet"
)

// eachFamily runs a test for both families. What it says of IPv4 is translated.
func eachFamily(t *testing.T, test func(t *testing.T, f inet.Family)) {
	for _, f := range inet.Families() {
		t.Run(f.String(), func(t *testing.T) { test(t, f) })
	}
}

var inIPv6 = strings.NewReplacer(
	"ip route get", "ip -6 route get", "ip route show", "ip -6 route show", "ip rule", "ip -6 rule",
	"ip saddr", "ip6 saddr", "ip daddr", "ip6 daddr", "ip office", "ip6 office", "ip docker", "ip6 docker",
	"iptables -", "ip6tables -", "iptables could", "ip6tables could", "iptables of", "ip6tables of",
	"icmp-admin-prohibited", "icmp6-adm-prohibited", "icmp-net-unreachable", "icmp6-no-route", "iptables, where", "ip6tables, where", "FORWARD -p icmp ", "FORWARD -p ipv6-icmp ",
	"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "bridge-nf-call-iptables", "bridge-nf-call-ip6tables",
	"through iptables", "through ip6tables", "for the Network ", "for the IPv6Network ", "conntrack -D", "conntrack -D -f ipv6",
)

// as is what is found, or printed, of IPv4 as it is in a family.
func as(f inet.Family, text string) string {
	if f == inet.IPv4 {
		return text
	}
	const etcd, elsewhere = "//10.4.7.", "//10-4-7-" // stays where it is
	text = strings.ReplaceAll(inIPv6.Replace(text), etcd, elsewhere)
	text = strings.ReplaceAll(firewalltest.In(f, text), elsewhere, etcd)
	return strings.ReplaceAll(text, "fc00:ac:7:16::fe", unused(firewalltest.Prefix(f, far)).String())
}

// translated is a table's rule, which is asked of a packet's counterpart.
type translated struct{ rules.Body }

func (b translated) Evaluate(p *rules.Packet) rules.Effect {
	back := func(a netip.Addr) netip.Addr {
		if !a.Is6() {
			return a
		}
		b := a.As16()
		return netip.AddrFrom4([4]byte{b[3], b[5], b[7], b[15]})
	}
	q := *p
	q.Src, q.Dst = back(p.Src), back(p.Dst)
	if p.Protocol == "icmpv6" {
		q.Protocol = "icmp"
	}
	e := b.Body.Evaluate(&q)
	p.Mark = q.Mark
	return e
}

// table is one in a family.
func table(f inet.Family, old *rules.Table) *rules.Table {
	t := &rules.Table{Family: old.Family, Name: old.Name, Program: old.Program, Chains: map[string]*rules.Chain{}}
	if old.Family == "ip" {
		t.Family, t.Program = dialects[f].nft, strings.Replace(old.Program, "iptables", dialects[f].iptables, 1)
	}
	for name, c := range old.Chains {
		chain := *c
		chain.Rules = slices.Clone(c.Rules)
		for i := range chain.Rules {
			r := &chain.Rules[i]
			r.Table, r.Text, r.Body = t, as(f, r.Text+" "), translated{r.Body}
			r.Text = strings.TrimSuffix(r.Text, " ")
		}
		t.Chains[name] = &chain
	}
	return t
}

// asIn are the facts about a host that is in a family what x's is in IPv4.
func asIn(f inet.Family, x Facts) Facts {
	if f == inet.IPv4 {
		return x
	}
	addr := func(a netip.Addr) netip.Addr { return firewalltest.Addr(f, a) }
	prefix := func(p netip.Prefix) netip.Prefix { return firewalltest.Prefix(f, p) }
	if x.Status != nil {
		s := *x.Status
		if s.Network != nil {
			n := *s.Network
			n.Network, n.SubnetLen, n.Config = prefix(n.Network), 64, as(f, n.Config)
			s.Network = &n
		}
		if s.Host != nil {
			h := *s.Host
			h.Address, h.PublicIP = addr(h.Address), addr(h.PublicIP)
			s.Host = &h
		}
		if s.Lease != nil {
			l := *s.Lease
			l.Subnet = prefix(l.Subnet)
			s.Lease = &l
		}
		if s.Device != nil {
			d := *s.Device
			d.Addr = addr(d.Addr)
			s.Device = &d
		}
		s.Peers = slices.Clone(s.Peers)
		for i := range s.Peers {
			p := &s.Peers[i]
			p.Subnet, p.PublicIP, p.Via = prefix(p.Subnet), addr(p.PublicIP), addr(p.Via)
		}
		x.Status = &s
	}
	x.Links = slices.Clone(x.Links)
	for i := range x.Links {
		l := &x.Links[i]
		l.Addrs = slices.Clone(l.Addrs)
		for j := range l.Addrs {
			l.Addrs[j].Prefix = prefix(l.Addrs[j].Prefix)
		}
		if v, is := l.Kind.(kernel.VXLAN); is {
			v.Local = addr(here)
			l.Kind = v
		}
	}
	x.Routes = slices.Clone(x.Routes)
	for i := range x.Routes {
		r := &x.Routes[i]
		r.Dst, r.Via, r.Metric = prefix(r.Dst), addr(r.Via), 1024
		if r.Protocol == unix.RTPROT_KERNEL {
			r.Metric = 256
		}
	}
	x.Entries.Neighbours, x.Entries.FDB = slices.Clone(x.Entries.Neighbours), slices.Clone(x.Entries.FDB)
	for i := range x.Entries.Neighbours {
		x.Entries.Neighbours[i].Addr = addr(x.Entries.Neighbours[i].Addr)
	}
	for i := range x.Entries.FDB {
		x.Entries.FDB[i].Dst = addr(x.Entries.FDB[i].Dst)
	}
	paths, settings := map[netip.Addr]Path{}, map[string]string{}
	for to, p := range x.Paths {
		p.Via = addr(p.Via)
		paths[addr(to)] = p
	}
	for key, value := range x.Sysctl {
		if key = as(f, key); !strings.HasPrefix(key, "net.ipv4") {
			settings[key] = value
		}
	}
	x.Paths, x.Sysctl = paths, settings
	var asked []kernel.Rule
	for _, r := range x.Rules[inet.IPv4] {
		r.Dst = prefix(r.Dst)
		asked = append(asked, r)
	}
	x.Rules, x.NoIPTables = map[inet.Family][]kernel.Rule{f: asked}, map[inet.Family]bool{f: x.NoIPTables[inet.IPv4]}
	var set rules.Ruleset
	for _, t := range x.Firewall {
		set = append(set, table(f, t))
	}
	x.Firewall, x.Env = set, subnet.Env{Network: prefix(x.Env.Network), Subnet: prefix(x.Env.Subnet), MTU: x.Env.MTU}
	x.Sockets = slices.Clone(x.Sockets)
	for i := range x.Sockets {
		x.Sockets[i].Family = f
	}
	return x
}

// device6 is the tunnel's of IPv6 where there is one of each.
const device6 = "flannel-v6.1"

// dual is a healthy host with both families.
func dual() Facts {
	f, g := healthy(), asIn(inet.IPv6, healthy())
	six := status.Half{Network: g.Status.Network, Host: g.Status.Host, Lease: g.Status.Lease, Device: g.Status.Device}
	six.Network.Config, six.Device.Name = "", device6
	six.Lease.MTU, six.Device.MTU = 1430, 1430
	g.Status.Peers[0].Dev = device6
	f.Status.IPv6 = &six
	f.Status.Peers = append(f.Status.Peers, g.Status.Peers...)
	for i := range f.Status.Peers {
		f.Status.Peers[i].Key = "subnets/172.7.22.0-24&fc00:ac:7:16::-64"
	}
	for i, l := range g.Links {
		if l.Name == "flannel.1" {
			l.Name, l.MTU = device6, 1430
			f.Links = append(f.Links, l)
			continue
		}
		f.Links[i].Addrs = append(f.Links[i].Addrs, l.Addrs...)
		f.Links[i].Addrs = append(f.Links[i].Addrs, kernel.Addr{Prefix: netip.MustParsePrefix("fe80::1/64"), LinkLocal: true})
	}
	for _, r := range g.Routes {
		if r.Dev == "flannel.1" {
			r.Dev = device6
		}
		f.Routes = append(f.Routes, r)
	}
	f.Entries.Neighbours = append(f.Entries.Neighbours, g.Entries.Neighbours...)
	for _, e := range g.Entries.FDB {
		e.Dev = device6
		f.Entries.FDB = append(f.Entries.FDB, e)
	}
	for to, p := range g.Paths {
		if p.Dev == "flannel.1" {
			p.Dev = device6
		}
		f.Paths[to] = p
	}
	maps.Copy(f.Sysctl, g.Sysctl)
	f.Sysctl["net.ipv6.conf.ens33.accept_ra"], f.Sysctl["net.ipv6.conf.ens33.forwarding"] = "0", "1"
	f.Firewall = append(f.Firewall, g.Firewall...)
	f.Env.IPv6Network, f.Env.IPv6Subnet, f.Env.MTU = g.Env.Network, g.Env.Subnet, 1430
	f.Docker.IPv6 = true
	for i := range f.Links { // to be found in dockerd's options too
		if f.Links[i].MTU == 1450 && f.Links[i].Name != "flannel.1" {
			f.Links[i].MTU = 1430
		}
	}
	return f
}

// TestAllIsWellInDualStack: what is the same for both families is said once, and the rest
// of each.
func TestAllIsWellInDualStack(t *testing.T) {
	found := append(all(dual()), Prober{Network: chorus{}, Dropped: func() int { return 0 }}.Run(dual(), dual().Status.Peers, nil)...)
	want := `ok  daemon        flanneld 1.2.3 runs, pid 812
ok  interface     IPv4: ens33 is up, with 10.4.7.21
ok  interface     IPv6: ens33 is up, with fc00:a:4:7::15
ok  foreign       flanneld's device has nothing that others have put there
ok  clock         agrees with etcd's
ok  certificates  valid
ok  etcd          https://10.4.7.12:2379 answers
ok  config        network 172.7.0.0/16 and fc00:ac:7::/48, backend vxlan
ok  lease         172.7.21.0/24 and fc00:ac:7:15::/64 until 2026-03-05 11:00:00
ok  own routes    nothing leads this host's own subnet away
ok  device        IPv4: flannel.1 is up, VNI 1, UDP port 8472
ok  device        IPv6: flannel-v6.1 is up, VNI 1, UDP port 8472
ok  subnet.env    says what the lease says
ok  docker        IPv4: docker0 has 172.7.21.1/24, MTU 1430
ok  docker        IPv6: docker0 has fc00:ac:7:15::1/64, MTU 1430
ok  forwarding    on
ok  bridge        containers of this host may reach each other
ok  route         packets to it leave as flanneld wants
ok  rp_filter     packets from it are expected where they come from
ok  forward       iptables lets containers' packets pass both ways
ok  port          iptables does not block the tunnel's UDP port
ok  nftables      no table of somebody else's blocks the network
ok  addresses     containers keep their own addresses
ok  flanneld      has no complaints
ok  probe         IPv4: the peer answered, to packets of up to 1450 bytes, and passed on what is for containers
ok  probe         IPv6: the peer answered, to packets of up to 1430 bytes, and passed on what is for containers
`
	if got := printed(t, found); got != want {
		t.Errorf("it says\n%swant\n%s", got, want)
	}
}

// TestWithoutTheOtherFamily: what a host has of a family that nothing is asked of, it is
// not asked of.
func TestWithoutTheOtherFamily(t *testing.T) {
	for _, family := range inet.Families() {
		f, alone := dual(), asIn(family, healthy())
		view := f.of(family)
		f.Status, f.Env = view.Status, view.Env
		f.Env.MTU = f.Status.Lease.MTU
		if got := f.inUse(); !slices.Equal(got, []inet.Family{family}) {
			t.Errorf("%v", got)
		}
		if got, want := len(all(f)), len(all(alone)); got != want {
			t.Errorf("%v: %d findings, want %d:\n%s", family, got, want, printed(t, all(f)))
		}
		for _, x := range all(f) {
			if strings.HasPrefix(x.Text, "IPv") || x.Level != OK {
				t.Errorf("%v: %+v", family, x)
			}
		}
	}
}

// chorus is a network in which everything answers.
type chorus struct{ silence }

func (chorus) Ping(_, dst netip.Addr, _ int, _ time.Duration) (probe.Answer, error) {
	return probe.Answer{Answered: true, Echo: true, From: dst}, nil
}

func (chorus) Step(_, dst netip.Addr, _ int, _ time.Duration) (probe.Answer, error) {
	return probe.Answer{Answered: true, Echo: true, From: dst}, nil
}

func (chorus) Connect(_, dst netip.Addr, _ time.Duration) (probe.Answer, error) {
	return probe.Answer{Answered: true, From: dst}, nil
}

// Each finding that only hosts with IPv6 can show, or with both families.
func TestFindingsOfDualStack(t *testing.T) {
	own6, far6, peer6 := firewalltest.Prefix(inet.IPv6, own), firewalltest.Prefix(inet.IPv6, far), firewalltest.Addr(inet.IPv6, peer)
	const prefix = "IPv6: "
	lacking := func(f *Facts) {
		s := *f.Status
		s.IPv6, s.Peers = nil, s.Peers[:1]
		s.Conditions.Add(condition.Condition{Code: condition.FamilyMissing, Subject: "IPv6", Severity: condition.Error, Message: "this host has no external interface for IPv6", Cause: "ens33 has none"})
		f.Status, f.Env.IPv6Network, f.Env.IPv6Subnet, f.Env.MTU = &s, netip.Prefix{}, netip.Prefix{}, 1450
		for i := range f.Links {
			f.Links[i].Addrs = only(f.Links[i].Addrs, inet.IPv4, kernel.Addr.Addr)
		}
	}
	advertised := func(f *Facts) {
		f.Leasing = map[string]bool{"ens33": true}
		f.Sysctl["net.ipv6.conf.ens33.accept_ra"] = "1"
		f.Routes = append(f.Routes, kernel.FoundRoute{Route: kernel.Route{Dst: netip.MustParsePrefix("::/0"), Via: netip.MustParseAddr("fe80::2"), Dev: "ens33"}, Protocol: unix.RTPROT_RA, Metric: 1024})
	}
	for _, tt := range []finding{
		{"a family that this host has no interface for", lacking, "interface", Fault, prefix + "flanneld finds no external interface, and works without this family: ens33 has none", "ip -6 -brief address"},
		{"the same, switched off", func(f *Facts) { lacking(f); f.Sysctl["net.ipv6.conf.ens33.disable_ipv6"] = "1" }, "interface", Fault,
			"works without this family: IPv6 is switched off on ens33: net.ipv6.conf.ens33.disable_ipv6 is 1", "sysctl -w net.ipv6.conf.ens33.disable_ipv6=0"},
		{"the same, with short packets", func(f *Facts) { lacking(f); f.Links[0].MTU = 1200 }, "interface", Fault, "ens33 has MTU 1200, and IPv6 needs 1280 or more", "ip link set ens33 mtu 1280"},
		{"the same, by the kernel", func(f *Facts) { lacking(f); delete(f.Sysctl, "net.ipv6.conf.all.forwarding") }, "interface", Fault, "its kernel has none", "cat /proc/cmdline"},
		{"the same, as it forwards", func(f *Facts) { lacking(f); advertised(f) }, "interface", Fault, "ens33 has none", "sysctl -w net.ipv6.conf.ens33.accept_ra=2   # where addresses are by router advertisements"},
		{"an address that is gone, as the host forwards", func(f *Facts) {
			advertised(f)
			f.Leasing = nil
			f.Links[0].Addrs = addr("10.4.7.21/24")
		}, "interface", Fault, prefix + "ens33 has lost its address fc00:a:4:7::15", "sysctl -w net.ipv6.conf.ens33.accept_ra=2   # where addresses are by router advertisements: a host that forwards takes none otherwise\nnetworkctl reconfigure ens33"},
		{"switched off on the external interface", func(f *Facts) { f.Sysctl["net.ipv6.conf.ens33.disable_ipv6"] = "1" }, "interface", Fault, prefix + "IPv6 is switched off on ens33", "sysctl -w net.ipv6.conf.ens33.disable_ipv6=0\nnetworkctl"},
		{"no forwarding", func(f *Facts) { f.Sysctl["net.ipv6.conf.all.forwarding"] = "0" }, "forwarding", Fault, prefix + "this host forwards no packets: net.ipv6.conf.all.forwarding is 0",
			"sysctl -w net.ipv6.conf.all.forwarding=1\nprintf '%s\\n' net.ipv6.conf.all.forwarding=1 | tee -a /etc/sysctl.d/90-flanneld.conf   # for the next start"},
		{"no forwarding, and a default route by router advertisements", func(f *Facts) { advertised(f); f.Sysctl["net.ipv6.conf.all.forwarding"] = "0" }, "forwarding", Fault, "net.ipv6.conf.all.forwarding is 0",
			"sysctl -w net.ipv6.conf.ens33.accept_ra=2 && sysctl -w net.ipv6.conf.all.forwarding=1   # in this order: a host that forwards drops a default route that it has by router advertisements\n" +
				"printf '%s\\n' net.ipv6.conf.ens33.accept_ra=2 net.ipv6.conf.all.forwarding=1 | tee -a /etc/sysctl.d/90-flanneld.conf"},
		{"no forwarding, and another interface to a router", func(f *Facts) {
			f.Sysctl["net.ipv6.conf.all.forwarding"], f.Sysctl["net.ipv6.conf.eth1.7.accept_ra"] = "0", "1"
			f.Routes = append(f.Routes, kernel.FoundRoute{Route: kernel.Route{Dst: netip.MustParsePrefix("::/0"), Via: netip.MustParseAddr("fe80::2"), Dev: "eth1.7"}, Protocol: unix.RTPROT_RA, Metric: 1024})
		}, "forwarding", Fault, "forwarding is 0", "sysctl -w net.ipv6.conf.eth1/7.accept_ra=2 && sysctl -w net.ipv6.conf.all.forwarding=1"},
		{"forwarding by interface alone", func(f *Facts) {
			f.Sysctl["net.ipv6.conf.all.forwarding"] = "0"
			for _, dev := range []string{"docker0", "ens33", device6} {
				f.Sysctl["net.ipv6.conf."+dev+".force_forwarding"] = "1"
			}
		}, "forwarding", OK, "on", ""},
		{"router advertisements that are not taken", advertised, "forwarding", Fault, prefix + "ens33 takes no router advertisements, as this host forwards (net.ipv6.conf.ens33.accept_ra is 1): an address that it has by them expires",
			"sysctl -w net.ipv6.conf.ens33.accept_ra=2   # the route comes back with the next one\nprintf '%s\\n' net.ipv6.conf.ens33.accept_ra=2 | tee -a"},
		{"router advertisements that are not taken, nor needed", func(f *Facts) { advertised(f); f.Leasing = nil }, "forwarding", OK, prefix + "on, and so ens33 takes no router advertisements: that needs net.ipv6.conf.ens33.accept_ra=2", ""},
		{"router advertisements that are taken", func(f *Facts) { advertised(f); f.Sysctl["net.ipv6.conf.ens33.accept_ra"] = "2" }, "forwarding", OK, "on", ""},
		{"no forwarding of the other family", func(f *Facts) { f.Sysctl["net.ipv4.ip_forward"] = "0" }, "forwarding", Fault, "IPv4: this host forwards no packets: net.ipv4.ip_forward is 0", "sysctl -w net.ipv4.ip_forward=1"},
		{"a tunnel for short packets", func(f *Facts) {
			f.Status.Host.MTU, f.Status.IPv6.Host.MTU, f.Links[0].MTU = 1300, 1300, 1300
			f.Status.IPv6.Device.MTU = 1230
		}, "device", Fault, prefix + "the tunnel leaves containers packets of 1230 bytes, and IPv6 needs 1280 or more", "ip link set ens33 mtu 1350   # or more"},
		{"a device that is down", func(f *Facts) { f.Links[4].Up = false }, "device", Fault, prefix + "flannel-v6.1 is down", "systemctl restart flanneld"},
		{"a device with IPv6 switched off", func(f *Facts) {
			f.Links[4].Addrs = nil
			f.Sysctl["net.ipv6.conf.flannel-v6.1.disable_ipv6"] = "1"
		}, "device", Fault, prefix + "IPv6 is switched off on flannel-v6.1", "sysctl -w net.ipv6.conf.flannel-v6/1.disable_ipv6=0\nsystemctl restart flanneld"},
		{"a device of somebody else's like that of IPv6", func(f *Facts) {
			l := f.Links[4]
			l.Name = "vxlan9"
			f.Links = append(f.Links, l)
		}, "device", Fault, prefix + "vxlan9 is a vxlan device with the VNI 1 and port 8472 that flanneld needs", "ip link del vxlan9"},
		{"a program at the port of IPv6 takes both", func(f *Facts) { f.Sockets = []Socket{{8472, Process{PID: 7, Name: "x"}, inet.IPv6}} }, "device", Fault, "UDP port 8472, the tunnel's, is held by x (pid 7)", "stop x (pid 7)"},
		{"a program at the port of IPv4", func(f *Facts) { f.Sockets = []Socket{{8472, Process{PID: 7, Name: "x"}, inet.IPv4}} }, "device", Fault, "IPv4: UDP port 8472, the tunnel's, is held by x (pid 7)", "stop x (pid 7)"},
		{"another subnet in subnet.env", func(f *Facts) { f.Env.IPv6Subnet = far6 }, "subnet.env", Fault, "says 172.7.21.0/24 and fc00:ac:7:16::/64, and this host has 172.7.21.0/24 and fc00:ac:7:15::/64", "restart flanneld"},
		{"no IPv6 in subnet.env", func(f *Facts) { f.Env.IPv6Subnet, f.Env.IPv6Network = netip.Prefix{}, netip.Prefix{} }, "subnet.env", Fault, "says 172.7.21.0/24, and this host has 172.7.21.0/24 and fc00:ac:7:15::/64", "restart flanneld"},
		{"an MTU that one family alone carries", func(f *Facts) { f.Env.MTU = 1450 }, "subnet.env", Fault, "says MTU 1450, and packets may have 1430 bytes", "restart flanneld"},
		{"docker without IPv6", func(f *Facts) {
			f.Docker.IPv6 = false
			f.Links[2].Addrs = append(addr("172.7.21.1/24"), kernel.Addr{Prefix: netip.MustParsePrefix("fe80::1/64"), LinkLocal: true})
		}, "docker", Fault, prefix + "docker0 has no address, and subnet.env says fc00:ac:7:15::1/64; the command line of dockerd (pid 900) has no --ipv6", "mk-docker-opts.sh -f /run/flannel/subnet.env; systemctl restart docker"},
		{"docker with an IPv6 network of its own", func(f *Facts) {
			f.Links[2].Addrs = append(addr("172.7.21.1/24"), addr("fd00:d0::1/64")...)
		}, "docker", Fault, prefix + "docker0 has fd00:d0::1/64, and subnet.env says fc00:ac:7:15::1/64", "mk-docker-opts.sh"},
		{"CNI without IPv6", func(f *Facts) {
			f.Links[2].Name, f.Links[3].Master, f.Links[2].Addrs, f.Docker = "cni0", "cni0", addr("172.7.21.1/24"), nil
			for i := range f.Routes {
				if f.Routes[i].Dev == "docker0" {
					f.Routes[i].Dev = "cni0"
				}
			}
			f.Routes = slices.DeleteFunc(f.Routes, func(r kernel.FoundRoute) bool { return r.Dst == own6 })
		}, "docker", Fault, prefix + "cni0 has no address, and subnet.env says fc00:ac:7:15::1/64", "mk-cni-conf.sh -f /run/flannel/subnet.env"},
		{"a bridge with short packets", func(f *Facts) { f.Links[2].MTU, f.Links[3].MTU = 1200, 1200 }, "docker", Fault, prefix + "veth2 has MTU 1200, and IPv6 needs 1280 or more", "ip link set veth2 mtu 1280"},
		{"a route of IPv6 is missing", func(f *Facts) {
			f.Routes = slices.DeleteFunc(f.Routes, func(r kernel.FoundRoute) bool { return r.Dst == far6 })
		}, "route", Fault, "the way to fc00:ac:7:16::/64 is not as flanneld wants it: no route", "systemctl restart flanneld"},
		{"what explains one family's route explains not the other's", func(f *Facts) {
			f.Links[1].Up = false
			f.Routes = slices.DeleteFunc(f.Routes, func(r kernel.FoundRoute) bool { return r.Dst == far6 || r.Dst == far })
		}, "route", Fault, "the way to fc00:ac:7:16::/64 is not as flanneld wants it: no route", "systemctl restart flanneld"},
		{"docker hides containers by ip6tables", func(f *Facts) {
			f.Firewall = append(f.Firewall, table(inet.IPv6, saved("nat", "POSTROUTING -s 172.7.21.0/24 ! -o docker0 -j MASQUERADE")[0]))
		}, "addresses", Fault, "containers on fc00:a:4:7::16 see this host's address in place of the container's, by: ip6tables -t nat -A POSTROUTING -s fc00:ac:7:15::/64 ! -o docker0 -j MASQUERADE",
			"ip6tables -t nat -I POSTROUTING -s fc00:ac:7:15::/64 -d fc00:ac:7::/48 -j ACCEPT"},
		{"ip6tables is not there", func(f *Facts) { f.NoIPTables = map[inet.Family]bool{inet.IPv6: true} }, "forward", Unknown, "ip6tables could not be read", ""},
		{"a route takes this host's own containers of IPv6", func(f *Facts) {
			f.Routes = slices.Insert(f.Routes, 0, kernel.FoundRoute{Route: kernel.Route{Dst: own6, Via: peer6, Dev: "ens33"}, Protocol: 3, Metric: 1})
		}, "own routes", Fault, "packets for this host's own containers, fc00:ac:7:15::/64, leave by the route fc00:ac:7:15::/64 via fc00:a:4:7::16 dev ens33 proto 3", "ip route del fc00:ac:7:15::/64 via fc00:a:4:7::16 dev ens33 proto 3"},
		{"docker0's own route is gone", func(f *Facts) {
			f.Routes = slices.DeleteFunc(f.Routes, func(r kernel.FoundRoute) bool { return r.Dst == own6 })
		}, "own routes", Fault, "the route to fc00:ac:7:15::/64 by docker0, which has an address of it, is not there", "ip route replace fc00:ac:7:15::/64 dev docker0 proto kernel metric 256"},
		{"an address on the device of IPv6", func(f *Facts) { f.Links[4].Addrs = append(f.Links[4].Addrs, addr("fd00:9::1/64")...) }, "foreign", Note, "fd00:9::1/64 on flannel-v6.1 is none of flanneld's", "ip addr del fd00:9::1/64 dev flannel-v6.1"},
		{"a contested lease", func(f *Facts) { is(f, condition.LeaseContested, "") }, "lease", Fault, "another host writes the lease of 172.7.21.0/24 and fc00:ac:7:15::/64: it seems to have the public IP 10.4.7.21 or fc00:a:4:7::15 too", "--public-ip"},
		{"etcd at an IPv6 address, behind this host's own rule", func(f *Facts) {
			f.Members = []Member{{URL: "http://[fc00:a:4:7::c]:2379", Host: "fc00:a:4:7::c", Port: "2379", From: firewalltest.Addr(inet.IPv6, here), Trouble: Filtered}}
			f.Firewall = append(rules.Ruleset{table(inet.IPv6, saved("filter", "OUTPUT -p tcp -m tcp --dport 2379 -j DROP")[0])}, f.Firewall...)
			is(f, condition.EtcdUnreadable, "timeout")
		}, "etcd", Fault, "timeout; http://[fc00:a:4:7::c]:2379: ", "ip6tables -I OUTPUT -p tcp --dport 2379 -d fc00:a:4:7::c -j ACCEPT"},
		{"etcd at an IPv6 address without its port", func(f *Facts) {
			f.Status.Etcd.Endpoints = []string{"http://[fc00:a:4:7::c]"}
			f.Members = []Member{{URL: "http://[fc00:a:4:7::c]", Host: "fc00:a:4:7::c", Port: "80", Trouble: Refused}}
			is(f, condition.EtcdUnreadable, "refused")
		}, "etcd", Fault, "etcd cannot be read: refused; http://[fc00:a:4:7::c]: nobody listens", "restart flanneld with '--etcd-endpoints=http://[fc00:a:4:7::c]:2379'"},
	} {
		tt.check(t, dual())
	}
}

// TestFaultsOfOneFamily: the other family's steps stay as they are.
func TestFaultsOfOneFamily(t *testing.T) {
	f := dual()
	f.Links[1].Up = false // IPv4's device
	f.Routes = slices.DeleteFunc(f.Routes, func(r kernel.FoundRoute) bool { return r.Dst == far })
	found := all(f)
	for _, x := range found {
		four := strings.HasPrefix(x.Text, "IPv4: ")
		if x.Level == Fault && (!four || x.Step != "device") || strings.HasPrefix(x.Text, "IPv6: ") && x.Level != OK {
			t.Errorf("%+v", x)
		}
	}
	probed := Prober{Network: silence{}, Dropped: func() int { return 0 }}.Run(f, f.Status.Peers, found)
	if len(probed) != 2 || probed[0].Level != Skipped || probed[1].Level != Fault || !strings.Contains(probed[1].Text, "IPv6: no answer from fc00:ac:7:16::1, nor from its host fc00:a:4:7::16 itself") {
		t.Errorf("%+v", probed)
	}
}

// TestSelectHost: a host is meant with both of its subnets, by whichever of its addresses.
func TestSelectHost(t *testing.T) {
	f := dual()
	other := f.Status.Peers[1]
	other.Subnet, other.PublicIP, other.Key = netip.MustParsePrefix("fc00:ac:7:63::/64"), netip.MustParseAddr("fc00:a:4:7::63"), ""
	f.Status.Peers = append(f.Status.Peers, other)
	for what, want := range map[string]int{"": 3, "172.7.22.7": 2, "10.4.7.22": 2, "fc00:ac:7:16::7": 2, "fc00:a:4:7::16": 2, "fc00:ac:7:63::/64": 1} {
		if peers, missing, err := Select(f.Status, what); len(peers) != want || missing != nil || err != nil {
			t.Errorf("%q: %v, %v, %v", what, peers, missing, err)
		}
	}
	for _, what := range []string{"fc00:ac:7:15::/64", "fc00:a:4:7::15", "172.7.21.1"} {
		if _, _, err := Select(f.Status, what); err == nil {
			t.Errorf("%s is not this host", what)
		}
	}
}
