package check

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"flanneld/pkg/firewall/firewalltest"
	"flanneld/pkg/inet"
	"flanneld/pkg/probe"
	"flanneld/pkg/status"
)

// silence is a network in which nothing arrives.
type silence struct{}

func (silence) Ping(_, _ netip.Addr, _ int, _ time.Duration) (probe.Answer, error) {
	return probe.Answer{}, nil
}
func (silence) Step(_, _ netip.Addr, _ int, _ time.Duration) (probe.Answer, error) {
	return probe.Answer{}, nil
}
func (silence) Connect(_, _ netip.Addr, _ time.Duration) (probe.Answer, error) {
	return probe.Answer{}, nil
}

func (silence) ProbeUDP(_ netip.Addr, _ netip.AddrPort, _ time.Duration) (probe.Answer, error) {
	return probe.Answer{}, nil
}

// network answers as it is told, by address. "tcp " in front: TCP connections,
// "udp ": datagrams to a port, "step ": packets that end at the first router. " 2"
// behind: the second ping; " from 10.4.7.21" behind: pings from there.
type network struct {
	answers map[string]probe.Answer
	longest int // packet that arrives; 0: all do
	fail    error

	mu    sync.Mutex
	seen  map[string]bool // source and target of pings
	pings map[netip.Addr]int
}

func (n *network) Ping(src, dst netip.Addr, size int, _ time.Duration) (probe.Answer, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.seen == nil {
		n.seen = map[string]bool{}
	}
	n.seen[fmt.Sprintf("%v %v", src, dst)] = true
	if n.pings == nil {
		n.pings = map[netip.Addr]int{}
	}
	n.pings[dst]++
	if later, there := n.answers[fmt.Sprintf("%v %d", dst, n.pings[dst])]; there {
		return later, n.fail
	}
	if from, there := n.answers[fmt.Sprintf("%v from %v", dst, src)]; there {
		return from, n.fail
	}
	if n.longest > 0 && size > n.longest {
		return probe.Answer{}, n.fail
	}
	return n.answers[dst.String()], n.fail
}

func (n *network) Step(src, dst netip.Addr, hops int, wait time.Duration) (probe.Answer, error) {
	if hops > 0 {
		return n.Ping(src, dst, probe.Small, wait)
	}
	return n.answers["step "+dst.String()], n.fail
}

func (n *network) ProbeUDP(_ netip.Addr, to netip.AddrPort, _ time.Duration) (probe.Answer, error) {
	return n.answers[fmt.Sprintf("udp %v:%d", to.Addr(), to.Port())], nil
}

func (n *network) Connect(_, dst netip.Addr, _ time.Duration) (probe.Answer, error) {
	return n.answers["tcp "+dst.String()], nil
}

func TestProbe(t *testing.T) {
	echo := probe.Answer{Answered: true, Echo: true}
	from := func(ip netip.Addr, says string) probe.Answer {
		return probe.Answer{Answered: true, From: ip, Text: says}
	}
	const gw, vtep, host = "172.7.22.1", "172.7.22.0", "10.4.7.22"
	direct := func(f *Facts) {
		p := &f.Status.Peers[0]
		p.Mode, p.Via, p.Dev, p.MAC, f.Status.Device, f.Status.Lease.MTU = status.Direct, peer, "ens33", "", nil, 1500
	}
	for _, tt := range []struct {
		name    string
		answers map[string]probe.Answer
		longest int
		spoil   func(*Facts)
		dropped int // by rp_filter, meanwhile
		found   []Finding
		level   Level
		text    string
		fix     string
	}{
		{name: "all is well", answers: map[string]probe.Answer{gw: echo, vtep: echo, "tcp " + gw: echo}, level: OK, text: "the peer answered, to packets of up to 1450 bytes"},
		{name: "no docker0 on the peer", answers: map[string]probe.Answer{vtep: echo, "tcp " + vtep: echo}, level: OK},
		{name: "no docker0 on the peer, which says so", answers: map[string]probe.Answer{gw: from(peer, "no such host")}, level: OK},
		{name: "a peer that lets in no pings", answers: map[string]probe.Answer{"tcp " + vtep: from(peer, "refused")}, level: OK},
		{name: "a peer that lets in nothing, and passes on what is for containers", answers: map[string]probe.Answer{"step 172.7.22.2": from(netip.MustParseAddr(vtep), "it went in a circle")}, level: OK},
		{name: "another router in place of the peer", answers: map[string]probe.Answer{"step 172.7.22.2": from(netip.MustParseAddr("10.4.7.254"), "it went in a circle"), host: echo}, level: Fault, text: "UDP port 8472 seems to be blocked"},
		{name: "behind NAT, and the router does not pass the tunnel on", spoil: func(f *Facts) { f.Status.Host.PublicIP = netip.MustParseAddr("192.0.2.1") }, answers: map[string]probe.Answer{host: echo}, level: Fault,
			text: "the router with this host's public IP 192.0.2.1 seems not to pass UDP port 8472 on", fix: "iptables -t nat -A PREROUTING -d 192.0.2.1 -p udp --dport 8472 -j DNAT --to-destination 10.4.7.21"},
		{name: "direct, a peer that lets in no pings", spoil: direct, answers: map[string]probe.Answer{"step 172.7.22.2": from(peer, "it went in a circle")}, level: OK},
		{name: "direct", spoil: direct, answers: map[string]probe.Answer{gw: echo}, level: OK, text: "up to 1500 bytes"},
		{name: "direct, no docker0 on the peer", spoil: direct, answers: map[string]probe.Answer{gw: from(peer, "no such host")}, level: OK},
		{name: "direct, a router in between knows no way", spoil: direct, answers: map[string]probe.Answer{gw: from(netip.MustParseAddr("10.4.7.254"), "there is no route"), host: echo}, level: Fault,
			text: "that host does not pass it on or back: 10.4.7.254 says that there is no route", fix: "flanneld check 172.7.21.0/24   # on the peer 10.4.7.22"},
		{name: "direct, and the peer has no way back to containers", spoil: direct, answers: map[string]probe.Answer{host: echo, gw + " from 10.4.7.21": echo}, level: Fault,
			text: "that host does not pass it on or back", fix: "flanneld check 172.7.21.0/24   # on the peer 10.4.7.22"},
		{name: "direct, and the network between drops addresses that are no host's", spoil: direct, answers: map[string]probe.Answer{host: echo}, level: Fault,
			text: "and none to this host's own address either: the network between seems to drop packets with containers' addresses, as clouds do",
			fix: `flanneld config set --etcd-endpoints=https://10.4.7.12:2379 '{"Backend":{"Type":"vxlan","VNI":7},"Network":"172.7.0.0/16","SubnetLen":24,"SubnetMax":"172.7.255.0","SubnetMin":"172.7.1.0"}'   # or so: within a tunnel no network sees containers' addresses; with wireguard, nor what they send
flanneld check 172.7.21.0/24   # on the peer 10.4.7.22: if it says the same`},
		{name: "direct, and docker is yet to come on both hosts", spoil: func(f *Facts) { direct(f); f.Links = f.Links[:2] }, answers: map[string]probe.Answer{host: echo}, level: Note,
			text: "no answer from 172.7.22.1: perhaps it has no bridge yet, as this host has none"},
		{name: "nothing comes back", level: Fault, text: "no answer from 172.7.22.1, nor from its host 10.4.7.22 itself", fix: "ping 10.4.7.22"},
		{name: "nothing comes back, and this host finds no neighbour", answers: map[string]probe.Answer{host: from(netip.MustParseAddr("10.4.7.21"), "there is no such host")}, level: Fault,
			text: "nor from its host 10.4.7.22 itself: 10.4.7.21 says that there is no such host", fix: "ping 10.4.7.22"},
		{name: "direct, and a router says that the host is gone", spoil: direct, answers: map[string]probe.Answer{host: from(netip.MustParseAddr("10.4.7.254"), "there is no such host")}, level: Fault,
			text: "nor from its host 10.4.7.22 itself: 10.4.7.254 says that there is no such host", fix: "ping 10.4.7.22"},
		{name: "the host rejects pings, the tunnel does not answer", answers: map[string]probe.Answer{host: from(peer, "a firewall forbids it")}, level: Fault, text: "UDP port 8472 seems to be blocked there or on the way"},
		{name: "the host answers, the tunnel does not", answers: map[string]probe.Answer{host: echo}, level: Fault, text: "UDP port 8472 seems to be blocked there or on the way", fix: "iptables -I INPUT -p udp --dport 8472 -s 10.4.7.0/24 -j ACCEPT   # on the peer"},
		{name: "no tunnel at the other end", answers: map[string]probe.Answer{host: echo, "udp 10.4.7.22:8472": {Answered: true, Echo: true}}, level: Fault, text: "nobody listens on its UDP port 8472", fix: "flanneld check 172.7.21.0/24   # on the peer 10.4.7.22: does flanneld run there?"},
		{name: "this host's rules drop the pings", answers: map[string]probe.Answer{gw: {Text: "iptables of this host drops it"}, host: echo}, level: Fault, text: ": this host says that iptables of this host drops it"},
		{name: "rp_filter drops the answers", answers: map[string]probe.Answer{host: echo}, dropped: 3, level: Fault, text: "this host drops it, as it comes in where rp_filter does not expect it", fix: "sysctl -w net.ipv4.conf.all.rp_filter=2"},
		{name: "as was to be expected", found: []Finding{{Step: "route", Level: Fault}}, level: Skipped, text: "no answer from 172.7.22.1: fix what route says first"},
		{name: "what other steps found explains nothing", found: []Finding{{Step: "docker", Level: Fault}, {Step: "route", Level: OK}}, level: Fault, text: "nor from its host"},
		{name: "large packets get lost", answers: map[string]probe.Answer{gw: echo, "tcp " + gw: echo}, longest: 1372, level: Fault, text: "packets of 1450 bytes get lost on the way to 172.7.22.1, those of 1372 arrive", fix: `"MTU": 1422`},
		{name: "large packets get lost, and what arrives is little", answers: map[string]probe.Answer{gw: echo, "tcp " + gw: echo}, longest: 1000, level: Fault, text: "those of 1000 arrive", fix: "let everything between here and 10.4.7.22 carry packets of 1500 bytes"},
		{name: "direct, large packets get lost", spoil: direct, answers: map[string]probe.Answer{gw: echo}, longest: 1400, level: Fault, text: "packets of 1500 bytes get lost", fix: "ip link set ens33 mtu 1400"},
		{name: "no TCP", answers: map[string]probe.Answer{gw: echo}, level: Fault, text: "answers pings, and no TCP", fix: "DisableTxChecksum"},
		{name: "no TCP, and the checksums are the CPU's", spoil: func(f *Facts) { f.Status.Device.ChecksumByCPU = true }, answers: map[string]probe.Answer{gw: echo}, level: Fault,
			text: "answers pings, and no TCP: a firewall on 10.4.7.22", fix: "flanneld check 172.7.21.0/24   # on the peer 10.4.7.22"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachFamily(t, func(t *testing.T, family inet.Family) {
				if family == inet.IPv6 && tt.dropped > 0 {
					t.Skip("it has no rp_filter")
				}
				f := healthy()
				if tt.spoil != nil {
					tt.spoil(&f)
				}
				f = asIn(family, f)
				n := &network{answers: answersIn(family, withContainer(tt.answers)), longest: tt.longest}
				counter := -tt.dropped
				dropped := func() int { counter += tt.dropped; return counter }
				found := Prober{Network: n, Dropped: dropped}.Run(f, f.Status.Peers, tt.found)
				if x := found[0]; len(found) != 1 || x.Step != "probe" || x.Level != tt.level || !strings.Contains(x.Text, as(family, tt.text)) || !strings.Contains(strings.Join(x.Fix, "\n"), as(family, tt.fix)) {
					t.Errorf("%+v\nwant %s %q %q", found, tt.level, as(family, tt.text), as(family, tt.fix))
				}
				n.mu.Lock() // packets may be under way still
				defer n.mu.Unlock()
				if !n.seen[as(family, "172.7.21.1 172.7.22.1")] && len(f.bridges()) > 0 {
					t.Errorf("docker0's address, as good as a container's, has not sent anything: %v", n.seen)
				}
			})
		})
	}
}

// withContainer adds a container that answers.
func withContainer(answers map[string]probe.Answer) map[string]probe.Answer {
	there := container(far)
	all := map[string]probe.Answer{there.String(): {Answered: true, Echo: true, From: there}, "tcp " + there.String(): {Answered: true, From: there}}
	maps.Copy(all, answers)
	return all
}

// answersIn are those in a family.
func answersIn(f inet.Family, all map[string]probe.Answer) map[string]probe.Answer {
	out := map[string]probe.Answer{}
	for to, a := range all {
		a.From, a.Text = firewalltest.Addr(f, a.From), as(f, a.Text)
		out[as(f, to)] = a
	}
	return out
}

// TestProbeThrough has a peer that answers itself, and what becomes of packets for its
// containers: the table of through.go.
func TestProbeThrough(t *testing.T) {
	const gw, there, none = "172.7.22.1", "172.7.22.2", "172.7.22.254"
	echo := func(ip string) probe.Answer {
		return probe.Answer{Answered: true, Echo: true, From: netip.MustParseAddr(ip)}
	}
	type answers map[string]probe.Answer
	for _, tt := range []struct {
		name  string
		says  func(says func(probe.Refusal) probe.Answer) answers
		level Level
		text  string
		fix   string
	}{
		{"all is well", func(says func(probe.Refusal) probe.Answer) answers {
			return answers{there: echo(there), "tcp " + there: {Answered: true}}
		}, OK, "the peer answered, to packets of up to 1", ""},
		{"no TCP", func(func(probe.Refusal) probe.Answer) answers { return answers{there: echo(there)} }, Unknown,
			"the container 172.7.22.2 answers pings, and not even refuses TCP to port 9: a rule on 10.4.7.22 drops it", "flanneld check 172.7.21.0/24   # on the peer 10.4.7.22"},
		{"no container", func(says func(probe.Refusal) probe.Answer) answers { return answers{there: says(probe.NoHost)} }, OK, "passed on", ""},
		{"no container, and the first packet gets lost", func(says func(probe.Refusal) probe.Answer) answers { return answers{there + " 2": says(probe.NoHost)} }, OK, "passed on", ""},
		{"it forwards nothing", func(func(probe.Refusal) probe.Answer) answers { return answers{"step " + there: {}} }, Fault,
			"10.4.7.22 does not pass on what is for its containers: it answers itself, and seems to forward nothing", "sysctl -w net.ipv4.ip_forward=1   # on the peer 10.4.7.22\nflanneld check 172.7.21.0/24   # on the peer 10.4.7.22"},
		{"a rule drops", func(func(probe.Refusal) probe.Answer) answers { return answers{} }, Fault, "though it forwards: a rule of its firewall seems to drop it", "flanneld check 172.7.21.0/24   # on the peer 10.4.7.22: which rule?"},
		{"a rule rejects", func(says func(probe.Refusal) probe.Answer) answers { return answers{there: says(probe.NoPort)} }, Fault, "it says that a firewall forbids it", "flanneld check 172.7.21.0/24   # on the peer 10.4.7.22: which rule?"},
		{"a rule forbids, and the first packet gets lost", func(says func(probe.Refusal) probe.Answer) answers { return answers{none: says(probe.Forbidden)} }, Fault, "it says that a firewall forbids it", ""},
		{"a container that does not answer", func(says func(probe.Refusal) probe.Answer) answers { return answers{none: says(probe.NoHost)} }, Unknown,
			"10.4.7.22 finds the container 172.7.22.2, which answers neither pings nor TCP", "flanneld check 172.7.21.0/24   # on the peer 10.4.7.22"},
		{"a container that answers TCP alone", func(says func(probe.Refusal) probe.Answer) answers {
			return answers{none: says(probe.NoHost), "tcp " + there: {Answered: true}}
		}, OK, "", ""},
		{"a container that is gone, and its host notices late", func(says func(probe.Refusal) probe.Answer) answers {
			return answers{none: says(probe.NoHost), there + " 3": says(probe.NoHost)}
		}, OK, "", ""},
		{"a bridge that is down", func(says func(probe.Refusal) probe.Answer) answers { return answers{there: says(probe.NoNetwork)} }, Fault, "10.4.7.22 has no way to its own containers, though it has the address 172.7.22.1: there is no route to that network; is the bridge there down?", "flanneld check"},
		{"no bridge", func(says func(probe.Refusal) probe.Answer) answers {
			return answers{there: says(probe.NoNetwork), gw: {}}
		}, Note, "10.4.7.22 has no bridge for containers", "flanneld check"},
		{"nothing to be seen", func(says func(probe.Refusal) probe.Answer) answers { return answers{gw: {}} }, Unknown,
			"whether 10.4.7.22 passes on what is for its containers was not seen: neither they nor its bridge 172.7.22.1 answer", "flanneld check"},
		{"another router says so, behind the peer", func(func(probe.Refusal) probe.Answer) answers {
			return answers{there: {Answered: true, Refusal: probe.Expired, From: netip.MustParseAddr("10.4.7.254")}}
		}, Fault, "10.4.7.22 has no way to its own containers, though it has the address 172.7.22.1: what is for them goes on to 10.4.7.254; is the bridge there down?", "flanneld check"},
		{"another router says so, and there is no bridge", func(func(probe.Refusal) probe.Answer) answers {
			return answers{gw: {}, there: {Answered: true, Refusal: probe.NoNetwork, From: netip.MustParseAddr("10.4.7.254")}}
		}, Note, "10.4.7.22 has no bridge for containers: what is for them goes on to 10.4.7.254", "flanneld check"},
		{"this host itself says so", func(func(probe.Refusal) probe.Answer) answers {
			return answers{there: {Answered: true, Refusal: probe.NoHost, From: here}}
		}, Fault, "a rule of its firewall seems to drop it", ""},
	} {
		for _, mode := range []string{status.Tunnel, status.Direct} {
			f, by := healthy(), vtep22
			all := map[string]probe.Answer{gw: echo(gw), "tcp " + gw: echo(gw), vtep22.String(): echo(vtep22.String()), "tcp " + vtep22.String(): {Answered: true}}
			if mode == status.Direct {
				p := &f.Status.Peers[0]
				p.Mode, p.Via, p.Dev, p.MAC, f.Status.Device, by = status.Direct, peer, "ens33", "", nil, peer
			}
			says := func(r probe.Refusal) probe.Answer {
				return probe.Answer{Answered: true, Refusal: r, Text: string(r), From: by}
			}
			all["step "+there] = says(probe.Expired)
			maps.Copy(all, tt.says(says))
			for _, family := range inet.Families() {
				text, fix := as(family, tt.text), as(family, tt.fix)
				if family == inet.IPv6 { // whose fix is not as simple
					fix = strings.TrimPrefix(fix, "sysctl -w net.ipv6.conf.all.forwarding=1   # on the peer fc00:a:4:7::16\n")
				}
				f := asIn(family, f)
				found := Prober{Network: &network{answers: answersIn(family, all)}, Dropped: func() int { return 0 }}.Run(f, f.Status.Peers, nil)
				if x := found[0]; len(found) != 1 || x.Step != "probe" || x.Level != tt.level || !strings.Contains(x.Text, text) || !strings.Contains(strings.Join(x.Fix, "\n"), fix) ||
					family == inet.IPv6 && strings.Contains(strings.Join(x.Fix, "\n"), "sysctl") {
					t.Errorf("%s, %s, %v: %+v\nwant %s %q %q", mode, tt.name, family, found, tt.level, text, fix)
				}
			}
		}
	}
}

// TestProbeOverNetwork tries a peer on a real link, and what becomes of packets for its
// containers: rows of through.go's table.
func TestProbeOverNetwork(t *testing.T) { eachFamily(t, testProbeOverNetwork) }

func testProbeOverNetwork(t *testing.T, f inet.Family) {
	layNetwork(t)
	nodad := map[inet.Family]string{inet.IPv6: " nodad"}[f]
	sh(t, as(f, `ip link add docker0 up type bridge; ip address add 172.7.21.1/24 dev docker0`+nodad+`; ip route add 172.7.22.0/24 via 10.4.7.22
		ip netns exec far sh -ec 'ip link add docker0 up type bridge; ip address add 172.7.22.1/24 dev docker0`+nodad+`; ip route add 172.7.21.0/24 via 10.4.7.21
			sysctl -qw net.ipv4.neigh.docker0.retrans_time_ms=50 net.ipv6.neigh.docker0.retrans_time_ms=50'
		ip netns add box; ip netns exec far ip link add veth2 up master docker0 type veth peer name eth0 netns box
		ip netns exec box sh -ec 'ip link set eth0 up'`))
	t.Cleanup(func() { sh(t, "ip netns del box; ip link del docker0") })
	host := healthy()
	p := &host.Status.Peers[0]
	p.Mode, p.Via, p.Dev, p.MAC, host.Status.Device, host.Status.Lease.MTU = status.Direct, peer, "ens33", "", nil, 1500
	host = asIn(f, host)
	down := map[inet.Family]Finding{
		inet.IPv4: {Level: Fault, Text: "10.4.7.22 has no way to its own containers, though it has the address 172.7.22.1"},
		inet.IPv6: {Level: Note, Text: "10.4.7.22 has no bridge for containers"}, // its address is gone with it
	}[f]
	for _, tt := range []struct {
		name, how, undo string
		level           Level
		text            string
	}{
		{"no container", "", "", OK, "the peer answered, to packets of up to 1500 bytes"},
		{"a container", "ip netns exec box sh -ec 'ip address add 172.7.22.2/24 dev eth0" + nodad + "; ip route add default via 172.7.22.1'", "", OK, "the peer answered"},
		{"a rule rejects", "ip netns exec far iptables -A FORWARD -j REJECT", "ip netns exec far iptables -F FORWARD", Fault, "it says that a firewall forbids it"},
		{"a bridge that is down", "ip netns exec far ip link set docker0 down", "", down.Level, down.Text},
	} {
		if tt.how != "" {
			sh(t, as(f, tt.how))
		}
		found := Prober{Network: probe.Host{}, Dropped: DroppedByReversePath}.Run(host, host.Status.Peers, nil)
		if x := found[0]; len(found) != 1 || x.Level != tt.level || !strings.Contains(x.Text, as(f, tt.text)) {
			t.Errorf("%s: %+v\nwant %s %q", tt.name, found, tt.level, as(f, tt.text))
		}
		if tt.undo != "" {
			sh(t, as(f, tt.undo))
		}
	}
}

// Where there is no docker0 here, the tunnel's address or the host's own sends.
func TestProbeFromAHostWithoutDocker(t *testing.T) {
	f := healthy()
	f.Links = f.Links[:2]
	if got := source(f); got != own.Addr() {
		t.Errorf("%v", got)
	}
	f.Status.Device = nil
	if got := source(f); got != here {
		t.Errorf("%v", got)
	}
}

func TestProbeThatCannotBe(t *testing.T) {
	f := healthy()
	found := Prober{Network: &network{fail: errors.New("operation not permitted")}, Dropped: func() int { return 0 }}.Run(f, f.Status.Peers, nil)
	if len(found) != 1 || found[0].Level != Unknown || !strings.Contains(found[0].Text, "not permitted") {
		t.Errorf("%+v", found)
	}
	// The source's address may be missing, and a step says why.
	found = Prober{Network: &network{fail: errors.New("cannot assign requested address")}, Dropped: func() int { return 0 }}.Run(f, f.Status.Peers, []Finding{{Step: "device", Level: Fault}})
	if len(found) != 1 || found[0].Level != Skipped {
		t.Errorf("%+v", found)
	}
	f.Status.Lease = nil
	if found := (Prober{}).Run(f, f.Status.Peers, nil); len(found) != 1 || found[0].Level != Skipped {
		t.Errorf("%+v", found)
	}
}

// FuzzLeasing reads what names interfaces may have.
func FuzzLeasing(f *testing.F) {
	const text = "00000000000000000000000000000001 01 80 10 80       lo\nfe800000000000000000000000000001 02 40 20 80    ens33\n" +
		"20010db8000000000000000000000021 02 40 00 00    ens33\n20010db8000000000000000000000022 03 40 00 80     eth1\n"
	f.Add(text)
	if all := leasing(text); len(all) != 1 || !all["ens33"] {
		f.Errorf("%v", all)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for name := range leasing(text) {
			if name == "" || strings.ContainsAny(name, " \n") {
				t.Errorf("%q", name)
			}
		}
	})
}
