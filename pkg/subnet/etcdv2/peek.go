package etcdv2

import (
	"context"
	"errors"

	"go.etcd.io/etcd/client/v2"

	"flanneld/pkg/subnet/etcdconn"
)

// Peek reads absolute keys, also such as are none of ours, one by one. Those that
// are not there, or that may not be read, are left out.
func (r *Registry) Peek(ctx context.Context, keys []string) (map[string]etcdconn.Found, error) {
	found := map[string]etcdconn.Found{}
	for _, key := range keys {
		reply, err := r.keys.Get(ctx, key, &client.GetOptions{Quorum: true}) // of a member that may be watched then
		switch {
		case err != nil && !errors.As(err, &client.Error{}): // none of the members answers
			return found, err
		case err != nil || reply.Node == nil:
		case reply.Node.Dir:
			found[key] = etcdconn.Found{Blocked: r.blocked(r.members.last().member, key, true).Error()}
		default:
			found[key] = etcdconn.Found{Value: reply.Node.Value}
		}
	}
	return found, nil
}
