package lab

import (
	"net/netip"

	"github.com/vishvananda/netns"
)

// Guest is a network stack that another program has created, such as a container of
// a real dockerd, by the path of its network namespace, "/proc/123/ns/net", with an
// address of each family that it has.
func (l *Lab) Guest(name, path string, ips ...netip.Addr) *Node {
	l.t.Helper()
	fd, err := netns.GetFromPath(path)
	l.must("find "+name, err)
	l.onClose(func() { fd.Close() })
	n := &Node{Name: name, IP: ips[0], ips: ips, lab: l, ns: &namespace{name: name, fd: fd}}
	l.must("allow ping sockets in "+name, n.ns.sysctl("net/ipv4/ping_group_range", "0 0"))
	return n
}
