package iptables

import (
	"context"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"flanneld/pkg/firewall/firewalltest"
	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
)

const (
	peersIn  = `-s 172.7.0.0/16 -d 172.7.21.0/24 -i flannel.1 -m comment --comment flanneld -j ACCEPT`
	peersOut = `-s 172.7.21.0/24 -d 172.7.0.0/16 -o flannel.1 -m comment --comment flanneld -j ACCEPT`

	docker28Forward = "-j DOCKER-USER\n-j DOCKER-FORWARD\n"
	singledOut      = `-d 172.7.21.2/32 ! -i docker0 -j DROP`
)

func docker28(t testing.TB, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// TestRuleSets starts from what whole hosts have, and judges the end by packets.
func TestRuleSets(t *testing.T) {
	docker := docker28(t, "docker-28-plain.txt")
	// with is a set to which further lines of a table come.
	with := func(set, table string, lines ...string) string {
		return set + "\n*" + table + "\n" + strings.Join(lines, "\n") + "\nCOMMIT\n"
	}
	filter := func(chains string, lines ...string) string {
		return "*filter\n" + chains + "\n" + strings.Join(lines, "\n") + "\nCOMMIT\n"
	}
	const ufw = ":FORWARD DROP [0:0]\n:ufw-before-forward - [0:0]\n:ufw-reject-forward - [0:0]"
	tests := []struct {
		name  string
		set   string
		want  rules.Wanted
		after map[chainID][]string
		lost  string // what of in, out and lan is dropped in the end
	}{
		{"docker 28", docker, everything, map[chainID][]string{
			forwardChain: lines(docker28Forward, ourForward), userChain: lines(peersIn, peersOut),
			rawChain: lines(peersIn, singledOut), natChain: lines(ourMasq)}, "lan"},
		{"docker 28 with --allow-direct-routing", docker28(t, "docker-28-direct-routing.txt"), everything,
			map[chainID][]string{
				userChain: lines(peersIn, peersOut), rawChain: lines(peersIn)}, "lan"},
		{"docker 28 was restarted: its chains are in front", with(docker, "filter", "-A DOCKER-USER "+peersIn), everything,
			map[chainID][]string{
				userChain: lines(peersIn, peersOut)}, "lan"},
		{"docker 28 has taken its chains away, and writes them again",
			filter(":DOCKER-USER - [0:0]", "-A FORWARD -j DOCKER-USER", "-A DOCKER-USER "+peersIn, "-A DOCKER-USER "+peersOut) +
				"*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING " + peersIn + "\nCOMMIT\n", everything, map[chainID][]string{
				userChain: lines(peersIn, peersOut), rawChain: lines(peersIn)}, ""},
		{"docker 28 has taken its chains away, and ours are incomplete",
			filter(":DOCKER-USER - [0:0]", "-A FORWARD -j DOCKER-USER", "-A DOCKER-USER "+peersOut), everything, map[chainID][]string{
				userChain: lines(peersIn, peersOut), rawChain: lines(peersIn)}, ""},
		{"docker 28 has taken its chains away, and no forward rules are wanted",
			filter(":DOCKER-USER - [0:0]", "-A FORWARD -j DOCKER-USER", "-A DOCKER-USER "+peersIn, "-A DOCKER-USER "+peersOut) +
				"*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING " + peersIn + "\nCOMMIT\n", firewalltest.OnlyMasq, map[chainID][]string{
				userChain: nil, rawChain: nil}, ""},
		{"docker 28 drops in raw, and the operator in front of its chains",
			filter(":DOCKER - [0:0]\n:DOCKER-USER - [0:0]", "-A FORWARD -j DOCKER-USER", "-A FORWARD -s 172.7.0.0/16 -d 172.7.21.0/24 -j DROP",
				"-A FORWARD -o docker0 -j DOCKER", "-A DOCKER ! -i docker0 -o docker0 -j DROP") +
				"*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING " + singledOut + "\nCOMMIT\n", everything, map[chainID][]string{
				userChain: nil, rawChain: lines(peersIn, singledOut)}, "in lan"},
		{"docker 20.10 drops nothing, and the operator has a rule like ours",
			filter(":DOCKER-USER - [0:0]", "-A FORWARD -j DOCKER-USER", "-A DOCKER-USER -s 172.7.0.0/16 -d 172.7.21.0/24 -i flannel.1 -j ACCEPT"),
			everything, map[chainID][]string{
				userChain: lines("-s 172.7.0.0/16 -d 172.7.21.0/24 -i flannel.1 -j ACCEPT"), rawChain: nil}, ""},
		{"the operator's rules in DOCKER-USER stay in front, and hold",
			with(docker, "filter", "-A DOCKER-USER -s 172.7.22.0/24 -j DROP", "-A DOCKER-USER -i ens9 -j RETURN"), everything,
			map[chainID][]string{
				userChain: lines("-s 172.7.22.0/24 -j DROP", "-i ens9 -j RETURN", peersIn, peersOut)}, "in lan"},
		{"the operator denies all in DOCKER-USER",
			with(docker, "filter", "-A DOCKER-USER -i ens9 -j ACCEPT", "-A DOCKER-USER -j DROP"), everything,
			map[chainID][]string{
				forwardChain: lines(docker28Forward, ourForward),
				userChain:    lines("-i ens9 -j ACCEPT", "-j DROP", peersIn, peersOut)}, "in out lan"},
		{"the operator denies all in DOCKER-USER of docker 20.10",
			filter(":FORWARD DROP [0:0]\n:DOCKER-USER - [0:0]", "-A FORWARD -j DOCKER-USER", "-A DOCKER-USER -j REJECT"),
			onlyForward, map[chainID][]string{
				forwardChain: lines("-j DOCKER-USER", ourForward)}, "in out lan"},
		{"the operator appends to DOCKER-USER behind ours",
			with(docker, "filter", "-A DOCKER-USER "+peersIn, "-A DOCKER-USER "+peersOut, "-A DOCKER-USER -s 172.7.22.0/24 -j DROP"),
			everything, map[chainID][]string{
				userChain: lines("-s 172.7.22.0/24 -j DROP", peersIn, peersOut)}, "in lan"},
		{"the operator appends to DOCKER-USER between ours and an old dockerd's RETURN",
			with(docker, "filter", "-A DOCKER-USER "+peersIn, "-A DOCKER-USER "+peersOut, "-A DOCKER-USER -s 172.7.22.0/24 -j DROP", "-A DOCKER-USER -j RETURN"),
			everything, map[chainID][]string{
				userChain: lines("-s 172.7.22.0/24 -j DROP", peersIn, peersOut, "-j RETURN")}, "in lan"},
		{"the operator inserts between ours in DOCKER-USER",
			with(docker, "filter", "-A DOCKER-USER "+peersIn, "-A DOCKER-USER -s 172.7.22.0/24 -j DROP", "-A DOCKER-USER "+peersOut),
			everything, map[chainID][]string{
				userChain: lines("-s 172.7.22.0/24 -j DROP", peersIn, peersOut)}, "in lan"},
		{"an old dockerd's RETURN stays behind",
			with(docker, "filter", "-A DOCKER-USER -i ens9 -j DROP", "-A DOCKER-USER -j RETURN"), everything,
			map[chainID][]string{
				userChain: lines("-i ens9 -j DROP", peersIn, peersOut, "-j RETURN")}, "lan"},
		{"docker 28 and no forward rules wanted", docker, firewalltest.OnlyMasq, map[chainID][]string{
			forwardChain: lines(docker28Forward), userChain: nil, rawChain: lines(singledOut)}, "in lan"},
		{"docker 28, and tables of nftables for ours", docker,
			rules.Wanted{Network: firewalltest.Network, Subnet: firewalltest.Subnet, Peers: firewalltest.Peers, Masquerade: true, Forward: true, NFTables: true},
			map[chainID][]string{
				forwardChain: lines(docker28Forward), userChain: lines(peersIn, peersOut), rawChain: lines(peersIn, singledOut),
				natChain: {}}, "lan"},
		{"nothing in the way, and tables of nftables for ours", filter(":FORWARD ACCEPT [0:0]"),
			rules.Wanted{Network: firewalltest.Network, Subnet: firewalltest.Subnet, Peers: firewalltest.Peers, Forward: true, NFTables: true},
			map[chainID][]string{
				forwardChain: nil}, ""},
		{"a policy in the way of tables of nftables", filter(":FORWARD DROP [0:0]"),
			rules.Wanted{Network: firewalltest.Network, Subnet: firewalltest.Subnet, Peers: firewalltest.Peers, Forward: true, NFTables: true},
			map[chainID][]string{
				forwardChain: lines(ourForward)}, ""},
		{"docker 28's rule in raw alone", with("", "raw", ":PREROUTING ACCEPT [0:0]", "-A PREROUTING "+singledOut),
			onlyForward, map[chainID][]string{
				rawChain: lines(peersIn, singledOut)}, "lan"},
		{"a rule in raw that is not docker's",
			with("", "raw", ":PREROUTING ACCEPT [0:0]", "-A PREROUTING -d 172.7.21.2/32 -i flannel.1 -j DROP"), onlyForward,
			map[chainID][]string{
				rawChain: lines("-d 172.7.21.2/32 -i flannel.1 -j DROP")}, "in"},
		{"another container's rule in raw", with(docker, "raw", "-A PREROUTING -d 172.7.21.3/32 ! -i docker0 -j DROP"),
			everything, map[chainID][]string{
				rawChain: lines(peersIn, singledOut, `-d 172.7.21.3/32 ! -i docker0 -j DROP`)}, "lan"},
		{"the administrator's rule in raw", with(docker, "raw", "-A PREROUTING -s 172.7.22.9/32 -j DROP"), everything,
			map[chainID][]string{
				rawChain: lines(peersIn, singledOut, `-s 172.7.22.9/32 -j DROP`)}, "lan"},
		{"ufw rejects behind a jump",
			filter(ufw, "-A FORWARD -j ufw-before-forward", "-A FORWARD -j ufw-reject-forward", "-A ufw-before-forward -p icmp -j ACCEPT", "-A ufw-reject-forward -j REJECT"),
			onlyForward, map[chainID][]string{
				forwardChain: lines("-j ufw-before-forward", ourForward, "-j ufw-reject-forward")}, ""},
		{"a chain of the administrator's drops a case",
			filter(":FORWARD ACCEPT [0:0]\n:OFFICE - [0:0]", "-A FORWARD -j OFFICE", "-A OFFICE -s 172.7.22.0/24 -j DROP"),
			onlyForward, map[chainID][]string{
				forwardChain: lines("-j OFFICE", ourForward)}, "in"},
		{"a chain of the administrator's lets all pass first",
			filter(":FORWARD ACCEPT [0:0]\n:OFFICE - [0:0]", "-A FORWARD -g OFFICE", "-A FORWARD -j DROP", "-A OFFICE -j ACCEPT"),
			onlyForward, map[chainID][]string{
				forwardChain: lines("-g OFFICE", "-j DROP", ourForward)}, ""},
		{"CNI masquerades one container behind a jump",
			with("", "nat", ":POSTROUTING ACCEPT [0:0]", ":CNI-1 - [0:0]", "-A POSTROUTING -s 172.7.21.2/32 -j CNI-1", "-A CNI-1 -d 172.7.21.0/24 -j ACCEPT", "-A CNI-1 ! -d 224.0.0.0/4 -j MASQUERADE"),
			everything, map[chainID][]string{
				natChain: lines(ourMasq, "-s 172.7.21.2/32 -j CNI-1")}, ""},
		{"a chain that lets special cases go decides for itself",
			with("", "nat", ":POSTROUTING ACCEPT [0:0]", ":KUBE-POSTROUTING - [0:0]", "-A POSTROUTING -j KUBE-POSTROUTING", "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN", "-A KUBE-POSTROUTING -j MASQUERADE"),
			everything, map[chainID][]string{
				natChain: lines("-j KUBE-POSTROUTING", ourMasq)}, ""},
		{"jumps in a circle",
			filter(":FORWARD ACCEPT [0:0]\n:A - [0:0]\n:B - [0:0]", "-A FORWARD -j A", "-A A -j B", "-A B -j A"), onlyForward,
			map[chainID][]string{
				forwardChain: lines("-j A", ourForward)}, ""},
		{"flannel 0.28's chains", flannel28, everything,
			map[chainID][]string{natChain: lines(ourMasq), forwardChain: lines(ourForward),
				{"nat", "FLANNEL-POSTRTG"}: nil, {"filter", "FLANNEL-FWD"}: nil}, ""},
		{"flannel 0.28's chains, and nothing wanted", flannel28, firewalltest.Nothing,
			map[chainID][]string{natChain: {}, forwardChain: {}}, ""},
		{"flannel 0.28's chains for another network",
			strings.NewReplacer("172.7.0.0", "10.5.0.0", "172.7.21.0", "10.5.3.0").Replace(flannel28), onlyForward,
			map[chainID][]string{
				natChain:     lines(`-m comment --comment "flanneld masq" -j FLANNEL-POSTRTG`),
				forwardChain: lines(`-m comment --comment "flanneld forward" -j FLANNEL-FWD`, ourForward)}, ""},
	}
	eachFamily(t, func(t *testing.T, family inet.Family) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				f, wanted := newFake(), firewalltest.Wanted(family, tt.want)
				f.load(firewalltest.In(family, tt.set))
				w := over(family, f)
				drift(t, w, wanted)
				for h, want := range tt.after {
					if diff := cmp.Diff(lines(as(family, want)...), lines(f.rules(h)...)); diff != "" {
						t.Errorf("%v -want +got:\n%s", h, diff)
					}
				}
				for h, again := range drift(t, w, wanted) {
					if again != "" {
						t.Errorf("a second pass finds wrong, in %v: %s", h, again)
					}
				}
				if got := lost(family, Parse(w.name(), f.text())); got != tt.lost {
					t.Errorf("lost in the end: %q, want %q", got, tt.lost)
				}
			})
		}
	})
}

// TestDocker29 starts from what its ip6tables rules are, with IPv6 in docker0 and one
// container.
func TestDocker29(t *testing.T) {
	for _, tt := range []struct {
		name string
		raw  []string // in PREROUTING
	}{
		{"docker-29-ip6tables-plain.txt", lines(peersIn, singledOut)},
		{"docker-29-ip6tables-direct-routing.txt", lines(peersIn)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, want := newFake(), firewalltest.Wanted(inet.IPv6, everything)
			f.load(docker28(t, tt.name))
			if got := lost(inet.IPv6, Parse("ip6tables", f.text())); got != "in lan" {
				t.Errorf("before, lost is %q", got)
			}
			w := over(inet.IPv6, f)
			drift(t, w, want)
			for h, want := range map[chainID][]string{
				forwardChain: lines(docker28Forward, ourForward), userChain: lines(peersIn, peersOut),
				rawChain: tt.raw, natChain: lines(ourMasq, firewalltest.DockerMasq),
			} {
				if diff := cmp.Diff(as(inet.IPv6, want), f.rules(h)); diff != "" {
					t.Errorf("%v -want +got:\n%s", h, diff)
				}
			}
			if got := lost(inet.IPv6, Parse("ip6tables", f.text())); got != "lan" {
				t.Errorf("in the end, lost is %q", got)
			}
		})
	}
}

// flannel28 is what v0.28 writes (observed).
const flannel28 = `*nat
:POSTROUTING ACCEPT [0:0]
:FLANNEL-POSTRTG - [0:0]
-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 172.7.21.0/24 -d 172.7.0.0/16 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 172.7.0.0/16 -d 172.7.21.0/24 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG ! -s 172.7.0.0/16 -d 172.7.21.0/24 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 172.7.0.0/16 ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s 172.7.0.0/16 -d 172.7.0.0/16 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
COMMIT
*filter
:FORWARD ACCEPT [0:0]
:FLANNEL-FWD - [0:0]
-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD
-A FLANNEL-FWD -s 172.7.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
-A FLANNEL-FWD -d 172.7.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
COMMIT
`

// lost names the packets that do not get through: in from a peer, out to it, and
// from a neighbour of the host that is none of the network's.
func lost(f inet.Family, set rules.Ruleset) string {
	here, there, neighbour := netip.MustParseAddr("172.7.21.2"), netip.MustParseAddr("172.7.22.2"), netip.MustParseAddr("10.4.7.99")
	var out []string
	for _, p := range []struct {
		name   string
		packet rules.Packet
	}{
		{"in", rules.Packet{In: "flannel.1", Out: "docker0", Src: there, Dst: here}},
		{"out", rules.Packet{In: "docker0", Out: "flannel.1", Src: here, Dst: there}},
		{"lan", rules.Packet{In: "ens33", Out: "docker0", Src: neighbour, Dst: here}},
	} {
		p.packet.Protocol, p.packet.State = "tcp", "NEW"
		if set.Evaluate(firewalltest.Packet(f, p.packet), rules.Forwarded).Dropped {
			out = append(out, p.name)
		}
	}
	return strings.Join(out, " ")
}

func TestKept(t *testing.T) {
	eachFamily(t, func(t *testing.T, family inet.Family) {
		f := newFake()
		f.load(firewalltest.In(family, docker28(t, "docker-28-plain.txt")))
		kept := over(family, f).Apply(context.Background(), firewalltest.Wanted(family, onlyForward), false).Rules
		want := as(family, []string{
			"-t filter -A FORWARD -s 172.7.0.0/16 -j ACCEPT", "-t filter -A FORWARD -d 172.7.0.0/16 -j ACCEPT",
			"-t filter -A DOCKER-USER -s 172.7.0.0/16 -d 172.7.21.0/24 -i flannel.1 -j ACCEPT",
			"-t filter -A DOCKER-USER -s 172.7.21.0/24 -d 172.7.0.0/16 -o flannel.1 -j ACCEPT",
			"-t raw -A PREROUTING -s 172.7.0.0/16 -d 172.7.21.0/24 -i flannel.1 -j ACCEPT",
		})
		if family == inet.IPv6 { // a list has both families' rules
			for i, r := range want {
				want[i] = "ip6tables " + r
			}
		}
		if !slices.Equal(kept, want) {
			t.Errorf("kept are\n%s\nwant\n%s", strings.Join(kept, "\n"), strings.Join(want, "\n"))
		}
	})
}

// Where the kernel has nf_tables, packets from peers are matched by their mark, and
// nothing else passes docker: not what forges an address of the network.
func TestMarkedPackets(t *testing.T) { eachFamily(t, testMarkedPackets) }

func testMarkedPackets(t *testing.T, family inet.Family) {
	f := newFake()
	f.load(firewalltest.In(family, docker28(t, "docker-28-plain.txt")))
	want := firewalltest.Wanted(family, onlyForward)
	want.Marked = true
	w := over(family, f)
	for range 2 {
		if result := w.Apply(context.Background(), want, false); !result.Marks {
			t.Error("the result does not ask for marks")
		}
		const marked = `-d 172.7.21.0/24 -m mark --mark 0x1000/0x1000 -m comment --comment flanneld -j ACCEPT`
		for h, rules := range map[chainID][]string{rawChain: lines(marked, singledOut), userChain: lines(marked, peersOut)} {
			if diff := cmp.Diff(as(family, rules), f.rules(h)); diff != "" {
				t.Errorf("%v -want +got:\n%s", h, diff)
			}
		}
	}
	set := Parse(w.name(), f.text())
	for mark, dropped := range map[uint32]bool{0: true, rules.PeerMark: false, rules.PeerMark | 1: false, 0x2000: true} {
		p := rules.Packet{In: "ens33", Out: "docker0", Src: netip.MustParseAddr("172.7.22.2"), Dst: netip.MustParseAddr("172.7.21.2"), State: "NEW", Mark: mark}
		if v := set.Evaluate(firewalltest.Packet(family, p), rules.Forwarded); v.Dropped != dropped {
			t.Errorf("with mark %#x: %+v", mark, v)
		}
	}
	f.do(func(f *fake) { // dockerd starts: its own are gone for a while
		maps.DeleteFunc(f.chains, func(h chainID, _ []string) bool { return strings.HasPrefix(h.chain, "DOCKER") && h != userChain })
		f.chains[forwardChain] = lines("-j DOCKER-USER")
		f.chains[rawChain] = f.chains[rawChain][:1]
	})
	if !w.Apply(context.Background(), want, false).Marks || len(f.rules(userChain)) != 2 {
		t.Errorf("marks are not asked for, or not used: %v", f.rules(userChain))
	}
	f.do(func(f *fake) { clear(f.chains); f.builtin(rawChain); f.builtin(forwardChain); f.builtin(natChain) })
	if w.Apply(context.Background(), want, false).Marks {
		t.Error("marks are asked for where nobody drops anything")
	}
}

// Where the kernel tells that nothing has changed, nothing is read.
func TestNothingIsReadWhereNothingHasChanged(t *testing.T) {
	f := newFake()
	generation := uint32(7)
	var failing error
	w := &Writer{program: f, randomFully: true, Generation: func() (uint32, error) { return generation, failing }}
	for _, step := range []struct {
		name   string
		change func()
		want   rules.Wanted
		reads  int
	}{
		{"at first", func() {}, everything, 1},
		{"our own change", func() { generation++ }, everything, 1},
		{"idle", func() {}, everything, 0},
		{"somebody's change", func() { generation++; f.builtin(natChain) }, everything, 1},
		{"ours again", func() { generation++ }, everything, 1},
		{"idle again", func() {}, everything, 0},
		{"something else is wanted", func() {}, onlyForward, 1},
		{"which was written", func() { generation++ }, onlyForward, 1},
		{"nobody tells", func() { generation, failing = 0, os.ErrPermission }, onlyForward, 1},
		{"still nobody", func() {}, onlyForward, 1},
	} {
		f.do(func(*fake) { step.change() })
		before := f.saves
		result := w.Apply(context.Background(), step.want, false)
		if f.saves-before != step.reads {
			t.Errorf("%s: read %d times", step.name, f.saves-before)
		}
		if len(result.Rules) == 0 || len(result.Outcomes) == 0 {
			t.Errorf("%s: %+v", step.name, result)
		}
	}
}
