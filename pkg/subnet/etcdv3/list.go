package etcdv3

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"flanneld/pkg/printable"
	"flanneld/pkg/subnet"
)

// List implements [subnet.Registry].
func (r *Registry) List(ctx context.Context) (subnet.Snapshot, error) {
	l, err := r.list(ctx)
	if err != nil {
		return subnet.Snapshot{}, err
	}
	return l.snapshot, nil
}

// ListExact is List with all lifetimes, for which it asks one by one.
func (r *Registry) ListExact(ctx context.Context) (subnet.Snapshot, error) {
	l, err := r.list(ctx)
	if err != nil {
		return subnet.Snapshot{}, err
	}
	for i, lease := range l.leases {
		e := &l.snapshot.Entries[i]
		if lease == 0 {
			continue
		}
		if !r.grants.knows(lease) {
			if err := r.measure(ctx, lease); err != nil {
				return subnet.Snapshot{}, fmt.Errorf("ask for the lifetime of %s/%s: %w", r.Dir(), e.Key, err)
			}
		}
		e.TTL = r.grants.left(lease)
	}
	return l.snapshot, nil
}

// listing is a list on its way. It comes in pages, all of them as of one revision.
type listing struct {
	snapshot subnet.Snapshot
	leases   []int64 // of the entries
	revision int64   // 0: as it is when the first page comes
	cluster  uint64
	term     uint64        // raft's
	latest   subnet.Change // that the entries show

	dir       string
	from, end []byte
	size      int64         // of the next page, in keys
	took      time.Duration // the last one
}

const (
	// firstKeys are so few that etcd has them in memory for all hosts at once, should
	// all ask at once: a lease takes 250 bytes. How long that takes shows what etcd has to do.
	firstKeys = 250
	// pageKeys makes few pages of a list of leases.
	pageKeys = 2000
	// busy is how long a page takes of an etcd that has more to do than this list.
	busy = 20 * time.Millisecond
	// pageBytes bounds a page. Where values are larger than they should be, pages
	// have fewer keys.
	pageBytes = 4 << 20
)

func (r *Registry) list(ctx context.Context) (listing, error) {
	ctx, cancel := context.WithTimeout(ctx, r.limits.list)
	defer cancel()
	l, err := r.settle(ctx)
	if compacted(err) { // between two pages
		l, err = r.settle(ctx)
	}
	if err != nil {
		return l, fmt.Errorf("list %s: %w", l.dir, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cluster, r.term = l.cluster, l.term
	if !r.settled { // the watch that follows is of both directories, and each must be listed anew
		l.latest = subnet.Change{}
	}
	r.trail.Listed(l.snapshot.Index, l.latest)
	return l, nil
}

// listDir lists one directory, as of a revision; 0: as it is now.
func (r *Registry) listDir(ctx context.Context, dir string, revision int64) (l listing, err error) {
	l = listing{size: firstKeys, dir: dir, revision: revision}
	l.from, l.end = below(dir)
	for {
		more, err := r.page(ctx, &l)
		if err != nil || !more {
			return l, err
		}
		if rest := restAfter(l.took); rest > 0 {
			select {
			case <-time.After(rest):
			case <-ctx.Done():
				return l, ctx.Err()
			}
		}
	}
}

// restAfter is how long to leave etcd alone after a page that took that long, with jitter: hosts that
// started at once do not go on asking at once.
func restAfter(took time.Duration) time.Duration {
	if took < busy {
		return 0
	}
	rest := min(took, time.Second)
	return rest/2 + rand.N(rest)
}

// page reads the next one, if there is room for it; otherwise the next is smaller.
func (r *Registry) page(ctx context.Context, l *listing) (more bool, err error) {
	request := &pb.RangeRequest{Key: l.from, RangeEnd: l.end, Limit: l.size, Revision: l.revision}
	asked := time.Now()
	reply, err := r.ranged(ctx, request)
	l.took = time.Since(asked)
	alone := false
	switch {
	case tooLarge(err) && l.size > 1:
		l.size = max(1, l.size/8)
		return true, nil
	case tooLarge(err): // one key whose value is larger than a page
		request.KeysOnly, alone = true, true
		reply, err = r.ranged(ctx, request)
	}
	if err != nil {
		return false, err
	}
	if reply.Header.GetRevision() == 0 { // as no store has: this is none, and no empty one
		return false, fmt.Errorf("%s does not tell the revision", r.Member())
	}
	if l.snapshot.Index == 0 {
		l.revision = cmp.Or(l.revision, reply.Header.GetRevision())
		l.cluster, l.term = reply.Header.GetClusterId(), reply.Header.GetRaftTerm()
		l.snapshot.Index, l.snapshot.Cluster = uint64(l.revision), strconv.FormatUint(l.cluster, 16)
	} else if now := reply.Header.GetClusterId(); now != l.cluster {
		return false, fmt.Errorf("%s belongs to cluster %x, and the beginning came from %x", r.Member(), now, l.cluster)
	}
	if err := r.take(l, reply.Kvs, alone); err != nil {
		return false, err
	}
	if !reply.More || len(reply.Kvs) == 0 {
		return false, nil
	}
	last := reply.Kvs[len(reply.Kvs)-1].Key
	if bytes.Compare(last, l.from) < 0 {
		return false, fmt.Errorf("%s goes back to %s", r.Member(), printable.Quoted(string(last), 200))
	}
	l.from = append(last, 0) // the next possible key
	grow := int64(4)
	if l.took >= busy {
		grow = 2
	}
	l.size = min(grow*l.size, pageKeys)
	return true, nil
}

// take takes a page's keys up. unread says that it has no values, as they are larger
// than a page.
func (r *Registry) take(l *listing, kvs []*mvccpb.KeyValue, unread bool) error {
	for _, kv := range kvs {
		if kv.ModRevision == l.revision && !unread {
			l.latest = change(kv, false)
		}
		e, ok := r.entry(l.dir, kv)
		if !ok {
			continue
		}
		if unread {
			e.TooLong = pageBytes
		}
		kept := len(l.snapshot.Entries)
		if err := l.snapshot.Add(e); err != nil {
			return err
		}
		if len(l.snapshot.Entries) > kept {
			l.leases = append(l.leases, kv.Lease)
		}
	}
	return nil
}

// ranged carries out a request of which the reply may be a page at most.
func (r *Registry) ranged(ctx context.Context, request *pb.RangeRequest) (reply *pb.RangeResponse, err error) {
	err = r.try(ctx, func(ctx context.Context, conn grpc.ClientConnInterface, at *respondent) (err error) {
		reply, err = pb.NewKVClient(conn).Range(ctx, request, at.option(), grpc.MaxCallRecvMsgSize(pageBytes))
		return err
	})
	return reply, err
}

// compacted tells that a revision is not there any more.
func compacted(err error) bool {
	f, ok := errors.AsType[*fault](err)
	return ok && f.code == codes.OutOfRange && strings.Contains(f.words, "compacted")
}

// tooLarge tells that gRPC did not take a reply because of its size: etcd's errors
// with the same code have other words.
func tooLarge(err error) bool {
	f, ok := errors.AsType[*fault](err)
	return ok && f.code == codes.ResourceExhausted && strings.Contains(f.words, "larger than max")
}
