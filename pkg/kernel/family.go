package kernel

import (
	"golang.org/x/sys/unix"

	"flanneld/pkg/inet"
)

// numberOf is a family's in netlink's messages.
func numberOf(f inet.Family) uint8 {
	if f == inet.IPv4 {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// familyOf is the reverse; false: it is neither.
func familyOf(number uint8) (inet.Family, bool) {
	switch number {
	case unix.AF_INET:
		return inet.IPv4, true
	case unix.AF_INET6:
		return inet.IPv6, true
	}
	return 0, false
}

// metricOf is what a route has that is written without a metric
// (linux/ipv6_route.h: IP6_RT_PRIO_USER).
func metricOf(f inet.Family) int {
	if f == inet.IPv4 {
		return 0
	}
	return 1024
}

// connectedMetric is that of the route to the network that an interface has an address
// of (net/addrconf.h: IP6_RT_PRIO_ADDRCONF).
func connectedMetric(f inet.Family) int {
	if f == inet.IPv4 {
		return 0
	}
	return 256
}
