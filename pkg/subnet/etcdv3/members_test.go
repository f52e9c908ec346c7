package etcdv3

import (
	"context"
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"flanneld/internal/etcdtest"
	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
)

// TestOneConnection counts what a Registry that lists, watches and writes costs a cluster.
func TestOneConnection(t *testing.T) {
	t.Parallel()
	etcd := lab.StartEtcd(t, lab.EtcdOptions{API: 3, Members: []lab.EtcdMember{{IP: "127.0.3.1"}, {IP: "127.0.3.2"}, {IP: "127.0.3.3"}}})
	r := open(t, Config{Endpoints: etcd.Endpoints()})
	w := etcdtest.Follow(t, r, etcdtest.List(t, r).Index).Stands()
	etcdtest.Put(t, r, subnet.Entry{Key: lease, Value: "a"})
	w.Next("a")
	r.members.mu.Lock()
	connections := len(r.members.open)
	r.members.mu.Unlock()
	if connections != 1 {
		t.Errorf("%d connections", connections)
	}
	w.End()
}

// TestUselessMembers has, of two members, one that is of no use, and asked first.
func TestUselessMembers(t *testing.T) {
	says := func(code codes.Code, words string) func(context.Context) (*pb.RangeResponse, error) {
		return func(context.Context) (*pb.RangeResponse, error) { return nil, status.Error(code, words) }
	}
	for name, list := range map[string]func(context.Context) (*pb.RangeResponse, error){
		"it has lost the others":           says(codes.Unavailable, "etcdserver: no leader"),
		"it is none of etcd's":             nil,
		"it is silent":                     func(ctx context.Context) (*pb.RangeResponse, error) { <-ctx.Done(); return nil, ctx.Err() },
		"it goes away while it is waiting": says(codes.Unavailable, "closing"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			useless := &scripted{list: list}
			useful := &scripted{list: func(context.Context) (*pb.RangeResponse, error) {
				return &pb.RangeResponse{Header: header(1, 5)}, nil
			}}
			urls := []string{useless.start(t), useful.start(t)}
			r := etcdtest.Open(t, Config{Endpoints: urls}, impatient)
			r.members.turns = slices.Clone(r.members.order)
			_, err := r.List(t.Context())
			if r.Member() != urls[1] && err == nil {
				t.Fatalf("%s has answered", r.Member())
			}
			asked := useless.requests.Load()
			for range 3 {
				etcdtest.List(t, r)
			}
			if now := useless.requests.Load(); asked == 0 || now != asked || r.Member() != urls[1] {
				t.Errorf("%s has answered; the other one was asked %d times, and %d times in all", r.Member(), asked, now)
			}
		})
	}
}

// clerk gives tokens, or none.
type clerk struct {
	pb.UnimplementedAuthServer
	err error
}

func (c *clerk) Authenticate(context.Context, *pb.AuthenticateRequest) (*pb.AuthenticateResponse, error) {
	return &pb.AuthenticateResponse{Token: "t"}, c.err
}

// TestTokenOfAnother has, of two members, a first one that cannot give a token now.
func TestTokenOfAnother(t *testing.T) {
	member := func(err error) string {
		return serve(t, func(server *grpc.Server) {
			pb.RegisterAuthServer(server, &clerk{err: err})
			pb.RegisterKVServer(server, &scripted{list: func(context.Context) (*pb.RangeResponse, error) {
				return &pb.RangeResponse{Header: header(1, 5)}, nil
			}})
		})
	}
	urls := []string{member(status.Error(codes.Unavailable, "etcdserver: no leader")), member(nil)}
	r := etcdtest.Open(t, Config{Endpoints: urls, Username: "flannel", Password: "secret"}, impatient)
	r.members.turns = slices.Clone(r.members.order)
	if etcdtest.List(t, r); r.Member() != urls[1] {
		t.Errorf("%s has answered", r.Member())
	}
}
