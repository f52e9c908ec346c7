package ipmasq

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	network = netip.MustParsePrefix("172.7.0.0/16")
	own     = netip.MustParsePrefix("172.7.21.0/24")
)

func text(rules []Rule) string {
	var lines []string
	for _, r := range rules {
		lines = append(lines, r.String())
	}
	return strings.Join(lines, "\n") + "\n"
}

func TestRules(t *testing.T) {
	tests := []struct {
		name  string
		rules []Rule
		want  string
	}{
		{"masquerading", MasqRules(network, own, false), `
-t nat -A POSTROUTING -s 172.7.0.0/16 -d 172.7.0.0/16 -j RETURN
-t nat -A POSTROUTING -s 172.7.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE
-t nat -A POSTROUTING ! -s 172.7.0.0/16 -d 172.7.21.0/24 -j RETURN
-t nat -A POSTROUTING ! -s 172.7.0.0/16 -d 172.7.0.0/16 -j MASQUERADE
`},
		{"masquerading, random ports", MasqRules(network, own, true), `
-t nat -A POSTROUTING -s 172.7.0.0/16 -d 172.7.0.0/16 -j RETURN
-t nat -A POSTROUTING -s 172.7.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE --random-fully
-t nat -A POSTROUTING ! -s 172.7.0.0/16 -d 172.7.21.0/24 -j RETURN
-t nat -A POSTROUTING ! -s 172.7.0.0/16 -d 172.7.0.0/16 -j MASQUERADE --random-fully
`},
		{"forwarding", ForwardRules(network), `
-t filter -A FORWARD -s 172.7.0.0/16 -j ACCEPT
-t filter -A FORWARD -d 172.7.0.0/16 -j ACCEPT
`},
		{"prefixes as in FLANNEL_SUBNET", MasqRules(netip.MustParsePrefix("10.1.2.3/20"), netip.MustParsePrefix("10.1.5.1/24"), false), `
-t nat -A POSTROUTING -s 10.1.0.0/20 -d 10.1.0.0/20 -j RETURN
-t nat -A POSTROUTING -s 10.1.0.0/20 ! -d 224.0.0.0/4 -j MASQUERADE
-t nat -A POSTROUTING ! -s 10.1.0.0/20 -d 10.1.5.0/24 -j RETURN
-t nat -A POSTROUTING ! -s 10.1.0.0/20 -d 10.1.0.0/20 -j MASQUERADE
`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(strings.TrimPrefix(tt.want, "\n"), text(tt.rules)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestParse(t *testing.T) {
	p := netip.MustParsePrefix
	tests := []struct {
		text string
		want found
	}{
		{`-s 172.7.21.0/24 ! -o docker0 -j MASQUERADE`,
			found{spec: "-s 172.7.21.0/24 ! -o docker0 -j MASQUERADE", target: "MASQUERADE", src: side{prefix: p("172.7.21.0/24")}, iface: true}},
		{`! -s 172.7.0.0/16 ! -d 10.0.0.0/8 -m comment --comment "say \"hi\" \\o/" -j SNAT --to-source 10.4.7.21`,
			found{spec: "! -s 172.7.0.0/16 ! -d 10.0.0.0/8 -j SNAT --to-source 10.4.7.21", comment: `say "hi" \o/`, target: "SNAT",
				src: side{prefix: p("172.7.0.0/16"), not: true}, dst: side{prefix: p("10.0.0.0/8"), not: true}}},
		{`-m comment --comment "flanneld" -j DROP`, found{spec: "-j DROP", comment: "flanneld", target: "DROP"}},
		{`-p tcp -m tcp --dport 80 -j DROP`, found{spec: "-p tcp -m tcp --dport 80 -j DROP", target: "DROP", special: true}},
		{`-s 10.0.0.1/255.0.0.255 -j DROP`, found{spec: "-s 10.0.0.1/255.0.0.255 -j DROP", target: "DROP", special: true}},
		{`-g FWDI_public`, found{spec: "-g FWDI_public", target: "FWDI_public"}},
		{`-m comment`, found{spec: ""}},
		{`-m comment --comment`, found{spec: ""}},
		{`-s`, found{spec: "-s", special: true}},
		{`-j`, found{spec: "-j"}},
		{``, found{}},
	}
	for _, tt := range tests {
		tt.want.text = tt.text
		if got := parse(tt.text); got != tt.want {
			t.Errorf("parse(%q)\n got %+v\nwant %+v", tt.text, got, tt.want)
		}
	}
}

// FuzzParse feeds parse what other programs may write into a chain.
func FuzzParse(f *testing.F) {
	f.Add(`-s 1.2.3.4/32 ! -d 10.0.0.0/8 -m comment --comment "a \"b" -j MASQUERADE`)
	f.Add(`! -m comment -j`)
	f.Fuzz(func(t *testing.T, text string) {
		got := parse(text)
		got.defeats(network)
		if isOurs(got, MasqRules(network, own, true)) && got.comment != mark && got.special {
			t.Errorf("%q is taken for a former flannel's", text)
		}
	})
}
