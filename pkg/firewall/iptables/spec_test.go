package iptables

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"flanneld/pkg/firewall/firewalltest"
	"flanneld/pkg/firewall/rules"
)

func TestSpecs(t *testing.T) {
	odd := rules.Wanted{Network: netip.MustParsePrefix("10.1.2.3/20"), Subnet: netip.MustParsePrefix("10.1.5.1/24"), Peers: []rules.Peer{{Subnet: netip.MustParsePrefix("10.1.7.0/24"), Device: "flannel.7"}, {Subnet: netip.MustParsePrefix("10.1.8.0/24"), Device: "ens33"}}, Masquerade: true, Forward: true}
	plainPorts := everything
	plainPorts.PlainPorts = true
	tests := []struct {
		name  string
		specs []string
		want  string
	}{
		{"masquerading", specs(everything.MasqueradeSpecs(), false), `
-s 172.7.0.0/16 -d 172.7.0.0/16 -j RETURN
-s 172.7.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE
! -s 172.7.0.0/16 -d 172.7.21.0/24 -j RETURN
! -s 172.7.0.0/16 -d 172.7.0.0/16 -j MASQUERADE
`},
		{"masquerading, random ports", specs(everything.MasqueradeSpecs(), true), `
-s 172.7.0.0/16 -d 172.7.0.0/16 -j RETURN
-s 172.7.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE --random-fully
! -s 172.7.0.0/16 -d 172.7.21.0/24 -j RETURN
! -s 172.7.0.0/16 -d 172.7.0.0/16 -j MASQUERADE --random-fully
`},
		{"masquerading, plain ports", specs(plainPorts.MasqueradeSpecs(), true), `
-s 172.7.0.0/16 -d 172.7.0.0/16 -j RETURN
-s 172.7.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE
! -s 172.7.0.0/16 -d 172.7.21.0/24 -j RETURN
! -s 172.7.0.0/16 -d 172.7.0.0/16 -j MASQUERADE
`},
		{"forwarding", specs(everything.ForwardSpecs(), true), `
-s 172.7.0.0/16 -j ACCEPT
-d 172.7.0.0/16 -j ACCEPT
`},
		{"prefixes as in FLANNEL_SUBNET", specs(odd.MasqueradeSpecs(), false), `
-s 10.1.0.0/20 -d 10.1.0.0/20 -j RETURN
-s 10.1.0.0/20 ! -d 224.0.0.0/4 -j MASQUERADE
! -s 10.1.0.0/20 -d 10.1.5.0/24 -j RETURN
! -s 10.1.0.0/20 -d 10.1.0.0/20 -j MASQUERADE
`},
		{"from peers, by two devices", specs(odd.FromPeers(), true), `
-s 10.1.0.0/20 -d 10.1.5.0/24 -i ens33 -j ACCEPT
-s 10.1.0.0/20 -d 10.1.5.0/24 -i flannel.7 -j ACCEPT
`},
		{"to peers", specs(odd.ToPeers(), true), `
-s 10.1.5.0/24 -d 10.1.0.0/20 -o ens33 -j ACCEPT
-s 10.1.5.0/24 -d 10.1.0.0/20 -o flannel.7 -j ACCEPT
`},
		{"nothing", specs(append(firewalltest.Nothing.MasqueradeSpecs(), append(firewalltest.Nothing.ForwardSpecs(), firewalltest.Nothing.FromPeers()...)...), true), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(lines(tt.want), lines(tt.specs...)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	if got := commented("-j DROP"); got != "-m comment --comment flanneld -j DROP" {
		t.Errorf("a rule without conditions is marked as %q", got)
	}
}

func TestParseRule(t *testing.T) {
	cond := func(option, value string) condition { return condition{option: option, values: strings.Fields(value)} }
	not := func(c condition) condition { c.not = true; return c }
	for text, want := range map[string]body{
		`-s 172.7.21.0/24 ! -o docker0 -j MASQUERADE`: {spec: "-s 172.7.21.0/24 ! -o docker0 -j MASQUERADE", target: "MASQUERADE", jumps: true,
			conditions: []condition{cond("-s", "172.7.21.0/24"), not(cond("-o", "docker0"))}},
		`! -d 10.0.0.0/8 -m comment --comment "say \"hi\" \\o/" -j SNAT --to-source 10.4.7.21`: {spec: "! -d 10.0.0.0/8 -j SNAT --to-source 10.4.7.21",
			comment: `say "hi" \o/`, target: "SNAT", options: []string{"--to-source", "10.4.7.21"}, jumps: true, conditions: []condition{not(cond("-d", "10.0.0.0/8"))}},
		`-m comment --comment "flanneld" -j DROP`:         {spec: "-j DROP", comment: "flanneld", target: "DROP", jumps: true},
		`-m comment --comment "--- the rest ---" -j DROP`: {spec: "-j DROP", comment: "--- the rest ---", target: "DROP", jumps: true},
		`-p tcp -m tcp --dport 80 -g WEB`:                 {spec: "-p tcp -m tcp --dport 80 -g WEB", target: "WEB", conditions: []condition{cond("-p", "tcp"), cond("--dport", "80")}},
		`-m comment`:                                      {},
		`-m comment --comment`:                            {},
		`-s`:                                              {spec: "-s", conditions: []condition{cond("-s", "")}},
		`-j`:                                              {spec: "-j", jumps: true},
		``:                                                {},
	} {
		same := cmp.Comparer(func(a, b []string) bool { return strings.Join(a, " ") == strings.Join(b, " ") })
		if diff := cmp.Diff(want, *parseRule(text), cmp.AllowUnexported(body{}, condition{}), same); diff != "" {
			t.Errorf("%s: -want +got:\n%s", text, diff)
		}
	}
}

// FuzzParse feeds Parse and the plan what other programs may write.
func FuzzParse(f *testing.F) {
	f.Add(`-s 1.2.3.4/32 ! -d 10.0.0.0/8 -m comment --comment "a \"b" -j MASQUERADE`)
	f.Add(`! -m comment -j`)
	f.Add(`-j POSTROUTING`)
	f.Fuzz(func(t *testing.T, text string) {
		set := Parse("iptables", "*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING "+text+"\n*filter\n:FORWARD DROP\n:DOCKER -\n-A FORWARD "+text+"\n-A DOCKER "+text)
		p := planner{set: set, wanted: everything, can: everyAbility}
		p.plan()
		for _, h := range legacyChains {
			p.legacyScript(h)
		}
		set.Evaluate(rules.Packet{In: "ens33", Src: firewalltest.Network.Addr().Next(), Dst: firewalltest.Subnet.Addr().Next()}, rules.Forwarded)
		b := parseRule(text)
		if q := p.masquerade(); q.isOurs(b) && b.comment != ourComment && len(b.conditions) > 2 {
			t.Errorf("%q is taken for an earlier flannel's", text)
		}
	})
}
