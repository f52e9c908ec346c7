package check

import (
	"net/netip"
	"regexp"
	"strings"
)

// findBridge looks at what containers of this host send each other: with
// br_netfilter it passes iptables' FORWARD, though it only crosses docker0.
func findBridge(f Facts) []Finding {
	if f.Sysctl["net.bridge.bridge-nf-call-iptables"] != "1" || !f.Env.Subnet.IsValid() {
		return nil
	}
	here := container(f.Env.Subnet)
	var out []Finding
	for _, wall := range f.Firewalls {
		v := wall.Pass(Packet{In: dockerBridge, Out: dockerBridge, Src: here, Dst: here.Next(), Protocol: "tcp", State: "NEW"}, forwarded)
		if !v.Dropped || f.blocksPeers(wall, v.Rule) {
			continue
		}
		by := "the policy of FORWARD"
		cure := []string{wall.Command + " -I FORWARD -i docker0 -o docker0 -j ACCEPT"}
		if v.Rule != nil {
			by = v.Rule.String()
			cure = append(cure, v.Rule.Remove(wall.Command)+"   # or so")
		}
		out = append(out, fault(append(cure, "sysctl -w net.bridge.bridge-nf-call-iptables=0   # or so, if nothing else needs br_netfilter"),
			"containers of this host do not reach each other: br_netfilter sends what crosses docker0 through iptables, where %s drops it", by))
	}
	return merge(out)
}

// blocksPeers reports whether a rule is in the way to a peer as well: then it is
// found there.
func (f Facts) blocksPeers(wall Firewall, r *Rule) bool {
	if r == nil || f.Status == nil || f.Status.Lease == nil {
		return false
	}
	for _, p := range f.Status.Peers {
		for _, packet := range []Packet{f.out(p), f.back(p)} {
			packet.Protocol = "tcp"
			if v := wall.Pass(packet, forwarded); p.Dev != "" && v.Rule != nil && v.Rule.String() == r.String() {
				return true
			}
		}
	}
	return false
}

// A filtering chain of nftables, in nft's notation.
var (
	forwardHook = regexp.MustCompile(`type filter hook (forward|input|prerouting) [^;]*; policy (\w+);`)
	blocking    = regexp.MustCompile(`(?m)^\s*(reject|drop)( with [\w -]+)?(?: comment .*)?$|policy drop;`)
)

// findForeign looks for tables of nftables that decide on their own, after
// iptables or before it.
func findForeign(f Facts) []Finding {
	var out []Finding
	for _, t := range f.Foreign {
		if !forwardHook.MatchString(t.Text) || !blocking.MatchString(t.Text) || f.mentions(t.Text) {
			continue
		}
		cure := []string{"nft list table " + t.Name + "   # let " + f.network() + " pass in there"}
		if strings.HasSuffix(t.Name, " firewalld") {
			cure = []string{"firewall-cmd --permanent --zone=trusted --add-source=" + f.network() + "; firewall-cmd --reload"}
		}
		out = append(out, fault(cure, "the nftables table %q drops what it does not know, and does not know the network %s; no iptables rule overrules it", t.Name, f.network()))
	}
	return out
}

func (f Facts) network() string {
	if f.Status != nil && f.Status.Network != nil {
		return f.Status.Network.Network.String()
	}
	if f.Env.Network.IsValid() {
		return f.Env.Network.String()
	}
	return "172.7.0.0/16"
}

// mentions reports whether a table knows the network: then somebody has thought
// of it.
func (f Facts) mentions(text string) bool {
	network, err := netip.ParsePrefix(f.network())
	if err != nil {
		return false
	}
	return strings.Contains(text, network.String()) || f.Env.Subnet.IsValid() && strings.Contains(text, f.Env.Subnet.String())
}
