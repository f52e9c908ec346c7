package check

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"flanneld/pkg/status"
)

// out and back are the packets between a container of this host and one of p's.
func (f Facts) out(p status.Peer) Packet {
	return Packet{In: f.inner(), Out: p.Dev, Src: container(f.Status.Lease.Subnet), Dst: container(p.Subnet), State: "NEW"}
}

func (f Facts) back(p status.Peer) Packet {
	return Packet{In: p.Dev, Out: f.inner(), Src: container(p.Subnet), Dst: container(f.Status.Lease.Subnet), State: "NEW"}
}

// protocols are those that a rule may be about as a whole.
var protocols = []string{"tcp", "udp", "icmp"}

func findForward(f Facts, p status.Peer) []Finding {
	if f.Status.Lease == nil || p.Dev == "" {
		return skipped("there is no way to look along")
	}
	if len(f.Firewalls) == 0 {
		return unknown("iptables could not be read")
	}
	var out []Finding
	for _, protocol := range protocols {
		for _, wall := range f.Firewalls {
			to, from := f.out(p), f.back(p)
			to.Protocol, from.Protocol = protocol, protocol
			out = append(out, blocked(wall, wall.Pass(to, forwarded), fmt.Sprintf("what containers send to %v", p.Subnet), f)...)
			for _, dst := range singledOut(wall, f.Status.Lease.Subnet, from.Dst) {
				from.Dst = dst
				out = append(out, blocked(wall, wall.Pass(from, forwarded), fmt.Sprintf("what %v sends to containers", p.Subnet), f)...)
			}
		}
	}
	return out
}

// singledOut are containers' addresses that rules of the raw table name, as
// docker 28 writes them, and first one that stands for all others.
func singledOut(wall Firewall, own netip.Prefix, any netip.Addr) []netip.Addr {
	out := []netip.Addr{any}
	chain := wall.Tables["raw"]["PREROUTING"]
	if chain == nil {
		return out
	}
	for _, r := range chain.Rules {
		for _, c := range r.conditions {
			dst, err := netip.ParsePrefix(strings.Join(c.values, ""))
			if c.option == "-d" && !c.not && err == nil && dst.IsSingleIP() && own.Contains(dst.Addr()) && !slices.Contains(out, dst.Addr()) {
				out = append(out, dst.Addr())
			}
		}
	}
	return out
}

// blocked words the verdict on what.
func blocked(wall Firewall, v Verdict, what string, f Facts) []Finding {
	switch {
	case !v.Dropped:
		return nil
	case v.Rule == nil:
		_, chain, _ := strings.Cut(v.Policy, " ")
		return []Finding{fault([]string{wall.Command + " -P " + chain + " ACCEPT   # or start flanneld without --iptables-forward-rules=false"},
			"%s is dropped by the policy of %s, and no rule lets it pass", what, chain)}
	case v.Rule.Table == "raw" && strings.Contains(v.Rule.Text, "! -i "+f.inner()):
		return []Finding{fault([]string{
			`set "allow-direct-routing": true in /etc/docker/daemon.json (dockerd 28.2 and later), or mk-docker-opts.sh -r; then: systemctl restart docker`,
			v.Rule.Remove(wall.Command) + "   # until docker starts again",
		}, "docker (28 and later) drops %s, by: %v %v", what, wall.Command, v.Rule)}
	case strings.HasPrefix(v.Rule.Chain, "DOCKER"):
		return []Finding{fault([]string{wall.Command + " -I DOCKER-USER -s " + f.network() + " -d " + f.network() + " -j ACCEPT"},
			"docker drops %s, by: %v %v", what, wall.Command, v.Rule)}
	}
	return []Finding{fault([]string{v.Rule.Remove(wall.Command)}, "%s is dropped, by: %v %v", what, wall.Command, v.Rule)}
}

// findPort looks whether the tunnel's own packets get out and in.
func findPort(f Facts, p status.Peer) []Finding {
	switch d := f.Status.Device; {
	case p.Mode != status.Tunnel || d == nil || f.Status.Host == nil:
		return nil
	case len(f.Firewalls) == 0:
		return unknown("iptables could not be read")
	}
	h, port := f.Status.Host, f.Status.Device.Port
	in := Packet{In: h.Interface, Src: p.PublicIP, Dst: h.Address, Protocol: "udp", DstPort: port, State: "NEW", Local: true}
	out := Packet{Out: h.Interface, Src: h.Address, Dst: p.PublicIP, Protocol: "udp", DstPort: port, State: "NEW"}
	var found []Finding
	for _, wall := range f.Firewalls {
		allow := fmt.Sprintf("%s -I INPUT -p udp --dport %d -s %v -j ACCEPT", wall.Command, port, f.neighbourhood(p.PublicIP))
		found = append(found, closed(wall.Pass(in, received), wall, allow, fmt.Sprintf("the tunnel's packets from %v, UDP port %d, are dropped where they arrive", p.PublicIP, port))...)
		allow = fmt.Sprintf("%s -I OUTPUT -p udp --dport %d -d %v -j ACCEPT", wall.Command, port, f.neighbourhood(p.PublicIP))
		found = append(found, closed(wall.Pass(out, sent), wall, allow, fmt.Sprintf("the tunnel's packets to %v, UDP port %d, are dropped where they leave", p.PublicIP, port))...)
	}
	return found
}

// neighbourhood is the external interface's network where it holds ip.
func (f Facts) neighbourhood(ip netip.Addr) netip.Prefix {
	if l, exists := f.link(f.Status.Host.Interface); exists {
		for _, a := range l.Addrs {
			if a.Contains(ip) {
				return a.Masked()
			}
		}
	}
	return netip.PrefixFrom(ip, ip.BitLen())
}

func closed(v Verdict, wall Firewall, allow, what string) []Finding {
	switch {
	case !v.Dropped:
		return nil
	case v.Rule == nil:
		return []Finding{fault([]string{allow}, "%s, by the policy of %s", what, v.Policy)}
	case v.Rule.Table != "filter":
		return []Finding{fault([]string{v.Rule.Remove(wall.Command)}, "%s, by: %s %v", what, wall.Command, v.Rule)}
	}
	return []Finding{fault([]string{allow}, "%s, by: %s %v", what, wall.Command, v.Rule)}
}

// findHiding looks for a rule that gives a container the host's address on its
// way to a peer.
func findHiding(f Facts, p status.Peer) []Finding {
	if f.Status.Lease == nil || p.Dev == "" {
		return skipped("there is no way to look along")
	}
	var out []Finding
	for _, wall := range f.Firewalls {
		v := wall.Pass(f.out(p), stations{{"nat", "POSTROUTING"}})
		if v.Hidden == nil {
			continue
		}
		network := f.network()
		own := f.Status.Lease.Subnet
		out = append(out, fault([]string{
			f.masquerade(),
			fmt.Sprintf("%s; %s -t nat -I POSTROUTING -s %v ! -d %s ! -o %s -j MASQUERADE   # or by hand", v.Hidden.Remove(wall.Command), wall.Command, own, network, f.inner()),
		}, "containers on %v see this host's address in place of the container's, by: %s %v", p.PublicIP, wall.Command, v.Hidden))
	}
	return out
}
