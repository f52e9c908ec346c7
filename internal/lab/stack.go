package lab

import (
	"fmt"
	"strings"

	"flanneld/pkg/inet"
)

// Stack are the families that a cluster's hosts and containers have. A scenario takes
// one, and so runs for each of [Stacks].
type Stack []inet.Family

// Stacks are all that there are.
var Stacks = []Stack{{inet.IPv4}, {inet.IPv6}, {inet.IPv4, inet.IPv6}}

func (s Stack) String() string {
	var names []string
	for _, f := range s {
		names = append(names, f.String())
	}
	return strings.Join(names, " and ")
}

// each joins what there is of each family.
func (s Stack) each(separator string, of func(inet.Family) string) string {
	var all []string
	for _, f := range s {
		all = append(all, of(f))
	}
	return strings.Join(all, separator)
}

// Addrs are the addresses of host n of a segment, as [Lab.Host] takes them:
// "10.4.7.21/24,fd00:4::21/64" is number 21 on segment 7.
func (s Stack) Addrs(segment, n int) string {
	return s.each(",", func(f inet.Family) string {
		if f == inet.IPv4 {
			return fmt.Sprintf("10.4.%d.%d/24", segment, n)
		}
		return fmt.Sprintf("%s%d/64", underlay6(segment), n)
	})
}

// Gateway are the addresses of a segment's default gateway.
func (s Stack) Gateway(segment int) string {
	return s.each(",", func(f inet.Family) string {
		if f == inet.IPv4 {
			return fmt.Sprintf("10.4.%d.254/24", segment)
		}
		return underlay6(segment) + "1/64"
	})
}

// underlay6 is the beginning of a segment's IPv6 addresses.
func underlay6(segment int) string {
	if segment == 7 {
		return "fd00:4::"
	}
	return fmt.Sprintf("fd00:4:0:%d::", segment)
}

// Subnet is that of host n in one family: "172.7.21.0/24", "fc00:7:0:21::/64".
func Subnet(f inet.Family, n int) string {
	if f == inet.IPv4 {
		return fmt.Sprintf("172.7.%d.0/24", n)
	}
	return fmt.Sprintf("fc00:7:0:%d::/64", n)
}

// Bridges are docker0's addresses on host n, as [Host.SubnetEnv] takes them.
func (s Stack) Bridges(n int) (all []string) {
	for _, f := range s {
		bridge := strings.Replace(Subnet(f, n), ".0/", ".1/", 1)
		all = append(all, strings.Replace(bridge, "::/", "::1/", 1))
	}
	return all
}

// LeaseKey is the name of host n's lease, as flannel 0.28 forms it:
// "172.7.21.0-24&fc00:7:0:21::-64".
func (s Stack) LeaseKey(n int) string {
	key := s.each("&", func(f inet.Family) string { return strings.Replace(Subnet(f, n), "/", "-", 1) })
	if s[0] == inet.IPv6 {
		return "0.0.0.0-0&" + key
	}
	return key
}

// Config is the config key with a backend such as `{"Type": "host-gw"}`.
func (s Stack) Config(backend string) string {
	fields := s.each(", ", func(f inet.Family) string {
		if f == inet.IPv4 {
			return `"Network": "172.7.0.0/16"`
		}
		return `"EnableIPv6": true, "IPv6Network": "fc00:7::/48"`
	})
	if s[0] == inet.IPv6 {
		fields = `"EnableIPv4": false, ` + fields
	}
	return `{` + fields + `, "Backend": ` + backend + `}`
}
