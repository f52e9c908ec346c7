package check

import (
	"fmt"
	"strconv"
	"strings"

	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/status"
)

// findForeign looks for tables of nftables that are nobody's but their own
// program's: iptables' rules overrule none of them.
func findForeign(f Facts, p status.Peer) []Finding {
	if f.Status.Lease == nil || p.Dev == "" {
		return skipped("there is no way to look along")
	}
	if f.NoNFTables {
		return unknown("nftables could not be read")
	}
	var out []Finding
	look := func(all []crossing, word func(rules.Verdict, crossing) Finding) {
		for _, c := range all {
			for _, v := range f.drops(c) {
				if !byIPTables(v.Table) {
					out = append(out, word(v, c))
				}
			}
		}
	}
	look(f.containers(p), f.foreignForward)
	look(f.tunnel(p), f.foreignPort)
	return merge(out)
}

// tableOf and chainOf name one as nft's commands do.
func tableOf(t *rules.Table) string { return t.Family + " " + t.Name }

func chainOf(t *rules.Table, chain string) string { return tableOf(t) + " " + chain }

// rest reports whether a packet is dropped as one that no rule knows.
func rest(v rules.Verdict) bool { return v.Rule == nil || !strings.Contains(v.Rule.Text, " ") }

// place says where in its table a verdict was made.
func place(v rules.Verdict) string {
	if v.Rule == nil {
		return "by the policy of chain " + v.Chain
	}
	return "in chain " + v.Rule.Chain + ", by: " + ruleOf(v.Rule)
}

func (f Facts) foreignForward(v rules.Verdict, c crossing) Finding {
	fix := []string{insertRule(v, f.words().nft, "saddr", f.network(), "accept") + "; " +
		insertRule(v, f.words().nft, "daddr", f.network(), "accept") + "   # and the same where the table comes from"}
	switch {
	case v.Table.Name == "docker-bridges":
		return f.dockerForward(v, c)
	case firewalld(v.Table):
		fix = []string{"firewall-cmd --permanent --zone=trusted --add-source=" + f.network() + "; firewall-cmd --reload"}
	case !rest(v):
		fix = append(fix, remove(v.Rule)+"   # or so")
	}
	if rest(v) {
		return fault(
			fix,
			"the nftables table %q drops what it does not know, and does not know the network %s; no iptables rule "+
				"overrules it (%s)",
			tableOf(v.Table),
			f.network(),
			place(v),
		)
	}
	return fault(
		fix,
		"the nftables table %q drops %s, %s; no iptables rule overrules it",
		tableOf(v.Table),
		c.what,
		place(v),
	)
}

// dockerForward is about docker 29's own table. What comes from peers passes it by
// two options, and by the mark that flanneld sets for the second one.
func (f Facts) dockerForward(v rules.Verdict, c crossing) Finding {
	marked := c.packet
	marked.Mark |= rules.PeerMark
	if !(rules.Ruleset{v.Table}).Evaluate(marked, c.path).Dropped {
		return fault(
			[]string{restartFix, "start flanneld without --iptables-forward-rules=false, where it is set"},
			"docker drops %s, in its nftables table %q, %s; it passes what has the mark %#x/%#x, and flanneld, which "+
				"sets that, has not",
			c.what,
			tableOf(v.Table),
			place(v),
			rules.PeerMark,
			rules.PeerMark,
		)
	}
	if f.inner() != dockerBridge { // a network of its own, of which mk-docker-opts.sh knows nothing
		return fault(
			[]string{
				fmt.Sprintf(
					`add "allow-direct-routing": true, "bridge-accept-fwmark": "%#x/%#x" to /etc/docker/daemon.json; `+
						`systemctl restart docker`,
					rules.PeerMark,
					rules.PeerMark,
				),
			},
			"docker drops %s, in its nftables table %q, %s; no rule of others overrules it",
			c.what,
			tableOf(v.Table),
			place(v),
		)
	}
	return fault([]string{
		f.tellDocker(),
		fmt.Sprintf(
			"dockerd must be started with what that wrote: --allow-direct-routing=true --bridge-accept-fwmark=%#x/%#x "+
				"(docs/docker.md)",
			rules.PeerMark,
			rules.PeerMark,
		),
	}, "docker drops %s, in its nftables table %q, %s; no rule of others overrules it", c.what, tableOf(v.Table), place(v))
}

func (f Facts) foreignPort(v rules.Verdict, c crossing) Finding {
	port := c.packet.DstPort
	fix := []string{
		insertRule(v, "udp", "dport", strconv.Itoa(port), "accept") + "   # and the same where the table comes from",
	}
	switch {
	case firewalld(v.Table):
		fix = []string{fmt.Sprintf("firewall-cmd --permanent --add-port=%d/udp; firewall-cmd --reload", port)}
	case !rest(v):
		fix = append(fix, remove(v.Rule)+"   # or so")
	}
	if rest(v) {
		return fault(
			fix,
			"the nftables table %q drops what it does not know, and does not know the tunnel's UDP port %d; no "+
				"iptables rule overrules it (%s)",
			tableOf(v.Table),
			port,
			place(v),
		)
	}
	return fault(
		fix,
		"%s, by the nftables table %q, %s; no iptables rule overrules it",
		c.what,
		tableOf(v.Table),
		place(v),
	)
}

func firewalld(t *rules.Table) bool { return t.Name == "firewalld" }
