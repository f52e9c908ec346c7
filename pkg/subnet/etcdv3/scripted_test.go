package etcdv3

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// serve starts a gRPC server.
func serve(t *testing.T, register func(*grpc.Server)) (url string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	register(server)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() { server.Stop(); <-done })
	return "http://" + listener.Addr().String()
}

func serveKV(t *testing.T, kv pb.KVServer) (url string) {
	t.Helper()
	return serve(t, func(server *grpc.Server) { pb.RegisterKVServer(server, kv) })
}

// scripted is an etcd that follows a script. Where that is silent, it knows
// nothing of the call.
type scripted struct {
	pb.UnimplementedKVServer
	pb.UnimplementedLeaseServer
	pb.UnimplementedWatchServer

	list  func(ctx context.Context) (*pb.RangeResponse, error)
	write func(ctx context.Context) (*pb.TxnResponse, error)
	watch func(pb.Watch_WatchServer) error

	renewed          atomic.Int64 // seconds that a renewed grant has left
	requests, grants atomic.Int32
}

func (s *scripted) start(t *testing.T) (url string) {
	t.Helper()
	return serve(t, func(server *grpc.Server) {
		pb.RegisterKVServer(server, s)
		pb.RegisterLeaseServer(server, s)
		pb.RegisterWatchServer(server, s)
	})
}

func (s *scripted) Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	s.requests.Add(1)
	if s.list == nil {
		return s.UnimplementedKVServer.Range(ctx, r)
	}
	return s.list(ctx)
}

func (s *scripted) Txn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	s.requests.Add(1)
	if s.write == nil {
		return s.UnimplementedKVServer.Txn(ctx, r)
	}
	return s.write(ctx)
}

func (s *scripted) Watch(stream pb.Watch_WatchServer) error {
	s.requests.Add(1)
	if s.watch == nil {
		return s.UnimplementedWatchServer.Watch(stream)
	}
	return s.watch(stream)
}

func (s *scripted) LeaseGrant(_ context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	return &pb.LeaseGrantResponse{ID: int64(s.grants.Add(1)), TTL: r.TTL}, nil
}

func (s *scripted) LeaseKeepAlive(stream pb.Lease_LeaseKeepAliveServer) error {
	request, err := stream.Recv()
	if err != nil {
		return err
	}
	return stream.Send(&pb.LeaseKeepAliveResponse{ID: request.ID, TTL: s.renewed.Load()})
}

func impatient(c Config) (*Registry, error) {
	l := productLimits()
	l.connect, l.attempt, l.call = 500*time.Millisecond, 500*time.Millisecond, time.Second
	l.pulse, l.deaf = 300*time.Millisecond, time.Second
	return newRegistry(c, l)
}

// header is what etcd's replies begin with.
func header(cluster, revision int64) *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: uint64(cluster), Revision: revision}
}
