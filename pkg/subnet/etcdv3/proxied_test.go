package etcdv3

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"flanneld/internal/lab"
)

// proxy is a server between a Registry and etcd, which loses replies on demand.
type proxy struct {
	pb.UnimplementedKVServer
	pb.UnimplementedLeaseServer

	kv    pb.KVClient
	lease pb.LeaseClient
	lose  *atomic.Bool // the reply to the next transaction
}

// lossy starts a proxy.
func lossy(t *testing.T, etcd *lab.Etcd, lose *atomic.Bool) string {
	t.Helper()
	conn, _, err := open(t, Config{Endpoints: etcd.Endpoints()}).connection(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{kv: pb.NewKVClient(conn), lease: pb.NewLeaseClient(conn), lose: lose}
	return serve(t, func(server *grpc.Server) {
		pb.RegisterKVServer(server, p)
		pb.RegisterLeaseServer(server, p)
	})
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
