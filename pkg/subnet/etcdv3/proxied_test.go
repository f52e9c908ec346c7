package etcdv3

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
)

// proxy is a server between a Registry and etcd, which loses replies on demand.
type proxy struct {
	pb.UnimplementedKVServer
	pb.UnimplementedLeaseServer
	URL string

	kv    pb.KVClient
	lease pb.LeaseClient
	lose  *atomic.Bool // the reply to the next transaction
}

func startProxy(t *testing.T, etcd *lab.Etcd, lose *atomic.Bool) *proxy {
	t.Helper()
	conn, err := open(t, Config{Endpoints: etcd.Endpoints()}).connection(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{URL: "http://" + listener.Addr().String(), kv: pb.NewKVClient(conn), lease: pb.NewLeaseClient(conn), lose: lose}
	server := grpc.NewServer()
	pb.RegisterKVServer(server, p)
	pb.RegisterLeaseServer(server, p)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() { server.Stop(); <-done })
	return p
}

func (p *proxy) Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	return p.kv.Range(ctx, r)
}

func (p *proxy) Txn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	reply, err := p.kv.Txn(ctx, r)
	if p.lose.Swap(false) {
		return nil, status.Error(codes.Unavailable, "the reply is lost")
	}
	return reply, err
}

func (p *proxy) LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	return p.lease.LeaseGrant(ctx, r)
}

func (p *proxy) LeaseRevoke(ctx context.Context, r *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	return p.lease.LeaseRevoke(ctx, r)
}

func (p *proxy) LeaseTimeToLive(ctx context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	return p.lease.LeaseTimeToLive(ctx, r)
}

func (p *proxy) LeaseKeepAlive(s grpc.BidiStreamingServer[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse]) error {
	request, err := s.Recv()
	if errors.Is(err, io.EOF) || err != nil {
		return err
	}
	upstream, err := p.lease.LeaseKeepAlive(s.Context())
	if err != nil {
		return err
	}
	if err := upstream.Send(request); err != nil {
		return err
	}
	reply, err := upstream.Recv()
	if err != nil {
		return err
	}
	return s.Send(reply)
}

// TestLostReplies lets etcd carry writes out whose replies are lost.
func TestLostReplies(t *testing.T) {
	etcd := startEtcd(t, lab.EtcdOptions{API: 3})
	var lose atomic.Bool
	a, b := startProxy(t, etcd, &lose), startProxy(t, etcd, &lose)
	for _, endpoints := range [][]string{{a.URL}, {a.URL, b.URL}} {
		etcd.Delete(prefix)
		r := open(t, Config{Endpoints: endpoints})
		// try calls until there is a result, as the Manager does.
		try := func(call func() (subnet.Entry, error)) (e subnet.Entry) {
			t.Helper()
			lose.Store(true)
			lab.Eventually(t, patience, "a write", func() (err error) {
				e, err = call()
				if errors.Is(err, subnet.ErrConflict) {
					t.Fatal(err)
				}
				return err
			})
			if node := etcd.Get(prefix + "/" + lease); node == nil || node.ModifiedIndex != e.Modified || node.Value != e.Value || e.TTL == subnet.UnknownTTL {
				t.Fatalf("stored %+v, but etcd has %+v", e, node)
			}
			return e
		}
		e := try(func() (subnet.Entry, error) {
			return r.Put(t.Context(), subnet.Entry{Key: lease, Value: "a", TTL: time.Hour})
		})
		if e.Created != e.Modified {
			t.Errorf("written twice: %+v", e)
		}
		before := e
		e.Value = "b"
		e = try(func() (subnet.Entry, error) { return r.Put(t.Context(), e) })
		for _, ttl := range []time.Duration{time.Hour, 2 * time.Hour} {
			e.TTL = ttl
			e = try(func() (subnet.Entry, error) { return r.Refresh(t.Context(), e) })
		}
		if e.TTL < 2*time.Hour-time.Minute {
			t.Errorf("%+v", e)
		}

		// What somebody else wrote is a conflict also after a lost reply.
		lose.Store(true)
		if _, err := r.Put(t.Context(), before); !errors.Is(err, subnet.ErrConflict) {
			t.Errorf("error %v", err)
		}
		lose.Store(true)
		if err := r.Delete(t.Context(), e); !errors.Is(err, subnet.ErrConflict) { // it tried twice
			t.Errorf("error %v", err)
		}
		lose.Store(false)
		if etcd.Get(prefix+"/"+lease) != nil {
			t.Error("the key is still there")
		}
		// The grants that were replaced in the three writes of which nobody heard
		// end by themselves: no reply told of them.
		if left := etcd.Grants(); len(left) > 3*len(endpoints) {
			t.Errorf("grants are left: %v", left)
		}
	}
}
