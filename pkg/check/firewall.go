package check

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"flanneld/pkg/firewall/iptables"
	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
	"flanneld/pkg/printable"
	"flanneld/pkg/status"
)

// crossing is a packet on its way through this host, or from it or to it.
type crossing struct {
	packet rules.Packet
	path   rules.Path
	what   string // "what containers send to 172.7.22.0/24"
}

// out and back are the packets between a container of this host and one of p's.
func (f Facts) out(p status.Peer) rules.Packet {
	return rules.Packet{
		In:    f.inner(),
		Out:   p.Dev,
		Src:   container(f.Status.Lease.Subnet),
		Dst:   container(p.Subnet),
		State: "NEW",
	}
}

func (f Facts) back(p status.Peer) rules.Packet {
	return rules.Packet{
		In:    p.Dev,
		Out:   f.inner(),
		Src:   container(p.Subnet),
		Dst:   container(f.Status.Lease.Subnet),
		State: "NEW",
	}
}

// protocols are those that a rule may be about as a whole.
func (f Facts) protocols() []string { return []string{"tcp", "udp", f.words().icmp} }

// containers' packets to and from p's.
func (f Facts) containers(p status.Peer) (out []crossing) {
	for _, protocol := range f.protocols() {
		to, from := f.out(p), f.back(p)
		to.Protocol, from.Protocol = protocol, protocol
		out = append(out, crossing{to, rules.Forwarded, fmt.Sprintf("what containers send to %v", p.Subnet)})
		for _, dst := range append([]netip.Addr{from.Dst}, f.singledOut(from.Dst)...) {
			from.Dst = dst
			out = append(out, crossing{from, rules.Forwarded, fmt.Sprintf("what %v sends to containers", p.Subnet)})
		}
	}
	return out
}

// fewSingledOut is how many containers are looked at that rules name: docker
// writes one rule for each, and they are all alike.
const fewSingledOut = 16

// singledOut are containers' addresses that rules name in front of everything
// else, as docker 28 and 29 write them, but for one.
func (f Facts) singledOut(but netip.Addr) (out []netip.Addr) {
	own, characters := f.Status.Lease.Subnet, "0123456789./"
	if f.family == inet.IPv6 {
		characters += ":abcdef"
	}
	single := fmt.Sprintf("/%d", f.family.Bits())
	notAddress := func(r rune) bool { return !strings.ContainsRune(characters, r) }
	for _, t := range f.Firewall {
		for _, c := range t.Chains {
			if c.Hook != rules.Prerouting {
				continue
			}
			for _, r := range c.Rules {
				for _, word := range strings.FieldsFunc(r.Text, notAddress) {
					a, err := netip.ParseAddr(strings.TrimSuffix(word, single))
					if err == nil && own.Contains(a) && a != but && !slices.Contains(out, a) && len(out) < fewSingledOut {
						out = append(out, a)
					}
				}
			}
		}
	}
	return out
}

// tunnel is the tunnel's own packets from p and to it; none where there is none.
func (f Facts) tunnel(p status.Peer) []crossing {
	if p.Mode != status.Tunnel || f.Status.Device == nil || f.Status.Host == nil {
		return nil
	}
	if p.Endpoint.IsValid() && inet.Of(p.Endpoint.Addr()) != inet.Of(f.Status.Host.Address) {
		return nil // by WireGuard hosts may talk in another family: f knows nothing of that
	}
	h, port, there := f.Status.Host, f.Status.Device.Port, f.portOf(p)
	in := rules.Packet{
		In:       h.Interface,
		Src:      p.PublicIP,
		Dst:      h.Address,
		Protocol: "udp",
		DstPort:  port,
		State:    "NEW",
		Local:    true,
	}
	out := rules.Packet{Out: h.Interface, Src: h.Address, Dst: p.PublicIP, Protocol: "udp", DstPort: there, State: "NEW"}
	return []crossing{
		{
			in,
			rules.Received,
			fmt.Sprintf("the tunnel's packets from %v, UDP port %d, are dropped where they arrive", p.PublicIP, port),
		},
		{
			out,
			rules.Sent,
			fmt.Sprintf("the tunnel's packets to %v, UDP port %d, are dropped where they leave", p.PublicIP, there),
		},
	}
}

// drops are the verdicts of all tables that drop a packet: each is in the way,
// though it may not come so far.
func (f Facts) drops(c crossing) (out []rules.Verdict) {
	for left := f.Firewall; ; {
		v := left.Evaluate(c.packet, c.path)
		if !v.Dropped {
			return out
		}
		out = append(out, v)
		left = slices.DeleteFunc(slices.Clone(left), func(t *rules.Table) bool { return t == v.Table })
	}
}

// byIPTables tells iptables' rules from nftables' own.
func byIPTables(t *rules.Table) bool { return t.Program != "nft" }

// ruleOf is how a rule's program prints it.
func ruleOf(r *rules.Rule) string {
	switch {
	case byIPTables(r.Table):
		return iptables.Show(*r)
	case r.Comment != "":
		return r.Text + fmt.Sprintf(` comment "%s"`, r.Comment)
	}
	return r.Text
}

// by names what has dropped a packet.
func by(v rules.Verdict) string {
	if v.Rule != nil {
		return ruleOf(v.Rule)
	}
	return "the policy of " + v.Table.Name + " " + v.Chain
}

func findForward(f Facts, p status.Peer) []Finding {
	if f.Status.Lease == nil || p.Dev == "" {
		return skipped("there is no way to look along")
	}
	if f.NoIPTables[f.family] {
		return unknown("%s could not be read", f.words().iptables)
	}
	var out []Finding
	for _, c := range f.containers(p) {
		for _, v := range f.drops(c) {
			if byIPTables(v.Table) {
				out = append(out, f.blocked(v, c.what))
			}
		}
	}
	return out
}

// blocked words iptables' verdict on what.
func (f Facts) blocked(v rules.Verdict, what string) Finding {
	program := v.Table.Program
	if v.Rule == nil {
		return fault(
			[]string{f.letPass(v) + "   # or start flanneld without --iptables-forward-rules=false"},
			"%s is dropped by the policy of %s, and no rule lets it pass",
			what,
			v.Chain,
		)
	}
	rule, remove := program+" "+ruleOf(v.Rule), iptables.Remove(*v.Rule)
	switch {
	case v.Table.Name == "raw" && strings.Contains(v.Rule.Text, "! -i "+f.inner()):
		return fault([]string{
			`set "allow-direct-routing": true in /etc/docker/daemon.json (dockerd 28.2 and later), or ` +
				`mk-docker-opts.sh -r; then: systemctl restart docker`,
			remove + "   # until docker starts again",
		}, "docker (28 and later) drops %s, by: %s", what, rule)
	case strings.HasPrefix(v.Rule.Chain, "DOCKER") && v.Rule.Chain != "DOCKER-USER": // which is the operator's
		return fault(
			[]string{printable.Command(program, "-I", "DOCKER-USER", "-s", f.network(), "-d", f.network(), "-j", "ACCEPT")},
			"docker drops %s, by: %s",
			what,
			rule,
		)
	case strings.HasPrefix(v.Rule.Text, "-j "): // whatever comes so far: it has to stay for the rest
		return fault([]string{f.letPass(v)}, "%s is dropped, by: %s", what, rule)
	}
	return fault([]string{remove}, "%s is dropped, by: %s", what, rule)
}

// findPort looks whether the tunnel's own packets get out and in.
func findPort(f Facts, p status.Peer) []Finding {
	crossings := f.tunnel(p)
	if len(crossings) > 0 && f.NoIPTables[f.family] {
		return unknown("%s could not be read", f.words().iptables)
	}
	var out []Finding
	for _, c := range crossings {
		for _, v := range f.drops(c) {
			if byIPTables(v.Table) {
				out = append(out, f.closed(v, c, p))
			}
		}
	}
	return out
}

func (f Facts) closed(v rules.Verdict, c crossing, p status.Peer) Finding {
	program := v.Table.Program
	end := "-s"
	if c.packet.In == "" {
		end = "-d"
	}
	allow := insert(v, "-p", "udp", "--dport", strconv.Itoa(c.packet.DstPort),
		end, f.neighbourhood(p.PublicIP).String(), "-j", "ACCEPT")
	if v.Rule == nil {
		return fault([]string{allow}, "%s, by %s", c.what, by(v))
	}
	return fault([]string{allow}, "%s, by: %s %s", c.what, program, by(v))
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

// findHiding looks for a rule that gives a container the host's address on its
// way to a peer.
func findHiding(f Facts, p status.Peer) []Finding {
	if f.Status.Lease == nil || p.Dev == "" {
		return skipped("there is no way to look along")
	}
	v := f.Firewall.Evaluate(f.out(p), rules.Path{rules.Postrouting})
	if v.SNAT == nil {
		return nil
	}
	fix, program := []string{f.masquerade()}, v.SNAT.Table.Program
	if byIPTables(v.SNAT.Table) {
		fix = append(fix, printable.Command(program, "-t", v.SNAT.Table.Name, "-I", "POSTROUTING",
			"-s", f.own().String(), "-d", f.network(), "-j", "ACCEPT")+"   # or by hand, after each start of docker")
	} else {
		program += " " + chainOf(v.SNAT.Table, v.SNAT.Chain) + ":"
	}
	return []Finding{
		fault(
			fix,
			"containers on %v see this host's address in place of the container's, by: %s %s",
			p.PublicIP,
			program,
			ruleOf(v.SNAT),
		),
	}
}
