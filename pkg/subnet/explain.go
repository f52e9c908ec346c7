package subnet

import (
	"net/netip"
	"strings"

	"k8s.io/klog/v2"

	"flanneld/pkg/inet"
	"flanneld/pkg/printable"
)

// paths says where keys are, and how a command of flanneld's finds the store, for people.
type paths struct {
	dir     Dir
	command func(words ...string) string // nil: it has no flags
}

func (p paths) key(key string) string { return p.dir.Key(key) }

func (p paths) flanneld(words ...string) string {
	if p.command == nil {
		return printable.Command("flanneld", words...)
	}
	return p.command(words...)
}

// Dir tells which directory the keys lie in, as far as that is known by now. Nil: nobody
// knows.
type Dir func() string

// Key is a key as it is in etcd, for people.
func (d Dir) Key(key string) string {
	if d == nil {
		return key
	}
	return FullKey(d(), key)
}

// FullKey is a key as it is in etcd. No prefix: that is not known.
func FullKey(prefix, key string) string {
	if prefix == "" {
		return key
	}
	return prefix + "/" + key
}

// explainFile says once why p, the subnet file's of a family, is not taken, where another is, and
// what an operator can do who wants it. own is the lease that is taken; zero: a new one.
func (h *leaseHolder) explainFile(r *replica, c Claim, p netip.Prefix, own Lease) {
	if !p.IsValid() || h.explained || own.Subnets().has(p) {
		return
	}
	h.explained = true
	of, _ := c.Config.For(inet.Of(p.Addr()))
	here, _ := c.Attrs.Of(inet.Of(p.Addr()))
	reserve := h.paths.flanneld("lease", "reserve", p.String(), here.PublicIP.String()) // at its next start
	values := []any{"subnet", p, "publicIP", here.PublicIP}
	if own.Subnet.IsValid() {
		values = append(values, "leased", own.Subnets(), "key", h.paths.key(own.Key))
	}
	holder, leased := r.overlapping(p, func(l *Lease) bool { return !l.Subnets().has(p) })
	switch {
	case c.Config.fitting(SubnetsOf(p)) == Subnets{}:
		klog.InfoS("Subnet file names a subnet that does not fit the config: taking another one",
			append(values, "network", of.Network, "subnetLen", of.SubnetLen,
				"subnetMin", of.SubnetMin, "subnetMax", of.SubnetMax)...)
	case leased && h.evidence(c, &holder) != NoEvidence:
		klog.InfoS("Taking the subnet that is reserved for this host, and not the subnet file's",
			append(values, "advice", moveContainers)...)
	case leased:
		klog.ErrorS(nil, "Subnet file names a subnet that is leased to another host: taking another one", append(values,
			"holder", holder.PublicIP, "holderKey", h.paths.key(holder.Key), "advice", "if that host is gone for good",
			"run", h.paths.flanneld("lease", "release", "--now", Argument(holder.Key))+" && "+reserve,
			"then", thenRestart)...)
	case !h.free(r, c, p):
		klog.InfoS("Subnet file names a subnet that is not free, or holds what hosts need: taking another one", values...)
	case own.Subnet.IsValid():
		klog.InfoS("Subnet file names another subnet than this host's lease, and the lease counts: the file is overwritten",
			append(values, "advice", "to have the file's", "run", reserve, "then", thenRestart)...)
	}
}

// thenRestart is what makes a reservation count.
const thenRestart = "restart flanneld and then this host's containers"

// Argument is a lease's key as the command line takes it: its subnet, where that says it
// all, and otherwise the key's name.
func Argument(key string) string {
	s, err := ParseKey(key)
	if err == nil && !s.dual() && key == s.Key() {
		return s.First().String()
	}
	return strings.TrimPrefix(key, LeaseDir+"/")
}
