package etcdv3

import (
	"context"
	"errors"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdconn"
)

// grants is what is known of etcd's leases.
type grants struct {
	mu     sync.Mutex
	ends   map[int64]time.Time    // at the earliest
	unused map[string]unusedGrant // by key: made for a write whose outcome is unknown
}

type unusedGrant struct {
	id  int64
	ttl time.Duration
}

// left is the lifetime of a key with this grant.
func (g *grants) left(id int64) time.Duration {
	if id == 0 {
		return 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	end, known := g.ends[id]
	if !known {
		return subnet.UnknownTTL
	}
	return max(etcdconn.WholeSeconds(time.Until(end)), time.Second)
}

func (g *grants) knows(id int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, known := g.ends[id]
	return known
}

// note keeps how long a grant lasts; 0: it is gone.
func (g *grants) note(id int64, ttl time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ends == nil {
		g.ends, g.unused = map[int64]time.Time{}, map[string]unusedGrant{}
	}
	if ttl <= 0 {
		delete(g.ends, id)
		return
	}
	g.ends[id] = time.Now().Add(ttl)
}

func (g *grants) keepUnused(key string, s unusedGrant) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.unused[key] = s
}

// used forgets the unused grant for a key: it hangs on the key now, or is revoked.
func (g *grants) used(key string) { g.take(key) }

func (g *grants) take(key string) unusedGrant {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.unused[key]
	delete(g.unused, key)
	return s
}

// grant returns a grant for a write of the key; 0: it shall not end. A grant
// that was made for an attempt with unknown outcome is used again, so that
// attempts without end do not leave grants without end.
func (r *Registry) grant(ctx context.Context, key string, ttl time.Duration) (int64, error) {
	before := r.grants.take(key)
	ttl = etcdconn.WholeSeconds(ttl)
	if before.id != 0 && before.ttl == ttl {
		if made, err := r.renew(ctx, before.id); err == nil && made == ttl {
			r.grants.keepUnused(key, before)
			return before.id, nil
		}
	}
	if ttl == 0 {
		return 0, nil
	}
	var reply *pb.LeaseGrantResponse
	err := r.try(ctx, func(ctx context.Context, conn grpc.ClientConnInterface, at *respondent) (err error) {
		request := &pb.LeaseGrantRequest{TTL: int64(ttl / time.Second)}
		reply, err = pb.NewLeaseClient(conn).LeaseGrant(ctx, request, at.option())
		return err
	})
	if err != nil {
		return 0, err
	}
	r.grants.note(reply.ID, time.Duration(reply.TTL)*time.Second)
	r.grants.keepUnused(key, unusedGrant{reply.ID, ttl})
	return reply.ID, nil
}

// renew gives a grant its lifetime again, and returns that; 0: there is no such
// grant any more.
func (r *Registry) renew(ctx context.Context, id int64) (made time.Duration, err error) {
	err = r.try(ctx, func(ctx context.Context, conn grpc.ClientConnInterface, at *respondent) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // ends the stream
		stream, err := pb.NewLeaseClient(conn).LeaseKeepAlive(ctx)
		if err != nil {
			return err
		}
		_ = stream.Send(&pb.LeaseKeepAliveRequest{ID: id}) // Recv says what is wrong
		reply, err := stream.Recv()
		at.learn(stream.Context())
		made = time.Duration(reply.GetTTL()) * time.Second
		return err
	})
	if err != nil {
		return 0, err
	}
	r.grants.note(id, made)
	return made, nil
}

// revoke ends the grant of a key that has another one now, unless other keys
// hang on it as well. Where that fails, the grant ends by itself.
func (r *Registry) revoke(ctx context.Context, id int64) {
	if id == 0 {
		return
	}
	r.grants.note(id, 0)
	ctx, cancel := context.WithTimeout(ctx, r.limits.attempt)
	defer cancel()
	var reply *pb.LeaseTimeToLiveResponse
	err := r.once(ctx, func(ctx context.Context, conn grpc.ClientConnInterface, at *respondent) (err error) {
		reply, err = pb.NewLeaseClient(conn).LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: id, Keys: true}, at.option())
		return err
	})
	if err != nil || reply.TTL < 0 || len(reply.Keys) > 0 {
		return
	}
	_ = r.once(ctx, func(ctx context.Context, conn grpc.ClientConnInterface, at *respondent) error {
		_, err := pb.NewLeaseClient(conn).LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: id}, at.option())
		return err
	})
}

// drop revokes a grant on which the key does not hang.
func (r *Registry) drop(ctx context.Context, key string, id int64) {
	r.grants.used(key)
	r.revoke(ctx, id)
}

// measure asks for a grant's lifetime.
func (r *Registry) measure(ctx context.Context, id int64) error {
	var reply *pb.LeaseTimeToLiveResponse
	err := r.try(ctx, func(ctx context.Context, conn grpc.ClientConnInterface, at *respondent) (err error) {
		reply, err = pb.NewLeaseClient(conn).LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: id}, at.option())
		return err
	})
	if f, ok := errors.AsType[*fault](err); ok && f.code == codes.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	r.grants.note(id, time.Duration(reply.TTL)*time.Second)
	return nil
}
