package etcdv3

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"flanneld/pkg/subnet/etcdconn"
)

// Peek reads absolute keys, also such as are none of ours, in one request. Those
// that are not there are left out.
func (r *Registry) Peek(ctx context.Context, keys []string) (map[string]etcdconn.Found, error) {
	request := &pb.TxnRequest{}
	for _, key := range keys {
		request.Success = append(request.Success,
			&pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(key)}}})
	}
	var reply *pb.TxnResponse
	err := r.try(ctx, func(ctx context.Context, conn grpc.ClientConnInterface, at *respondent) (err error) {
		reply, err = pb.NewKVClient(conn).Txn(ctx, request, at.option())
		return err
	})
	if err != nil {
		return nil, err
	}
	found := map[string]etcdconn.Found{}
	for _, response := range reply.Responses {
		for _, kv := range response.GetResponseRange().GetKvs() {
			found[string(kv.Key)] = etcdconn.Found{Value: string(kv.Value)}
		}
	}
	return found, nil
}
