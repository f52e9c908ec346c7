package page

import (
	"fmt"
	"net/netip"
	"time"

	"flanneld/pkg/condition"
	"flanneld/pkg/status"
)

var now = time.Date(2026, 11, 30, 14, 28, 11, 0, time.UTC)

func ago(d time.Duration) time.Time { return now.Add(-d) }

// crowd is a host that is well, with so many peers, of which one in three is behind a router;
// a sample of them is probed.
func crowd(peers, probed int) status.Status {
	more := ""
	if peers > 3 {
		more = fmt.Sprintf(" and %d more", peers-3)
	}
	s := status.Status{
		Time:    now,
		Daemon:  &status.Daemon{Version: "0.3.0", PID: 812, Started: ago(76 * time.Hour), Ready: true, Applied: ago(20 * time.Second)},
		Network: &status.Network{Network: netip.MustParsePrefix("172.7.0.0/16"), SubnetLen: 24, Backend: "vxlan"},
		Host:    &status.Host{Interface: "ens33", Address: netip.MustParseAddr("10.4.7.21"), PublicIP: netip.MustParseAddr("10.4.7.21"), MTU: 1500},
		Lease:   &status.Lease{Subnet: netip.MustParsePrefix("172.7.21.0/24"), Backend: "vxlan", Expires: now.Add(23*time.Hour + 12*time.Minute), MTU: 1450},
		Device:  &status.Device{Name: "flannel.1", VNI: 1, Port: 8472, MTU: 1450, Kind: status.VXLAN},
		Etcd:    status.Etcd{Endpoints: []string{"https://10.4.7.12:2379"}, Member: "https://10.4.7.12:2379", API: "v3", Current: true},
		Probes:  &status.Probes{Every: 30},
		Changes: []status.Change{
			{Time: ago(19 * time.Minute), Text: "put right: ip route add 172.7.30.0/24 via 10.4.7.30 dev ens33 proto 77"},
			{Time: ago(41 * time.Minute), Text: "peer reached: 172.7.40.0/24 directly by ens33"},
			{Time: ago(3 * time.Hour), Text: "over: cannot read from etcd"},
			{Time: ago(3*time.Hour + 4*time.Second), Text: "cannot read from etcd: dial tcp 10.4.7.12:2379: connect: connection refused"},
			{Time: ago(28 * time.Hour), Text: "switched from host-gw to vxlan"},
			{Time: ago(28*time.Hour + 4*time.Second), Text: "the config key asks for subnets of /24 in 172.7.0.0/16, backend vxlan"},
			{Time: ago(76*time.Hour - time.Second), Text: "ready"},
			{Time: ago(76*time.Hour - time.Second), Text: fmt.Sprintf("%d peers reached: 172.7.22.0/24 directly by ens33, 172.7.23.0/24 directly by ens33, 172.7.24.0/24 by the tunnel flannel.1%s", peers, more)},
			{Time: ago(76 * time.Hour), Text: "external interface ens33, 10.4.7.21"},
			{Time: ago(76 * time.Hour), Text: "flanneld 0.3.0 started"},
		},
	}
	for i := range peers {
		n := 22 + i
		p := status.Peer{
			Subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte{172, byte(7 + n/256), byte(n), 0}), 24), PublicIP: netip.AddrFrom4([4]byte{10, 4, byte(7 + n/250), byte(n % 250)}),
			Backend: "vxlan", Mode: status.Direct, Dev: "ens33", Kernel: status.InPlace, Since: ago(time.Duration(n) * 23 * time.Minute),
		}
		if i%3 == 2 {
			p.Mode, p.Dev, p.PublicIP = status.Tunnel, "flannel.1", netip.AddrFrom4([4]byte{10, 5, byte(7 + n/250), byte(n % 250)})
		}
		s.Peers = append(s.Peers, p)
		if i < probed {
			rtt := 0.0002 + float64(n%7)*0.00009
			if p.Mode == status.Tunnel {
				rtt = 0.002 + float64(n%11)*0.0013
			}
			s.Probes.Peers = append(s.Probes.Peers, status.Probe{Subnet: p.Subnet, PublicIP: p.PublicIP, Last: ago(time.Duration(n%10) * time.Second), State: status.Well, Sent: 20, RTT: rtt, PathMTU: 1450})
		}
	}
	return s
}

// spoilt has things go wrong: routes that are gone, packets that are lost, and what is said of it.
func spoilt(peers, probed int) status.Status {
	s := crowd(peers, probed)
	s.Conditions = condition.List{
		{Code: condition.KernelContention, Severity: condition.Error, Since: ago(4 * time.Minute), Message: "another program undoes flanneld's work in the kernel again and again: find it and let it leave flanneld's routes and devices alone", Cause: "route 172.7.23.0/24"},
		{Code: condition.FirewallNotApplied, Subject: "nat POSTROUTING", Severity: condition.Error, Since: ago(90 * time.Second), Message: "nat POSTROUTING", Cause: "the kernel lacks the match comment", Fix: "modprobe xt_comment"},
		{Code: condition.PeerUnreachable, Subject: "172.7.27.0/24", Severity: condition.Warning, Since: ago(50 * time.Minute), Message: `no way to 172.7.27.0/24 by ens33: its host 10.5.7.27 says backend "host-gw"; it is not on the link, and plain routes lead no further`},
	}
	s.Daemon.Ready, s.Daemon.Reason = false, s.Conditions[0].Text()
	s.Peers[1].Kernel = "no route"
	s.Peers[5].Mode, s.Peers[5].Kernel, s.Peers[5].Dev, s.Peers[5].Backend, s.Peers[5].Since = status.NoWay, "", "", "host-gw", time.Time{}
	s.Changes = append([]status.Change{
		{Time: ago(90 * time.Second), Text: "nat POSTROUTING: the kernel lacks the match comment"},
		{Time: ago(4 * time.Minute), Text: "not ready: " + s.Daemon.Reason},
		{Time: ago(4 * time.Minute), Text: "put right: ip route add 172.7.23.0/24 via 10.4.7.23 dev ens33 proto 77 (11 times)"},
	}, s.Changes...)
	for i, lost := range map[int]int{1: 20, 4: 3, 5: 12} {
		s.Probes.Peers[i].State, s.Probes.Peers[i].Lost, s.Probes.Peers[i].Since = status.Lossy, lost, ago(4*time.Minute)
		if lost == 20 {
			s.Probes.Peers[i].State, s.Probes.Peers[i].RTT, s.Probes.Peers[i].PathMTU = status.Silent, 0, 0
		}
	}
	s.Probes.Peers[8].State, s.Probes.Peers[8].Narrow, s.Probes.Peers[8].PathMTU, s.Probes.Peers[8].Since = status.Narrow, true, 1400, ago(50*time.Minute)
	return s
}

var prefix = netip.MustParsePrefix
