package check

import (
	"strings"
	"testing"

	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
)

// Containers may be behind any bridge, and all steps look at that one.
func TestBridges(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(*Facts)
		step  string
		level Level
		text  string
		fix   string // its first line begins so
	}{
		{"no docker", func(f *Facts) { f.Docker = nil; f.Links = f.Links[:4] }, "docker", OK, "cni0 has 172.7.21.1/24, MTU 1450", ""},
		{"a docker beside it", func(f *Facts) { f.Links = append(f.Links, docker0("172.17.0.1/16")) }, "docker", OK, "cni0 has 172.7.21.1/24, MTU 1450", ""},
		{"a docker beside it that was started early", func(f *Facts) { f.EnvTime = now }, "docker", OK, "cni0 has 172.7.21.1/24", ""},
		{"a network of docker's", func(f *Facts) { f.Links[2].Name, f.Links[3].Master = "br-5f3a", "br-5f3a" }, "docker", OK, "br-5f3a has 172.7.21.1/24", ""},
		{"no container yet", func(f *Facts) { f.Docker = nil; f.Links = f.Links[:2] }, "docker", Note, "no bridge has the address 172.7.21.1/24 yet: there is no docker0", ""},
		{"no container yet, and a bridge of virtual machines", func(f *Facts) { f.Docker = nil; f.Links[2].Addrs = addr("192.0.2.1/24") }, "docker", Note, "no bridge has the address", ""},
		{"no container yet, and docker", func(f *Facts) { f.Links[2].Addrs = nil }, "docker", Fault, "there is no docker0 with the address 172.7.21.1/24", "mk-docker-opts.sh -f /run/flannel/subnet.env; systemctl restart docker"},
		{"two with the subnet", func(f *Facts) { f.Links = append(f.Links, docker0("172.7.21.1/24")) }, "docker", Fault,
			"cni0 and docker0 have addresses in 172.7.21.0/24", "end the containers behind cni0, then: ip link delete cni0"},
		{"two with the subnet, docker's first", func(f *Facts) {
			f.Links = append(f.Links[:2], append([]kernel.Link{docker0("172.7.21.1/24")}, f.Links[2:]...)...)
		}, "docker", Fault,
			"docker0 and cni0 have addresses in 172.7.21.0/24", "end the containers behind cni0, then: ip link delete cni0"},
		{"an earlier subnet", func(f *Facts) { f.Links[2].Addrs = addr("172.7.30.1/24") }, "docker", Fault,
			"cni0 has 172.7.30.1/24, and subnet.env says 172.7.21.1/24: it was made for another subnet", "mk-cni-conf.sh -f /run/flannel/subnet.env"},
		{"an earlier subnet, beside docker0", func(f *Facts) {
			f.Links[2].Addrs = addr("172.7.30.1/24")
			f.Links = append(f.Links, docker0("172.17.0.1/16"))
		}, "docker", Fault,
			"cni0 has 172.7.30.1/24, and subnet.env says", "mk-cni-conf.sh"},
		{"docker0 with an earlier subnet", func(f *Facts) { f.Links = append(f.Links[:2], docker0("172.7.30.1/24")) }, "docker", Fault,
			"docker0 has 172.7.30.1/24, and subnet.env says 172.7.21.1/24", "mk-docker-opts.sh"},
		{"another length", func(f *Facts) { f.Links[2].Addrs = addr("172.7.21.1/16") }, "docker", Fault, "cni0 has 172.7.21.1/16, and subnet.env says 172.7.21.1/24", "mk-cni-conf.sh"},
		{"a large MTU", func(f *Facts) { f.Links[3].MTU = 1500 }, "docker", Fault, "the MTU of veth5 is 1500, and subnet.env says 1450", "mk-cni-conf.sh"},
		{"a large MTU of Podman's", func(f *Facts) { f.Links[2].Name, f.Links[3].Master, f.Links[3].MTU = "podman1", "podman1", 1500 }, "docker", Fault,
			"the MTU of veth5 is 1500", "end the containers behind podman1, remove their network"},
		{"no forwarding", func(f *Facts) { f.Sysctl["net.ipv4.conf.cni0.forwarding"] = "0" }, "forwarding", Fault, "what arrives on cni0 is not forwarded", "sysctl -w net.ipv4.conf.cni0.forwarding=1"},
		{"br_netfilter and a rule", func(f *Facts) { f.Firewall = saved("filter", "FORWARD -i cni0 -o cni0 -j DROP") }, "bridge", Fault,
			"br_netfilter sends what crosses cni0 through iptables", "iptables -I FORWARD -i cni0 -o cni0 -j ACCEPT"},
		{"a rule on the way out", func(f *Facts) { f.Firewall = saved("filter", "FORWARD -i cni0 -o flannel.1 -j DROP") }, "forward", Fault,
			"what containers send to 172.7.22.0/24 is dropped", "iptables -D FORWARD -i cni0 -o flannel.1 -j DROP"},
		{"a rule on the way in", func(f *Facts) { f.Firewall = saved("filter", "FORWARD ! -i cni0 -o cni0 -j DROP") }, "forward", Fault,
			"what 172.7.22.0/24 sends to containers is dropped", "iptables -D FORWARD ! -i cni0 -o cni0 -j DROP"},
		{"a rule about docker0", func(f *Facts) { f.Firewall = saved("filter", "FORWARD -i docker0 -j DROP") }, "forward", OK, "", ""},
		{"CNI's masquerading", func(f *Facts) {
			f.Firewall = saved("nat", "POSTROUTING -s 172.7.21.2/32 -j CNI-1", ":CNI-1 - [0:0]", "CNI-1 -d 172.7.21.0/24 -j ACCEPT", "CNI-1 ! -d 224.0.0.0/4 -j MASQUERADE")
		}, "addresses", Fault,
			"see this host's address in place of the container's, by: iptables -t nat -A CNI-1 ! -d 224.0.0.0/4 -j MASQUERADE", "start flanneld with --ip-masq"},
	} {
		f := healthy()
		f.Links = append(f.Links[:2], kernel.Link{Name: "cni0", MTU: 1450, Up: true, Type: "bridge", Addrs: addr("172.7.21.1/24")},
			kernel.Link{Name: "veth5", MTU: 1450, Up: true, Type: "veth", Master: "cni0"})
		tt.spoil(&f)
		for _, l := range f.Links[2:] {
			f.Routes = append(f.Routes, connected(l.Name))
		}
		for _, family := range inet.Families() {
			if family == inet.IPv6 && tt.step == "forwarding" { // which no setting of an interface forbids
				continue
			}
			ok, f := false, asIn(family, f)
			for _, x := range Run(f, f.Status.Peers) {
				if x.Level == Fault && x.Step != tt.step {
					t.Errorf("%v, %s: %+v", family, tt.name, x)
				}
				ok = ok || x.Step == tt.step && x.Level == tt.level && strings.Contains(x.Text, as(family, tt.text)) && strings.HasPrefix(strings.Join(x.Fix, "\n"), as(family, tt.fix)) && (tt.level != Fault || tt.fix != "")
			}
			if !ok {
				t.Errorf("%v, %s: no %s by %s with %q and %q in\n%s", family, tt.name, tt.level, tt.step, as(family, tt.text), as(family, tt.fix), printed(t, Run(f, f.Status.Peers)))
			}
		}
	}
}

func docker0(address string) kernel.Link {
	return kernel.Link{Name: "docker0", MTU: 1500, Type: "bridge", Up: true, Addrs: addr(address)}
}

// TestTellDocker names the way by which this host's dockerd gets its options.
func TestTellDocker(t *testing.T) {
	for want, f := range map[string]Facts{
		"systemctl restart flanneld docker": {OptsByUnit: true, OptsScript: "/x"},
		"/usr/local/flannel/mk-docker-opts.sh -f /run/flannel/subnet.env; systemctl restart docker": {OptsScript: "/usr/local/flannel/mk-docker-opts.sh"},
		"mk-docker-opts.sh -f /run/flannel/subnet.env; systemctl restart docker":                    {},
	} {
		if got := f.tellDocker(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
