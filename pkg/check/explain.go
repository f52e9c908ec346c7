package check

import (
	"fmt"
	"net/netip"

	"flanneld/pkg/inet"
	"flanneld/pkg/printable"
	"flanneld/pkg/probe"
	"flanneld/pkg/status"
)

// lost explains why a peer does not answer.
func (p Prober) lost(f Facts, peer status.Peer, dst netip.Addr, said string, filtered bool) Finding {
	there := f.checkThere(peer)
	if filtered {
		return fault(
			[]string{
				"sysctl -w net.ipv4.conf.all.rp_filter=2",
				fmt.Sprintf(
					"flanneld check %v   # on the peer %v: why do its packets come another way?",
					f.Status.Lease.Subnet,
					peer.PublicIP,
				),
			},
			"no answer from %v: this host drops it, as it comes in where rp_filter does not expect it",
			dst,
		).because(ReversePath)
	}
	outer, err := p.ping(f.Status.Host.Address, peer.PublicIP, probe.Small)
	alive := outer.Echo || outer.Answered && outer.From == peer.PublicIP // and no router's word, nor this host's own
	if said == "" && outer.Text != "" && !alive {
		said = saying(outer)
	}
	switch {
	case err != nil:
		return Finding{Level: Unknown, Text: err.Error()}
	case !alive:
		return fault([]string{fmt.Sprintf("ping %v   # is it up? what is between here and there?", peer.PublicIP), there},
			"no answer from %v, nor from its host %v itself%s", dst, peer.PublicIP, said).because(HostSilent)
	case peer.Mode == status.Tunnel:
		return p.lostInTunnel(f, peer, dst, said)
	}
	if said == "" && !p.reachedByHost(f, peer) {
		if len(f.bridges()) == 0 { // as on a host that docker is yet to be set up on
			return note("no answer from %v: perhaps it has no bridge yet, as this host has none; check again when both have "+
				"containers", dst).because(NoBridge)
		}
		return f.foreign(peer, dst)
	}
	return fault(
		[]string{there},
		"no answer from %v, though its host %v answers: that host does not pass it on or back%s",
		dst,
		peer.PublicIP,
		said,
	).because(NotPassedOn)
}

// reachedByHost reports whether a peer's docker0 answers this host's own address: then
// the network between carries containers' addresses, and the peer has no way back.
func (p Prober) reachedByHost(f Facts, peer status.Peer) bool {
	a, err := p.ping(f.Status.Host.Address, gateway(peer.Subnet), probe.Small)
	return err == nil && a.Answered
}

// foreign is about a network that drops addresses that are no host's. From either end
// it looks as if the other one did not answer.
func (f Facts) foreign(peer status.Peer, dst netip.Addr) Finding {
	fix := []string{
		"switch that off, for all hosts: the cloud's source/destination check, or its like (OpenStack: allowed address " +
			"pairs; Google: IP forwarding)",
	}
	if tunnel := f.setConfig("vxlan"); tunnel != "" {
		fix = append(fix, tunnel+"   # or so: within a tunnel no network sees containers' addresses; "+
			"with wireguard, nor what they send")
	}
	fix = append(fix, f.checkThere(peer)+": if it says the same of this host, and nothing else, it is the network")
	return fault(fix, "no answer from %v, though its host %v answers, and none to this host's own address either: the "+
		"network between seems to drop packets with containers' addresses, as clouds do", dst, peer.PublicIP).
		because(NetworkDrops)
}

// checkThere is the command that looks at the way from its other end.
func (f Facts) checkThere(peer status.Peer) string {
	return fmt.Sprintf("flanneld check %v   # on the peer %v", f.Status.Lease.Subnet, peer.PublicIP)
}

// lostInTunnel explains why only the tunnel's packets get no answer.
func (p Prober) lostInTunnel(f Facts, peer status.Peer, dst netip.Addr, said string) Finding {
	h, port := f.Status.Host, f.Status.Device.Port
	if p := peer.Session; p != nil && !p.Handshake.IsZero() {
		return fault([]string{f.checkThere(peer)}, "no answer from %v through the tunnel, though WireGuard shakes hands with "+
			"%v: that host takes packets of this host's subnet from another key, or does not pass them on or back%s",
			dst, peer.PublicIP, said).because(NotByKey)
	}
	there := f.portOf(peer)
	lost := fmt.Sprintf("no answer from %v through the tunnel, though its host %v answers", dst, peer.PublicIP)
	if !f.local(h.PublicIP) {
		return fault([]string{
			fmt.Sprintf(
				"%s -t nat -A PREROUTING -d %v -p udp --dport %d -j DNAT --to-destination %v   # on the router with "+
					"%v, or the like",
				f.words().iptables,
				h.PublicIP,
				port,
				h.Address,
				h.PublicIP,
			),
			fmt.Sprintf(
				"conntrack -D%s -p udp --dport %d   # there, or wait half a minute: it remembers what it has turned away",
				f.words().conntrack,
				port,
			),
			f.checkThere(peer),
		}, "%s: the router with this host's public IP %v seems not to pass UDP port %d on%s", lost, h.PublicIP, port, said).
			because(RouterDrops)
	}
	allow := f.allowTunnel(peer)
	if a, err := p.Network.ProbeUDP(h.Address, netip.AddrPortFrom(peer.PublicIP, uint16(there)), probeTime); err == nil &&
		a.Echo {
		return fault(
			[]string{f.checkThere(peer) + ": does flanneld run there?", allow},
			"%s: nobody listens on its UDP port %d, or a firewall there rejects what comes for it",
			lost,
			there,
		).because(NoTunnel)
	}
	return fault(
		[]string{allow, f.checkThere(peer)},
		"%s: UDP port %d seems to be blocked there or on the way, or the way back is not by the tunnel%s",
		lost,
		there,
		said,
	).because(TunnelSilent)
}

// thorough tries large packets and TCP where small pings come back.
func (p Prober) thorough(f Facts, peer status.Peer, src, dst netip.Addr) []Finding {
	var out []Finding
	mtu := f.Status.Lease.MTU
	if a, err := p.ping(src, dst, mtu); err == nil && !a.Echo {
		fits := p.largest(src, dst, mtu, f.words().leastMTU)
		outer := fits
		if peer.Mode == status.Tunnel {
			outer += f.Status.Host.MTU - f.Status.Device.MTU
		}
		fix := []string{
			fmt.Sprintf("let everything between here and %v carry packets of %d bytes", peer.PublicIP, f.Status.Host.MTU),
		}
		if f.family == inet.IPv4 || fits >= f.words().leastMTU { // with less there is no IPv6
			fix = append(fix, fmt.Sprintf(
				`ip link set %s mtu %d   # %s; then restart docker`, printable.Word(f.Status.Host.Interface), outer, f.orMTU(outer),
			))
		}
		out = append(out, fault(fix, "packets of %d bytes get lost on the way to %v, those of %d arrive", mtu, dst, fits).
			because(PathMTU))
	}
	if peer.Mode != status.Tunnel {
		return out
	}
	if a, err := p.Network.Connect(src, dst, 3*probeTime); err == nil && !a.Answered {
		out = append(out, f.noTCP(peer, dst))
	}
	return out
}

// orMTU is what may be done in place of giving the external interface another MTU.
func (f Facts) orMTU(outer int) string {
	if f.by(status.UDP) {
		return "on each host"
	}
	with := "vxlan"
	if f.by(status.WireGuard) {
		with = status.WireGuard
	}
	return fmt.Sprintf(`or, with %s, "MTU": %d in Backend, by flanneld config set`, with, outer)
}

// noTCP tells of the cause that is hard to find, and of the other one.
func (f Facts) noTCP(peer status.Peer, dst netip.Addr) Finding {
	there := f.checkThere(peer)
	if d := f.Status.Device; d.ChecksumByCPU || d.Kind == status.WireGuard || d.Kind == status.UDP {
		return fault(
			[]string{there},
			"%v answers pings, and no TCP: a firewall on %v or on the way drops it",
			dst,
			peer.PublicIP,
		).because(NoTCP)
	}
	return fault([]string{
		printable.Command("ethtool", "-K", f.Status.Device.Name, "tx-checksum-ip-generic", "off") +
			"   # here and on the peer",
		`"DisableTxChecksum": true in Backend, by flanneld config set, for all hosts, if that helps`,
		there + ", if it does not: a firewall may drop TCP there",
	}, "%v answers pings, and no TCP: its checksums are computed wrongly by the network card (kernels before 5.7 "+
		"do so with vxlan; this one is %s), or a firewall on %v drops it",
		dst, f.Kernel, peer.PublicIP).because(NoTCP)
}

// largest looks for the longest packet that gets through.
func (p Prober) largest(src, dst netip.Addr, mtu, least int) int {
	low, high := probe.Small, mtu // the first gets through, the second does not
	for high-low > 1 && high > least/2 {
		middle := (low + high) / 2
		if a, err := p.pingFor(probeTime/2, src, dst, middle); err == nil && a.Echo {
			low = middle
		} else {
			high = middle
		}
	}
	return low
}
