package check

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"flanneld/pkg/status"
)

// Prober tries paths.
type Prober struct {
	Network Network
	Dropped func() int // packets that rp_filter has dropped so far
}

const (
	probeTime    = 500 * time.Millisecond // for an answer
	tries        = 2
	small        = 84 // bytes, as ping sends them
	leastMTU     = 576
	probesAtOnce = 16
)

// Run tries the path to each peer. found are the other steps' findings: they say
// why there may be no answer.
func (p Prober) Run(f Facts, peers []status.Peer, found []Finding) []Finding {
	switch {
	case f.Status == nil || f.Status.Lease == nil || f.Status.Host == nil:
		return named("probe", skipped("there is no path yet"), nil)
	case len(peers) == 0:
		return named("probe", skipped("there is no peer"), nil)
	}
	answers := make([][]Finding, len(peers))
	reason := obstacle(found)
	slots := make(chan struct{}, probesAtOnce)
	var probing sync.WaitGroup
	for i, peer := range peers {
		slots <- struct{}{}
		probing.Go(func() {
			defer func() { <-slots }()
			answers[i] = p.peer(f, peer, reason)
		})
	}
	probing.Wait()
	var all []Finding
	for _, x := range answers {
		all = append(all, x...)
	}
	return named("probe", merge(all), func() string {
		return fmt.Sprintf("%s answered, to packets of up to %d bytes", these(len(peers)), f.Status.Lease.MTU)
	})
}

func these(n int) string {
	if n == 1 {
		return "the peer"
	}
	return fmt.Sprintf("all %d peers", n)
}

// source is the address that stands for a container of this host: docker0's,
// so that answers take a container's way.
func source(f Facts) netip.Addr {
	own := gateway(f.Status.Lease.Subnet)
	for _, l := range f.Links {
		if l.Has(own) {
			return own
		}
	}
	if f.Status.Device != nil {
		return f.Status.Device.Addr
	}
	return f.Status.Host.Address
}

// obstacle names the first step with a fault that keeps packets from a peer.
func obstacle(found []Finding) string {
	for _, x := range found {
		switch x.Step {
		case "interface", "device", "route", "rp_filter", "port":
			if x.Level == Fault {
				return x.Step
			}
		}
	}
	return ""
}

// trial is one packet that may be answered.
type trial struct {
	dst  netip.Addr
	send func() (Answer, error)
	Answer
	err error
}

// peer tries docker0's address on the peer, which is not there before docker.
// For a tunnel it tries the VTEP's too, and that by TCP, as a firewall there may
// let in no pings.
func (p Prober) peer(f Facts, peer status.Peer, reason string) []Finding {
	src, dst, vtep := source(f), gateway(peer.Subnet), peer.Subnet.Addr()
	trials := []*trial{{dst: dst, send: func() (Answer, error) { return p.ping(src, dst, small) }}}
	if peer.Mode == status.Tunnel {
		trials = append(trials,
			&trial{dst: vtep, send: func() (Answer, error) { return p.ping(src, vtep, small) }},
			&trial{dst: vtep, send: func() (Answer, error) { return p.Network.Connect(src, vtep, tries*probeTime) }})
	}
	before := p.Dropped()
	var sending sync.WaitGroup
	for _, t := range trials {
		sending.Go(func() { t.Answer, t.err = t.send() })
	}
	sending.Wait()
	said := ""
	for i, t := range trials {
		switch {
		case t.err != nil:
			return []Finding{{Level: Unknown, Text: t.err.Error()}}
		case t.Echo && i < 2:
			return p.thorough(f, peer, src, t.dst)
		case t.Came && (peer.Mode == status.Tunnel || t.From == peer.PublicIP):
			return nil // it has no docker0 yet, and says so, or lets in no pings
		case t.Says != "" && said == "":
			said = fmt.Sprintf(": %v says that %s", orHere(t.From), t.Says)
		}
	}
	if reason != "" {
		return skipped("no answer from %v: mend what %s says first", dst, reason)
	}
	return []Finding{p.lost(f, peer, dst, said, p.Dropped() > before)}
}

func orHere(a netip.Addr) string {
	if a.IsValid() {
		return a.String()
	}
	return "this host"
}

func (p Prober) ping(src, dst netip.Addr, size int) (a Answer, err error) {
	return p.pingFor(probeTime, src, dst, size)
}

func (p Prober) pingFor(wait time.Duration, src, dst netip.Addr, size int) (a Answer, err error) {
	for range tries {
		if a, err = p.Network.Ping(src, dst, size, wait); err != nil || a.Came {
			return a, err
		}
	}
	return a, nil
}

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
