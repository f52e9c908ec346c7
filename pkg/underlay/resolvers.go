package underlay

import (
	"net/netip"
	"strings"
)

// Resolvers are the name servers that a resolv.conf(5) names.
func Resolvers(text string) (out []netip.Addr) {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(words[1]); err == nil {
			out = append(out, a.Unmap().WithZone(""))
		}
	}
	return out
}
