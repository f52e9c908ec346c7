package check

import (
	"fmt"
	"strings"
	"time"
)

func goodLease(f Facts) string {
	l := f.Status.Lease
	if l.Expires.IsZero() {
		return fmt.Sprintf("%v, a reservation", l.Subnet)
	}
	return fmt.Sprintf("%v until %s", l.Subnet, l.Expires.Format(time.DateTime))
}

func findLease(f Facts) []Finding {
	switch s := f.Status; {
	case s == nil:
		return skipped("flanneld does not say whether it has one")
	case s.Lease == nil:
		return f.noLease()
	case !s.Lease.Expires.IsZero() && !f.Now.Before(s.Lease.Expires):
		cure := logCure
		if s.Etcd.Reads != "" || s.Etcd.Writes != "" {
			cure = "mend what etcd says: then it is renewed at once"
		}
		return []Finding{fault([]string{cure}, "the lease of %v has expired on %s: another host may take it at any time", s.Lease.Subnet, s.Lease.Expires.Format(time.DateTime))}
	case s.Lease.Contested:
		return []Finding{fault([]string{"give each host its own by --public-ip or --iface, and restart flanneld"},
			"another host writes the lease of %v: it seems to have the public IP %v too, so traffic reaches only one of them", s.Lease.Subnet, s.Host.PublicIP)}
	}
	return nil
}

// kernelProblem begins what the daemon says of a kernel that refuses.
const kernelProblem = "cannot bring the kernel into the wanted state: "

// noLease says why there is none, unless another step does.
func (f Facts) noLease() []Finding {
	switch s := f.Status; {
	case s.ConfigProblem != "" || s.Network == nil:
		return skipped("there is none before the config can be read")
	case s.Host == nil:
		return skipped("there is none before the external interface is known")
	case s.Etcd.Reads != "" || s.Etcd.Writes != "":
		return skipped("there is none before etcd can be read and written")
	}
	if what, refused := f.problem(kernelProblem); refused {
		return []Finding{fault(kernelCure(what), "this host has no subnet, as the kernel does not take what flanneld needs: %s", what)}
	}
	return []Finding{fault([]string{
		"flanneld lease list" + f.etcdFlags() + "   # are all subnets taken? flanneld lease release --now SUBNET frees that of a host that is gone",
		logCure,
	}, "this host has no subnet: %s", strings.TrimPrefix(f.Status.Daemon.Reason, "no lease: "))}
}

// problem is what the daemon complains of, after such a beginning.
func (f Facts) problem(prefix string) (rest string, found bool) {
	for _, p := range f.Status.Problems {
		if rest, found = strings.CutPrefix(p, prefix); found {
			return rest, true
		}
	}
	return "", false
}

func kernelCure(what string) []string {
	if strings.Contains(what, "CAP_NET_ADMIN") || strings.Contains(what, "you must be root") {
		return []string{"start flanneld as root, or with the capability CAP_NET_ADMIN, as systemd/flanneld.service does"}
	}
	return []string{logCure}
}
