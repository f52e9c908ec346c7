package check

import (
	"fmt"
	"net/netip"

	"flanneld/pkg/status"
)

// lost explains why a peer does not answer.
func (p Prober) lost(f Facts, peer status.Peer, dst netip.Addr, said string, filtered bool) Finding {
	there := []string{fmt.Sprintf("flanneld check %v   # on the peer %v", f.Status.Lease.Subnet, peer.PublicIP)}
	if filtered {
		return fault([]string{"sysctl -w net.ipv4.conf.all.rp_filter=0; sysctl -w net.ipv4.conf." + peer.Dev + ".rp_filter=2"},
			"no answer from %v: this host drops it, as it comes in where rp_filter does not expect it", dst)
	}
	outer, err := p.ping(f.Status.Host.Address, peer.PublicIP, small)
	switch {
	case err != nil:
		return Finding{Level: Unknown, Text: err.Error()}
	case !outer.Came:
		return fault([]string{fmt.Sprintf("ping %v   # is it up? what is between here and there?", peer.PublicIP)},
			"no answer from %v, nor from its host %v itself%s", dst, peer.PublicIP, said)
	case peer.Mode == status.Tunnel:
		port := f.Status.Device.Port
		allow := fmt.Sprintf("iptables -I INPUT -p udp --dport %d -s %v -j ACCEPT   # on the peer, or the like on what is between", port, f.neighbourhood(f.Status.Host.Address))
		return fault(append([]string{allow}, there...), "no answer from %v through the tunnel, though its host %v answers: UDP port %d seems to be blocked there or on the way%s",
			dst, peer.PublicIP, port, said)
	}
	return fault(there, "no answer from %v, though its host %v answers: that host does not pass it on or back%s", dst, peer.PublicIP, said)
}

// thorough tries large packets and TCP where small pings come back.
func (p Prober) thorough(f Facts, peer status.Peer, src, dst netip.Addr) []Finding {
	var out []Finding
	mtu := f.Status.Lease.MTU
	if a, err := p.ping(src, dst, mtu); err == nil && !a.Echo {
		fits := p.largest(src, dst, mtu)
		outer := fits
		if peer.Mode == status.Tunnel {
			outer += f.Status.Host.MTU - f.Status.Device.MTU
		}
		out = append(out, fault([]string{
			fmt.Sprintf("let everything between here and %v carry packets of %d bytes", peer.PublicIP, f.Status.Host.MTU),
			fmt.Sprintf(`ip link set %s mtu %d   # or, with vxlan: flanneld config set, "MTU": %d in Backend; then restart docker`, f.Status.Host.Interface, outer, outer),
		}, "packets of %d bytes get lost on the way to %v, those of %d arrive", mtu, dst, fits))
	}
	if peer.Mode != status.Tunnel {
		return out
	}
	if a, err := p.Network.Connect(src, dst, 3*probeTime); err == nil && !a.Came {
		out = append(out, fault([]string{
			"ethtool -K " + f.Status.Device.Name + " tx-checksum-ip-generic off   # here and on the peer",
			`flanneld config set, "DisableTxChecksum": true in Backend   # for all hosts, if that helps`,
		}, "%v answers pings, and no TCP: its checksums are computed wrongly by the network card (kernels before 5.7 do so with vxlan; this one is %s), or a firewall on %v drops it",
			dst, f.Kernel, peer.PublicIP))
	}
	return out
}

// largest looks for the longest packet that gets through.
func (p Prober) largest(src, dst netip.Addr, mtu int) int {
	low, high := small, mtu // the first gets through, the second does not
	for high-low > 1 && high > leastMTU/2 {
		middle := (low + high) / 2
		if a, err := p.pingFor(probeTime/2, src, dst, middle); err == nil && a.Echo {
			low = middle
		} else {
			high = middle
		}
	}
	return low
}
