package check

import (
	"errors"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"flanneld/pkg/condition"
	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/status"
	"flanneld/pkg/subnet"
)

// is has the daemon say that something is so.
func is(f *Facts, code condition.Code, cause string) {
	f.Status.Conditions.Add(condition.Condition{Code: code, Message: "said by the daemon", Cause: cause})
}

// denied is for what comes of a lack of rights.
func denied(f *Facts, code condition.Code, cause string) {
	f.Status.Conditions.Add(condition.Condition{Code: code, Message: "said by the daemon", Cause: cause, Denied: true})
}

// finding is what is found where something is spoilt.
type finding struct {
	name  string
	spoil func(*Facts)
	step  string
	level Level
	text  string
	fix   string
}

// vagrant is a host that reaches its peers by a second interface, though the default
// route leads over the first.
func vagrant(f *Facts) {
	f.Flags = map[string]string{"iface": "ens33"}
	f.Links = append(f.Links, kernel.Link{Name: "eth1", MTU: 1500, Up: true, Addrs: addr("192.168.56.21/24")})
	f.Status.Host.PublicIP = netip.MustParseAddr("192.168.56.21")
	f.Status.Peers[0].PublicIP = netip.MustParseAddr("192.168.56.22")
	f.Paths[f.Status.Peers[0].PublicIP] = Path{Dev: "ens33"}
}

// Each finding that a host can show. Those of a real host are in internal/e2e;
// here are also those that take hours, other kernels or other networks.
func TestFindings(t *testing.T) {
	for _, tt := range []finding{
		{"no daemon", func(f *Facts) { f.Status, f.Daemon = nil, status.ErrNoDaemon }, "daemon", Fault, "no flanneld runs", "systemctl start flanneld"},
		{"a stopped daemon", func(f *Facts) { f.Status, f.Daemon, f.Frozen = nil, status.ErrNoAnswer, 812 }, "daemon", Fault, "flanneld (pid 812) is stopped", "kill -CONT 812"},
		{"a silent daemon", func(f *Facts) { f.Status, f.Daemon = nil, status.ErrNoAnswer }, "daemon", Unknown, "does not answer", ""},
		{"a public IP on another interface", vagrant, "interface", Fault, "the public IP 192.168.56.21 is on eth1, where peers are too, and flanneld sends by ens33, from 10.4.7.21", "restart flanneld with --iface=eth1 in place of --iface=ens33   # on each host; --public-ip may go then"},
		{"a public IP on another interface, where no peers are", func(f *Facts) { vagrant(f); f.Status.Peers[0].PublicIP = peer }, "interface", OK, "", ""},
		{"two hosts with one address, behind the NAT of their virtual machines", func(f *Facts) {
			vagrant(f)
			f.Status.Host.PublicIP = here
			is(f, condition.LeaseContested, "")
		}, "lease", Fault, "another host writes the lease", "restart flanneld with --iface=eth1 in place of --iface=ens33   # on each host, where its own address is on eth1"},
		{"etcd speaks, but not to flanneld", func(f *Facts) { denied(f, condition.EtcdUnreadable, "wants a user") }, "etcd", Fault, "wants a user", "ETCDCTL_API=3 etcdctl role grant-permission ROLE --prefix=true readwrite /coreos.com/network/"},
		{"etcd speaks nonsense", func(f *Facts) { is(f, condition.EtcdUnreadable, "nonsense") }, "etcd", Fault, "nonsense", "journalctl"},
		{"no right to write", func(f *Facts) { denied(f, condition.EtcdUnwritable, "wants a user"); f.Status.Etcd.API = "v2" }, "etcd", Fault, "this host's lease cannot be written: wants a user", "ETCDCTL_API=2 etcdctl role grant ROLE --readwrite --path '/coreos.com/network/*'"},
		{"etcd behind a wrong certificate", func(f *Facts) { f.Certificates[0].NotAfter = now; is(f, condition.EtcdUnreadable, "expired") }, "etcd", Skipped, "not before the certificates are valid: etcd cannot be read: expired", ""},
		{"etcd behind an interface that is down", func(f *Facts) { f.Links[0].Up = false; is(f, condition.EtcdUnreadable, "unreachable") }, "etcd", Skipped, "not before the interface is right: etcd cannot be read: unreachable", ""},
		{"a route of another host's leads the own subnet away", func(f *Facts) {
			f.Routes = append(f.Routes, kernel.FoundRoute{Route: kernel.Route{Dst: own, Via: peer, Dev: "ens33"}, Protocol: 3})
		}, "own routes", Fault, "packets for this host's own containers, 172.7.21.0/24, leave by the route 172.7.21.0/24 via 10.4.7.22 dev ens33 proto 3", "ip route del 172.7.21.0/24 via 10.4.7.22 dev ens33 proto 3"},
		{"docker0's own route is gone", func(f *Facts) { f.Routes = f.Routes[:1] }, "own routes", Fault,
			"the route to 172.7.21.0/24 by docker0, which has an address of it, is not there",
			"ip route replace 172.7.21.0/24 dev docker0 proto kernel scope link src 172.7.21.1"},
		{"a blackhole in the own subnet", func(f *Facts) {
			f.Routes = append(f.Routes, kernel.FoundRoute{Route: kernel.Route{Dst: netip.MustParsePrefix("172.7.21.64/26")}, Protocol: 4, Special: true})
		}, "own routes", Fault, "leave by the route 172.7.21.64/26 proto 4", "ip route del 172.7.21.64/26 proto 4"},
		{"dhcpcd has configured the device", func(f *Facts) {
			onTunnel(f, "10.4.7.125/25")
			f.Managers = map[string]bool{"dhcpcd": true}
			is(f, condition.UnderlayDiverted, "")
			is(f, condition.EtcdUnreadable, "no route to host")
		}, "foreign", Fault, "address 10.4.7.125/25 on flannel.1 is none of flanneld's, but of a network manager, such as dhcpcd, systemd-networkd or NetworkManager, and leads 10.4.7.0/24 (the network of ens33) into the network",
			"echo 'denyinterfaces flannel*' >> /etc/dhcpcd.conf && dhcpcd --rebind\nip addr del 10.4.7.125/25 dev flannel.1"},
		{"nobody knows who has configured the device", func(f *Facts) { onTunnel(f, "169.254.8.9/16") }, "foreign", Note, "169.254.8.9/16 on flannel.1 is none of flanneld's, but of a program that gives interfaces an address of 169.254.0.0/16",
			"echo 'denyinterfaces flannel*' >> /etc/dhcpcd.conf && dhcpcd --rebind   # where dhcpcd runs\nprintf '[Match]\\nName=flannel*\\n\\n[Link]\\nUnmanaged=yes\\n' > /etc/systemd/network/05-flannel.network && networkctl reload   # where systemd-networkd runs"},
		{"the default route leads into the tunnel", func(f *Facts) {
			f.Routes = append(f.Routes, kernel.FoundRoute{Route: kernel.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: vtep22, Dev: "flannel.1"}, Protocol: 16})
			f.Managers = map[string]bool{"NetworkManager": true}
		}, "foreign", Fault, "but of a DHCP client, such as dhcpcd, systemd-networkd or NetworkManager, and leads 0.0.0.0/0 (all that has no other route) into the network",
			"printf '[keyfile]\\nunmanaged-devices+=interface-name:flannel*\\n' > /etc/NetworkManager/conf.d/90-flanneld.conf && systemctl reload NetworkManager\nip route del 0.0.0.0/0 via 172.7.22.0 dev flannel.1 proto 16\nip route show default"},
		{"no clock to compare with", func(f *Facts) { f.Members[0].Err = errors.New("refused") }, "clock", Skipped, "no etcd server says what time it is", ""},
		{"one etcd's clock", func(f *Facts) {
			f.Members = append(f.Members, Member{URL: "https://10.4.7.13:2379", Ahead: -time.Hour})
		}, "clock", Fault,
			"the clock of etcd at https://10.4.7.13:2379 is 1h0m0s behind this host's and other members'", "timedatectl set-ntp true   # or: chronyc makestep, on the host of https://10.4.7.13:2379"},
		{"one etcd's clock, the other way", func(f *Facts) { f.Members = append(f.Members, Member{URL: "https://10.4.7.13:2379", Ahead: time.Hour}) }, "clock", Fault, "is 1h0m0s ahead of this host's", "timedatectl"},
		{"the clock is late", func(f *Facts) { f.Members[0].Ahead = 90 * time.Minute }, "clock", Fault, "1h30m0s behind", "timedatectl"},
		{"the clock is early", func(f *Facts) { f.Members[0].Ahead = -90 * time.Minute }, "clock", Fault, "1h30m0s ahead of", "timedatectl"},
		{"a certificate has expired", func(f *Facts) { f.Certificates[0].NotAfter = now }, "certificates", Fault, "/cert/client.pem has expired on 2026-03-04 12:00:00", "put a new certificate"},
		{"a certificate is not valid yet", func(f *Facts) { f.Certificates[0].NotBefore = now.Add(time.Hour) }, "certificates", Fault, "valid only from 2026-03-04 13:00:00 on", "put a new certificate"},
		{"a certificate is not valid yet, by a clock of which nobody knows", func(f *Facts) { f.Certificates[0].NotBefore = now.Add(time.Hour); f.Members = nil }, "certificates", Fault, "valid only from", "date"},
		{"etcd's certificate has expired", func(f *Facts) { f.Members[0].Certificate = &Certificate{NotAfter: now} }, "certificates", Fault, "the certificate of etcd at https://10.4.7.12:2379 has expired on", "--cert-file"},
		{"a certificate will expire", func(f *Facts) { f.Certificates[0].NotAfter = now.Add(time.Hour) }, "certificates", Note, "expires on", "put a new certificate"},
		{"no certificate in the file", func(f *Facts) { f.Certificates[0].Err = errors.New("no PEM") }, "certificates", Fault, "no PEM", "put the right file in the place of /cert/client.pem"},
		{"a wrong config", func(f *Facts) { is(f, condition.ConfigInvalid, "Network is missing") }, "config", Fault, "Network is missing", `flanneld config set --etcd-endpoints=https://10.4.7.12:2379 '{"Network":"172.7.0.0/16","SubnetLen":24,"SubnetMin":"172.7.1.0","SubnetMax":"172.7.255.0","Backend":{"Type":"vxlan","VNI":7}}'   # back to what this host goes by
flanneld config get --etcd-endpoints=https://10.4.7.12:2379   # shows the key: correct what is named`},
		{"a wrong config under a prefix, by a certificate", func(f *Facts) {
			is(f, condition.ConfigMissing, "write it to <prefix>/config")
			f.Status.Network.Config = `{"Network":"172.7.0.0/16","SubnetLen":26}`
			f.Flags = map[string]string{"etcd-username": "flannel", "etcd-password-file": "/etc/flannel's password"}
			f.Status.Etcd.Prefix, f.Status.Etcd.API, f.Status.Etcd.CertFile = "/net", "v3", "/cert/client.pem"
		}, "config", Fault, "write it to /net/config", `flanneld config set --etcd-endpoints=https://10.4.7.12:2379 --etcd-prefix=/net --etcd-api=3 --etcd-certfile=/cert/client.pem --etcd-username=flannel '--etcd-password-file=/etc/flannel'\''s password' '{"Network":"172.7.0.0/16","SubnetLen":26}'`},
		{"a wrong config, and none before", func(f *Facts) {
			is(f, condition.ConfigInvalid, "wrong")
			f.Status.Network, f.Status.Lease = nil, nil
		}, "config", Fault, "wrong", "flanneld config get --etcd-endpoints=https://10.4.7.12:2379   # shows the key"},
		{"no config, and none before", func(f *Facts) {
			is(f, condition.ConfigMissing, "write it to <prefix>/config")
			f.Status.Network, f.Status.Lease = nil, nil
		}, "config", Fault, "write it to /coreos.com/network/config", "flanneld config set --etcd-endpoints=https://10.4.7.12:2379 - < FILE   # FILE: with this cluster's config (docs/configuration.md); /run/flannel/subnet.env here was written for the Network 172.7.0.0/16"},
		{"no config, none before, and no subnet.env", func(f *Facts) {
			is(f, condition.ConfigMissing, "write it")
			f.Status.Network, f.Status.Lease, f.Env, f.EnvError = nil, nil, subnet.Env{}, fs.ErrNotExist
		}, "config", Fault, "write it", "- < FILE   # FILE: with this cluster's config (docs/configuration.md)"},
		{"a wrong config, and one in force that is too long to paste", func(f *Facts) {
			is(f, condition.ConfigInvalid, "wrong")
			f.Status.Network.Config = `{"Network":"172.7.0.0/16","Backend":{"x":"` + strings.Repeat("y", 2000) + `"}}`
		}, "config", Fault, "wrong", "flanneld config get"},
		{"no lease", func(f *Facts) { f.Status.Lease = nil; is(f, condition.NoLease, "no subnet is free") }, "lease", Fault, "this host has no subnet: no subnet is free", "flanneld lease list --etcd-endpoints=https://10.4.7.12:2379"},
		{"no lease, as etcd is away", func(f *Facts) { f.Status.Lease = nil; is(f, condition.EtcdUnreadable, "timeout") }, "etcd", Fault, "timeout", ""},
		{"no lease, as the kernel refuses", func(f *Facts) {
			f.Status.Lease = nil
			denied(f, condition.KernelNotApplied, "ip link add flannel.1: operation not permitted: flanneld needs CAP_NET_ADMIN")
		}, "lease", Fault, "ip link add flannel.1: operation not permitted", "CAP_NET_ADMIN"},
		{"an expired lease", func(f *Facts) { f.Status.Lease.Expires = now.Add(-time.Second) }, "lease", Fault, "has expired on 2026-03-04 11:59:59", "journalctl"},
		{"an expired lease, as etcd is away", func(f *Facts) {
			f.Status.Lease.Expires = now.Add(-time.Second)
			is(f, condition.EtcdUnreadable, "timeout")
		}, "lease", Fault, "has expired on", "fix what etcd says"},
		{"a contested lease", func(f *Facts) { is(f, condition.LeaseContested, "") }, "lease", Fault, "another host writes the lease", "--public-ip"},
		{"no interface", func(f *Facts) {
			f.Status.Host = nil
			f.Status.Peers = nil
			is(f, condition.InterfaceMissing, "x")
		}, "interface", Fault, "flanneld finds no external interface: x", "restart flanneld with --iface=ens33"},
		{"no interface, and two to choose from", func(f *Facts) {
			f.Status.Host, f.Status.Peers = nil, nil
			is(f, condition.InterfaceMissing, "x")
			f.Links = append(f.Links, kernel.Link{Name: "ens34", Addrs: addr("10.4.8.21/24")})
		}, "interface", Fault, "flanneld finds no external interface: x", "ip -brief address"},
		{"no interface yet", func(f *Facts) {
			f.Status.Host, f.Status.Lease = nil, nil
			is(f, condition.EtcdNotCurrent, "")
		}, "interface", Skipped, "none is chosen before etcd has been read", ""},
		{"the interface has another name", func(f *Facts) { f.Links[0].Name = "ens34" }, "interface", Fault, "ens33 is gone; its address 10.4.7.21 is on ens34 now", "restart flanneld with --iface=ens34"},
		{"the interface is gone", func(f *Facts) { f.Links = f.Links[1:] }, "interface", Fault, "ens33 is gone", "ip -brief address"},
		{"the address is gone", func(f *Facts) { f.Links[0].Addrs = nil }, "interface", Fault, "ens33 has lost its address 10.4.7.21", "networkctl reconfigure ens33"},
		{"behind NAT", func(f *Facts) { f.Status.Host.PublicIP = netip.MustParseAddr("192.0.2.1") }, "interface", Note, "192.0.2.1 is no address of this host", ""},
		{"the device is missing", func(f *Facts) { f.Links[1].Name = "x"; f.Links[1].Kind = nil }, "device", Fault, "flannel.1 is not there", "systemctl restart flanneld"},
		{"the device is somebody else's", func(f *Facts) { f.Links[1].Alias = "" }, "device", Fault, "flannel.1 is not flanneld's device", "systemctl restart flanneld"},
		{"the device is a bridge", func(f *Facts) { f.Links[1].Type, f.Links[1].Kind = "bridge", nil }, "device", Fault, "of kind bridge", "systemctl restart flanneld"},
		{"the device is down", func(f *Facts) { f.Links[1].Up = false }, "device", Fault, "flannel.1 is down", "ip monitor link"},
		{"the device has another port", func(f *Facts) { f.Links[1].Kind = kernel.VXLAN{VNI: 1, Port: 4789} }, "device", Fault, "flannel.1 has VNI 1 and port 4789, and flanneld wants VNI 1 and port 8472", "systemctl restart flanneld"},
		{"the device has another MTU", func(f *Facts) { f.Links[1].MTU = 1500 }, "device", Fault, "flannel.1 has MTU 1500, and flanneld wants 1450", "systemctl restart flanneld"},
		{"the device has no address", func(f *Facts) { f.Links[1].Addrs = nil }, "device", Fault, "flannel.1 has no address, and flanneld wants 172.7.21.0", "systemctl restart flanneld"},
		{"the device is down, and flanneld may not change it", func(f *Facts) {
			f.Links[1].Up = false
			denied(f, condition.KernelNotApplied, "operation not permitted: flanneld needs CAP_NET_ADMIN")
		}, "device", Fault, "flannel.1 is down", "start flanneld as root"},
		{"subnet.env cannot be read", func(f *Facts) { f.EnvError = errors.New("permission denied") }, "subnet.env", Fault, "permission denied", "restart flanneld"},
		{"subnet.env is not there", func(f *Facts) { f.EnvError = fs.ErrNotExist }, "subnet.env", Fault, "/run/flannel/subnet.env is not there", "restart flanneld"},
		{"another subnet in subnet.env", func(f *Facts) { f.Env.Subnet = far }, "subnet.env", Fault, "says 172.7.22.0/24, and this host has 172.7.21.0/24", "restart flanneld"},
		{"no docker", func(f *Facts) { f.Docker = nil; f.Links = f.Links[:2] }, "docker", Note, "dockerd does not run here", ""},
		{"dockerd without docker0", func(f *Facts) { f.Links = f.Links[:2]; f.EnvTime = now }, "docker", Fault, "there is no docker0 with the address 172.7.21.1/24; dockerd (pid 900) was started 1m0s before the file was written", "systemctl restart docker"},
		{"an idle docker0 shows 1500", func(f *Facts) { f.Links[2].MTU = 1500; f.Links = f.Links[:3] }, "docker", OK, "172.7.21.1/24", ""},
		{"docker0 with ports of 1500", func(f *Facts) { f.Links[2].MTU = 1500 }, "docker", Fault, "the MTU of docker0 is 1500", "restart docker"},
		{"no forwarding on docker0", func(f *Facts) { f.Sysctl["net.ipv4.conf.docker0.forwarding"] = "0" }, "forwarding", Fault, "docker0 is not forwarded", "sysctl -w net.ipv4.conf.docker0.forwarding=1"},
		{"the kernel has no way", func(f *Facts) { f.Paths[gateway(far)] = Path{Err: errors.New("unreachable")} }, "route", Fault, "no way to 172.7.22.1: unreachable", "ip route get"},
		{"a narrower route", func(f *Facts) {
			f.Paths[gateway(far)] = Path{Dev: "ens34"}
			f.Routes = append(f.Routes, kernel.FoundRoute{Route: kernel.Route{Dst: netip.MustParsePrefix("172.7.22.0/25"), Dev: "ens34"}})
		}, "route", Fault, "packets to 172.7.22.1 leave by ens34, and should leave by flannel.1", "ip route del 172.7.22.0/25"},
		{"a rule", func(f *Facts) {
			f.Paths[gateway(far)] = Path{Dev: "ens33", Via: peer}
			f.Rules = map[inet.Family][]kernel.Rule{inet.IPv4: {{Priority: 7, Narrow: true}, {Priority: 8, Dst: own}, {Priority: 9}}}
		}, "route", Fault, "leave by ens33 to 10.4.7.22", "ip rule add to 172.7.0.0/16 lookup main priority 8   # asked before the rule of priority 9"},
		{"a route of the local table", func(f *Facts) {
			f.Paths[gateway(far)] = Path{Dev: "lo"}
			f.Rules = map[inet.Family][]kernel.Rule{inet.IPv4: {{Priority: 32767}}}
		}, "route", Fault, "leave by lo", "ip route show table local match 172.7.22.1"},
		{"a peer's address on this host", func(f *Facts) {
			f.Paths[gateway(far)] = Path{Dev: "lo"}
			f.Links = append(f.Links, kernel.Link{Name: "br-old", Up: true, Type: "bridge", Addrs: addr("172.7.22.1/32")})
			f.Rules = map[inet.Family][]kernel.Rule{inet.IPv4: {{Priority: 32767}}}
		}, "route", Fault, "leave by lo", "ip addr del 172.7.22.1/32 dev br-old"},
		{"a peer's subnet on a bridge of this host", func(f *Facts) {
			f.Links = append(f.Links, kernel.Link{Name: "br-old", Up: true, Type: "bridge", Addrs: addr("172.7.22.1/24")})
			f.Routes[0] = kernel.FoundRoute{Route: kernel.Route{Dst: far, Dev: "br-old"}, Protocol: 2}
		}, "route", Fault, "the way to 172.7.22.0/24 is not as flanneld wants it", "ip addr del 172.7.22.1/24 dev br-old"},
		{"no way but by a tunnel", func(f *Facts) { f.Status.Peers[0].Mode, f.Status.Peers[0].Backend = status.NoWay, "host-gw" }, "route", Fault, "there is no way to 172.7.22.0/24: its host 10.4.7.22 is not on the link of ens33",
			`'{"Backend":{"Type":"vxlan","VNI":7},"Network":"172.7.0.0/16","SubnetLen":24,"SubnetMax":"172.7.255.0","SubnetMin":"172.7.1.0"}'`},
		{"no way but by a tunnel, and the config is not known", func(f *Facts) { f.Status.Peers[0].Mode, f.Status.Network.Config = status.NoWay, "" }, "route", Fault, "there is no way to 172.7.22.0/24",
			"every host needs a tunnel: flanneld on 10.4.7.22 too"},
		{"docker0 is down", func(f *Facts) { f.Links[2].Up = false }, "docker", Fault, "docker0 is down: no container behind it is reached", "ip link set docker0 up"},
		{"no forwarding entry", func(f *Facts) { f.Entries.FDB = nil }, "route", Fault, "no forwarding entry for 0a:00:00:00:00:16", "systemctl restart flanneld"},
		{"rp_filter is loose", func(f *Facts) { f.Sysctl["net.ipv4.conf.all.rp_filter"] = "2"; f.Paths[peer] = Path{Dev: "ens34"} }, "rp_filter", OK, "", ""},
		{"rp_filter of all interfaces", func(f *Facts) {
			f.Sysctl["net.ipv4.conf.all.rp_filter"], f.Sysctl["net.ipv4.conf.ens33.rp_filter"] = "1", "0"
			f.Paths[peer] = Path{Dev: "ens34"}
		}, "rp_filter", Fault, "leads over ens34", "sysctl -w net.ipv4.conf.ens33.rp_filter=2"},
		{"the operator's rule in docker's chain", func(f *Facts) {
			f.Firewall = saved("filter", ":DOCKER-USER - [0:0]", "FORWARD -j DOCKER-USER", "DOCKER-USER -s 172.7.22.0/24 -j DROP")
		}, "forward", Fault, "what 172.7.22.0/24 sends to containers is dropped, by: iptables -A DOCKER-USER -s 172.7.22.0/24 -j DROP", "iptables -D DOCKER-USER -s 172.7.22.0/24 -j DROP"},
		{"iptables is not there", func(f *Facts) { f.Firewall, f.NoIPTables = nil, map[inet.Family]bool{inet.IPv4: true} }, "forward", Unknown, "iptables could not be read", ""},
		{"policies close the port", func(f *Facts) { f.Firewall = saved("filter", ":INPUT DROP [0:0]") }, "port", Fault, "by the policy of filter INPUT", "iptables -I INPUT -p udp --dport 8472 -s 10.4.7.0/24 -j ACCEPT"},
		{"the port is closed in the raw table", func(f *Facts) { f.Firewall = saved("raw", "PREROUTING -p udp -j DROP") }, "port", Fault, "dropped where they arrive", "iptables -t raw -I PREROUTING -p udp --dport 8472 -s 10.4.7.0/24 -j ACCEPT"},
		{"a bridge under a policy", func(f *Facts) {
			f.Firewall = saved("filter", ":FORWARD DROP [0:0]", "FORWARD -d 172.7.22.0/24 -j ACCEPT", "FORWARD -s 172.7.22.0/24 -j ACCEPT")
		}, "bridge", Fault,
			"the policy of filter FORWARD drops it", "iptables -I FORWARD -i docker0 -o docker0 -j ACCEPT"},
		{"the same without br_netfilter", func(f *Facts) {
			f.Firewall = saved("filter", "FORWARD -i docker0 -o docker0 -j DROP")
			delete(f.Sysctl, "net.bridge.bridge-nf-call-iptables")
		}, "bridge", OK, "", ""},
		{"nftables cannot be read", func(f *Facts) { f.NoNFTables = true }, "nftables", Unknown, "nftables could not be read", ""},
		{"nft crashes", func(f *Facts) { f.Notes = []string{"nft 1.0.6 cannot read this host's tables"} }, "flanneld", Note, "nft 1.0.6", ""},
		{"a table of nftables that knows the network", func(f *Facts) {
			f.Firewall = append(f.Firewall, foreign("inet", "office", "FORWARD -s 172.7.0.0/16 -j ACCEPT", "FORWARD -d 172.7.0.0/16 -j ACCEPT", "FORWARD -j REJECT"))
		}, "nftables", OK, "", ""},
		{"a table of nftables that knows the network one way", func(f *Facts) {
			f.Firewall = append(f.Firewall, foreign("inet", "firewalld", "FORWARD -s 172.7.22.0/24 -j ACCEPT", "FORWARD -j REJECT"))
		}, "nftables", Fault, `"inet firewalld" drops what it does not know, and does not know the network 172.7.0.0/16; no iptables rule overrules it (in chain FORWARD, by: reject)`, "firewall-cmd --permanent --zone=trusted --add-source=172.7.0.0/16; firewall-cmd --reload"},
		{"another table of nftables", func(f *Facts) { f.Firewall = append(f.Firewall, foreign("inet", "office", ":FORWARD DROP [0:0]")) }, "nftables", Fault, `"inet office" drops what it does not know`,
			"nft insert rule inet office FORWARD ip saddr 172.7.0.0/16 accept; nft insert rule inet office FORWARD ip daddr 172.7.0.0/16 accept"},
		{"a table of nftables that drops this", func(f *Facts) {
			f.Firewall = append(f.Firewall, foreign("ip", "office", ":C - [0:0]", "FORWARD -j C", "C -o docker0 -d 172.7.21.0/24 -j DROP"))
		}, "nftables", Fault, `the nftables table "ip office" drops what 172.7.22.0/24 sends to containers, in chain C, by: -o docker0 -d 172.7.21.0/24 drop`, "nft delete rule ip office C handle 7"},
		{"one container alone", func(f *Facts) {
			f.Firewall = append(f.Firewall, foreign("ip", "office", "PREROUTING -d 172.7.21.9/32 -j DROP"))
		}, "nftables", Fault, "what 172.7.22.0/24 sends to containers", "nft insert rule ip office PREROUTING ip saddr"},
		{"both firewalls", func(f *Facts) {
			f.Firewall = append(saved("filter", "FORWARD -j DROP"), foreign("ip", "office", "FORWARD -j DROP"))
		}, "forward", Fault, "is dropped, by: iptables -A FORWARD -j DROP", "iptables -I FORWARD -s 172.7.0.0/16 -j ACCEPT; iptables -I FORWARD -d 172.7.0.0/16 -j ACCEPT"},
		{"a policy", func(f *Facts) { f.Firewall = saved("mangle", ":FORWARD DROP [0:0]") }, "forward", Fault, "is dropped by the policy of FORWARD, and no rule lets it pass", "iptables -t mangle -I FORWARD -s 172.7.0.0/16 -j ACCEPT; iptables -t mangle -I FORWARD -d 172.7.0.0/16 -j ACCEPT"},
		{"a rule with a comment of somebody's", func(f *Facts) {
			f.Firewall = saved("filter", "FORWARD -s 172.7.0.0/16 -m comment --comment \"$(reboot)\" -j DROP")
		}, "forward", Fault, "--comment '$(reboot)'", "iptables -D FORWARD -s 172.7.0.0/16 -m comment --comment '$(reboot)' -j DROP"},

		{"docker 29, without an option", func(f *Facts) {
			f.Firewall = append(f.Firewall, foreign("ip", "docker-bridges", "PREROUTING -d 172.7.21.2/32 ! -i docker0 -j DROP"))
		}, "nftables", Fault, `docker drops what 172.7.22.0/24 sends to containers, in its nftables table "ip docker-bridges", in chain PREROUTING, by: -d 172.7.21.2/32 ! -i docker0 drop`, "mk-docker-opts.sh -f /run/flannel/subnet.env; systemctl restart docker"},
		{"docker 29, without the mark", func(f *Facts) {
			f.Firewall = append(f.Firewall, foreign("ip", "docker-bridges", "FORWARD -m mark --mark 0x1000/0x1000 -j ACCEPT", "FORWARD ! -i docker0 -o docker0 -j DROP"))
		}, "nftables", Fault, "it passes what has the mark 0x1000/0x1000, and flanneld, which sets that, has not", "systemctl restart flanneld"},
		{"docker 29 and the mark", func(f *Facts) {
			f.Firewall = append(saved("mangle", "PREROUTING -i flannel.1 -j MARK --set-xmark 0x1000/0x1000"), foreign("ip", "docker-bridges", "FORWARD -m mark --mark 0x1000/0x1000 -j ACCEPT", "FORWARD ! -i docker0 -o docker0 -j DROP"))
		}, "nftables", OK, "", ""},
		{"a table of nftables hides containers", func(f *Facts) {
			t := foreign("ip", "office", "POSTROUTING -s 172.7.21.0/24 ! -o docker0 -j MASQUERADE")
			t.Chains["POSTROUTING"].NAT = true
			f.Firewall = append(f.Firewall, t)
		}, "addresses", Fault, "in place of the container's, by: nft ip office POSTROUTING: -s 172.7.21.0/24 ! -o docker0 masquerade", "start flanneld with --ip-masq"},
		{"a table of nftables and a bridge", func(f *Facts) {
			f.Firewall = append(f.Firewall, foreign("ip", "office", "FORWARD -i docker0 -o docker0 -j DROP"))
		}, "bridge", Fault, `through nftables, where the table "ip office" (in chain FORWARD, by: -i docker0 -o docker0 drop) drops it`, `nft insert rule ip office FORWARD iifname '"docker0"' oifname '"docker0"' accept`},
		{"a host's own table of nftables", func(f *Facts) {
			f.Firewall = append(f.Firewall, foreign("inet", "office", ":C - [0:0]", "INPUT -j C", "C -j DROP"))
		}, "nftables", Fault, "does not know the tunnel's UDP port 8472; no iptables rule overrules it (in chain C, by: drop)", "nft insert rule inet office INPUT udp dport 8472 accept"},
		{"firewalld and the tunnel", func(f *Facts) { f.Firewall = append(f.Firewall, foreign("inet", "firewalld", "INPUT -j REJECT")) }, "nftables", Fault, "UDP port 8472", "firewall-cmd --permanent --add-port=8472/udp; firewall-cmd --reload"},
		{"a host's own table of nftables that drops this", func(f *Facts) { f.Firewall = append(f.Firewall, foreign("inet", "office", "INPUT -p udp -j DROP")) }, "nftables", Fault,
			`the tunnel's packets from 10.4.7.22, UDP port 8472, are dropped where they arrive, by the nftables table "inet office", in chain INPUT, by: -p udp drop`, "nft delete rule inet office INPUT handle 7"},
		{"a host's own table of nftables, on the way out", func(f *Facts) { f.Firewall = append(f.Firewall, foreign("inet", "office", ":OUTPUT DROP [0:0]")) }, "nftables", Fault,
			"does not know the tunnel's UDP port 8472; no iptables rule overrules it (by the policy of chain OUTPUT)", "nft insert rule inet office OUTPUT udp dport 8472 accept"},
		{"a host's own table of nftables, without a tunnel", func(f *Facts) {
			f.Firewall, f.Status.Device = append(f.Firewall, foreign("inet", "office", "INPUT -j DROP")), nil
		}, "nftables", OK, "", ""},
		{"a host's own table of nftables that knows the port", func(f *Facts) {
			f.Firewall = append(f.Firewall, foreign("inet", "office", "INPUT -p udp --dport 53,8472 -j ACCEPT", "INPUT -j DROP"))
		}, "nftables", OK, "", ""},
		{"contention", func(f *Facts) { is(f, condition.KernelContention, "another program undoes flanneld's work") }, "flanneld", Fault, "another program undoes", "ip monitor link"},
		{"contention over routes alone", func(f *Facts) {
			f.Status.Device, f.Status.Peers = nil, nil
			is(f, condition.KernelContention, "another program undoes flanneld's work")
		}, "flanneld", Fault, "another program undoes", "ip monitor route"},
		{"iptables refuses", func(f *Facts) {
			denied(f, condition.FirewallNotApplied, "iptables filter FORWARD: exit status 4: you must be root")
		}, "flanneld", Fault, "exit status 4", "start flanneld as root"},
		{"iptables lacks something", func(f *Facts) {
			f.Status.Conditions = append(f.Status.Conditions, condition.Condition{Code: condition.FirewallNotApplied, Severity: condition.Error, Message: "iptables nat POSTROUTING", Cause: "this host's iptables refuses", Fix: "modprobe xt_MASQUERADE"})
		}, "flanneld", Fault, "iptables nat POSTROUTING: this host's iptables refuses", "modprobe xt_MASQUERADE"},
		{"an operator's SNAT, and our rules around it", func(f *Facts) {
			f.Firewall = append(f.Firewall, saved("nat", "POSTROUTING -s 172.7.0.0/16 -d 172.7.0.0/16 -j RETURN", "POSTROUTING ! -s 172.7.0.0/16 -d 172.7.21.0/24 -j RETURN",
				"POSTROUTING -s 172.7.0.0/16 -o ens33 -j SNAT --to-source 10.4.7.99", "POSTROUTING -s 172.7.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE --random-fully")...)
		}, "addresses", OK, "", ""},
		{"subnet.env cannot be written", func(f *Facts) { is(f, condition.SubnetFileUnwritten, "no space") }, "subnet.env", Fault, "no space", "ls -la /run/flannel"},
		{"a complaint of what a step has found", func(f *Facts) {
			f.Links[0].Up = false
			is(f, condition.InterfaceDown, "external interface ens33 is down: waiting for it")
		}, "interface", Fault, "ens33 is down", "ip link set ens33 up"},
		{"another complaint", func(f *Facts) { is(f, condition.LeaseIgnored, "ignoring a key") }, "flanneld", Note, "ignoring a key", ""},
		{"not ready for another reason", func(f *Facts) { f.Status.Daemon.Ready, f.Status.Daemon.Reason = false, "who knows" }, "flanneld", Fault, "not ready: who knows", "journalctl"},
		{"what could not be read", func(f *Facts) { f.Unread = []string{"sockets could not be read"} }, "flanneld", Unknown, "sockets could not be read", ""},
	} {
		for _, family := range inet.Families() {
			if family == inet.IPv4 || !slices.Contains(ofIPv4, tt.name) {
				spoilt := healthy()
				tt.spoil(&spoilt)
				in := tt
				in.name, in.text, in.fix = family.String()+": "+tt.name, as(family, tt.text), as(family, tt.fix)
				in.look(t, asIn(family, spoilt))
			}
		}
	}
}

// ofIPv4 are those that IPv6 has not: it has no rp_filter, no setting of an interface by which
// it forwards, and another form of the kernel's own routes and of addresses of one link.
var ofIPv4 = []string{
	"docker0's own route is gone", "nobody knows who has configured the device", "the default route leads into the tunnel",
	"no forwarding on docker0", "rp_filter of all interfaces",
}

// check spoils a healthy host, and looks for the finding.
func (tt finding) check(t *testing.T, f Facts) {
	t.Helper()
	tt.spoil(&f)
	tt.look(t, f)
}

func (tt finding) look(t *testing.T, f Facts) {
	t.Helper()
	found := all(f)
	ok := false
	for _, x := range found {
		ok = ok || x.Step == tt.step && x.Level == tt.level && strings.Contains(x.Text, tt.text) && strings.Contains(strings.Join(x.Fix, "\n"), tt.fix)
		if x.Level == Fault && (len(x.Fix) == 0 || tt.level == OK || tt.level == Note) {
			t.Errorf("%s: a fault without a fix, or one too many: %+v", tt.name, x)
		}
	}
	if !ok {
		t.Errorf("%s: no %s by %s with %q and %q in\n%s", tt.name, tt.level, tt.step, tt.text, tt.fix, printed(t, found))
	}
	for want, level := range map[Level]Level{Fault: Fault, Unknown: Unknown, Note: OK, OK: OK} {
		if tt.level == want && Worst(found) != level {
			t.Errorf("%s: the worst is %s", tt.name, Worst(found))
		}
	}
}

// onTunnel puts an address on the tunnel's device.
func onTunnel(f *Facts, prefix string) {
	f.Links = slices.Clone(f.Links)
	f.Links[1].Addrs = append(slices.Clone(f.Links[1].Addrs), addr(prefix)...)
}
