package etcdv3

import (
	"context"
	"fmt"
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"

	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdconn"
)

// entry reads a key, if it is one of ours, in this directory.
func (r *Registry) entry(dir string, kv *mvccpb.KeyValue) (subnet.Entry, bool) {
	key, ok := etcdconn.Key(dir, string(kv.GetKey()))
	e := subnet.Entry{
		Key: key, TTL: r.grants.left(kv.GetLease()),
		Created: uint64(kv.GetCreateRevision()), Modified: uint64(kv.GetModRevision()),
	}
	if n := len(kv.GetValue()); n > subnet.LongestValue { // which is not copied
		e.TooLong = n
	} else {
		e.Value = string(kv.GetValue())
	}
	return e, ok
}

// Put implements [subnet.Registry].
func (r *Registry) Put(ctx context.Context, e subnet.Entry) (subnet.Entry, error) {
	return r.put(ctx, "write", e, nil)
}

// Replace implements [subnet.Registry].
func (r *Registry) Replace(ctx context.Context, old, e subnet.Entry) (subnet.Entry, error) {
	return r.put(ctx, "write", e, &old)
}

// put writes e, in the place of another key if there is one.
func (r *Registry) put(ctx context.Context, what string, e subnet.Entry, old *subnet.Entry) (subnet.Entry, error) {
	dir := r.Dir()
	key := dir + "/" + e.Key
	fail := func(err error) (subnet.Entry, error) {
		return subnet.Entry{}, fmt.Errorf("%s %s: %w", what, key, err)
	}
	grant, err := r.grant(ctx, e.Key, e.TTL)
	if err != nil {
		return fail(err)
	}
	do := []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{
		Key: []byte(key), Value: []byte(e.Value), Lease: grant, PrevKv: true,
	}}}}
	also := append(absentBeside(key, e), r.absentElsewhere(dir, e)...)
	if old != nil {
		do = append([]*pb.RequestOp{deletion(dir + "/" + old.Key)}, do...)
		also = append(also, unchanged(dir+"/"+old.Key, old.Modified))
	}
	reply, err := r.txn(ctx, key, e.Modified, do, also...)
	switch {
	case err != nil && !transient(err): // it was refused, so the grant is of no use
		r.drop(ctx, e.Key, grant)
		return fail(err)
	case err != nil: // the next attempt takes the same
		return fail(err)
	case !reply.Succeeded:
		return r.lost(ctx, dir, e, grant, reply)
	}
	r.grants.used(e.Key)
	put := reply.Responses[len(do)-1].GetResponsePut()
	if old != nil {
		for _, before := range reply.Responses[0].GetResponseDeleteRange().GetPrevKvs() {
			r.revoke(ctx, before.Lease)
		}
	}
	written := uint64(reply.Header.GetRevision())
	stored := subnet.Entry{
		Key: e.Key, Value: e.Value, TTL: etcdconn.WholeSeconds(e.TTL), Created: written, Modified: written,
	}
	if before := put.GetPrevKv(); before != nil {
		stored.Created = uint64(before.CreateRevision)
		r.revoke(ctx, before.Lease)
	}
	return stored, nil
}

// absentBeside is what must hold besides where a lease is created: no dual-stack key
// names its subnet. Those begin with the subnet's key and what stands between both
// halves.
func absentBeside(key string, e subnet.Entry) []*pb.Compare {
	if e.Modified != 0 || !strings.HasPrefix(e.Key, subnet.LeaseDir+"/") || strings.Contains(e.Key, subnet.DualStack) {
		return nil
	}
	from := []byte(key + subnet.DualStack)
	to := slices.Clone(from)
	to[len(to)-1]++
	return []*pb.Compare{{
		Target: pb.Compare_CREATE, Result: pb.Compare_EQUAL, Key: from, RangeEnd: to,
		TargetUnion: &pb.Compare_CreateRevision{CreateRevision: 0},
	}}
}

// lost looks whether a conflict is with a former attempt of our own, whose reply
// was lost.
func (r *Registry) lost(
	ctx context.Context, dir string, e subnet.Entry, grant int64, reply *pb.TxnResponse,
) (subnet.Entry, error) {
	for _, kv := range reply.Responses[0].GetResponseRange().GetKvs() {
		stored, ours := r.entry(dir, kv)
		if !ours || stored.Value != e.Value || stored.Modified <= e.Modified {
			break
		}
		if kv.Lease == grant {
			r.grants.used(e.Key)
			return stored, nil
		}
		if (kv.Lease == 0) == (e.TTL == 0) {
			r.drop(ctx, e.Key, grant)
			return stored, nil
		}
	}
	r.drop(ctx, e.Key, grant)
	return subnet.Entry{}, fmt.Errorf("write %s/%s: %w", dir, e.Key, subnet.ErrConflict)
}

// unchanged is that a key has this revision still; 0: that it is absent.
func unchanged(key string, revision uint64) *pb.Compare {
	return &pb.Compare{
		Target: pb.Compare_MOD, Result: pb.Compare_EQUAL, Key: []byte(key),
		TargetUnion: &pb.Compare_ModRevision{ModRevision: int64(revision)},
	}
}

func deletion(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{
		RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(key), PrevKv: true},
	}}
}

// txn does these things if the key has this revision, and otherwise reads it.
func (r *Registry) txn(
	ctx context.Context, key string, revision uint64, do []*pb.RequestOp, also ...*pb.Compare,
) (reply *pb.TxnResponse, err error) {
	request := &pb.TxnRequest{
		Compare: append([]*pb.Compare{unchanged(key, revision)}, also...),
		Success: do,
		Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(key)}}}},
	}
	err = r.try(ctx, func(ctx context.Context, conn grpc.ClientConnInterface, at *respondent) (err error) {
		reply, err = pb.NewKVClient(conn).Txn(ctx, request, at.option())
		return err
	})
	expected := len(do)
	if err == nil && !reply.Succeeded {
		expected = 1
	}
	if err == nil && len(reply.Responses) != expected {
		err = fmt.Errorf("%s does not show the key", r.Member())
	}
	return reply, err
}

// Refresh implements [subnet.Registry]. It tells no watcher where the key's
// grant was made for the same lifetime; otherwise the key is written.
func (r *Registry) Refresh(ctx context.Context, e subnet.Entry) (subnet.Entry, error) {
	dir := r.Dir()
	key := dir + "/" + e.Key
	fail := func(err error) (subnet.Entry, error) {
		return subnet.Entry{}, fmt.Errorf("refresh %s: %w", key, err)
	}
	if e.Modified == 0 { // which would create it
		return fail(subnet.ErrConflict)
	}
	kv, err := r.get(ctx, key)
	switch {
	case err != nil:
		return fail(err)
	case kv == nil || uint64(kv.ModRevision) != e.Modified:
		return fail(subnet.ErrConflict)
	}
	ttl := etcdconn.WholeSeconds(e.TTL)
	if kv.Lease != 0 && ttl > 0 {
		switch made, err := r.renew(ctx, kv.Lease); {
		case err != nil:
			return fail(err)
		case made == 0: // it has just ended, and the key with it
			return fail(subnet.ErrConflict)
		case made == ttl:
			stored, _ := r.entry(dir, kv)
			return stored, nil
		}
	}
	e.Value = string(kv.Value)
	return r.put(ctx, "refresh", e, nil)
}

func (r *Registry) get(ctx context.Context, key string) (*mvccpb.KeyValue, error) {
	var reply *pb.RangeResponse
	err := r.try(ctx, func(ctx context.Context, conn grpc.ClientConnInterface, at *respondent) (err error) {
		reply, err = pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: []byte(key)}, at.option())
		return err
	})
	if err != nil || len(reply.Kvs) == 0 {
		return nil, err
	}
	return reply.Kvs[0], nil
}

// Delete implements [subnet.Registry].
func (r *Registry) Delete(ctx context.Context, e subnet.Entry) error {
	key := r.Dir() + "/" + e.Key
	if e.Modified == 0 { // which would be no condition
		return fmt.Errorf("delete %s, which was absent: %w", key, subnet.ErrConflict)
	}
	reply, err := r.txn(ctx, key, e.Modified, []*pb.RequestOp{deletion(key)})
	if err == nil && !reply.Succeeded {
		err = subnet.ErrConflict
	}
	if err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	for _, before := range reply.Responses[0].GetResponseDeleteRange().GetPrevKvs() {
		r.revoke(ctx, before.Lease)
	}
	return nil
}
