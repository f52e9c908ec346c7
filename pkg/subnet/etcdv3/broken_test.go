package etcdv3

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"flanneld/internal/etcdtest"
	"flanneld/pkg/subnet"
)

// TestBrokenReplies calls everything against servers that always say the same.
func TestBrokenReplies(t *testing.T) {
	says := func(err error) *scripted {
		return &scripted{
			list:  func(context.Context) (*pb.RangeResponse, error) { return nil, err },
			write: func(context.Context) (*pb.TxnResponse, error) { return nil, err },
			watch: func(pb.Watch_WatchServer) error { return err },
		}
	}
	for _, tt := range []struct {
		name   string
		server *scripted
		says   string
	}{
		{"another gRPC server", &scripted{}, "does not serve etcd's v3 API (method "},
		{"an error of etcd's", says(status.Error(codes.ResourceExhausted, "etcdserver: mvcc: database space exceeded")), "answers: mvcc: database space exceeded"},
		{"a user without rights", says(status.Error(codes.PermissionDenied, "etcdserver: permission denied")), "wants a user with other rights or another password: permission denied"},
		{"somebody else's error", says(status.Error(codes.Internal, "oh\nno\x1b[2J")), ": oh?no?[2J"},
		{"a gateway", says(status.Error(codes.Unavailable, "<h1>oh\nno</h1>")), "no complete answer in time from "},
		{"it hangs", &scripted{
			list:  func(ctx context.Context) (*pb.RangeResponse, error) { <-ctx.Done(); return nil, ctx.Err() },
			write: func(ctx context.Context) (*pb.TxnResponse, error) { <-ctx.Done(); return nil, ctx.Err() },
			watch: func(s pb.Watch_WatchServer) error { <-s.Context().Done(); return nil },
		}, ": it is silent, though connected: it hangs"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			url := tt.server.start(t)
			r := etcdtest.Open(t, Config{Endpoints: []string{url}}, impatient)
			_, err := r.List(t.Context())
			etcdtest.WantError(t, err, "list "+prefix+": ", url, tt.says)
			_, err = r.ListExact(t.Context())
			etcdtest.WantError(t, err, "list "+prefix+": ", url, tt.says)
			e := subnet.Entry{Key: lease, Value: "a", TTL: time.Hour}
			_, err = r.Put(t.Context(), e)
			etcdtest.WantError(t, err, "write "+prefix+"/"+lease+": ", url, tt.says)
			e.Modified = 5
			_, err = r.Refresh(t.Context(), e)
			etcdtest.WantError(t, err, "refresh "+prefix+"/"+lease+": ", url, tt.says)
			etcdtest.WantError(t, r.Delete(t.Context(), e), "delete "+prefix+"/"+lease+": ", url, tt.says)
			etcdtest.WantError(t, etcdtest.Follow(t, r, 5).Fails(), "watch "+prefix+" after revision 5: ", url, tt.says)
			if n := tt.server.requests.Load(); n > 20 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// TestEmptyReplies has a server whose replies lack all that they could.
func TestEmptyReplies(t *testing.T) {
	s := &scripted{
		list:  func(context.Context) (*pb.RangeResponse, error) { return &pb.RangeResponse{}, nil },
		write: func(context.Context) (*pb.TxnResponse, error) { return &pb.TxnResponse{Succeeded: true}, nil },
		watch: func(stream pb.Watch_WatchServer) error {
			return stream.Send(&pb.WatchResponse{Events: []*mvccpb.Event{{}, {Kv: &mvccpb.KeyValue{}}}})
		},
	}
	r := etcdtest.Open(t, Config{Endpoints: []string{s.start(t)}}, impatient)
	_, err := r.List(t.Context())
	etcdtest.WantError(t, err, "list "+prefix+": ", "does not tell the revision")
	e := subnet.Entry{Key: lease, Value: "a", Modified: 5}
	_, err = r.Put(t.Context(), e)
	etcdtest.WantError(t, err, "write "+prefix+"/"+lease, "does not show the key")
	if _, err := r.Refresh(t.Context(), e); !errors.Is(err, subnet.ErrConflict) { // there is no such key
		t.Errorf("Refresh: %v", err)
	}
	etcdtest.WantError(t, r.Delete(t.Context(), e), "delete "+prefix+"/"+lease, "does not show the key")
	if err := etcdtest.Follow(t, r, 5).Fails(); err == nil || errors.Is(err, subnet.ErrHistoryLost) {
		t.Errorf("Watch: %v", err)
	}
}

// TestAnotherWebServer speaks gRPC to one that does not.
func TestAnotherWebServer(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	r := etcdtest.Open(t, Config{Endpoints: []string{server.URL}}, impatient)
	_, err := r.List(t.Context())
	etcdtest.WantError(t, err, "list "+prefix+": ", server.URL)
}

// TestBrokenWatches has servers that answer everything but a watch well.
func TestBrokenWatches(t *testing.T) {
	created := func(cluster, revision int64, then ...*pb.WatchResponse) func(pb.Watch_WatchServer) error {
		return func(stream pb.Watch_WatchServer) error {
			for _, reply := range append([]*pb.WatchResponse{{Created: true, Header: header(cluster, revision)}}, then...) {
				if err := stream.Send(reply); err != nil {
					return err
				}
			}
			return nil
		}
	}
	cancelled := func(why string) func(pb.Watch_WatchServer) error {
		return created(1, 9, &pb.WatchResponse{Canceled: true, CancelReason: why})
	}
	for _, tt := range []struct {
		name  string
		watch func(pb.Watch_WatchServer) error
		after uint64
		says  string
		lost  bool
	}{
		{"it ends at once", func(pb.Watch_WatchServer) error { return nil }, 9, ": EOF", false},
		{"it ends", created(1, 9), 9, ": EOF", false},
		{"another cluster", created(2, 9), 9, "belongs to cluster 2 now, instead of 1", true},
		{"the revision is back", created(1, 9), 99, "is back at revision 9", true},
		{"history is lost", created(1, 9, &pb.WatchResponse{Canceled: true, CompactRevision: 7}), 5, "was compacted up to revision 7", true},
		{"the token is old", cancelled("rpc error: code = PermissionDenied desc = etcdserver: permission denied"), 9, "wants a user with other rights or another password: permission denied", false},
		{"a reason of nobody's", cancelled("oh\nno"), 9, ": oh?no", false},
		{"no reason", cancelled(""), 9, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &scripted{watch: tt.watch, list: func(context.Context) (*pb.RangeResponse, error) { return &pb.RangeResponse{Header: header(1, 9)}, nil }}
			url := s.start(t)
			r := etcdtest.Open(t, Config{Endpoints: []string{url}}, impatient)
			etcdtest.List(t, r)
			err := etcdtest.Follow(t, r, tt.after).Fails()
			etcdtest.WantError(t, err, "watch "+prefix+" after revision ", url, tt.says)
			if errors.Is(err, subnet.ErrHistoryLost) != tt.lost {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestMemberLagsBehind watches at a member that has not heard yet of what the
// leader has told: the watch stands, and goes on when the member has caught up.
func TestMemberLagsBehind(t *testing.T) {
	s := &scripted{
		list: func(context.Context) (*pb.RangeResponse, error) { return &pb.RangeResponse{Header: header(1, 9)}, nil },
		watch: func(stream pb.Watch_WatchServer) error {
			if err := stream.Send(&pb.WatchResponse{Created: true, Header: header(1, 5)}); err != nil {
				return err
			}
			event := &mvccpb.Event{Kv: &mvccpb.KeyValue{Key: []byte(prefix + "/config"), Value: []byte("a"), ModRevision: 10}}
			if err := stream.Send(&pb.WatchResponse{Header: header(1, 10), Events: []*mvccpb.Event{event}}); err != nil {
				return err
			}
			<-stream.Context().Done()
			return nil
		},
	}
	r := etcdtest.Open(t, Config{Endpoints: []string{s.start(t)}}, impatient)
	w := etcdtest.Follow(t, r, etcdtest.List(t, r).Index).Stands()
	w.Next("a")
	w.End()
}

// TestOneGrantForManyAttempts has writes of whose outcome nobody hears.
func TestOneGrantForManyAttempts(t *testing.T) {
	s := &scripted{write: func(context.Context) (*pb.TxnResponse, error) {
		return nil, status.Error(codes.Unavailable, "the reply is lost")
	}}
	s.renewed.Store(3600)
	r := etcdtest.Open(t, Config{Endpoints: []string{s.start(t)}}, impatient)
	attempts := func(ttl time.Duration, grants int32) {
		t.Helper()
		for range 3 {
			if _, err := r.Put(t.Context(), subnet.Entry{Key: lease, TTL: ttl}); err == nil {
				t.Fatal("no error")
			}
		}
		if got := s.grants.Load(); got != grants {
			t.Errorf("there are %d grants, want %d", got, grants)
		}
	}
	attempts(time.Hour, 1)
	s.renewed.Store(7200)
	attempts(2*time.Hour, 2) // the first one is of no use
	s.renewed.Store(0)
	attempts(2*time.Hour, 5) // they end as soon as they are made
}

// TestUsualPorts are those of URLs without one.
func TestUsualPorts(t *testing.T) {
	for endpoint, want := range map[string]string{"http://127.0.0.1": "127.0.0.1:80", "https://[::1]": "[::1]:443", "https://etcd.example:2379/": "etcd.example:2379"} {
		m := newMembers(Config{Endpoints: []string{endpoint, endpoint}}, productLimits())
		if got := m.addresses(); len(got) != 1 || got[0] != "http://"+want || m.urls[want] != endpoint {
			t.Errorf("%s is dialled at %q", endpoint, got)
		}
	}
}
