package etcdv3

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"flanneld/internal/etcdtest"
	"flanneld/pkg/subnet"
)

// slow answers a list after a while, though nobody may wait for it any more, as etcd does.
func slow(t *testing.T, takes time.Duration) *scripted {
	return &scripted{list: func(context.Context) (*pb.RangeResponse, error) {
		select {
		case <-time.After(takes):
		case <-t.Context().Done():
		}
		return &pb.RangeResponse{Header: header(1, 5)}, nil
	}}
}

func connections(r *Registry) []*namedConn {
	r.members.mu.Lock()
	defer r.members.mu.Unlock()
	return slices.Collect(maps.Keys(r.members.open))
}

// TestSlowEtcd asks a single member that takes longer than one of several may: it gets the whole of a call's
// time, and its connection stays whatever becomes of the call.
func TestSlowEtcd(t *testing.T) {
	t.Parallel()
	s := slow(t, 700*time.Millisecond) // longer than an attempt, and less than a call
	r := etcdtest.Open(t, Config{Endpoints: []string{s.start(t)}}, impatient)
	for range 3 {
		etcdtest.List(t, r)
	}
	if n := s.requests.Load(); n != 6 { // of both directories, as there is no config key
		t.Errorf("3 lists took %d requests, want 6", n)
	}
	before := connections(r)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := r.List(ctx); err == nil {
		t.Error("no error after the caller's time")
	}
	if now := connections(r); len(before) != 1 || !slices.Equal(now, before) {
		t.Errorf("connections %p, then %p", before, now)
	}
}

// TestSlowMembers asks two members that are both too slow: each is tried once, and then the present one stays.
func TestSlowMembers(t *testing.T) {
	t.Parallel()
	a, b := slow(t, 1500*time.Millisecond), slow(t, 1500*time.Millisecond)
	r := etcdtest.Open(t, Config{Endpoints: []string{a.start(t), b.start(t)}}, impatient)
	if _, err := r.List(t.Context()); err == nil {
		t.Fatal("no error")
	}
	if a.requests.Load() != 1 || b.requests.Load() != 1 {
		t.Errorf("%d and %d requests", a.requests.Load(), b.requests.Load())
	}
	before := connections(r)
	for range 2 {
		_, err := r.List(t.Context())
		etcdtest.WantError(t, err, subnet.ErrSilent.Error())
	}
	if now := connections(r); len(before) != 1 || !slices.Equal(now, before) {
		t.Errorf("connections %p, then %p", before, now)
	}
}

// TestBusyReceiver takes long to take what a watch tells: that is no silence of the member's.
func TestBusyReceiver(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	s := &scripted{watch: func(stream pb.Watch_WatchServer) error {
		event := &mvccpb.Event{Kv: &mvccpb.KeyValue{Key: []byte(prefix + "/" + lease), ModRevision: 6}}
		for _, reply := range []*pb.WatchResponse{
			{Created: true, Header: header(1, 5)}, {Header: header(1, 6), Events: []*mvccpb.Event{event}},
		} {
			if err := stream.Send(reply); err != nil {
				return err
			}
		}
		for {
			request, err := stream.Recv()
			if err != nil {
				return err
			}
			if request.GetProgressRequest() == nil {
				continue
			}
			asked.Add(1)
			if err := stream.Send(&pb.WatchResponse{Header: header(1, 6)}); err != nil {
				return err
			}
		}
	}}
	r := etcdtest.Open(t, Config{Endpoints: []string{s.start(t)}}, impatient)
	ctx, end := context.WithCancel(t.Context())
	err := r.Watch(ctx, 5, func(events []subnet.Event) {
		if len(events) == 0 {
			return
		}
		select {
		case <-time.After(2 * r.limits.deaf):
		case <-ctx.Done():
		}
		go func() {
			for n := asked.Load(); asked.Load() < n+2; { // it goes on
				time.Sleep(10 * time.Millisecond)
			}
			end()
		}()
	})
	if err != context.Canceled {
		t.Errorf("the watch has ended: %v", err)
	}
}
