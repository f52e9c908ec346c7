package agent

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"flanneld/pkg/subnet"
)

// unready says in a line why not everything is as it should be; "" where it is.
func (a *Agent) unready(view subnet.View, now time.Time) string {
	own, said := view.Own, a.notes
	expired := !own.Expires.IsZero() && !own.Expires.After(now)
	switch {
	case !view.Listed && view.Store.Reads != "":
		return "etcd has not been read yet: " + view.Store.Reads
	case !view.Listed:
		return "etcd has not been read yet"
	case a.interfaces.Reason() != "":
		return "no external interface: " + a.interfaces.Reason()
	case said["interface"] != "":
		return said["interface"]
	case !own.Subnet.IsValid() && said["config"] != "":
		return "no lease: " + said["config"]
	case !own.Subnet.IsValid() && view.Store.Writes != "":
		return "no lease: cannot write to etcd: " + view.Store.Writes
	case !own.Subnet.IsValid() && view.Store.Full:
		return "no lease: every subnet of the config is leased; widen SubnetMin and SubnetMax, or delete the leases of hosts that are gone"
	case !own.Subnet.IsValid():
		return "no lease yet"
	case expired:
		return fmt.Sprintf("the lease of %v has expired", own.Subnet)
	case !view.Store.Current && view.Store.Reads != "":
		return "the list of peers may be old: " + view.Store.Reads
	case !view.Store.Current:
		return "the list of peers may be old: the watch of etcd does not stand yet"
	case a.lists.Reason() != "":
		return "the kernel is not in the wanted state: " + a.lists.Reason()
	case a.file.Reason() != "":
		return "the subnet file is not written: " + a.file.Reason()
	case !a.ready || a.current == nil:
		return "not everything is in place yet"
	}
	return ""
}

// problemsAtOnce bounds what a store full of garbage can make of the answer.
const problemsAtOnce = 50

// problems are all things that are not as they should be.
func (a *Agent) problems(view subnet.View) []string {
	out := []string{}
	for what, reason := range map[string]string{
		"cannot read etcd: ":                                  view.Store.Reads,
		"cannot write this host's lease to etcd: ":            view.Store.Writes,
		"cannot choose an external interface: ":               a.interfaces.Reason(),
		"cannot bring the kernel into the wanted state: ":     a.lists.Reason(),
		"cannot write the subnet file " + a.SubnetFile + ": ": a.file.Reason(),
	} {
		if reason != "" {
			out = append(out, what+reason)
		}
	}
	if view.Store.Contested {
		out = append(out, fmt.Sprintf("another host writes this host's lease of %v, so it seems to have the public IP %v too: give each its own with --public-ip or --iface",
			view.Own.Subnet, view.Own.PublicIP))
	}
	if view.Degraded {
		out = append(out, "etcd may have lost leases: routes of those that are missing stay for now")
	}
	if a.fight.rest() > 0 {
		out = append(out, "another program undoes flanneld's work in the kernel again and again: see the log for its last repairs")
	}
	slices.Sort(out)
	said := slices.Sorted(maps.Keys(a.notes))
	for _, name := range said[:min(len(said), problemsAtOnce)] {
		out = append(out, a.notes[name])
	}
	if more := len(said) - problemsAtOnce; more > 0 {
		out = append(out, fmt.Sprintf("and %d more like these", more))
	}
	return out
}
