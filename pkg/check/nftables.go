package check

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

// Lines of a chain, in nft's notation.
var (
	hook       = regexp.MustCompile(`type filter hook (forward|input|prerouting) [^;]*; policy (\w+);`)
	blocking   = regexp.MustCompile(`(?m)^\s*(counter packets \d+ bytes \d+ )?(reject|drop)( with [\w -]+)?( comment .*)?$|policy drop;`)
	calling    = regexp.MustCompile(`(?m)^\s*(?:counter packets \d+ bytes \d+ )?(?:jump|goto) (\S+)$`)
	chainStart = regexp.MustCompile(`(?m)^\s*chain (\S+) \{$`)
)

// findForeign looks for tables of nftables that decide on their own, after
// iptables or before it.
func findForeign(f Facts) []Finding {
	var out []Finding
	for _, t := range f.Foreign {
		chains := t.chains()
		for _, c := range chains {
			h := hook.FindStringSubmatch(c.text)
			switch {
			case h == nil || !blocks(c, chains, deepestJump):
			case h[1] == "input" && f.tunnelled() && !f.mentionsPort(t.Text):
				out = append(out, f.foreignInput(t, c))
			case h[1] != "input" && !f.mentions(t.Text):
				out = append(out, f.foreignForward(t, c))
			}
		}
	}
	return merge(out)
}

func (f Facts) foreignForward(t ForeignTable, c foreignChain) Finding {
	insert := fmt.Sprintf("nft insert rule %s %s ip", t.Name, c.name)
	cure := []string{fmt.Sprintf("%s saddr %s accept; %s daddr %s accept   # and the same where the table comes from", insert, f.network(), insert, f.network())}
	if t.firewalld() {
		cure = []string{"firewall-cmd --permanent --zone=trusted --add-source=" + f.network() + "; firewall-cmd --reload"}
	}
	return fault(cure, "the nftables table %q drops what it does not know, and does not know the network %s; no iptables rule overrules it", t.Name, f.network())
}

func (f Facts) foreignInput(t ForeignTable, c foreignChain) Finding {
	port := f.Status.Device.Port
	cure := []string{fmt.Sprintf("nft insert rule %s %s udp dport %d accept   # and the same where the table comes from", t.Name, c.name, port)}
	if t.firewalld() {
		cure = []string{fmt.Sprintf("firewall-cmd --permanent --add-port=%d/udp; firewall-cmd --reload", port)}
	}
	return fault(cure, "the nftables table %q drops what it does not know, and does not know the tunnel's UDP port %d; no iptables rule overrules it", t.Name, port)
}

func (t ForeignTable) firewalld() bool { return strings.HasSuffix(t.Name, " firewalld") }

// deepestJump is NFT_JUMP_STACK_SIZE of the kernel.
const deepestJump = 16

// foreignChain is one of a table's chains.
type foreignChain struct{ name, text string }

func (t ForeignTable) chains() (out []foreignChain) {
	starts := chainStart.FindAllStringSubmatchIndex(t.Text, -1)
	for i, s := range starts {
		end := len(t.Text)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		out = append(out, foreignChain{t.Text[s[2]:s[3]], t.Text[s[1]:end]})
	}
	return out
}

// blocks reports whether what no rule knows ends in a chain, or in one that it
// leads everything to.
func blocks(c foreignChain, all []foreignChain, depth int) bool {
	if blocking.MatchString(c.text) {
		return true
	}
	for _, called := range calling.FindAllStringSubmatch(c.text, -1) {
		for _, next := range all {
			if depth > 0 && next.name == called[1] && blocks(next, all, depth-1) {
				return true
			}
		}
	}
	return false
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

func (f Facts) tunnelled() bool {
	return f.Status != nil && f.Status.Device != nil && f.Status.Host != nil
}

// mentionsPort reports whether a table knows the tunnel's port, or lets in all
// that comes from the other hosts or over the external interface.
func (f Facts) mentionsPort(text string) bool {
	dev := `"` + f.Status.Host.Interface + `"`
	words := []string{fmt.Sprint(f.Status.Device.Port), f.neighbourhood(f.Status.Host.Address).String(), dev + " accept", dev + " goto filter_IN_trusted"}
	for _, p := range f.Status.Peers {
		words = append(words, p.PublicIP.String())
	}
	for _, w := range words {
		if regexp.MustCompile(`(^|[^\d.])` + regexp.QuoteMeta(w) + `($|[^\d.])`).MatchString(text) {
			return true
		}
	}
	return false
}
