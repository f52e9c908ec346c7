package check

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"golang.org/x/sys/unix"

	"flanneld/pkg/firewall/firewalltest"
	"flanneld/pkg/firewall/iptables"
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

// connected is the kernel's own route to this host's containers.
func connected(bridge string) kernel.FoundRoute {
	return kernel.FoundRoute{Route: kernel.Route{Dst: own, Dev: bridge}, Protocol: unix.RTPROT_KERNEL}
}

// healthy is a host with nothing wrong: a tunnel to one peer.
func healthy() Facts {
	s := &status.Status{
		Daemon: &status.Daemon{Version: "1.2.3", PID: 812, Ready: true, SubnetFile: "/run/flannel/subnet.env"},
		Network: &status.Network{Network: netip.MustParsePrefix("172.7.0.0/16"), SubnetLen: 24, Backend: "vxlan",
			Config: `{"Network":"172.7.0.0/16","SubnetLen":24,"SubnetMin":"172.7.1.0","SubnetMax":"172.7.255.0","Backend":{"Type":"vxlan","VNI":7}}`},
		Host:   &status.Host{Interface: "ens33", Address: here, PublicIP: here, MTU: 1500},
		Lease:  &status.Lease{Subnet: own, Backend: "vxlan", Expires: now.Add(23 * time.Hour), MTU: 1450},
		Device: &status.Device{Name: "flannel.1", VNI: 1, Port: 8472, MTU: 1450, Addr: own.Addr()},
		Etcd:   status.Etcd{Endpoints: []string{"https://10.4.7.12:2379"}, Prefix: "/coreos.com/network", Member: "https://10.4.7.12:2379", Current: true},
		Peers:  []status.Peer{{Subnet: far, PublicIP: peer, Backend: "vxlan", Mode: status.Tunnel, Via: vtep22, Dev: "flannel.1", MAC: mac22.String(), Kernel: status.InPlace}},
	}
	return Facts{
		Now: now, Status: s, Kernel: "6.1.0",
		Links: []kernel.Link{
			{Name: "ens33", MTU: 1500, Up: true, Addrs: addr("10.4.7.21/24")},
			{Name: "flannel.1", MTU: 1450, Up: true, Type: "vxlan", Alias: kernel.Alias, Kind: kernel.VXLAN{VNI: 1, Port: 8472}, Addrs: addr("172.7.21.0/32")},
			{Name: "docker0", MTU: 1450, Up: true, Type: "bridge", Addrs: addr("172.7.21.1/24")},
			{Name: "veth2", MTU: 1450, Up: true, Type: "veth", Master: "docker0"},
		},
		Routes: []kernel.FoundRoute{
			{Route: kernel.Route{Dst: far, Via: vtep22, Dev: "flannel.1", OnLink: true}, Protocol: kernel.Protocol}, connected("docker0"),
		},
		Entries: kernel.Entries{
			Neighbours: []kernel.FoundNeighbour{{Neighbour: kernel.Neighbour{Addr: vtep22, MAC: mac22}, Permanent: true}},
			FDB:        []kernel.FoundFDB{{FDB: kernel.FDB{Dev: "flannel.1", MAC: mac22, Dst: peer}, Permanent: true}},
		},
		Paths:    map[netip.Addr]Path{gateway(far): {Via: vtep22, Dev: "flannel.1"}, peer: {Dev: "ens33"}},
		Sysctl:   map[string]string{"net.ipv4.ip_forward": "1", "net.ipv4.conf.all.rp_filter": "0", "net.ipv4.conf.ens33.rp_filter": "1", "net.bridge.bridge-nf-call-iptables": "1"},
		Firewall: iptables.Parse("iptables", strings.Replace(firewalltest.CentOS, "-A INPUT -p icmp", "-A INPUT -p udp -m udp --dport 8472 -s 10.4.7.0/24 -j ACCEPT\n-A INPUT -p icmp", 1)),
		Env:      subnet.Env{Network: netip.MustParsePrefix("172.7.0.0/16"), Subnet: own, MTU: 1450}, EnvTime: now.Add(-time.Hour),
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

// What is in the way to peers too is found there, and its fix is one for both.
func TestBridgeAndPeers(t *testing.T) {
	for _, rule := range []string{":FORWARD DROP [0:0]", "FORWARD -j DROP"} {
		f := healthy()
		f.Firewall = saved("filter", rule)
		for _, x := range all(f) {
			if (x.Level == Fault) != (x.Step == "forward" || x.Step == "port") && x.Level != OK || x.Step == "forward" && x.Level != Fault {
				t.Errorf("%s: %+v", rule, x)
			}
		}
	}
}

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
	f.Firewall = saved("filter", "FORWARD -s 172.7.0.0/16 -j DROP")
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
		{Step: "daemon", Level: OK, Text: "runs"},
		{Step: "forward", Level: Fault, Text: "dropped\x1b[2J", Fix: []string{"iptables -D FORWARD -j DROP", "or\totherwise"}},
	}
	const want = `ok     daemon   runs
FAULT  forward  dropped?[2J
       fix:     iptables -D FORWARD -j DROP
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
