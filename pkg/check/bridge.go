package check

import "fmt"

// findBridge looks at what containers of this host send each other: with
// br_netfilter it passes iptables' FORWARD, though it only crosses their bridge.
func findBridge(f Facts) []Finding {
	if f.Sysctl["net.bridge.bridge-nf-call-iptables"] != "1" || !f.Env.Subnet.IsValid() {
		return nil
	}
	here, dev := container(f.Env.Subnet), f.inner()
	var out []Finding
	for _, wall := range f.Firewalls {
		v := wall.Pass(Packet{In: dev, Out: dev, Src: here, Dst: here.Next(), Protocol: "tcp", State: "NEW"}, forwarded)
		if !v.Dropped || f.blocksPeers(wall, v) {
			continue
		}
		cure := []string{fmt.Sprintf("%s -I FORWARD -i %s -o %s -j ACCEPT", wall.Command, dev, dev)}
		if v.Rule != nil {
			cure = append(cure, v.Rule.Remove(wall.Command)+"   # or so")
		}
		out = append(out, fault(append(cure, "sysctl -w net.bridge.bridge-nf-call-iptables=0   # or so, if nothing else needs br_netfilter"),
			"containers of this host do not reach each other: br_netfilter sends what crosses %s through iptables, where %s drops it", dev, v.by()))
	}
	return merge(out)
}

// blocksPeers reports whether the same is in the way to a peer as well: then it
// is found there.
func (f Facts) blocksPeers(wall Firewall, here Verdict) bool {
	if f.Status == nil || f.Status.Lease == nil {
		return false
	}
	for _, p := range f.Status.Peers {
		for _, packet := range []Packet{f.out(p), f.back(p)} {
			packet.Protocol = "tcp"
			if v := wall.Pass(packet, forwarded); p.Dev != "" && v.Dropped && v.by() == here.by() {
				return true
			}
		}
	}
	return false
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
