package etcdauto

import (
	"context"
	"fmt"
	"slices"

	"flanneld/pkg/subnet"
)

// Beside says what hosts may find in the store that --etcd-api leaves aside, and
// so may go by; "": nothing, or --etcd-api was not given.
func (r *Registry) Beside(ctx context.Context) string {
	other := map[API]API{V2: V3, V3: V2}[r.given]
	if other == Auto {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, protectionTimeout)
	defer cancel()
	there := r.look(ctx, other)
	leased := slices.ContainsFunc(there.Entries, isLease)
	choice := fmt.Sprintf("hosts that are started without --etcd-api=%s choose between the two by themselves, "+
		"and hosts in different stores do not see each other", value(r.given))
	switch {
	case there.absent():
		return ""
	case there.err != nil:
		return fmt.Sprintf("Etcd's %v store, which hosts may use, cannot be read: %v; %s.", other, there.err, choice)
	case there.Has(subnet.ConfigKey):
		return fmt.Sprintf("Etcd's %v store has a config key as well: %s.", other, choice)
	case leased:
		return fmt.Sprintf("Etcd's %v store has leases: %s.", other, choice)
	}
	return ""
}
