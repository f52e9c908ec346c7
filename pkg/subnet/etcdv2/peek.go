package etcdv2

import (
	"context"

	"flanneld/pkg/subnet/etcdconn"
)

// Peek reads absolute keys, also such as are none of ours, one by one. Those that
// are not there, or that may not be read, are left out.
func (r *Registry) Peek(ctx context.Context, keys []string) (map[string]etcdconn.Found, error) {
	found := map[string]etcdconn.Found{}
	for _, key := range keys {
		reply, err := r.keys.Get(ctx, key, nil)
		switch {
		case ctx.Err() != nil:
			return found, ctx.Err()
		case err != nil || reply.Node == nil:
		default:
			found[key] = etcdconn.Found{Value: reply.Node.Value, Directory: reply.Node.Dir}
		}
	}
	return found, nil
}
