package etcdv2

import (
	"context"
	"fmt"

	"flanneld/pkg/subnet"
)

// Renew has all that follows go over new connections, made with the TLS files as they are
// now, and with a password. Where etcd answers by those that there are and not by new ones,
// these stay, and the error says why. Where it answers by neither, the new ones count, and
// the error is [subnet.ErrUntried]. Watches end with [subnet.ErrRenewed]; what else is under
// way ends as it would have.
func (r *Registry) Renew(ctx context.Context, password string) error {
	c := r.config
	c.Password = password
	fresh, err := newRegistry(c, r.limits)
	if err != nil {
		return err // about the files
	}
	if _, err = fresh.ask(ctx); err != nil {
		if _, former := r.ask(ctx); former == nil {
			fresh.Close()
			return err
		}
		err = fmt.Errorf("%w: %w", subnet.ErrUntried, err)
	}
	r.members.renew(fresh.members)
	r.watches.Renew()
	return err
}
