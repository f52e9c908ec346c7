package check

import (
	"cmp"
	"net/netip"
	"slices"

	"flanneld/pkg/kernel"
	"flanneld/pkg/printable"
)

// dockerBridge is where docker's containers are unless they ask for another
// network.
const dockerBridge = "docker0"

// own is this host's subnet; zero: it is not known.
func (f Facts) own() netip.Prefix {
	if f.Status != nil && f.Status.Lease != nil {
		return f.Status.Lease.Subnet
	}
	return f.Env.Subnet
}

// bridges are those that containers of this host can be behind: the ones with an
// address in its subnet. Whether docker, CNI or Podman has made one, and its
// name, does not matter to a packet.
func (f Facts) bridges() []kernel.Link { return f.bridgesIn(f.own()) }

func (f Facts) bridgesIn(network netip.Prefix) (out []kernel.Link) {
	for _, l := range f.Links {
		inside := func(a kernel.Addr) bool { return network.Contains(a.Addr()) }
		if l.Type == "bridge" && slices.ContainsFunc(l.Addrs, inside) {
			out = append(out, l)
		}
	}
	return out
}

func (f Facts) ports(bridge string) (out []kernel.Link) {
	for _, l := range f.Links {
		if l.Master == bridge {
			out = append(out, l)
		}
	}
	return out
}

// inner is the name of the bridge that this host's containers are behind, or
// will be: docker's, unless another one is there.
func (f Facts) inner() string { return cmp.Or(f.bridge, dockerBridge) }

// masquerade says how flanneld, who knows the whole network, comes to translate
// addresses in place of what has made the bridge.
func (f Facts) masquerade() string {
	if f.inner() == dockerBridge {
		return "start flanneld with --ip-masq and dockerd with --ip-masq=false (mk-docker-opts.sh writes it), " +
			"which does for the whole network what docker does"
	}
	return "start flanneld with --ip-masq, and then the containers behind " + printable.Word(f.inner()) +
		" anew, with a network that does not translate addresses itself (docs/cni.md)"
}
