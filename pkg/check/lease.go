package check

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"flanneld/pkg/condition"
)

func goodLease(f Facts) string {
	l := f.Status.Lease
	if l.Expires.IsZero() {
		return fmt.Sprintf("%v, a reservation", f.leased())
	}
	return fmt.Sprintf("%v until %s", f.leased(), l.Expires.Format(time.DateTime))
}

func findLease(f Facts) []Finding {
	switch s := f.Status; {
	case s == nil:
		return skipped("flanneld does not say whether it has one")
	case s.Lease == nil:
		return f.noLease()
	case !s.Lease.Expires.IsZero() && !f.Now.Before(s.Lease.Expires):
		fix := logFix
		if f.has(condition.EtcdUnreadable, condition.EtcdUnwritable) {
			fix = "fix what etcd says: then it is renewed at once"
		}
		return []Finding{
			fault(
				[]string{fix},
				"the lease of %v has expired on %s: another host may take it at any time",
				f.leased(),
				s.Lease.Expires.Format(time.DateTime),
			),
		}
	case f.has(condition.LeaseContested):
		return []Finding{fault(
			f.fixContested(),
			"another host writes the lease of %v: it seems to have the public IP %s too, so traffic reaches only one of them",
			f.leased(),
			strings.Join(f.publicIPs(), " or "),
		)}
	}
	return nil
}

// publicIPs are this host's, of each family.
func (f Facts) publicIPs() (all []string) {
	for _, h := range f.Status.Halves() {
		if h.Host != nil {
			all = append(all, h.Host.PublicIP.String())
		}
	}
	return all
}

// fixContested gives a host an address of its own. Behind the NAT of a virtual
// machine's first interface all have the same there, and another interface leads to
// the others.
func (f Facts) fixContested() (fix []string) {
	var others []string
	for _, name := range f.candidates() {
		if name != f.Status.Host.Interface {
			others = append(others, name)
		}
	}
	for _, name := range others {
		fix = append(fix, f.restartWith(name)+"   # on each host, where its own address is on "+name)
	}
	return append(fix, "give each host its own by --public-ip or --iface, and restart flanneld")
}

// noLease says why there is none, unless another step does.
func (f Facts) noLease() []Finding {
	switch s := f.Status; {
	case f.has(condition.ConfigMissing, condition.ConfigInvalid, condition.KeyUnusable) || s.Network == nil:
		return skipped("there is none before the config can be read")
	case s.Host == nil:
		return skipped("there is none before the external interface is known")
	case f.has(condition.EtcdUnreadable, condition.EtcdUnwritable):
		return skipped("there is none before etcd can be read and written")
	}
	if c, refused := f.condition(condition.KernelNotApplied); refused {
		return []Finding{
			fault(append(f.fixTUN(), rightsFix(c)...),
				"this host has no subnet, as the kernel does not take what flanneld needs: %s", c.Cause),
		}
	}
	why := "flanneld does not say why"
	if c, there := f.condition(condition.NoLease); there {
		why = cmp.Or(c.Cause, c.Message)
	}
	if f.has(condition.UnderlayOverlap) {
		begin := dialects[f.inUse()[0]].prefix // of the field's name
		return []Finding{fault([]string{fmt.Sprintf("give the config key another %[1]sNetwork, or a %[1]sSubnetMin and "+
			"%[1]sSubnetMax that leave out what hosts need: ", begin) + f.flanneld("config", "get")},
			"this host has no subnet: %s", why)}
	}
	return []Finding{fault([]string{
		f.flanneld("lease", "list") + "   # are all subnets taken? flanneld lease release --now SUBNET " +
			"frees that of a host that is gone",
		logFix,
	}, "this host has no subnet: %s", why)}
}

// rightsFix is for a daemon that may not do what it must.
func rightsFix(c condition.Condition) []string {
	if c.Denied {
		return []string{"start flanneld as root, or with the capability CAP_NET_ADMIN, as systemd/flanneld.service does"}
	}
	if c.Fix != "" {
		return []string{c.Fix}
	}
	return []string{logFix}
}
