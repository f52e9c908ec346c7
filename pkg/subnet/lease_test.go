package subnet

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestKey(t *testing.T) {
	if k := Key(netip.MustParsePrefix("172.7.21.0/24")); k != "subnets/172.7.21.0-24" {
		t.Error(k)
	}
	for key, want := range map[string]string{
		"subnets/172.7.40.0-24": "172.7.40.0/24", "subnets/172.7.40.0-24&fc00:7:0:40::-64": "172.7.40.0/24 and fc00:7:0:40::/64",
		"subnets/172.7.40.0-24&fc00:7:0:40::1-64": "172.7.40.0/24", // an odd other half leaves ours taken
		"subnets/0.0.0.0-0&fc00:7:0:1d::-64":      "fc00:7:0:1d::/64",
	} {
		if p, err := ParseKey(key); err != nil || p.String() != want {
			t.Errorf("%q became %v, %v", key, p, err)
		}
	}
	for _, bad := range []string{
		"subnets/172.7.40.0-24&", "subnets/172.7.40.0-24&fc00::", "subnets/172.7.40.0-24&172.7.41.0-24", "subnets/172.7.40.0-24&fc00::-64&fc00::-64",
		"subnets/172.7.40.1-24&fc00:7:0:40::-64", "subnets/&fc00:7:0:40::-64", "subnets/fc00:7:0:40::-64&172.7.40.0-24",
		"", "subnets/", "subnets/172.7.21.0", "subnets/172.7.21.0/24", "subnets/172.7.21.1-24", "subnets/172.7.21.0-024", "subnets/172.7.21.0-33",
		"subnets/fd00::-64", "subnets/0.0.0.0-0&fc00:7:0:40::1-64", "subnets/0.0.0.0-0&::-0", "172.7.21.0-24", "subnets/172.07.21.0-24", "subnets/172.7.21.0-24 ", "subnets/172.7.21.0-24-1",
	} {
		if p, err := ParseKey(bad); err == nil {
			t.Errorf("%q became %v", bad, p)
		}
	}
}

// The values that flannel v0.11 and v0.28 write, and those that we write.
func TestAttrs(t *testing.T) {
	for _, tt := range []struct{ read, written string }{
		{`{"PublicIP":"10.4.7.21","BackendType":"host-gw"}`, ""},
		{`{"PublicIP":"10.4.7.21","BackendType":"vxlan","BackendData":{"VtepMAC":"0a:39:13:5c:8e:41"}}`, ""},
		{`{"PublicIP":"10.4.7.21","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0a:39:13:5c:8e:41"}}`,
			`{"PublicIP":"10.4.7.21","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0a:39:13:5c:8e:41"}}`},
		{` { "publicip" : "10.4.7.21" , "BackendData" : null, "BackendType":"Host-GW" } `, `{"PublicIP":"10.4.7.21","BackendType":"host-gw"}`},
		{`{"PublicIP":"10.4.7.21"}`, `{"PublicIP":"10.4.7.21"}`},
	} {
		a, err := ParseAttrs(tt.read)
		if err != nil {
			t.Errorf("%s: %v", tt.read, err)
			continue
		}
		want := tt.written
		if want == "" {
			want = tt.read
		}
		if got := a.Marshal(); got != want {
			t.Errorf("%s is written as %s, want %s", tt.read, got, want)
		}
	}
	for bad, says := range map[string]string{
		``:                      "is not JSON",
		`{}`:                    "PublicIP is not an IPv4 address",
		`{"PublicIP":"10.4.7"}`: `PublicIP "10.4.7" is not an IPv4 address`,
		`{"PublicIP":"::1"}`:    "is not an IPv4 address",

		`{"PublicIP":"0.0.0.0","PublicIPv6":"fe80::1%ens33"}`:   `PublicIPv6 "fe80::1%ens33" is not an IPv6 address`,
		`{"PublicIP":"0.0.0.0","PublicIPv6":"fd00:4::1%ens33"}`: `PublicIPv6 "fd00:4::1%ens33" is not an IPv6 address`,

		`{"PublicIP":"0.0.0.0"}`:    "lies in 0.0.0.0/8, where no host can be reached",
		`{"PublicIP":"127.0.0.1"}`:  "lies in 127.0.0.0/8",
		`{"PublicIP":"239.1.1.1"}`:  "lies in 224.0.0.0/3",
		`{"PublicIP":7}`:            "PublicIP must be a JSON string",
		`{"PublicIP":"1.2.3.4\n"}`:  `PublicIP "1.2.3.4\n" is not`,
		`{"PublicIP":"10.4.7.21"}}`: "is not JSON",
	} {
		if a, err := ParseAttrs(bad); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %+v, %v; want an error with %q", bad, a, err, says)
		}
	}
}

func TestPeers(t *testing.T) {
	c, err := ParseConfig(`{"Network":"172.7.0.0/16"}`)
	if err != nil {
		t.Fatal(err)
	}
	lease := func(p, ip string) Lease {
		return Lease{Attrs: Attrs{PublicIP: netip.MustParseAddr(ip)}, Subnet: netip.MustParsePrefix(p), Key: Key(netip.MustParsePrefix(p))}
	}
	own := lease("172.7.21.0/24", "10.4.7.21")
	all := []Lease{
		own, lease("172.7.22.0/24", "10.4.7.22"), lease("172.7.23.0/24", "10.4.7.23"),
		lease("172.8.1.0/24", "10.4.7.9"), lease("172.0.0.0/8", "10.4.7.9"), lease("172.7.16.0/20", "10.4.7.9"), lease("172.7.99.0/25", "10.4.7.9"),
		lease("172.7.98.0/24", "172.7.98.7"), lease("172.7.97.0/24", "10.4.7.21"), lease("172.7.96.0/24", "192.168.0.5"),
	}
	peers, rejected := Peers(c, own, all, []netip.Addr{own.PublicIP, netip.MustParseAddr("192.168.0.5")}, nil)
	if len(peers) != 3 || peers[0].Subnet.String() != "172.7.22.0/24" || peers[1].Subnet.String() != "172.7.23.0/24" || peers[2].Subnet.String() != "172.7.99.0/25" {
		t.Errorf("peers %v", peers)
	}
	for key, says := range map[string]string{
		"subnets/172.8.1.0-24":  "lies outside of the network 172.7.0.0/16",
		"subnets/172.0.0.0-8":   "lies outside",
		"subnets/172.7.16.0-20": "overlaps this host's subnet 172.7.21.0/24",
		"subnets/172.7.98.0-24": "has the public IP 172.7.98.7, which lies within the subnet itself",
		"subnets/172.7.97.0-24": "is this host's own",
		"subnets/172.7.96.0-24": "is this host's own",
	} {
		if !strings.Contains(rejected[key], says) {
			t.Errorf("%s: %q, want %q", key, rejected[key], says)
		}
	}
	if len(rejected) != 6 {
		t.Errorf("rejected %v", rejected)
	}
}

func TestEnv(t *testing.T) {
	const exact = "FLANNEL_NETWORK=172.7.0.0/16\nFLANNEL_SUBNET=172.7.21.1/24\nFLANNEL_MTU=1500\nFLANNEL_IPMASQ=false\n"
	for name, content := range map[string]string{
		"exact": exact, "CRLF": strings.ReplaceAll(exact, "\n", "\r\n"), "quotes": strings.ReplaceAll(strings.ReplaceAll(exact, "=", `="`), "\n", "\"\n"),
		"export": "export " + strings.ReplaceAll(exact, "\nF", "\nexport F"), "spaces": strings.ReplaceAll(exact, "=", " = "), "more": "# ours\nX=1\n" + exact + "junk",
	} {
		e, err := ParseEnv([]byte(content))
		if err != nil || string(e.Marshal()) != exact {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
	}
	if e, err := ParseEnv([]byte("FLANNEL_SUBNET=172.7.21.1/24")); err != nil || e.Subnet.String() != "172.7.21.0/24" {
		t.Errorf("the subnet alone: %+v, %v", e, err)
	}
	for _, value := range []string{
		"172.7.21.1/24 # comment", "172.7.21.1/24 #", "172.7.21.1/24#", `"172.7.21.1/24" # a "comment"`, "'172.7.21.1/24' # it's",
		"172.7.21.1/24,172.7.22.1/24", "172.7.21.1/24, 10.9.1.1/24 # two", `"172.7.21.1/24,10.9.1.1/24"`, "fd00::1/64,172.7.21.1/24",
		"172.7.21.1/24 \t", `" 172.7.21.1/24 "`, `172.7.21.1/24"`,
	} {
		for _, line := range []string{"FLANNEL_SUBNET=", "export FLANNEL_SUBNET=", "\texport \tFLANNEL_SUBNET = "} {
			if e, err := ParseEnv([]byte(line + value + "\nFLANNEL_MTU=1500 # bytes\n")); err != nil ||
				e.Subnet.String() != "172.7.21.0/24" || e.MTU != 1500 {
				t.Errorf("%s%s: %+v, %v", line, value, e, err)
			}
		}
	}
	for content, says := range map[string]string{
		"FLANNEL_SUBNET=# 172.7.21.1/24": `the value ""`, "FLANNEL_SUBNET=172.7.21.1/24,x": `the value "172.7.21.1/24,x"`,
		"": "FLANNEL_SUBNET is missing", "FLANNEL_SUBNET=x": `FLANNEL_SUBNET has the value "x"`, exact[:30]: "FLANNEL_SUBNET is missing",
		"FLANNEL_SUBNET=172.7.21.1/24\nFLANNEL_MTU=big": `FLANNEL_MTU has the value "big"`, "FLANNEL_SUBNET=fd00::/64": "FLANNEL_SUBNET has the value",
	} {
		if e, err := ParseEnv([]byte(content)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %+v, %v", content, e, err)
		}
	}

	// What cannot be read of one family takes nothing away from the other.
	for content, want := range map[string]string{
		"FLANNEL_SUBNET=172.7.21.1/24\nFLANNEL_IPV6_SUBNET=x\nFLANNEL_IPV6_NETWORK=fc00:7::/48":       "172.7.21.0/24",
		"FLANNEL_SUBNET=172.7.21.1/24\nFLANNEL_IPV6_NETWORK=\nFLANNEL_IPV6_SUBNET=fc00:7:0:21::1/64":  "172.7.21.0/24",
		"FLANNEL_SUBNET=172.7.21.1/24\nFLANNEL_IPV6_SUBNET=fc00:7:0:21::1%ens33/64":                   "172.7.21.0/24",
		"FLANNEL_SUBNET=fc00:7:0:21::1/64\nFLANNEL_IPV6_SUBNET=fc00:7:0:22::1/64":                     "fc00:7:0:22::/64",
		"FLANNEL_NETWORK=x\nFLANNEL_SUBNET=172.7.21.1/24\nFLANNEL_IPV6_SUBNET=FC00:7:0:22:0:0:0:1/64": "fc00:7:0:22::/64",
	} {
		e, err := ParseEnv([]byte(content))
		if err == nil || e.Subnets() != SubnetsOf(netip.MustParsePrefix(want)) || len(e.Networks()) > 0 {
			t.Errorf("%q: %+v, %v; want %s and an error", content, e, err, want)
		}
	}

	path := filepath.Join(t.TempDir(), "run", "flannel", "subnet.env")
	e, _ := ParseEnv([]byte(exact))
	for _, want := range []bool{true, false} {
		if wrote, err := WriteEnv(path, e); err != nil || wrote != want {
			t.Errorf("wrote: %t, want %t; %v", wrote, want, err)
		}
	}
	content, err := os.ReadFile(path)
	if err != nil || string(content) != exact {
		t.Errorf("%q, %v", content, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o644 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if again, err := ReadEnv(path); err != nil || again != e {
		t.Errorf("%+v, %v", again, err)
	}
	if err := os.WriteFile(path, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadEnv(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("the error does not name the file: %v", err)
	}
}

func TestEnds(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		l    Lease
		want string
	}{
		{Lease{}, "never, it is a reservation"},
		{Lease{Expires: at}, "2026-03-01T12:00:00Z"},
		{Lease{Expires: at, ExpiryUnknown: true}, "unknown"},
	} {
		if got := c.l.Ends(); got != c.want {
			t.Errorf("%+v: %s, want %s", c.l, got, c.want)
		}
	}
}
