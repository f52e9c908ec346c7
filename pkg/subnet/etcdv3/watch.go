package etcdv3

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"flanneld/pkg/subnet"
)

// Watch implements [subnet.Registry]. As long as no config key tells which directory is
// meant, it looks for one in the other directory too, over the same stream.
func (r *Registry) Watch(ctx context.Context, after uint64, emit func([]subnet.Event)) error {
	watching, end := context.WithCancelCause(ctx)
	dir, other := r.spellings()
	fails := func(err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("watch %s after revision %d: %w", dir, after, err)
	}
	stream, err := r.open(watching, after, dir, other)
	if err != nil {
		end(nil)
		return fails(err)
	}
	life := newPulse(r.limits)
	var beating sync.WaitGroup
	beating.Go(func() { life.beat(watching, stream, end) })
	defer beating.Wait()
	defer end(nil) // ends the stream
	var at respondent
	stands := false
	for {
		reply, err := stream.Recv()
		at.learn(stream.Context())
		switch {
		case errors.Is(context.Cause(watching), subnet.ErrSilent):
			r.leave(at.member(), subnet.ErrSilent)
			return fails(fmt.Errorf("%s: %w", at.member(), subnet.ErrSilent))
		case err != nil:
			if err = r.members.explain(at.member(), err); elsewhere(err) {
				r.leave(at.member(), nil)
			}
			return fails(err)
		}
		life.heard()
		if len(reply.Events) == 0 && !reply.Canceled {
			r.prove(time.Now())
		}
		if reply.Created && !reply.Canceled && !stands {
			r.members.answered(at.member())
			if err := r.fits(ctx, dir, at.member(), reply, after); err != nil {
				return fails(err)
			}
			stands = true
			emit(nil)
		}
		events := r.events(dir, reply.Events, after)
		if err := r.told(ctx, dir, reply.Events, events, after); err != nil {
			return fails(err)
		}
		if len(events) > 0 {
			emit(events)
		}
		switch {
		case reply.CompactRevision > 0:
			return fails(fmt.Errorf("%s was compacted up to revision %d: %w",
				at.member(), reply.CompactRevision, subnet.ErrHistoryLost))
		case reply.Canceled:
			return fails(r.members.explain(at.member(), reason(reply.CancelReason)))
		}
	}
}

// open begins a stream. It has no deadline; that its other end lives is seen to
// by the connection.
func (r *Registry) open(ctx context.Context, after uint64, dir, other string) (pb.Watch_WatchClient, error) {
	conn, err := r.connection(ctx)
	if err != nil {
		return nil, r.members.explain("", err)
	}
	stream, err := pb.NewWatchClient(conn).Watch(clientv3.WithRequireLeader(ctx))
	if err != nil {
		return nil, r.members.explain("", err)
	}
	// The revision itself is asked for again, and its events are left out: etcd
	// tells no progress to a watch that begins in the future.
	create := &pb.WatchCreateRequest{StartRevision: max(int64(after), 1), Fragment: true}
	create.Key, create.RangeEnd = below(dir)
	_ = stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}})
	if other != "" {
		create.Key, create.RangeEnd = []byte(other+"/"+subnet.ConfigKey), nil
		_ = stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}})
	}
	return stream, nil // Recv says what is wrong
}

// fits looks at the beginning of a watch: whether it is one of the store that
// was listed.
func (r *Registry) fits(
	ctx context.Context, dir, member string, reply *pb.WatchResponse, after uint64,
) error {
	r.mu.Lock()
	cluster := r.cluster
	r.mu.Unlock()
	if now := reply.Header.GetClusterId(); cluster != 0 && now != cluster {
		return fmt.Errorf("%s belongs to cluster %x now, instead of %x: %w", member, now, cluster, subnet.ErrHistoryLost)
	}
	reached := uint64(reply.Header.GetRevision())
	if reached >= after {
		return nil
	}
	// A revision that was there is not: the store is another one, or the member
	// lags behind that which was asked before.
	now, err := r.revision(ctx, dir)
	switch {
	case err != nil:
		return err
	case now < after:
		return fmt.Errorf("%s is back at revision %d: %w", member, now, subnet.ErrHistoryLost)
	}
	return nil // the watch begins when the member has caught up
}

// revision is the store's, as the leader knows it.
func (r *Registry) revision(ctx context.Context, dir string) (now uint64, err error) {
	err = r.try(ctx, func(ctx context.Context, conn grpc.ClientConnInterface, at *respondent) error {
		request := &pb.RangeRequest{Key: []byte(dir + "/" + subnet.ConfigKey), KeysOnly: true}
		reply, err := pb.NewKVClient(conn).Range(ctx, request, at.option())
		now = uint64(reply.GetHeader().GetRevision())
		return err
	})
	return now, err
}

// reason is why a watch was cancelled, out of a text that etcd writes for logs.
func reason(text string) error {
	if _, said, ok := strings.Cut(text, "desc = "); ok {
		text = said
	}
	return errors.New(text)
}

// events are those of entries, after a revision.
func (r *Registry) events(dir string, all []*mvccpb.Event, after uint64) (out []subnet.Event) {
	for _, e := range all {
		entry, ok := r.entry(dir, e.GetKv())
		if !ok || entry.Modified <= after {
			continue
		}
		event := subnet.Event{Entry: entry}
		if e.Type == mvccpb.DELETE {
			event.Deleted, event.Value, event.TTL = true, "", 0
		}
		out = append(out, event)
	}
	return out
}
