package admin_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"flanneld/pkg/admin"
	"flanneld/pkg/backend"
	"flanneld/pkg/backend/hostgw"
	"flanneld/pkg/backend/vxlan"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/subnettest"
)

const (
	hostGW = `{"Network":"172.7.0.0/16","Backend":{"Type":"host-gw"}}`
	vxLAN  = `{"Network":"172.7.0.0/16","Backend":{"Type":"VxLAN"}}`
	by21   = `{"PublicIP":"10.4.7.21","BackendType":"host-gw"}`
	by22   = `{"PublicIP":"10.4.7.22","BackendType":"host-gw"}`

	both    = `{"Network":"172.7.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:7::/48","Backend":{"Type":"host-gw"}}`
	six     = `{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00:7::/48","Backend":{"Type":"host-gw"}}`
	plain21 = "subnets/172.7.21.0-24"
	both21  = "subnets/172.7.21.0-24&fd00:7:0:21::-64"
	six21   = "subnets/0.0.0.0-0&fd00:7:0:21::-64"
	byBoth  = `{"PublicIP":"10.4.7.21","PublicIPv6":"fd00:4::21","BackendType":"host-gw"}`
	bySix   = `{"PublicIP":"0.0.0.0","PublicIPv6":"fd00:4::21","BackendType":"host-gw"}`
	bySix22 = `{"PublicIP":"0.0.0.0","PublicIPv6":"fd00:4::22","BackendType":"host-gw"}`
)

var tooLong = strings.Repeat("x", 1_000_000)

func open(s *subnettest.Store) admin.Admin {
	return admin.Admin{Store: s.Client(), Backends: map[string]backend.Factory{hostgw.Type: hostgw.New, vxlan.Type: vxlan.New}}
}

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		text    string
		ignored string
		err     string
	}{
		{hostGW, "", ""},
		{vxLAN, "", ""},
		{`{"network":"172.7.0.0/16","SUBNETLEN":24,"SubnetMin":"172.7.9.0","SubnetMax":"172.7.10.0","backend":{"TYPE":"vxlan","vni":3,"Port":0,"directrouting":true,"MTU":9000,"GBP":true,"Learning":true,"DisableTxChecksum":true}}`, "", ""},
		{`{"Network":"172.7.0.0/16","Backend":{"Type":"vxlan","Directroutng":true,"MacPrefix":"0E-2A"},"SubnetLenn":24}`, "SubnetLenn (did you mean SubnetLen?) Backend.Directroutng (did you mean Backend.DirectRouting?) Backend.MacPrefix (it is for hosts with Windows alone)", ""},
		{`{"Network":"172.7.0.0/16","Backend":{"Type":"vxlan"},"EnableIPv6":true}`, "", `IPv6Network is missing: set it to the cluster's range, such as "fd00:7::/48"`},
		{both, "", ""},
		{six, "", ""},
		{`{"Network":"172.7.0.0/16","Backend":{"Type":"vxlan"},"EnableIPv6":true,"IPv6Network":"172.8.0.0/16"}`, "", `IPv6Network "172.8.0.0/16" is not an IPv6 network`},
		{`{"Network":"172.7.0.0/16","Backend":{"Type":"vxlan"},"IPv6Network":"fd00:7::/48"}`, "IPv6Network (the config does not use IPv6: set EnableIPv6 to true)", ""},
		{`{"Network":"172.7.0.0/16","EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00:7::/48","Backend":{"Type":"vxlan"}}`, "Network (the config does not use IPv4: set EnableIPv4 to true)", ""},
		{`{"Network":"172.7.0.0/16","Backend":{"Type":"host-gw","VNI":3}}`, "Backend.VNI (flanneld knows no such field)", ""},
		{`{`, "", "is not JSON: unexpected end of JSON input at byte 1"},
		{`{"Network":"172.7.0.0/33","Backend":{"Type":"host-gw"}}`, "", `Network "172.7.0.0/33" is not an IPv4 network`},
		{`{"Network":"172.7.0.0/16","SubnetLen":"24","Backend":{"Type":"host-gw"}}`, "", "SubnetLen must be a JSON whole number, not a string"},
		{`{"Network":"172.7.0.0/16"}`, "", `Backend.Type "udp" is not supported: the types are host-gw, vxlan`},
		{`{"Network":"172.7.0.0/16","Backend":{"Type":"udp"}}`, "", `Backend.Type "udp" is not supported: the types are host-gw, vxlan`},
		{`{"Network":"172.7.0.0/16","Backend":{"Type":"vxlan","VNI":16777216}}`, "", `Backend.VNI "16777216" is not a VXLAN network identifier`},
		{`{"Network":"172.7.0.0/16","Backend":{"Type":"vxlan","Port":70000}}`, "", `Backend.Port "70000" is not a UDP port`},
		{`{"Network":"172.7.0.0/16","Backend":{"Type":"vxlan","DirectRouting":"yes"}}`, "", "Backend.DirectRouting must be a JSON true or false, not a string"},
	} {
		_, ignored, err := open(subnettest.NewStore()).Check(tt.text)
		var field *subnet.FieldError
		switch {
		case tt.err == "" && err != nil, tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err) || !errors.As(err, &field)):
			t.Errorf("%s: %v, want %q", tt.text, err, tt.err)
		case strings.Trim(fmt.Sprint(ignored), "[]") != tt.ignored:
			t.Errorf("%s: ignored %q, want %q", tt.text, ignored, tt.ignored)
		}
	}
}

// step is an operator's action on a store.
type step func(*testing.T, admin.Admin) (admin.Change, error)

func set(text string) step {
	return func(t *testing.T, a admin.Admin) (admin.Change, error) { return a.SetConfig(t.Context(), text) }
}

// reserve has several, separated by spaces.
func reserve(subnets, at string) step {
	var all []netip.Prefix
	var ips []netip.Addr
	for _, p := range strings.Fields(subnets) {
		all = append(all, netip.MustParsePrefix(p))
	}
	for _, ip := range strings.Fields(at) {
		ips = append(ips, netip.MustParseAddr(ip))
	}
	return func(t *testing.T, a admin.Admin) (admin.Change, error) {
		return a.Reserve(t.Context(), subnet.SubnetsOf(all...), ips)
	}
}

func release(p string, atOnce bool) step { return releaseKey(p, "", atOnce) }

func releaseKey(p, key string, atOnce bool) step {
	return func(t *testing.T, a admin.Admin) (admin.Change, error) {
		return a.Release(t.Context(), netip.MustParsePrefix(p), key, atOnce)
	}
}

const dual = "subnets/172.7.21.0-24&fc00:7:0:21::-64"

func TestChanges(t *testing.T) {
	const day = subnet.LeaseTTL
	type entries map[string]string // a value ends in " for ever" where it has no TTL
	for _, tt := range []struct {
		name   string
		before []subnet.Entry
		do     step
		asks   string // part of the question; "": none
		says   string // part of what is done, or of the error
		notes  string
		fails  bool
		after  entries // what changed; "": gone
	}{
		{name: "the first config", do: set(hostGW + "\n"), says: "written: " + hostGW, after: entries{"config": hostGW + " for ever"}},
		{name: "the same config", before: []subnet.Entry{{Key: "config", Value: hostGW}}, do: set(hostGW), says: "is so already"},
		{name: "a wrong config", do: set(`{"Network":"x"}`), fails: true, says: "Network"},
		{name: "another backend", before: []subnet.Entry{{Key: "config", Value: hostGW}, {Key: "subnets/172.7.21.0-24", Value: by21, TTL: day}},
			do: set(vxLAN), says: "written", after: entries{"config": vxLAN + " for ever"}},
		{name: "over a config with a lifetime", before: []subnet.Entry{{Key: "config", Value: hostGW, TTL: time.Hour}}, do: set(vxLAN), says: "written", after: entries{"config": vxLAN + " for ever"}},
		{name: "a network without the hosts", before: []subnet.Entry{{Key: "config", Value: hostGW}, {Key: "subnets/172.7.21.0-24", Value: by21, TTL: day}, {Key: "subnets/172.7.22.0-24", Value: by22}},
			do: set(`{"Network":"172.7.16.0/22","Backend":{"Type":"host-gw"}}`), says: "written",
			asks:  "2 hosts must leave their subnets once flanneld is restarted there, and then restart their containers:\n  172.7.21.0/24 of 10.4.7.21\n  172.7.22.0/24 of 10.4.7.22\nWrite it?",
			after: entries{"config": `{"Network":"172.7.16.0/22","Backend":{"Type":"host-gw"}}` + " for ever"}},
		{name: "subnets of another length", before: []subnet.Entry{{Key: "config", Value: hostGW}, {Key: "subnets/172.7.21.0-24", Value: by21, TTL: day}},
			do: set(`{"Network":"172.7.0.0/16","SubnetLen":26,"Backend":{"Type":"host-gw"}}`), says: "written", asks: "1 host must leave their subnets once flanneld is restarted there, and then restart their containers:\n  172.7.21.0/24 of 10.4.7.21\nWrite it?",
			after: entries{"config": `{"Network":"172.7.0.0/16","SubnetLen":26,"Backend":{"Type":"host-gw"}}` + " for ever"}},
		{name: "a narrower range", before: []subnet.Entry{{Key: "config", Value: hostGW}, {Key: "subnets/172.7.21.0-24", Value: by21, TTL: day}, {Key: "subnets/172.7.22.0-24", Value: by22, TTL: day}},
			do: set(`{"Network":"172.7.0.0/16","SubnetMax":"172.7.21.0","Backend":{"Type":"host-gw"}}`), says: "written", asks: "restart their containers:\n  172.7.22.0/24 of 10.4.7.22\nWrite it?",
			after: entries{"config": `{"Network":"172.7.0.0/16","SubnetMax":"172.7.21.0","Backend":{"Type":"host-gw"}}` + " for ever"}},
		{name: "a lease that cannot be read", before: []subnet.Entry{{Key: "config", Value: hostGW}, {Key: "subnets/172.7.21.0-24", Value: "{", TTL: day}},
			do: set(`{"Network":"10.1.0.0/16","Backend":{"Type":"host-gw"}}`), says: "written", asks: "  172.7.21.0/24, whose lease cannot be read\nWrite it?",
			after: entries{"config": `{"Network":"10.1.0.0/16","Backend":{"Type":"host-gw"}}` + " for ever"}},
		{name: "another network, and no lease is known", before: []subnet.Entry{{Key: "config", Value: hostGW}},
			do: set(`{"Network":"10.1.0.0/16","Backend":{"Type":"host-gw"}}`), says: "written", asks: "The config in force has other subnets, /24 from 172.7.1.0 to 172.7.255.0, and no lease is known",
			after: entries{"config": `{"Network":"10.1.0.0/16","Backend":{"Type":"host-gw"}}` + " for ever"}},
		{name: "a wider network, and no lease is known", before: []subnet.Entry{{Key: "config", Value: `{"Network":"172.7.16.0/20","Backend":{"Type":"host-gw"}}`}}, do: set(hostGW), says: "written", after: entries{"config": hostGW + " for ever"}},
		{name: "over a wrong config, with leases that do not fit", before: []subnet.Entry{{Key: "config", Value: `{"Network":"10.1.0.0/16","SubnetLen":99}`}, {Key: "subnets/10.1.3.0-24", Value: by21, TTL: day}}, do: set(hostGW), says: "written", asks: "  10.1.3.0/24 of 10.4.7.21\nWrite it?", after: entries{"config": hostGW + " for ever"}},
		{name: "a field that is unknown", do: set(`{"Network":"172.7.0.0/16","Backend":{"Type":"vxlan","Directroutng":true}}`), asks: "flanneld ignores the field Backend.Directroutng (did you mean Backend.DirectRouting?).\nWrite it?",
			says: "written", after: entries{"config": `{"Network":"172.7.0.0/16","Backend":{"Type":"vxlan","Directroutng":true}}` + " for ever"}},

		{name: "reserve what is free", before: []subnet.Entry{{Key: "config", Value: vxLAN}}, do: reserve("172.7.21.1/24", "10.4.7.21"), says: "172.7.21.0/24 is reserved for 10.4.7.21",
			after: entries{"subnets/172.7.21.0-24": `{"PublicIP":"10.4.7.21","BackendType":"vxlan"} for ever`}},
		{name: "reserve the host's own lease", before: []subnet.Entry{{Key: "config", Value: vxLAN}, {Key: "subnets/172.7.21.0-24", Value: by21, TTL: day}},
			do: reserve("172.7.21.0/24", "10.4.7.21"), says: "is reserved", after: entries{"subnets/172.7.21.0-24": by21 + " for ever"}},
		{name: "reserve what is reserved", before: []subnet.Entry{{Key: "config", Value: vxLAN}, {Key: "subnets/172.7.21.0-24", Value: by21}}, do: reserve("172.7.21.0/24", "10.4.7.21"), says: "is reserved"},
		{name: "reserve for a host with another lease", before: []subnet.Entry{{Key: "config", Value: hostGW}, {Key: "subnets/172.7.30.0-24", Value: by21, TTL: day}},
			do: reserve("172.7.21.0/24", "10.4.7.21"), says: "is reserved", notes: "10.4.7.21 holds 172.7.30.0/24 until", after: entries{"subnets/172.7.21.0-24": by21 + " for ever"}},
		{name: "reserve another host's lease", before: []subnet.Entry{{Key: "config", Value: hostGW}, {Key: "subnets/172.7.21.0-24", Value: by22, TTL: day}},
			do: reserve("172.7.21.0/24", "10.4.7.21"), fails: true, says: "172.7.21.0/24 is leased to 10.4.7.22 until"},
		{name: "reserve in the way of a lease", before: []subnet.Entry{{Key: "config", Value: hostGW}, {Key: "subnets/172.7.16.0-20", Value: by22, TTL: day}},
			do: reserve("172.7.21.0/24", "10.4.7.21"), fails: true, says: "172.7.21.0/24 overlaps 172.7.16.0/20, which is leased to 10.4.7.22"},
		{name: "reserve over garbage", before: []subnet.Entry{{Key: "config", Value: hostGW}, {Key: "subnets/172.7.21.0-24", Value: "{"}},
			do: reserve("172.7.21.0/24", "10.4.7.21"), fails: true, says: "the key subnets/172.7.21.0-24 is in the way, and is no lease"},
		{name: "reserve outside of the config", before: []subnet.Entry{{Key: "config", Value: hostGW}}, do: reserve("172.7.21.0/25", "10.4.7.21"), fails: true,
			says: "172.7.21.0/25 is none of the subnets in the config: they are the /24 from 172.7.1.0 to 172.7.255.0"},
		{name: "reserve what a dual-stack host has", before: []subnet.Entry{{Key: "config", Value: hostGW}, {Key: dual, Value: by22, TTL: day}},
			do: reserve("172.7.21.0/24", "10.4.7.21"), fails: true, says: "172.7.21.0/24 is leased to 10.4.7.22 until"},
		{name: "reserve a dual-stack host's own", before: []subnet.Entry{{Key: "config", Value: hostGW}, {Key: dual, Value: by22, TTL: day}},
			do: reserve("172.7.21.0/24", "10.4.7.22"), says: "is reserved", after: entries{dual: by22 + " for ever"}},
		{name: "reserve over dual-stack garbage", before: []subnet.Entry{{Key: "config", Value: hostGW}, {Key: dual, Value: "{"}},
			do: reserve("172.7.21.0/24", "10.4.7.21"), fails: true, says: "flanneld lease release --now '172.7.21.0-24&fc00:7:0:21::-64' removes it"},
		{name: "reserve beside IPv6 alone", before: []subnet.Entry{{Key: "config", Value: hostGW}, {Key: "subnets/0.0.0.0-0&fc00:7::-64", Value: "{", TTL: day}},
			do: reserve("172.7.21.0/24", "10.4.7.21"), says: "is reserved", after: entries{"subnets/172.7.21.0-24": by21 + " for ever"}},
		{name: "release what a dual-stack host has", before: []subnet.Entry{{Key: dual, Value: by22, TTL: day}}, do: release("172.7.21.0/24", true), asks: "172.7.21.0/24 and fc00:7:0:21::/64 are leased to 10.4.7.22 until", says: "the lease of 172.7.21.0/24 and fc00:7:0:21::/64 is removed",
			after: entries{dual: ""}},
		{name: "release one of two keys", before: []subnet.Entry{{Key: "subnets/172.7.21.0-24", Value: by21, TTL: day}, {Key: dual, Value: by22, TTL: day}}, do: release("172.7.21.0/24", true), fails: true,
			says: "2 keys name 172.7.21.0/24: say which, by one of 172.7.21.0-24, '172.7.21.0-24&fc00:7:0:21::-64'"},
		{name: "release the one that is named", before: []subnet.Entry{{Key: "subnets/172.7.21.0-24", Value: by21, TTL: day}, {Key: dual, Value: by22, TTL: day}}, do: releaseKey("172.7.21.0/24", dual, true),
			asks: "172.7.21.0/24 and fc00:7:0:21::/64 are leased to 10.4.7.22 until", says: "is removed", after: entries{dual: ""}},

		{name: "IPv6 comes", before: []subnet.Entry{{Key: "config", Value: hostGW}, {Key: plain21, Value: by21, TTL: day}}, do: set(both), says: "written",
			notes: "IPv6 comes in addition: each running host takes a subnet of fd00:7::/48 beside the one that it has", after: entries{"config": both + " for ever"}},
		{name: "IPv4 comes", before: []subnet.Entry{{Key: "config", Value: six}, {Key: six21, Value: bySix, TTL: day}}, do: set(both), says: "written",
			notes: "IPv4 comes in addition: each running host takes a subnet of 172.7.0.0/16", after: entries{"config": both + " for ever"}},
		{name: "IPv6 goes", before: []subnet.Entry{{Key: "config", Value: both}, {Key: both21, Value: byBoth, TTL: day}}, do: set(hostGW), says: "written",
			notes: "IPv6 goes: running hosts take their routes to fd00:7::/48 away", after: entries{"config": hostGW + " for ever"}},
		{name: "IPv4 goes", before: []subnet.Entry{{Key: "config", Value: both}, {Key: both21, Value: byBoth, TTL: day}}, do: set(six), says: "written",
			notes: "IPv4 goes: running hosts take their routes to 172.7.0.0/16 away", after: entries{"config": six + " for ever"}},
		{name: "both are there already", before: []subnet.Entry{{Key: "config", Value: both}, {Key: both21, Value: byBoth, TTL: day}}, do: set(both), says: "is so already"},
		{name: "the first config of both", do: set(both), says: "written", after: entries{"config": both + " for ever"}},
		{name: "IPv6 comes with another Network", before: []subnet.Entry{{Key: "config", Value: hostGW}, {Key: plain21, Value: by21, TTL: day}}, do: set(strings.Replace(both, "172.7", "172.8", 1)), says: "written",
			asks: "restart their containers:\n  172.7.21.0/24 of 10.4.7.21\nWrite it?", after: entries{"config": strings.Replace(both, "172.7", "172.8", 1) + " for ever"}},
		{name: "IPv4 goes, and a host has nothing else", before: []subnet.Entry{{Key: "config", Value: both}, {Key: both21, Value: byBoth, TTL: day}, {Key: "subnets/172.7.22.0-24", Value: by22, TTL: day}}, do: set(six), says: "written",
			asks: "1 host must leave their subnets once flanneld is restarted there, and then restart their containers:\n  172.7.22.0/24 of 10.4.7.22\nWrite it?", notes: "IPv4 goes", after: entries{"config": six + " for ever"}},
		{name: "from IPv4 to IPv6", before: []subnet.Entry{{Key: "config", Value: hostGW}, {Key: plain21, Value: by21, TTL: day}}, do: set(six), says: "written",
			asks: "1 host must leave their subnets once flanneld is restarted there, and then restart their containers:\n  172.7.21.0/24 of 10.4.7.21\nWrite it?", after: entries{"config": six + " for ever"}},
		{name: "from IPv4 to IPv6, and no lease is known", before: []subnet.Entry{{Key: "config", Value: hostGW}}, do: set(six), says: "written",
			asks: "other subnets, /24 from 172.7.1.0 to 172.7.255.0, and no lease", after: entries{"config": six + " for ever"}},
		{name: "another IPv6Network", before: []subnet.Entry{{Key: "config", Value: both}, {Key: both21, Value: byBoth, TTL: day}}, do: set(strings.Replace(both, "fd00:7", "fd00:8", 1)), says: "written",
			asks: "restart their containers:\n  fd00:7:0:21::/64 of 10.4.7.21\nWrite it?", after: entries{"config": strings.Replace(both, "fd00:7", "fd00:8", 1) + " for ever"}},
		{name: "other networks of both, and no lease is known", before: []subnet.Entry{{Key: "config", Value: both}}, do: set(strings.NewReplacer("fd00:7", "fd00:8", "172.7", "172.8").Replace(both)), says: "written",
			asks:  "other subnets, /24 from 172.7.1.0 to 172.7.255.0 and /64 from fd00:7:0:1:: to fd00:7:0:ffff::, and no lease",
			after: entries{"config": strings.NewReplacer("fd00:7", "fd00:8", "172.7", "172.8").Replace(both) + " for ever"}},
		{name: "a dual lease that cannot be read", before: []subnet.Entry{{Key: "config", Value: both}, {Key: both21, Value: "{", TTL: day}}, do: set(strings.Replace(both, "172.7", "172.8", 1)), says: "written",
			asks: "  172.7.21.0/24, whose lease cannot be read\nWrite it?", after: entries{"config": strings.Replace(both, "172.7", "172.8", 1) + " for ever"}},

		{name: "reserve both", before: []subnet.Entry{{Key: "config", Value: both}}, do: reserve("172.7.21.1/24 fd00:7:0:21::1/64", "10.4.7.21 fd00:4::21"),
			says: "172.7.21.0/24 and fd00:7:0:21::/64 are reserved for 10.4.7.21 and fd00:4::21", after: entries{both21: byBoth + " for ever"}},
		{name: "reserve both, IPv6 first", before: []subnet.Entry{{Key: "config", Value: both}}, do: reserve("fd00:7:0:21::/64 172.7.21.0/24", "fd00:4::21 10.4.7.21"), says: "are reserved", after: entries{both21: byBoth + " for ever"}},
		{name: "reserve IPv6 alone", before: []subnet.Entry{{Key: "config", Value: both}}, do: reserve("fd00:7:0:21::/64", "fd00:4::21"), says: "fd00:7:0:21::/64 is reserved for fd00:4::21", after: entries{six21: bySix + " for ever"}},
		{name: "reserve in a cluster of IPv6 alone", before: []subnet.Entry{{Key: "config", Value: six}}, do: reserve("fd00:7:0:21::/64", "fd00:4::21"), says: "is reserved", after: entries{six21: bySix + " for ever"}},
		{name: "reserve what both are leased to", before: []subnet.Entry{{Key: "config", Value: both}, {Key: both21, Value: byBoth, TTL: day}}, do: reserve("172.7.21.0/24 fd00:7:0:21::/64", "10.4.7.21 fd00:4::21"), says: "are reserved", after: entries{both21: byBoth + " for ever"}},
		{name: "reserve what is reserved for both", before: []subnet.Entry{{Key: "config", Value: both}, {Key: both21, Value: byBoth}}, do: reserve("172.7.21.0/24 fd00:7:0:21::/64", "10.4.7.21 fd00:4::21"), says: "are reserved"},
		{name: "reserve what is reserved beside a lease of both", before: []subnet.Entry{{Key: "config", Value: both}, {Key: plain21, Value: by21}, {Key: both21, Value: byBoth, TTL: day}}, do: reserve("172.7.21.0/24", "10.4.7.21"), says: "is reserved"},
		{name: "reserve half of a host's own", before: []subnet.Entry{{Key: "config", Value: both}, {Key: both21, Value: byBoth, TTL: day}}, do: reserve("fd00:7:0:21::/64", "fd00:4::21"), says: "is reserved", after: entries{both21: byBoth + " for ever"}},
		{name: "reserve both for a host with IPv4 alone", before: []subnet.Entry{{Key: "config", Value: both}, {Key: plain21, Value: by21, TTL: day}}, do: reserve("172.7.21.0/24 fd00:7:0:21::/64", "10.4.7.21 fd00:4::21"), says: "are reserved", after: entries{both21: byBoth + " for ever"}},
		{name: "reserve another IPv6 subnet for a host", before: []subnet.Entry{{Key: "config", Value: both}, {Key: both21, Value: byBoth, TTL: day}}, do: reserve("172.7.21.0/24 fd00:7:0:99::/64", "10.4.7.21 fd00:4::21"), says: "are reserved",
			notes: "fd00:4::21 holds fd00:7:0:21::/64 until", after: entries{"subnets/172.7.21.0-24&fd00:7:0:99::-64": byBoth + " for ever"}},
		{name: "reserve IPv4 beside another host of IPv6", before: []subnet.Entry{{Key: "config", Value: both}, {Key: six21, Value: bySix22, TTL: day}}, do: reserve("172.7.21.0/24", "10.4.7.21"), says: "is reserved", after: entries{plain21: by21 + " for ever"}},
		{name: "reserve both over another host's IPv6", before: []subnet.Entry{{Key: "config", Value: both}, {Key: six21, Value: bySix22, TTL: day}}, do: reserve("172.7.21.0/24 fd00:7:0:21::/64", "10.4.7.21 fd00:4::21"), fails: true,
			says: "fd00:7:0:21::/64 is leased to fd00:4::22 until"},
		{name: "reserve IPv6 over another host's half", before: []subnet.Entry{{Key: "config", Value: both}, {Key: both21, Value: byBoth, TTL: day}}, do: reserve("fd00:7:0:21::/64", "fd00:4::22"), fails: true,
			says: "fd00:7:0:21::/64 is leased to fd00:4::21 until"},
		{name: "reserve both in the way of IPv6", before: []subnet.Entry{{Key: "config", Value: both}, {Key: "subnets/0.0.0.0-0&fd00:7:0:20::-60", Value: bySix22, TTL: day}}, do: reserve("172.7.21.0/24 fd00:7:0:21::/64", "10.4.7.21 fd00:4::21"), fails: true,
			says: "fd00:7:0:21::/64 overlaps fd00:7:0:20::/60, which is leased to fd00:4::22"},
		{name: "reserve IPv6 over garbage", before: []subnet.Entry{{Key: "config", Value: both}, {Key: six21, Value: "{"}}, do: reserve("fd00:7:0:21::/64", "fd00:4::21"), fails: true, says: "flanneld lease release --now fd00:7:0:21::/64 removes it"},
		{name: "reserve IPv6 outside of the config", before: []subnet.Entry{{Key: "config", Value: both}}, do: reserve("172.7.21.0/24 fd00:7:0:21::/80", "10.4.7.21 fd00:4::21"), fails: true,
			says: "fd00:7:0:21::/80 is none of the subnets in the config: they are the /64 from fd00:7:0:1:: to fd00:7:0:ffff::"},
		{name: "reserve IPv6 where there is none", before: []subnet.Entry{{Key: "config", Value: hostGW}}, do: reserve("fd00:7:0:21::/64", "fd00:4::21"), fails: true, says: "fd00:7:0:21::/64 is none of the subnets in the config, which has none of IPv6"},
		{name: "reserve IPv6 for nobody", before: []subnet.Entry{{Key: "config", Value: both}}, do: reserve("fd00:7:0:21::/64", "fe80::1"), fails: true, says: `PublicIPv6 "fe80::1" lies in fe80::/10`},
		{name: "reserve both for half a host", before: []subnet.Entry{{Key: "config", Value: both}}, do: reserve("172.7.21.0/24 fd00:7:0:21::/64", "10.4.7.21 ::1"), fails: true, says: `PublicIPv6 "::1" is no address`},
		{name: "release both by IPv6", before: []subnet.Entry{{Key: both21, Value: byBoth}}, do: release("fd00:7:0:21::/64", false), says: "172.7.21.0/24 and fd00:7:0:21::/64 are no longer reserved: its lease by 10.4.7.21 ends in a day", after: entries{both21: byBoth}},
		{name: "release IPv6 alone", before: []subnet.Entry{{Key: six21, Value: bySix, TTL: day}}, do: release("fd00:7:0:21::/64", true), asks: "fd00:7:0:21::/64 is leased to fd00:4::21 until", says: "is removed", after: entries{six21: ""}},
		{name: "release IPv6 of one of two", before: []subnet.Entry{{Key: six21, Value: bySix, TTL: day}, {Key: both21, Value: byBoth, TTL: day}}, do: release("fd00:7:0:21::/64", true), fails: true,
			says: "2 keys name fd00:7:0:21::/64: say which, by one of '0.0.0.0-0&fd00:7:0:21::-64', '172.7.21.0-24&fd00:7:0:21::-64'"},
		{name: "reserve for nobody", before: []subnet.Entry{{Key: "config", Value: hostGW}}, do: reserve("172.7.21.0/24", "127.0.0.1"), fails: true, says: "PublicIP"},
		{name: "reserve without a config", do: reserve("172.7.21.0/24", "10.4.7.21"), fails: true, says: "there is no config key yet"},
		{name: "reserve under a wrong config", before: []subnet.Entry{{Key: "config", Value: "{"}}, do: reserve("172.7.21.0/24", "10.4.7.21"), fails: true, says: "the config key is wrong"},

		{name: "release a reservation", before: []subnet.Entry{{Key: "subnets/172.7.21.0-24", Value: by21}}, do: release("172.7.21.0/24", false), says: "is no longer reserved",
			after: entries{"subnets/172.7.21.0-24": by21}},
		{name: "release a lease", before: []subnet.Entry{{Key: "subnets/172.7.21.0-24", Value: by21, TTL: day}}, do: release("172.7.21.0/24", false), fails: true, says: "is not reserved"},
		{name: "release a lease at once", before: []subnet.Entry{{Key: "subnets/172.7.21.0-24", Value: by21, TTL: day}}, do: release("172.7.21.0/24", true), asks: "172.7.21.0/24 is leased to 10.4.7.21 until", says: "is removed",
			after: entries{"subnets/172.7.21.0-24": ""}},
		{name: "release garbage", before: []subnet.Entry{{Key: "subnets/172.7.21.0-24", Value: tooLong}}, do: release("172.7.21.0/24", false), fails: true,
			says: "the key subnets/172.7.21.0-24 is no lease: it is 1000000 bytes long, more than the 16384 that are read; --now removes it"},
		{name: "release garbage at once", before: []subnet.Entry{{Key: "subnets/172.7.21.0-24", Value: tooLong}}, do: release("172.7.21.0/24", true),
			asks: "the key subnets/172.7.21.0-24 is no lease: it is 1000000 bytes long", says: "is removed", after: entries{"subnets/172.7.21.0-24": ""}},
		{name: "reserve over what is too long", before: []subnet.Entry{{Key: "config", Value: hostGW}, {Key: "subnets/172.7.21.0-24", Value: tooLong}},
			do: reserve("172.7.21.0/24", "10.4.7.21"), fails: true, says: "flanneld lease release --now 172.7.21.0/24 removes it"},
		{name: "reserve under a config that is too long", before: []subnet.Entry{{Key: "config", Value: tooLong}}, do: reserve("172.7.21.0/24", "10.4.7.21"), fails: true,
			says: "the config key is 1000000 bytes long"},
		{name: "over a config that is too long", before: []subnet.Entry{{Key: "config", Value: tooLong}}, do: set(vxLAN), says: "written", after: entries{"config": vxLAN + " for ever"}},
		{name: "a config that is too long", do: set(`{"Network":"` + tooLong + `"}`), fails: true, says: "bytes long, more than"},
		{name: "release nothing", do: release("172.7.21.0/24", true), fails: true, says: "there is no lease of 172.7.21.0/24"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := subnettest.NewStore()
				want := map[string]string{}
				for _, e := range tt.before {
					store.Set(e.Key, e.Value, e.TTL)
				}
				for key, value := range contents(store) {
					want[key] = value
				}
				for key, value := range tt.after {
					want[key] = value
					if value == "" {
						delete(want, key)
					}
				}
				a := open(store)
				change, err := tt.do(t, a)
				if tt.fails {
					if err == nil || !strings.Contains(err.Error(), tt.says) {
						t.Errorf("error %v, want %q", err, tt.says)
					}
				} else if err != nil {
					t.Fatal(err)
				} else if err := a.Do(t.Context(), change); err != nil {
					t.Fatal(err)
				} else if !strings.Contains(change.Done, tt.says) || (change.Question == "") != (tt.asks == "") || !strings.Contains(change.Question, tt.asks) ||
					!strings.Contains(strings.Join(change.Notes, "\n"), tt.notes) || (tt.notes == "") != (len(change.Notes) == 0) {
					t.Errorf("%+v", change)
				}
				if diff := cmp.Diff(want, contents(store)); diff != "" {
					t.Errorf("the store, -want +got:\n%s", diff)
				}
			})
		})
	}
}

func contents(s *subnettest.Store) map[string]string {
	out := map[string]string{}
	for _, e := range s.Entries() {
		out[e.Key] = e.Value
		if e.TTL == 0 {
			out[e.Key] += " for ever"
		}
	}
	return out
}

// What somebody else writes between the plan and the deed is not overwritten.
func TestSomebodyElseIsFaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, tt := range map[string]struct {
			do      step
			between func(*subnettest.Store)
		}{
			"config": {set(vxLAN), func(s *subnettest.Store) {
				s.Set("config", `{"Network":"172.9.0.0/16","Backend":{"Type":"host-gw"}}`, 0)
			}},
			"config is gone": {set(vxLAN), func(s *subnettest.Store) { s.Remove("config") }},
			"reserve":        {reserve("172.7.33.0/24", "10.4.7.33"), func(s *subnettest.Store) { s.Set("subnets/172.7.33.0-24", by22, time.Hour) }},
			"release":        {release("172.7.21.0/24", true), func(s *subnettest.Store) { s.Set("subnets/172.7.21.0-24", by21, time.Hour) }},
		} {
			store := subnettest.NewStore()
			store.Set("config", hostGW, 0)
			store.Set("subnets/172.7.21.0-24", by21, time.Hour)
			a := open(store)
			change, err := tt.do(t, a)
			if err != nil {
				t.Fatal(name, err)
			}
			tt.between(store)
			before := contents(store)
			if err := a.Do(t.Context(), change); err == nil || !strings.Contains(err.Error(), "somebody else has changed") {
				t.Errorf("%s: %v", name, err)
			}
			if diff := cmp.Diff(before, contents(store)); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
	})
}
