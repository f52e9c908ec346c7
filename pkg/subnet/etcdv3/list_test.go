package etcdv3

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"flanneld/internal/etcdtest"
	"flanneld/pkg/subnet"
)

// shelf is a store that answers ranges as etcd does.
type shelf struct {
	pb.UnimplementedKVServer
	pause time.Duration // before each answer
	keys  []*mvccpb.KeyValue
	asked []*pb.RangeRequest
}

func (s *shelf) put(key, value string) {
	s.keys = append(s.keys, &mvccpb.KeyValue{Key: []byte(prefix + "/" + key), Value: []byte(value), CreateRevision: 3, ModRevision: 7})
}

func (s *shelf) Range(_ context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	s.asked = append(s.asked, r)
	time.Sleep(s.pause)
	// Somebody writes all the time, and to the pinned revision nothing happens.
	reply := &pb.RangeResponse{Header: header(1, int64(100+len(s.asked)))}
	for _, kv := range s.keys {
		if bytes.Compare(kv.Key, r.Key) < 0 || bytes.Compare(kv.Key, r.RangeEnd) >= 0 {
			continue
		}
		if r.Limit > 0 && int64(len(reply.Kvs)) == r.Limit {
			reply.More = true
			break
		}
		if r.KeysOnly {
			kv = &mvccpb.KeyValue{Key: kv.Key, CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision}
		}
		reply.Kvs = append(reply.Kvs, kv)
	}
	return reply, nil
}

// TestLargeList has 5,000 leases among 75 values of 1 MB and one of 5 MB: more than
// one reply may have.
func TestLargeList(t *testing.T) {
	s := &shelf{}
	s.put("config", "{}")
	for i := range 5000 {
		s.put(fmt.Sprintf("subnets/10.%d.%d.0-24", i/250, i%250), "a lease")
	}
	large := strings.Repeat("x", 1<<20)
	for i := range 75 {
		s.put(fmt.Sprintf("subnets/10.%d.%d.0-28", i%20, 7*i), large)
	}
	s.put("subnets/172.31.0.0-16", strings.Repeat(large, 5))
	slices.SortFunc(s.keys, func(a, b *mvccpb.KeyValue) int { return bytes.Compare(a.Key, b.Key) })
	r := etcdtest.Open(t, Config{Endpoints: []string{serveKV(t, s)}}, New)
	listed := etcdtest.List(t, r)
	leases, tooLong := 0, 0
	for i, e := range listed.Entries {
		if e.Value == "a lease" {
			leases++
		}
		if e.TooLong > 0 {
			tooLong++
		}
		if i > 0 && e.Key <= listed.Entries[i-1].Key {
			t.Fatalf("%s after %s", e.Key, listed.Entries[i-1].Key)
		}
	}
	if leases != 5000 || tooLong != 76 || listed.Find("subnets/172.31.0.0-16").TooLong != pageBytes || listed.Find(subnet.ConfigKey).Value != "{}" {
		t.Errorf("%d leases, %d values that are too long", leases, tooLong)
	}
	// The first pages may be too large.
	first := slices.IndexFunc(s.asked, func(r *pb.RangeRequest) bool { return r.Revision != 0 })
	if listed.Index != 100+uint64(first) {
		t.Errorf("as of revision %d, though the first page was the reply %d", listed.Index, first)
	}
	for i, request := range s.asked[first:] {
		other := !strings.HasPrefix(string(request.Key), prefix) // what the prefix may mean as well
		if !other && request.Revision != int64(listed.Index) {
			t.Errorf("request %d is for revision %d", first+i, request.Revision)
		}
	}
	if len(s.asked) > 150 {
		t.Errorf("%d requests", len(s.asked))
	}
	t.Logf("%d requests", len(s.asked))
}

// TestSlowList has an etcd that needs more time for the whole list than a call has, though
// for each page less.
func TestSlowList(t *testing.T) {
	s := &shelf{pause: time.Second / 2}
	for i := range 5 * pageKeys {
		s.put(fmt.Sprintf("subnets/%05d", i), "no lease")
	}
	quick := productLimits()
	quick.call, quick.attempt = 4*time.Second, 4*time.Second
	r := etcdtest.Open(t, Config{Endpoints: []string{serveKV(t, s)}}, func(c Config) (*Registry, error) { return newRegistry(c, quick) })
	if _, err := r.List(t.Context()); err != nil {
		t.Errorf("after %d pages: %v", len(s.asked), err)
	}
}

// TestPages begin small, and have an etcd that is busy rest.
func TestPages(t *testing.T) {
	s := &shelf{}
	for i := range 3 * pageKeys {
		s.put(fmt.Sprintf("subnets/%05d", i), "no lease")
	}
	etcdtest.List(t, etcdtest.Open(t, Config{Endpoints: []string{serveKV(t, s)}}, New))
	for i, request := range s.asked {
		if most := int64(firstKeys) << (2 * i); request.Limit > min(most, pageKeys) {
			t.Errorf("page %d has %d keys", i, request.Limit)
		}
	}
	for _, tt := range []struct{ took, least, most time.Duration }{
		{busy - 1, 0, 0}, {40 * time.Millisecond, 20 * time.Millisecond, 60 * time.Millisecond},
		{time.Minute, 500 * time.Millisecond, 1500 * time.Millisecond},
	} {
		for range 100 {
			if rest := restAfter(tt.took); rest < tt.least || rest > tt.most {
				t.Errorf("after %v: a rest of %v", tt.took, rest)
			}
		}
	}
}

// TestCompactedBetweenPages lists anew from the beginning.
func TestCompactedBetweenPages(t *testing.T) {
	answers := 0
	s := &scripted{list: func(context.Context) (*pb.RangeResponse, error) {
		reply := &pb.RangeResponse{Header: header(1, int64(answers)+5), Kvs: []*mvccpb.KeyValue{{Key: []byte(prefix + "/config"), ModRevision: 3}}}
		switch answers++; answers {
		case 1:
			reply.More = true
		case 2:
			return nil, rpctypes.ErrGRPCCompacted
		}
		return reply, nil
	}}
	list := etcdtest.List(t, etcdtest.Open(t, Config{Endpoints: []string{s.start(t)}}, New))
	if list.Index != 7 || len(list.Entries) != 1 {
		t.Errorf("%+v", list)
	}
}

// TestListThatGoesBack has a server with the same page for ever.
func TestListThatGoesBack(t *testing.T) {
	s := &scripted{list: func(context.Context) (*pb.RangeResponse, error) {
		return &pb.RangeResponse{Header: header(1, 5), More: true, Kvs: []*mvccpb.KeyValue{{Key: []byte(prefix + "/subnets/\x1b")}}}, nil
	}}
	_, err := etcdtest.Open(t, Config{Endpoints: []string{s.start(t)}}, New).List(t.Context())
	etcdtest.WantError(t, err, "goes back to \"/coreos.com/network/subnets/\\x1b\"")
}
