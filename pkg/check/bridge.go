package check

import (
	"fmt"

	"flanneld/pkg/firewall/iptables"
	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/printable"
)

// findBridge looks at what containers of this host send each other: with
// br_netfilter it passes the rules for what is forwarded, though it only crosses
// their bridge.
func findBridge(f Facts) []Finding {
	setting := f.words().bridged
	if f.Sysctl[setting] != "1" || !f.Env.Subnet.IsValid() {
		return nil
	}
	here, dev := container(f.Env.Subnet), f.inner()
	var out []Finding
	packet := rules.Packet{In: dev, Out: dev, Src: here, Dst: here.Next(), Protocol: "tcp", State: "NEW"}
	for _, v := range f.drops(crossing{packet: packet, path: rules.Forwarded}) {
		if f.blocksPeers(v) {
			continue
		}
		through := f.words().iptables + ", where " + by(v)
		fix := []string{printable.Command(v.Table.Program, "-I", "FORWARD", "-i", dev, "-o", dev, "-j", "ACCEPT")}
		switch {
		case !byIPTables(v.Table):
			through = fmt.Sprintf("nftables, where the table %q (%s)", tableOf(v.Table), place(v))
			fix = []string{insertRule(v, "iifname", `"`+dev+`"`, "oifname", `"`+dev+`"`, "accept")}
		case v.Rule != nil:
			fix = append(fix, iptables.Remove(*v.Rule)+"   # or so")
		}
		out = append(
			out,
			fault(
				append(fix, "sysctl -w "+setting+"=0   # or so, if nothing else needs br_netfilter"),
				"containers of this host do not reach each other: br_netfilter sends what crosses %s through %s drops it",
				dev,
				through,
			),
		)
	}
	return merge(out)
}

// blocksPeers reports whether the same is in the way to a peer as well: then it
// is found there.
func (f Facts) blocksPeers(here rules.Verdict) bool {
	if f.Status == nil || f.Status.Lease == nil {
		return false
	}
	for _, p := range f.Status.Peers {
		if p.Dev == "" {
			continue
		}
		for _, packet := range []rules.Packet{f.out(p), f.back(p)} {
			packet.Protocol = "tcp"
			for _, v := range f.drops(crossing{packet: packet, path: rules.Forwarded}) {
				if v.Table == here.Table && v.Rule == here.Rule && v.Chain == here.Chain {
					return true
				}
			}
		}
	}
	return false
}

// network is that of the cluster; where it is not known, this host's part of it, which
// is one end of all packets that matter here.
func (f Facts) network() string {
	if f.Status != nil && f.Status.Network != nil {
		return f.Status.Network.Network.String()
	}
	if f.Env.Network.IsValid() {
		return f.Env.Network.String()
	}
	return f.own().String()
}
