package subnet

import (
	"net/netip"
	"testing"
	"time"
)

// Whatever the store or a file says, nothing breaks, and what is taken for good
// is good.

func FuzzParseConfig(f *testing.F) {
	for _, seed := range []string{
		`{"Network":"172.7.0.0/16","Backend":{"Type":"host-gw"}}`, `{"network":"10.0.0.0/8","SUBNETLEN":20,"SubnetMin":"10.10.0.0","SubnetMax":"10.99.0.0"}`,
		`{"Network":"0.0.0.0/0"}`, `{"Network":"255.255.255.240/28","SubnetLen":30}`, `[]`, `{"Network":1}`, `{"Network":"::/0"}`, "", `{"SubnetLen":-1}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		c, err := ParseConfig(raw)
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without words")
			}
			return
		}
		free := c.Free(nil, 3)
		if len(free) == 0 {
			t.Fatalf("%+v has no subnet", c)
		}
		for _, p := range free {
			if !c.Fits(p) || !c.Network.Contains(p.Addr()) {
				t.Fatalf("%+v offers %v", c, p)
			}
		}
	})
}

func FuzzLease(f *testing.F) {
	for _, seed := range [][2]string{
		{"subnets/172.7.21.0-24", `{"PublicIP":"10.4.7.21","BackendType":"host-gw"}`},
		{"subnets/172.7.21.0-24", `{"PublicIP":"10.4.7.21","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0a:39:13:5c:8e:41"}}`},
		{"subnets/172.7.40.0-24&fc00:7:0:40::-64", `{"PublicIP":"10.4.7.21","PublicIPv6":"fd00:4::21","BackendType":"host-gw"}`},
		{"subnets/0.0.0.0-0", `{"PublicIP":"0.0.0.0"}`}, {"subnets/172.7.21.0-024", `{}`}, {"subnets/::-0", `null`}, {"subnets/172.7.21.1-24", ``},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, key, value string) {
		l, err := parseLease(Entry{Key: key, Value: value, TTL: time.Hour}, time.Now())
		if err != nil {
			return
		}
		if !isDual(key) && Key(l.Subnet) != key || l.Key != key || !l.Subnet.IsValid() || l.Subnet != l.Subnet.Masked() || !l.PublicIP.Is4() || l.PublicIP.IsMulticast() || l.PublicIP.IsLoopback() || l.PublicIP.IsUnspecified() {
			t.Fatalf("%q with %q became %+v", key, value, l)
		}
		again, err := ParseAttrs(l.Marshal())
		if err != nil || again != l.Attrs {
			t.Fatalf("%+v is written as %s and read as %+v, %v", l.Attrs, l.Marshal(), again, err)
		}
		own := Lease{Attrs: Attrs{PublicIP: netip.MustParseAddr("10.4.7.21")}, Subnet: netip.MustParsePrefix("172.7.21.0/24")}
		c, _ := ParseConfig(`{"Network":"172.7.0.0/16"}`)
		peers, _ := Peers(c, own, []Lease{l}, []netip.Addr{own.PublicIP}, nil)
		for _, p := range peers {
			if p.Subnet.Bits() < 16 || !c.Network.Contains(p.Subnet.Addr()) || p.Subnet.Overlaps(own.Subnet) || p.PublicIP == own.PublicIP {
				t.Fatalf("%+v counts as a peer", p)
			}
		}
	})
}

func FuzzParseEnv(f *testing.F) {
	for _, seed := range []string{
		"FLANNEL_NETWORK=172.7.0.0/16\nFLANNEL_SUBNET=172.7.21.1/24\nFLANNEL_MTU=1500\nFLANNEL_IPMASQ=false\n",
		"export FLANNEL_SUBNET=\"172.7.21.1/24\"\r\n# comment", "\ufeffFLANNEL_SUBNET = '10.0.0.0/8'", "FLANNEL_SUBNET=$(reboot)", "FLANNEL_SUBNET=::1/64", "=",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		e, err := ParseEnv(content)
		if err != nil {
			return
		}
		if !e.Subnet.IsValid() || !e.Subnet.Addr().Is4() || e.Subnet != e.Subnet.Masked() {
			t.Fatalf("%q became %+v", content, e)
		}
		again, err := ParseEnv(e.Marshal())
		if e.Network.IsValid() && (err != nil || again != e) {
			t.Fatalf("%+v is read back as %+v, %v", e, again, err)
		}
	})
}
