package check

import (
	"errors"
	"io/fs"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"flanneld/pkg/kernel"
	"flanneld/pkg/status"
	"flanneld/pkg/subnet"
)

var (
	now    = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	vtep22 = far.Addr()
	mac22  = kernel.MAC{0x0a, 0, 0, 0, 0, 0x16}
)

func addr(p string) []kernel.Addr { return []kernel.Addr{{Prefix: netip.MustParsePrefix(p)}} }

// healthy is a host with nothing wrong: a tunnel to one peer.
func healthy() Facts {
	s := &status.Status{
		Daemon:  &status.Daemon{Version: "1.2.3", PID: 812, Ready: true, SubnetFile: "/run/flannel/subnet.env"},
		Network: &status.Network{Network: netip.MustParsePrefix("172.7.0.0/16"), SubnetLen: 24, Backend: "vxlan"},
		Host:    &status.Host{Interface: "ens33", Address: here, PublicIP: here, MTU: 1500},
		Lease:   &status.Lease{Subnet: own, Backend: "vxlan", Expires: now.Add(23 * time.Hour), MTU: 1450},
		Device:  &status.Device{Name: "flannel.1", VNI: 1, Port: 8472, MTU: 1450, Addr: own.Addr()},
		Etcd:    status.Etcd{Endpoints: []string{"https://10.4.7.12:2379"}, Prefix: "/coreos.com/network", Member: "https://10.4.7.12:2379", Current: true},
		Peers:   []status.Peer{{Subnet: far, PublicIP: peer, Backend: "vxlan", Mode: status.Tunnel, Via: vtep22, Dev: "flannel.1", MAC: mac22.String(), Kernel: status.InPlace}},
	}
	return Facts{
		Now: now, Status: s, Kernel: "6.1.0",
		Links: []Link{
			{Link: kernel.Link{Name: "ens33", MTU: 1500, Up: true, Addrs: addr("10.4.7.21/24")}},
			{Link: kernel.Link{Name: "flannel.1", MTU: 1450, Up: true, Kind: "vxlan", Alias: kernel.Alias, VXLAN: &kernel.VXLAN{VNI: 1, Port: 8472}, Addrs: addr("172.7.21.0/32")}},
			{Link: kernel.Link{Name: "docker0", MTU: 1450, Up: true, Kind: "bridge", Addrs: addr("172.7.21.1/24")}},
			{Link: kernel.Link{Name: "veth2", MTU: 1450, Up: true, Kind: "veth"}, Master: "docker0"},
		},
		Routes: []kernel.FoundRoute{{Route: kernel.Route{Dst: far, Via: vtep22, Dev: "flannel.1", OnLink: true}, Protocol: kernel.Protocol}},
		Entries: kernel.Entries{
			Neighbours: []kernel.FoundNeighbour{{Neighbour: kernel.Neighbour{Addr: vtep22, MAC: mac22}, Permanent: true}},
			FDB:        []kernel.FoundFDB{{FDB: kernel.FDB{MAC: mac22, Dst: peer}, Permanent: true}},
		},
		Paths:     map[netip.Addr]Path{gateway(far): {Via: vtep22, Dev: "flannel.1"}, peer: {Dev: "ens33"}},
		Sysctl:    map[string]string{"net.ipv4.ip_forward": "1", "net.ipv4.conf.all.rp_filter": "0", "net.ipv4.conf.ens33.rp_filter": "1", "net.bridge.bridge-nf-call-iptables": "1"},
		Firewalls: []Firewall{ParseRules("iptables", strings.Replace(centos, "-A INPUT -p icmp", "-A INPUT -p udp -m udp --dport 8472 -s 10.4.7.0/24 -j ACCEPT\n-A INPUT -p icmp", 1))},
		Env:       subnet.Env{Network: netip.MustParsePrefix("172.7.0.0/16"), Subnet: own, MTU: 1450}, EnvTime: now.Add(-time.Hour),
		Docker:       &Process{PID: 900, Name: "dockerd", Started: now.Add(-time.Minute)},
		Certificates: []Certificate{{File: "/cert/client.pem", NotBefore: now.Add(-time.Hour), NotAfter: now.Add(1000 * time.Hour)}},
		Members:      []Member{{URL: "https://10.4.7.12:2379", Ahead: time.Second}},
	}
}

func all(f Facts) []Finding {
	var peers []status.Peer
	if f.Status != nil {
		peers = f.Status.Peers
	}
	found := Run(f, peers)
	return append(found, Rest(f, found)...)
}

func TestAllIsWell(t *testing.T) {
	for _, x := range all(healthy()) {
		if x.Level != OK || x.Text == "" || x.Step == "" {
			t.Errorf("%+v", x)
		}
	}
}

// Each finding that a host can show. Those of a real host are in internal/e2e;
// here are also those that take hours, other kernels or other networks.
func TestFindings(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(*Facts)
		step  string
		level Level
		text  string
		cure  string
	}{
		{"no daemon", func(f *Facts) { f.Status, f.Daemon = nil, status.ErrNoDaemon }, "daemon", Fault, "no flanneld runs", "systemctl start flanneld"},
		{"a silent daemon", func(f *Facts) { f.Status, f.Daemon = nil, status.ErrNoAnswer }, "daemon", Unknown, "does not answer", ""},
		{"etcd away", func(f *Facts) { f.Status.Etcd.Reads = "timeout"; f.Members[0].Err = errors.New("refused") }, "etcd", Fault, "etcd cannot be read: timeout", "curl -k https://10.4.7.12:2379/version   # must answer: refused"},
		{"etcd speaks, but not to flanneld", func(f *Facts) { f.Status.Etcd.Reads = "wants a user" }, "etcd", Fault, "wants a user", "journalctl"},
		{"no right to write", func(f *Facts) { f.Status.Etcd.Writes = "wants a user" }, "etcd", Fault, "this host's lease cannot be written: wants a user", "a role that may write /coreos.com/network/*"},
		{"the clock is late", func(f *Facts) { f.Members[0].Ahead = 90 * time.Minute }, "clock", Fault, "1h30m0s behind", "timedatectl"},
		{"the clock is early", func(f *Facts) { f.Members[0].Ahead = -90 * time.Minute }, "clock", Fault, "1h30m0s ahead of", "timedatectl"},
		{"a certificate has expired", func(f *Facts) { f.Certificates[0].NotAfter = now }, "certificates", Fault, "/cert/client.pem has expired on 2026-03-04 12:00:00", "put a new certificate"},
		{"a certificate is not valid yet", func(f *Facts) { f.Certificates[0].NotBefore = now.Add(time.Hour) }, "certificates", Fault, "valid only from 2026-03-04 13:00:00 on", "date"},
		{"a certificate will expire", func(f *Facts) { f.Certificates[0].NotAfter = now.Add(time.Hour) }, "certificates", Note, "expires on", "put a new certificate"},
		{"no certificate in the file", func(f *Facts) { f.Certificates[0].Err = errors.New("no PEM") }, "certificates", Unknown, "no PEM", ""},
		{"a wrong config", func(f *Facts) { f.Status.ConfigProblem = "Network is missing" }, "config", Fault, "Network is missing", "flanneld config check"},
		{"no lease", func(f *Facts) { f.Status.Lease = nil; f.Status.Daemon.Reason = "no lease: no subnet is free" }, "lease", Fault, "this host has no subnet: no subnet is free", "journalctl"},
		{"an expired lease", func(f *Facts) { f.Status.Lease.Expires = now.Add(-time.Second) }, "lease", Fault, "has expired on 2026-03-04 11:59:59", "journalctl"},
		{"a contested lease", func(f *Facts) { f.Status.Lease.Contested = true }, "lease", Fault, "another host writes the lease", "--public-ip"},
		{"no interface", func(f *Facts) { f.Status.Host = nil; f.Status.Peers = nil; f.Status.Daemon.Reason = "x" }, "interface", Fault, "no external interface: x", "--iface"},
		{"the interface is gone", func(f *Facts) { f.Links[0].Name = "ens34" }, "interface", Fault, "ens33 is gone", "ip -brief link"},
		{"the address is gone", func(f *Facts) { f.Links[0].Addrs = nil }, "interface", Fault, "ens33 has lost its address 10.4.7.21", "ip -4 address show ens33"},
		{"behind NAT", func(f *Facts) { f.Status.Host.PublicIP = netip.MustParseAddr("192.0.2.1") }, "interface", Note, "192.0.2.1 is no address of this host", ""},
		{"the device is missing", func(f *Facts) { f.Links[1].Name = "x"; f.Links[1].VXLAN = nil }, "device", Fault, "flannel.1 is not there", "journalctl"},
		{"the device is somebody else's", func(f *Facts) { f.Links[1].Alias = "" }, "device", Fault, "flannel.1 is not flanneld's device", "ip link del flannel.1"},
		{"the device is a bridge", func(f *Facts) { f.Links[1].Kind = "bridge" }, "device", Fault, "of kind bridge", "ip link del flannel.1"},
		{"the device is down", func(f *Facts) { f.Links[1].Up = false }, "device", Fault, "flannel.1 is down", "ip link set flannel.1 up"},
		{"subnet.env cannot be read", func(f *Facts) { f.EnvError = errors.New("permission denied") }, "subnet.env", Fault, "permission denied", "restart flanneld"},
		{"subnet.env is not there", func(f *Facts) { f.EnvError = fs.ErrNotExist }, "subnet.env", Fault, "/run/flannel/subnet.env is not there", "restart flanneld"},
		{"another subnet in subnet.env", func(f *Facts) { f.Env.Subnet = far }, "subnet.env", Fault, "says 172.7.22.0/24, and this host has 172.7.21.0/24", "restart flanneld"},
		{"no docker", func(f *Facts) { f.Docker = nil; f.Links = f.Links[:2] }, "docker", Note, "dockerd does not run here", ""},
		{"dockerd without docker0", func(f *Facts) { f.Links = f.Links[:2]; f.EnvTime = now }, "docker", Fault, "there is no docker0 with the address 172.7.21.1/24; dockerd (pid 900) was started 1m0s before the file was written", "systemctl restart docker"},
		{"an idle docker0 shows 1500", func(f *Facts) { f.Links[2].MTU = 1500; f.Links = f.Links[:3] }, "docker", OK, "172.7.21.1/24", ""},
		{"docker0 with ports of 1500", func(f *Facts) { f.Links[2].MTU = 1500 }, "docker", Fault, "the MTU of docker0 is 1500", "restart docker"},
		{"no forwarding on docker0", func(f *Facts) { f.Sysctl["net.ipv4.conf.docker0.forwarding"] = "0" }, "forwarding", Fault, "docker0 is not forwarded", "sysctl -w net.ipv4.conf.docker0.forwarding=1"},
		{"the kernel has no way", func(f *Facts) { f.Paths[gateway(far)] = Path{Err: errors.New("unreachable")} }, "route", Fault, "no way to 172.7.22.1: unreachable", "ip route get"},
		{"no forwarding entry", func(f *Facts) { f.Entries.FDB = nil }, "route", Fault, "no forwarding entry for 0a:00:00:00:00:16", "flanneld status"},
		{"rp_filter is loose", func(f *Facts) { f.Sysctl["net.ipv4.conf.all.rp_filter"] = "2"; f.Paths[peer] = Path{Dev: "ens34"} }, "rp_filter", OK, "", ""},
		{"rp_filter of all interfaces", func(f *Facts) {
			f.Sysctl["net.ipv4.conf.all.rp_filter"], f.Sysctl["net.ipv4.conf.ens33.rp_filter"] = "1", "0"
			f.Paths[peer] = Path{Dev: "ens34"}
		}, "rp_filter", Fault, "leads over ens34", "sysctl -w net.ipv4.conf.ens33.rp_filter=2"},
		{"iptables is not there", func(f *Facts) { f.Firewalls, f.Unread = nil, []string{"iptables could not be read: not installed"} }, "forward", Unknown, "iptables could not be read", ""},
		{"policies close the port", func(f *Facts) { f.Firewalls = []Firewall{rules("filter", ":INPUT DROP [0:0]")} }, "port", Fault, "by the policy of filter INPUT", "iptables -I INPUT -p udp --dport 8472 -s 10.4.7.0/24 -j ACCEPT"},
		{"the port is closed in the raw table", func(f *Facts) { f.Firewalls = []Firewall{rules("raw", "PREROUTING -p udp -j DROP")} }, "port", Fault, "dropped where they arrive", "iptables -t raw -D PREROUTING -p udp -j DROP"},
		{"a bridge under a policy", func(f *Facts) {
			f.Firewalls = []Firewall{rules("filter", ":FORWARD DROP [0:0]", "FORWARD -d 172.7.22.0/24 -j ACCEPT", "FORWARD -s 172.7.22.0/24 -j ACCEPT")}
		}, "bridge", Fault,
			"the policy of FORWARD drops it", "iptables -I FORWARD -i docker0 -o docker0 -j ACCEPT"},
		{"the same without br_netfilter", func(f *Facts) {
			f.Firewalls = []Firewall{rules("filter", "FORWARD -i docker0 -o docker0 -j DROP")}
			delete(f.Sysctl, "net.bridge.bridge-nf-call-iptables")
		}, "bridge", OK, "", ""},
		{"a table of nftables that knows the network", func(f *Facts) {
			f.Foreign = []ForeignTable{{"inet firewalld", firewalldTable + "ip saddr 172.7.0.0/16 accept\n"}}
		}, "nftables", OK, "", ""},
		{"a table of nftables without a filter", func(f *Facts) {
			f.Foreign = []ForeignTable{{"ip x", "type nat hook postrouting priority 0; policy accept;\n drop\n"}}
		}, "nftables", OK, "", ""},
		{"another table of nftables", func(f *Facts) {
			f.Foreign = []ForeignTable{{"inet office", "type filter hook forward priority filter; policy drop;"}}
		}, "nftables", Fault, `"inet office"`, "nft list table inet office"},
		{"a fight", func(f *Facts) { f.Status.Problems = []string{"another program undoes flanneld's work"} }, "flanneld", Fault, "another program undoes", "journalctl"},
		{"another complaint", func(f *Facts) { f.Status.Problems = []string{"ignoring a key"} }, "flanneld", Note, "ignoring a key", ""},
		{"not ready for another reason", func(f *Facts) { f.Status.Daemon.Ready, f.Status.Daemon.Reason = false, "who knows" }, "flanneld", Fault, "not ready: who knows", "journalctl"},
		{"what could not be read", func(f *Facts) { f.Unread = []string{"sockets could not be read"} }, "flanneld", Unknown, "sockets could not be read", ""},
	} {
		f := healthy()
		tt.spoil(&f)
		found := all(f)
		ok := false
		for _, x := range found {
			ok = ok || x.Step == tt.step && x.Level == tt.level && strings.Contains(x.Text, tt.text) && strings.Contains(strings.Join(x.Cure, "\n"), tt.cure)
			if x.Level == Fault && (len(x.Cure) == 0 || tt.level != Fault) {
				t.Errorf("%s: a fault without a cure, or one too many: %+v", tt.name, x)
			}
		}
		if !ok {
			t.Errorf("%s: no %s by %s with %q and %q in\n%s", tt.name, tt.level, tt.step, tt.text, tt.cure, printed(t, found))
		}
		for want, level := range map[Level]Level{Fault: Fault, Unknown: Unknown, Note: OK, OK: OK} {
			if tt.level == want && Worst(found) != level {
				t.Errorf("%s: the worst is %s", tt.name, Worst(found))
			}
		}
	}
}

const firewalldTable = "chain filter_FORWARD {\n\ttype filter hook forward priority filter + 10; policy accept;\n\treject with icmpx admin-prohibited\n"

func printed(t *testing.T, found []Finding) string {
	t.Helper()
	var b strings.Builder
	if err := Print(&b, found, false); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Without a daemon, what does not need it is still looked at.
func TestWithoutDaemon(t *testing.T) {
	f := healthy()
	f.Status, f.Daemon = nil, status.ErrNoDaemon
	f.Sysctl["net.ipv4.ip_forward"] = "0"
	f.Links[2].Addrs = addr("172.17.0.1/16")
	faults := map[string]bool{}
	for _, x := range all(f) {
		if x.Level == Fault {
			faults[x.Step] = true
		}
	}
	if diff := cmp.Diff(map[string]bool{"daemon": true, "forwarding": true, "docker": true}, faults); diff != "" {
		t.Error(diff)
	}
}

func TestWithoutPeers(t *testing.T) {
	f := healthy()
	f.Status.Peers = nil
	for _, x := range append(all(f), Prober{Network: silence{}}.Run(f, nil, nil)...) {
		if x.Level != OK && x.Level != Skipped {
			t.Errorf("%+v", x)
		}
	}
}

// One rule that is in the way to many peers is one finding.
func TestManyPeers(t *testing.T) {
	f := healthy()
	for i := range 200 {
		p := f.Status.Peers[0]
		p.Subnet = netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 7, byte(30 + i), 0}), 24)
		f.Status.Peers = append(f.Status.Peers, p)
	}
	f.Firewalls = []Firewall{rules("filter", "FORWARD -s 172.7.0.0/16 -j DROP")}
	faults := 0
	for _, x := range Run(f, f.Status.Peers) {
		if x.Level == Fault && x.Step == "forward" {
			faults++
			if !strings.HasSuffix(x.Text, "(and 401 more like this)") {
				t.Error(x.Text)
			}
		}
	}
	if faults != 1 {
		t.Errorf("%d findings", faults)
	}
}

func TestSelect(t *testing.T) {
	f := healthy()
	for what, want := range map[string]string{
		"": "172.7.22.0/24", "172.7.22.0/24": "172.7.22.0/24", "172.7.22.200": "172.7.22.0/24", "10.4.7.22": "172.7.22.0/24", "10.4.7.22/32": "172.7.22.0/24",
		"172.7.99.0/24": "missing", "10.4.7.99": "missing", "172.7.21.0/24": "own", "172.7.21.7": "own", "10.4.7.21": "own", "hdss7-22": "error",
	} {
		peers, missing, err := Select(f.Status, what)
		got := ""
		switch {
		case errors.Is(err, ErrOwn):
			got = "own"
		case err != nil:
			got = "error"
		case missing != nil:
			got = "missing"
		case len(peers) == 1:
			got = peers[0].Subnet.String()
		}
		if got != want {
			t.Errorf("%q: %s, want %s", what, got, want)
		}
	}
	if peers, missing, err := Select(nil, "10.4.7.22"); peers != nil || missing != nil || err != nil {
		t.Errorf("without a daemon: %v, %v, %v", peers, missing, err)
	}
}

func TestPrint(t *testing.T) {
	found := []Finding{
		{"daemon", OK, "runs", nil},
		{"forward", Fault, "dropped\x1b[2J", []string{"iptables -D FORWARD -j DROP", "or\totherwise"}},
	}
	const want = `ok     daemon   runs
FAULT  forward  dropped?[2J
       mend:    iptables -D FORWARD -j DROP
                or?otherwise
`
	if diff := cmp.Diff(want, printed(t, found)); diff != "" {
		t.Error(diff)
	}
	var b strings.Builder
	if err := Print(&b, found, true); err != nil || !strings.Contains(b.String(), "\n\x1b[31mFAULT  forward  dropped?[2J\x1b[0m\n") {
		t.Errorf("%q", b.String())
	}
}

func TestForeign(t *testing.T) {
	const listed = `# Warning: table ip filter is managed by iptables-nft, do not touch!
table ip filter {
	chain FORWARD {
		type filter hook forward priority filter; policy drop;
	}
}
table ip nat {
}
table inet firewalld {
	chain a {
		drop
	}
}
table ip office {
	chain b {
	}
}
`
	want := []ForeignTable{{"inet firewalld", "table inet firewalld {\n\tchain a {\n\t\tdrop\n\t}\n}\n"}, {"ip office", "table ip office {\n\tchain b {\n\t}\n}\n"}}
	if diff := cmp.Diff(want, foreign(listed)); diff != "" {
		t.Error(diff)
	}
}
