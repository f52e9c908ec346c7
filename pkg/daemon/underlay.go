package daemon

import (
	"context"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"time"

	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
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
	all := a.All()
	for _, ip := range all {
		need := underlay.Address(ip, "etcd")
		need.Member = len(all) > 1
		out = append(out, need)
	}
	if a.Named() {
		for _, ip := range nameServers("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf") {
			need := underlay.Address(ip, "a name server, which etcd's names need")
			need.Resolver = true
			out = append(out, need)
		}
	}
	return out
}

// nameServers are those that a resolv.conf names. systemd-resolved names itself alone
// there, and those that it asks in another file (systemd-resolved(8)).
func nameServers(path, behind string) []netip.Addr {
	all := underlay.Resolvers(begin(path))
	if slices.ContainsFunc(all, netip.Addr.IsLoopback) {
		all = append(all, underlay.Resolvers(begin(behind))...)
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

// lookupTime bounds how long names are looked up.
const lookupTime = 3 * time.Second

// Underlay is what this host knows of what the cluster's hosts need; it is looked at
// once it is asked for. What cannot be found out is left out.
func (e Etcd) Underlay(ctx context.Context) func() underlay.Known {
	return func() (u underlay.Known) {
		ctx, cancel := context.WithTimeout(ctx, lookupTime)
		defer cancel()
		for _, endpoint := range e.Endpoints {
			at, err := url.Parse(endpoint)
			if err != nil {
				continue // it was checked
			}
			ips, _ := net.DefaultResolver.LookupNetIP(ctx, "ip", at.Hostname())
			for _, ip := range ips {
				u.Local = u.Local || ip.IsLoopback()
				u.Etcd = append(u.Etcd, underlay.Address(ip, "etcd"))
			}
		}
		conn, err := kernel.Open(inet.Families()...)
		if err != nil {
			return u
		}
		defer conn.Close()
		links, err := conn.Links()
		if err != nil {
			return u
		}
		routes, err := conn.Routes()
		if err != nil {
			return u
		}
		u.Connected = underlay.Of(nil, links, routes, nil, nil).Networks()
		return u
	}
}
