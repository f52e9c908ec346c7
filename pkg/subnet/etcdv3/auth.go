package etcdv3

import (
	"context"
	"errors"
	"io/fs"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
)

// Protected tells whether authentication is on: whether whoever has no user gets
// nothing. It asks for a token without naming a user, as every release answers
// that to everybody, whatever rights this client has: by ErrAuthNotEnabled, or by
// a refusal.
func (r *Registry) Protected(ctx context.Context) (bool, error) {
	open := false
	err := r.try(ctx, func(ctx context.Context, conn grpc.ClientConnInterface, at *respondent) error {
		_, err := pb.NewAuthClient(conn).Authenticate(ctx, &pb.AuthenticateRequest{}, at.option())
		if open = errors.Is(rpctypes.Error(err), rpctypes.ErrAuthNotEnabled); open {
			return nil
		}
		return err
	})
	if errors.Is(err, fs.ErrPermission) {
		return true, nil
	}
	return err == nil && !open, err
}
