package agent

import (
	"net/netip"
	"testing"

	"flanneld/pkg/backend"
	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet"
)

// TestSelfOf: what tells a host from others, and what it has inside.
func TestSelfOf(t *testing.T) {
	mac := kernel.MAC{0x0a, 0, 0, 0, 0, 0x21}
	link := func(name, kind, addr string) kernel.Link {
		l := kernel.Link{Name: name, Type: kind}
		if addr != "" {
			l.Addrs = []kernel.Addr{{Prefix: netip.MustParsePrefix(addr)}}
		}
		return l
	}
	tunnel := link("flannel.1", "vxlan", "172.7.21.0/32")
	tunnel.Kind, tunnel.MAC = kernel.VXLAN{VNI: 1}, mac
	renamed := link("overlay", "vxlan", "")
	renamed.Kind, renamed.MAC, renamed.Alias = kernel.VXLAN{VNI: 7}, kernel.MAC{0x0a, 0, 0, 0, 0, 0x22}, kernel.Alias
	strangers := link("vx0", "vxlan", "10.8.0.1/24")
	strangers.Kind, strangers.MAC = kernel.VXLAN{VNI: 9}, kernel.MAC{0x0a, 0, 0, 0, 0, 0x23}
	port := link("ens35", "device", "")
	port.Master = "br0"
	box := link("veth1", "veth", "")
	box.Master = "docker0"
	links := []kernel.Link{
		link("ens33", "device", "10.4.7.21/24"), link("ens34", "device", "10.4.8.21/24"), tunnel, renamed, strangers,
		link("docker0", "bridge", "172.7.21.1/24"), box, link("br0", "bridge", "10.4.9.21/24"), port,
	}
	file := netip.MustParsePrefix("172.7.21.0/24")
	got := selfOf([]backend.Host{{Link: links[1], PublicIP: netip.MustParseAddr("10.4.8.21"), Links: links}}, subnet.SubnetsOf(file))
	ips := func(texts ...string) (out []netip.Addr) {
		for _, s := range texts {
			out = append(out, netip.MustParseAddr(s))
		}
		return out
	}
	want := subnet.Self{
		PublicIPs: ips("10.4.8.21"), Subnets: []netip.Prefix{file},
		Addrs: ips("10.4.7.21", "10.4.8.21", "10.8.0.1", "10.4.9.21"), Inside: ips("172.7.21.0", "172.7.21.1"),
		VTEPs: []string{mac.String(), "0a:00:00:00:00:22"},
	}
	if !got.Equal(want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
}
