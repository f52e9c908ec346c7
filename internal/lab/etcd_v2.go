package lab

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/client/v2"
)

// store is access to the keys by one of etcd's APIs.
type store interface {
	set(ctx context.Context, key, value string, ttl time.Duration) error
	delete(ctx context.Context, key string) error
	// get returns nil where there is no such key.
	get(ctx context.Context, key string) (*client.Node, error)
}

type storeV2 struct{ client client.Client }

func (s storeV2) set(ctx context.Context, key, value string, ttl time.Duration) error {
	_, err := client.NewKeysAPI(s.client).Set(ctx, key, value, &client.SetOptions{TTL: ttl})
	return err
}

// delete asks again where no member replied: the client itself asks one member
// alone to delete, and that one may hang or wait for a leader.
func (s storeV2) delete(ctx context.Context, key string) error {
	for {
		_, err := client.NewKeysAPI(s.client).Delete(ctx, key, &client.DeleteOptions{Recursive: true})
		if client.IsKeyNotFound(err) {
			return nil
		}
		if _, replied := errors.AsType[client.Error](err); err == nil || replied || ctx.Err() != nil {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (s storeV2) get(ctx context.Context, key string) (*client.Node, error) {
	reply, err := client.NewKeysAPI(s.client).Get(ctx, key, &client.GetOptions{Recursive: true, Quorum: true})
	switch {
	case client.IsKeyNotFound(err):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return reply.Node, nil
}
