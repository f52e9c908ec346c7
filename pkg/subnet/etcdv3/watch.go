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
// meant, it looks for one in the other directory too, over the same stream. Until the store has
// told once more what it had told before, nothing of what it tells is passed on.
func (r *Registry) Watch(ctx context.Context, after uint64, emit func([]subnet.Event)) error {
	if ctx.Err() != nil { // and no watch has taken the place of a list
		return ctx.Err()
	}
	watching, end := context.WithCancelCause(ctx)
	defer r.watches.Add(end)()
	dir, other := r.spellings()
	fails := func(err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(context.Cause(watching), subnet.ErrRenewed) { // also while it is yet to begin
			err = subnet.ErrRenewed
		}
		return fmt.Errorf("watch %s after revision %d: %w", dir, after, err)
	}
	retrace, err := r.trail.Retrace(after)
	if err != nil {
		end(nil)
		return fails(err)
	}
	// The revision itself is asked for again, and its events are left out: etcd
	// tells no progress to a watch that begins in the future.
	stream, err := r.open(watching, min(after, retrace.From()), dir, other)
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
	var held []subnet.Event
	created, stands := false, false
	for {
		life.listen()
		reply, err := stream.Recv()
		at.learn(stream.Context())
		switch {
		case errors.Is(context.Cause(watching), subnet.ErrRenewed):
			return fails(err)
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
		if reply.Created && !reply.Canceled && !created {
			r.members.answered(at.member())
			if err := r.fits(ctx, dir, at.member(), reply, after, retrace.First()); err != nil {
				return fails(err)
			}
			created = true
		}
		events := r.events(dir, reply.Events, after)
		if err := r.told(ctx, dir, reply.Events, events, after); err != nil {
			return fails(err)
		}
		if err := r.retold(retrace, dir, reply); err != nil {
			return fails(fmt.Errorf("%s: %w", at.member(), err))
		}
		if held = append(held, events...); created && retrace.Sure() {
			if !stands {
				stands = true
				emit(nil)
				life.ask() // what came with the trail may not be all
			}
			if len(held) > 0 {
				emit(held)
				held = nil
			} else if len(reply.Events) == 0 && !reply.Canceled {
				r.prove(time.Now())
			}
		}
		switch {
		case reply.CompactRevision > 0:
			return fails(r.compacted(at.member(), uint64(reply.CompactRevision), after))
		case reply.Canceled:
			return fails(r.members.explain(at.member(), reason(reply.CancelReason)))
		}
	}
}

// open begins a stream. It has no deadline; that its other end lives is seen to
// by the connection.
func (r *Registry) open(ctx context.Context, from uint64, dir, other string) (pb.Watch_WatchClient, error) {
	conn, done, err := r.connection(ctx)
	if err != nil {
		return nil, r.members.explain("", err)
	}
	defer done() // whoever replaces the connection ends the watches by it
	stream, err := pb.NewWatchClient(conn).Watch(clientv3.WithRequireLeader(ctx))
	if err != nil {
		return nil, r.members.explain("", err)
	}
	create := &pb.WatchCreateRequest{StartRevision: max(int64(from), 1), Fragment: true}
	create.Key, create.RangeEnd = below(dir)
	_ = stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}})
	if other != "" {
		create.Key, create.RangeEnd = []byte(other+"/"+subnet.ConfigKey), nil
		_ = stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}})
	}
	return stream, nil // Recv says what is wrong
}

// compacted says that the beginning of a watch is not there any more. A later one may do.
func (r *Registry) compacted(member string, up, after uint64) error {
	err := fmt.Errorf("%s was compacted up to revision %d", member, up)
	if r.trail.Forget(up) && after+1 >= up {
		return err
	}
	return fmt.Errorf("%w: %w", err, subnet.ErrHistoryLost)
}

// retold compares what a watch tells with what was told before. As long as another directory
// may be meant there is nothing to compare with: only a list looks at both.
func (r *Registry) retold(retrace *subnet.Retrace, dir string, reply *pb.WatchResponse) error {
	if _, other := r.spellings(); other != "" {
		return nil
	}
	for _, e := range reply.Events {
		if !strings.HasPrefix(string(e.GetKv().GetKey()), dir+"/") {
			continue
		}
		if err := retrace.Told(change(e.GetKv(), e.Type == mvccpb.DELETE)); err != nil {
			return err
		}
	}
	if len(reply.Events) == 0 && !reply.Created && !reply.Canceled { // it tells its progress
		return retrace.CaughtUp(uint64(reply.Header.GetRevision()))
	}
	return nil
}

// change is what the store says of one. Etcd gives each lease an ID of its own, out of the time and
// of a member's ID, and whoever writes a key of a host makes a new one for that.
func change(kv *mvccpb.KeyValue, deleted bool) subnet.Change {
	return subnet.Change{
		Index: uint64(kv.GetModRevision()), Unique: kv.GetLease() != 0 && !deleted,
		Digest: subnet.Digest(struct {
			key, value              string
			created, version, lease int64
			deleted                 bool
		}{string(kv.GetKey()), string(kv.GetValue()), kv.GetCreateRevision(), kv.GetVersion(), kv.GetLease(), deleted}),
	}
}

// Resume implements [subnet.Registry].
func (r *Registry) Resume(ctx context.Context, after uint64) error {
	dir := r.Dir()
	err := ctx.Err()
	if err == nil && !r.trail.Leads() {
		err = subnet.ErrHistoryLost
	}
	var now *pb.ResponseHeader
	if err == nil {
		now, err = r.reached(ctx, dir)
	}
	if err == nil {
		err = r.same(r.Member(), now, max(after, r.trail.Last()))
	}
	if err != nil {
		return fmt.Errorf("go on with the watch on %s after revision %d: %w", dir, after, err)
	}
	return nil
}

// fits looks at the beginning of a watch: whether it is one of the store that
// was listed. A member may also lag behind that which was asked before; then the watch begins
// when it has caught up.
func (r *Registry) fits(
	ctx context.Context, dir, member string, reply *pb.WatchResponse, after uint64, first bool,
) error {
	r.mu.Lock()
	elected := first && r.cluster != 0 && reply.Header.GetRaftTerm() > r.term
	r.mu.Unlock()
	if elected {
		return fmt.Errorf("%s has seen an election since the list: %w", member, subnet.ErrHistoryLost)
	}
	err := r.same(member, reply.Header, after)
	if !errors.Is(err, errBehind) {
		return err
	}
	now, err := r.reached(ctx, dir)
	if err != nil {
		return err
	}
	return r.same(r.Member(), now, after)
}

// errBehind is about a store, or a member of it, that is where it was before.
var errBehind = fmt.Errorf("behind: %w", subnet.ErrHistoryLost)

// same says what a reply shows of a store that is not the one that was listed and watched up to
// a revision: another cluster, or an earlier state. Raft's term never falls; that of a store that
// was restored from a snapshot begins anew.
func (r *Registry) same(member string, now *pb.ResponseHeader, after uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.cluster != 0 && now.GetClusterId() != r.cluster:
		return fmt.Errorf("%s belongs to cluster %x now, instead of %x: %w",
			member, now.GetClusterId(), r.cluster, subnet.ErrHistoryLost)
	case uint64(now.GetRevision()) < after:
		return fmt.Errorf("%s is back at revision %d, %w", member, now.GetRevision(), errBehind)
	case now.GetRaftTerm() < r.term:
		return fmt.Errorf("%s is back at raft's term %d, %w", member, now.GetRaftTerm(), errBehind)
	}
	r.term = now.GetRaftTerm()
	return nil
}

// reached is how far the store is, as the leader knows it.
func (r *Registry) reached(ctx context.Context, dir string) (now *pb.ResponseHeader, err error) {
	err = r.try(ctx, func(ctx context.Context, conn grpc.ClientConnInterface, at *respondent) error {
		now, err = r.head(ctx, conn, dir, at)
		return err
	})
	return now, err
}

// head asks one member how far the store is.
func (r *Registry) head(
	ctx context.Context, conn grpc.ClientConnInterface, dir string, at *respondent,
) (*pb.ResponseHeader, error) {
	request := &pb.RangeRequest{Key: []byte(dir + "/" + subnet.ConfigKey), KeysOnly: true}
	reply, err := pb.NewKVClient(conn).Range(ctx, request, at.option())
	return reply.GetHeader(), err
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
