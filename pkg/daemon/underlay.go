package daemon

import (
	"io"
	"net/netip"
	"os"
	"slices"

	"flanneld/pkg/subnet/etcdconn"
	"flanneld/pkg/underlay"
)

// needs are what a host needs to reach etcd; agent.Needs.
type needs struct{ *etcdconn.Addresses }

// Needs implements agent.Needs.
func (n needs) Needs() []underlay.Need { return EtcdNeeds(n.Addresses) }

// EtcdNeeds are the addresses that a host must reach so that it reaches etcd: the
// members', and where they have names, the name servers'.
func EtcdNeeds(a *etcdconn.Addresses) (out []underlay.Need) {
	for _, ip := range a.All() {
		out = append(out, underlay.Address(ip, "etcd"))
	}
	if a.Named() {
		for _, ip := range nameServers() {
			out = append(out, underlay.Address(ip, "a name server, which etcd's names need"))
		}
	}
	return out
}

// nameServers are those of this host. systemd-resolved names itself alone in
// resolv.conf, and those that it asks beside (systemd-resolved(8)).
func nameServers() []netip.Addr {
	all := underlay.Resolvers(begin("/etc/resolv.conf"))
	if slices.ContainsFunc(all, netip.Addr.IsLoopback) {
		all = append(all, underlay.Resolvers(begin("/run/systemd/resolve/resolv.conf"))...)
	}
	return all
}

// begin is the beginning of a file; "" where it cannot be read.
func begin(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	content, _ := io.ReadAll(io.LimitReader(f, 64<<10))
	return string(content)
}
