package etcdv3

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	"flanneld/pkg/subnet"
)

// Renew has all that follows go over a new connection, made with the TLS files as they
// are now and with a password. Where etcd answers by the connection that there is and not by
// the new one, that stays, and the error says why. Where it answers by neither, the next one is
// made so, and the error is [subnet.ErrUntried]. What is not kept is closed. Watches end with
// [subnet.ErrRenewed]; what else is under way ends as it would have.
func (r *Registry) Renew(ctx context.Context, password string) error {
	if err := r.config.Check(); err != nil {
		return err // about the files
	}
	fresh, err := r.newClient(ctx, password)
	if err == nil {
		if err = r.answers(ctx, fresh.ActiveConnection()); err != nil {
			_ = fresh.Close()
			fresh = nil
		}
	} else {
		err = r.members.explain("", err)
	}
	if err != nil {
		if r.works(ctx) {
			return err
		}
		err = fmt.Errorf("%w: %w", subnet.ErrUntried, err)
	}
	select {
	case r.opening <- struct{}{}: // else a client with the former password may be made just now, and take the place
	case <-ctx.Done():
		if fresh != nil {
			_ = fresh.Close()
		}
		return ctx.Err()
	}
	r.mu.Lock()
	former := r.client
	r.client, r.password = fresh, password // where there is none, the next request makes it
	r.mu.Unlock()
	<-r.opening
	r.watches.Renew()
	if former != nil {
		former.calls.Wait()
		_ = former.Close()
	}
	return err
}

// works tells whether etcd answers by the connection that there is.
func (r *Registry) works(ctx context.Context) bool {
	r.mu.Lock()
	c := r.client
	if c != nil {
		c.calls.Add(1)
	}
	r.mu.Unlock()
	if c == nil {
		return false
	}
	defer c.calls.Done()
	return r.answers(ctx, c.ActiveConnection()) == nil
}

// answers asks etcd something small that takes a right to read.
func (r *Registry) answers(ctx context.Context, conn grpc.ClientConnInterface) error {
	ctx, cancel := context.WithTimeout(ctx, r.limits.attempt)
	defer cancel()
	var at respondent
	if _, err := r.head(ctx, conn, r.Dir(), &at); err != nil {
		return r.members.explain(at.member(), err)
	}
	return nil
}
