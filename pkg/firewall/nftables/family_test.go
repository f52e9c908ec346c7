package nftables

import (
	"regexp"
	"strings"
	"testing"

	"flanneld/pkg/firewall/firewalltest"
	"flanneld/pkg/inet"
)

// eachFamily runs a test for both families. What it says of IPv4 is translated.
func eachFamily(t *testing.T, test func(t *testing.T, f inet.Family)) {
	for _, f := range inet.Families() {
		t.Run(f.String(), func(t *testing.T) { test(t, f) })
	}
}

var otherWords = strings.NewReplacer("ip protocol", "ip6 nexthdr", "{ tcp, icmp }", "{ tcp, ipv6-icmp }", "ipv4", "ipv6",
	"255.255.255.0", "ffff:ffff:ffff:ffff::", "family ip:", "family ip6:", "TABLES_IPV4", "TABLES_IPV6")

var aboutIP = regexp.MustCompile(`\bip( |$)`)

// as is what nft reads or prints of IPv4, and what we say of it, as it is in a family.
func as(f inet.Family, text string) string {
	if f == inet.IPv4 {
		return text
	}
	return firewalltest.In(f, aboutIP.ReplaceAllString(otherWords.Replace(text), "ip6$1"))
}
