package subnet

import (
	"cmp"
	"errors"
	"net/netip"
	"testing"
)

func TestParseConfig(t *testing.T) {
	for _, tt := range []struct {
		name, raw                string
		network, first, last     string
		bits                     int
		backend                  string
		wrongField, wrongBecause string
	}{
		{name: "the tutorial's", raw: `{"Network": "172.7.0.0/16", "Backend": {"Type": "host-gw"}}`,
			network: "172.7.0.0/16", bits: 24, first: "172.7.1.0", last: "172.7.255.0", backend: "host-gw"},
		{name: "names in any case", raw: `{"network":"172.7.0.0/16","BACKEND":{"tYPE":"VxLAN","Directrouting":true}}`,
			network: "172.7.0.0/16", bits: 24, first: "172.7.1.0", last: "172.7.255.0", backend: "vxlan"},
		{name: "a /22 is the narrowest with /24", raw: `{"Network":"10.1.0.0/22"}`, network: "10.1.0.0/22", bits: 24, first: "10.1.1.0", last: "10.1.3.0"},
		{name: "a /23 has /25", raw: `{"Network":"10.1.0.0/23"}`, network: "10.1.0.0/23", bits: 25, first: "10.1.0.128", last: "10.1.1.128"},
		{name: "a /28 has /30", raw: `{"Network":"10.1.0.0/28"}`, network: "10.1.0.0/28", bits: 30, first: "10.1.0.4", last: "10.1.0.12"},
		{name: "host bits are dropped", raw: `{"Network":"172.7.3.4/16"}`, network: "172.7.0.0/16", bits: 24, first: "172.7.1.0", last: "172.7.255.0"},
		{name: "range", raw: `{"Network":"10.0.0.0/8","SubnetLen":20,"SubnetMin":"10.10.0.0","SubnetMax":"10.99.0.0"}`,
			network: "10.0.0.0/8", bits: 20, first: "10.10.0.0", last: "10.99.0.0"},
		{name: "a range of one", raw: `{"Network":"10.0.0.0/16","SubnetMin":"10.0.9.0","SubnetMax":"10.0.9.0"}`, network: "10.0.0.0/16", bits: 24, first: "10.0.9.0", last: "10.0.9.0"},
		{name: "no range", raw: `{"Network":"10.0.0.0/16","SubnetMin":"0.0.0.0","SubnetMax":"0.0.0.0"}`, network: "10.0.0.0/16", bits: 24, first: "10.0.1.0", last: "10.0.255.0"},
		{name: "an empty range", raw: `{"Network":"10.0.0.0/16","SubnetMin":"","SubnetMax":""}`, network: "10.0.0.0/16", bits: 24, first: "10.0.1.0", last: "10.0.255.0"},
		{name: "a range without an end", raw: `{"Network":"10.0.0.0/16","SubnetMin":"10.0.9.0","SubnetMax":"0.0.0.0"}`, network: "10.0.0.0/16", bits: 24, first: "10.0.9.0", last: "10.0.255.0"},
		{name: "no range of the other family", raw: `{"Network":"10.0.0.0/16","SubnetMin":"::"}`, wrongField: "SubnetMin", wrongBecause: `SubnetMin "::" is not an IPv4 address such as "172.7.1.0"`},
		{name: "the network's own first subnet, if asked for", raw: `{"Network":"10.0.0.0/16","SubnetMin":"10.0.0.0"}`, network: "10.0.0.0/16", bits: 24, first: "10.0.0.0", last: "10.0.255.0"},
		{name: "unknown fields", raw: `{"Network":"10.0.0.0/16","EnableIPv6":false}`, network: "10.0.0.0/16", bits: 24, first: "10.0.1.0", last: "10.0.255.0"},

		{name: "empty", raw: ``, wrongBecause: "is not JSON: unexpected end of JSON input at byte 0"},
		{name: "not JSON", raw: `{"Network":}`, wrongBecause: "is not JSON: invalid character '}' looking for beginning of value at byte 12"},
		{name: "an array", raw: `[]`, wrongBecause: "must be a JSON object, not a array"},
		{name: "no network", raw: `{}`, wrongField: "Network", wrongBecause: `Network is missing: set it to the cluster's range, such as "172.7.0.0/16"`},
		{name: "network of another type", raw: `{"Network":16}`, wrongField: "Network", wrongBecause: "Network must be a JSON string, not a number"},
		{name: "no length", raw: `{"Network":"10.0.0.0"}`, wrongField: "Network", wrongBecause: `Network "10.0.0.0" is not an IPv4 network such as "172.7.0.0/16"`},
		{name: "IPv6", raw: `{"Network":"fd00::/48"}`, wrongField: "Network", wrongBecause: `Network "fd00::/48" is not an IPv4 network such as "172.7.0.0/16"`},
		{name: "too small", raw: `{"Network":"10.0.0.0/29"}`, wrongField: "Network", wrongBecause: `Network "10.0.0.0/29" is too small: it must be a /28 or wider`},
		{name: "loopback", raw: `{"Network":"127.1.0.0/16"}`, wrongField: "Network", wrongBecause: `Network "127.1.0.0/16" overlaps 127.0.0.0/8, which no container can use`},
		{name: "everything", raw: `{"Network":"0.0.0.0/0"}`, wrongField: "Network", wrongBecause: `Network "0.0.0.0/0" overlaps 0.0.0.0/8, which no container can use`},
		{name: "subnets as wide as the network", raw: `{"Network":"10.0.0.0/16","SubnetLen":17}`, wrongField: "SubnetLen",
			wrongBecause: `SubnetLen "17" leaves too few subnets in 10.0.0.0/16: it must be at least 18`},
		{name: "subnets without room", raw: `{"Network":"10.0.0.0/16","SubnetLen":31}`, wrongField: "SubnetLen", wrongBecause: `SubnetLen "31" leaves no room for containers: it must be at most 30`},
		{name: "a length of another type", raw: `{"Network":"10.0.0.0/16","SubnetLen":"24"}`, wrongField: "SubnetLen", wrongBecause: "SubnetLen must be a JSON whole number, not a string"},
		{name: "a range outside", raw: `{"Network":"10.0.0.0/16","SubnetMin":"10.1.0.0"}`, wrongField: "SubnetMin", wrongBecause: `SubnetMin "10.1.0.0" is outside of Network 10.0.0.0/16`},
		{name: "a range within a subnet", raw: `{"Network":"10.0.0.0/16","SubnetMax":"10.0.9.1"}`, wrongField: "SubnetMax",
			wrongBecause: `SubnetMax "10.0.9.1" is not the start of a /24: the nearest is 10.0.9.0`},
		{name: "a range upside down", raw: `{"Network":"10.0.0.0/16","SubnetMin":"10.0.9.0","SubnetMax":"10.0.8.0"}`, wrongField: "SubnetMin",
			wrongBecause: `SubnetMin "10.0.9.0" is above SubnetMax 10.0.8.0`},
		{name: "no address", raw: `{"Network":"10.0.0.0/16","SubnetMin":"x"}`, wrongField: "SubnetMin", wrongBecause: `SubnetMin "x" is not an IPv4 address such as "172.7.1.0"`},
		{name: "a backend that is no object", raw: `{"Network":"10.0.0.0/16","Backend":"vxlan"}`, wrongField: "Backend", wrongBecause: "Backend must be a JSON object, not a string"},
		{name: "nftables that is neither on nor off", raw: `{"Network":"10.0.0.0/16","EnableNFTables":"yes"}`, wrongField: "EnableNFTables", wrongBecause: "EnableNFTables must be a JSON true or false, not a string"},
		{name: "IPv4 by name", raw: `{"Network":"10.0.0.0/16","EnableIPv4":true,"enableipv6":false}`, network: "10.0.0.0/16", bits: 24, first: "10.0.1.0", last: "10.0.255.0"},
		{name: "IPv6 too", raw: `{"Network":"10.0.0.0/16","EnableIPv6":true,"IPv6Network":"fc00:7::/48"}`, network: "10.0.0.0/16", bits: 24, first: "10.0.1.0", last: "10.0.255.0"},
		{name: "IPv6 alone", raw: `{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fc00:7::/48"}`, network: "fc00:7::/48", bits: 64, first: "fc00:7:0:1::", last: "fc00:7:0:ffff::"},
		{name: "a /62 is the narrowest with /64", raw: `{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fc00:7::/62"}`, network: "fc00:7::/62", bits: 64, first: "fc00:7:0:1::", last: "fc00:7:0:3::"},
		{name: "a /63 has /65", raw: `{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fc00:7::/63"}`, network: "fc00:7::/63", bits: 65, first: "fc00:7:0:0:8000::", last: "fc00:7:0:1:8000::"},
		{name: "a range of IPv6", raw: `{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fc00:7::/48","IPv6SubnetLen":56,"IPv6SubnetMin":"fc00:7:0:200::","IPv6SubnetMax":"fc00:7:0:f00::"}`,
			network: "fc00:7::/48", bits: 56, first: "fc00:7:0:200::", last: "fc00:7:0:f00::"},
		{name: "the smallest network of IPv6", raw: `{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fc00::/124"}`, network: "fc00::/124", bits: 126, first: "fc00::4", last: "fc00::c"},
		{name: "no network of IPv6", raw: `{"Network":"10.0.0.0/16","EnableIPv6":true}`, wrongField: "IPv6Network", wrongBecause: `IPv6Network is missing: set it to the cluster's range, such as "fd00:7::/48"`},
		{name: "IPv4 as IPv6's", raw: `{"Network":"10.0.0.0/16","EnableIPv6":true,"IPv6Network":"10.1.0.0/16"}`, wrongField: "IPv6Network", wrongBecause: `IPv6Network "10.1.0.0/16" is not an IPv6 network such as "fd00:7::/48"`},
		{name: "too small for IPv6", raw: `{"Network":"10.0.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/125"}`, wrongField: "IPv6Network", wrongBecause: `IPv6Network "fc00::/125" is too small: it must be a /124 or wider`},
		{name: "link-local", raw: `{"Network":"10.0.0.0/16","EnableIPv6":true,"IPv6Network":"fe80::/48"}`, wrongField: "IPv6Network", wrongBecause: `IPv6Network "fe80::/48" overlaps fe80::/10, which no container can use`},
		{name: "IPv6 subnets without room", raw: `{"Network":"10.0.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/48","IPv6SubnetLen":127}`, wrongField: "IPv6SubnetLen",
			wrongBecause: `IPv6SubnetLen "127" leaves no room for containers: it must be at most 126`},
		{name: "IPv6 subnets as wide as the network", raw: `{"Network":"10.0.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/48","IPv6SubnetLen":49}`, wrongField: "IPv6SubnetLen",
			wrongBecause: `IPv6SubnetLen "49" leaves too few subnets in fc00::/48: it must be at least 50`},
		{name: "an IPv6 range outside", raw: `{"Network":"10.0.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/48","IPv6SubnetMin":"fc01::"}`, wrongField: "IPv6SubnetMin", wrongBecause: `IPv6SubnetMin "fc01::" is outside of IPv6Network fc00::/48`},
		{name: "an IPv6 range upside down", raw: `{"Network":"10.0.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/48","IPv6SubnetMin":"fc00:0:0:9::","IPv6SubnetMax":"fc00:0:0:8::"}`,
			wrongField: "IPv6SubnetMin", wrongBecause: `IPv6SubnetMin "fc00:0:0:9::" is above IPv6SubnetMax fc00:0:0:8::`},
		{name: "an IPv6 range within a subnet", raw: `{"Network":"10.0.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/48","IPv6SubnetMax":"fc00:0:0:9::1"}`, wrongField: "IPv6SubnetMax",
			wrongBecause: `IPv6SubnetMax "fc00:0:0:9::1" is not the start of a /64: the nearest is fc00:0:0:9::`},
		{name: "neither", raw: `{"Network":"10.0.0.0/16","EnableIPv4":false}`, wrongField: "EnableIPv4", wrongBecause: `EnableIPv4 "false" leaves no addresses for containers: remove the field, or set EnableIPv6`},
		{name: "IPv6 that is neither on nor off", raw: `{"Network":"10.0.0.0/16","EnableIPv6":"true"}`, wrongField: "EnableIPv6", wrongBecause: "EnableIPv6 must be a JSON true or false, not a string"},
		{name: "a type that is no text", raw: `{"Network":"10.0.0.0/16","Backend":{"Type":7}}`, wrongField: "Backend.Type", wrongBecause: "Backend.Type must be a JSON string, not a number"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := ParseConfig(tt.raw)
			if tt.wrongBecause != "" {
				var field *FieldError
				if !errors.As(err, &field) || field.Field != tt.wrongField || err.Error() != tt.wrongBecause {
					t.Fatalf("error %v, want %s", err, tt.wrongBecause)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.Network.String() != tt.network || c.SubnetLen != tt.bits || c.SubnetMin.String() != tt.first || c.SubnetMax.String() != tt.last || c.BackendType != cmp.Or(tt.backend, "udp") {
				t.Errorf("%+v", c)
			}
		})
	}
}

func TestConfigNFTables(t *testing.T) {
	for raw, want := range map[string]bool{
		`{"Network":"10.0.0.0/16"}`:                          false,
		`{"Network":"10.0.0.0/16","EnableNFTables":false}`:   false,
		`{"Network":"10.0.0.0/16","enablenftables":true}`:    true,
		`{"EnableNFTables": true, "Network": "10.0.0.0/16"}`: true,
	} {
		if c, err := ParseConfig(raw); err != nil || c.NFTables != want {
			t.Errorf("%s: %v, %v", raw, c.NFTables, err)
		}
	}
}

func TestConfigOptions(t *testing.T) {
	var o struct {
		VNI  int
		Port uint16
		GBP  bool
	}
	parse := func(raw string) error {
		c, err := ParseConfig(raw)
		if err != nil {
			t.Fatal(err)
		}
		return c.Options(&o)
	}
	if err := parse(`{"Network":"10.0.0.0/16","Backend":{"Type":"vxlan","vni":7,"PORT":4789,"gbp":true}}`); err != nil || o.VNI != 7 || o.Port != 4789 || !o.GBP {
		t.Errorf("%+v, %v", o, err)
	}
	if err := parse(`{"Network":"10.0.0.0/16"}`); err != nil {
		t.Error(err)
	}
	for raw, want := range map[string]string{
		`{"VNI":"x"}`:   "Backend.VNI must be a JSON whole number, not a string",
		`{"GBP":1}`:     "Backend.GBP must be a JSON true or false, not a number",
		`{"Port":7e9}`:  "Backend.Port must be a JSON whole number, not a number 7e9",
		`{"Port":-1}`:   "Backend.Port must be a JSON whole number, not a number -1",
		`{"VNI":1.5}`:   "Backend.VNI must be a JSON whole number, not a number 1.5",
		`{"Port":null}`: "",
	} {
		err := parse(`{"Network":"10.0.0.0/16","Backend":` + raw + `}`)
		if got := errText(err); got != want {
			t.Errorf("%s: %q, want %q", raw, got, want)
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestFree(t *testing.T) {
	config := func(raw string) Config {
		c, err := ParseConfig(raw)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	four := config(`{"Network":"10.0.0.0/26","SubnetLen":28,"SubnetMin":"10.0.0.0"}`)
	for _, tt := range []struct {
		name  string
		c     Config
		taken []string
		n     int
		want  []string
	}{
		{"all", four, nil, 9, []string{"10.0.0.0/28", "10.0.0.16/28", "10.0.0.32/28", "10.0.0.48/28"}},
		{"the first ones", four, nil, 2, []string{"10.0.0.0/28", "10.0.0.16/28"}},
		{"around one that is taken", four, []string{"10.0.0.16/28"}, 9, []string{"10.0.0.0/28", "10.0.0.32/28", "10.0.0.48/28"}},
		{"around a wider one", four, []string{"10.0.0.0/27"}, 9, []string{"10.0.0.32/28", "10.0.0.48/28"}},
		{"around a narrower one", four, []string{"10.0.0.20/30"}, 9, []string{"10.0.0.0/28", "10.0.0.32/28", "10.0.0.48/28"}},
		{"unsorted, doubled, overlapping", four, []string{"10.0.0.48/28", "10.0.0.0/28", "10.0.0.0/27", "10.0.0.0/28"}, 9, []string{"10.0.0.32/28"}},
		{"of other networks", four, []string{"9.0.0.0/8", "11.0.0.0/8"}, 1, []string{"10.0.0.0/28"}},
		{"none", four, []string{"10.0.0.0/8"}, 9, nil},
		{"at the end of all addresses", config(`{"Network":"223.255.255.0/24","SubnetLen":26}`), nil, 9,
			[]string{"223.255.255.64/26", "223.255.255.128/26", "223.255.255.192/26"}},
	} {
		var taken []netip.Prefix
		for _, p := range tt.taken {
			taken = append(taken, netip.MustParsePrefix(p))
		}
		var got []string
		for _, p := range tt.c.Free(taken, tt.n) {
			got = append(got, p.String())
		}
		if len(got) != len(tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
			continue
		}
		for i := range got {
			if got[i] != tt.want[i] {
				t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
			}
		}
	}
}

// TestMayLease: which addresses may come to lie in a subnet that is leased.
func TestMayLease(t *testing.T) {
	c, err := ParseConfig(`{"Network":"10.4.0.0/16","SubnetMin":"10.4.8.0","SubnetMax":"10.4.9.0"}`)
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]bool{
		"10.4.7.255/32": false, "10.4.8.0/32": true, "10.4.9.255/32": true, "10.4.10.0/32": false,
		"10.4.0.0/21": false, "10.4.0.0/20": true, "10.4.9.128/25": true, "0.0.0.0/0": true, "fd00::/8": false,
	} {
		if got := c.MayLease(netip.MustParsePrefix(p)); got != want {
			t.Errorf("%s: %t", p, got)
		}
	}
}
