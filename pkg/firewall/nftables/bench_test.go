package nftables

import (
	"fmt"
	"strings"
	"testing"

	"flanneld/pkg/firewall/rules"
)

// BenchmarkRead reads docker 29's tables, and beside them a set of 10,000.
func BenchmarkRead(b *testing.B) {
	load(b, "docker-29-options")
	for _, elements := range []int{0, 10_000} {
		b.Run(fmt.Sprintf("%d elements", elements), func(b *testing.B) {
			if elements > 0 {
				var list []string
				for i := range elements {
					list = append(list, fmt.Sprintf("10.%d.%d.0/24", i/250, i%250))
				}
				nft(b, "table ip t { set s { type ipv4_addr; flags interval; elements = { "+strings.Join(list, ", ")+" }; }; chain c { type filter hook forward priority 0; ip saddr @s drop; }; }")
			}
			for b.Loop() {
				read(b)
			}
		})
	}
	all := read(b)
	b.Run("Pass", func(b *testing.B) {
		p := rules.Packet{In: "flannel.1", Out: "docker0", Src: wanted.Network.Addr().Next(), Dst: wanted.Subnet.Addr().Next(), Protocol: "tcp", State: "NEW"}
		for b.Loop() {
			all.Evaluate(p, rules.Forwarded)
		}
	})
}
