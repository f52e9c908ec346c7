package etcdv2

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/client/v2"

	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdconn"
)

// List implements [subnet.Registry]. Like all calls it does nothing once its
// context has ended: client/v2 might carry it out all the same.
func (r *Registry) List(ctx context.Context) (subnet.Snapshot, error) {
	if ctx.Err() != nil {
		return subnet.Snapshot{}, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, r.limits.call)
	defer cancel()
	reply, err := r.list(ctx)
	snapshot, err := r.snapshot(reply, err)
	if err != nil {
		return subnet.Snapshot{}, r.explain("list "+r.prefix, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cluster, r.term, r.index = snapshot.Cluster, r.members.last().term, snapshot.Index
	r.trail.Listed(snapshot.Index, latest(r.prefix, reply, snapshot.Index))
	return snapshot, nil
}

// list asks for all keys. etcd answers when it has put all of them together, which
// takes the longer the more of them there are: a list for which no member is quick
// enough gets what is left of its time.
func (r *Registry) list(ctx context.Context) (*client.Response, error) {
	// With the slash at its end the request is one that a role for "<prefix>/*"
	// allows.
	dir, all := r.prefix+"/", &client.GetOptions{Recursive: true, Quorum: true}
	reply, err := r.keys.Get(ctx, dir, all)
	var each *client.ClusterError
	if !errors.As(err, &each) || !slices.ContainsFunc(each.Errors, silent) {
		return reply, err
	}
	end, _ := ctx.Deadline()
	patient, failed := r.client(time.Until(end) / time.Duration(len(each.Errors)))
	if failed != nil {
		return nil, err
	}
	if reply, again := patient.Get(ctx, dir, all); again == nil || client.IsKeyNotFound(again) {
		return reply, again
	}
	return nil, err
}

// silent tells that a member did not begin its reply in time, by client/v2's words.
func silent(err error) bool { return strings.Contains(err.Error(), "exceeded header timeout") }

// Put implements [subnet.Registry].
func (r *Registry) Put(ctx context.Context, e subnet.Entry) (subnet.Entry, error) {
	options := &client.SetOptions{TTL: etcdconn.WholeSeconds(e.TTL), PrevIndex: e.Modified}
	if e.Modified == 0 {
		options.PrevExist = client.PrevNoExist
	}
	return r.swap(ctx, "write ", e, e.Value, options)
}

// Replace implements [subnet.Registry]. This API has no transactions.
func (r *Registry) Replace(ctx context.Context, old, e subnet.Entry) (subnet.Entry, error) {
	stored, err := r.Put(ctx, e)
	if err != nil {
		return stored, err
	}
	if err := r.Delete(ctx, old); err != nil {
		return stored, err
	}
	e.Modified = stored.Modified
	return r.Put(ctx, e)
}

// Refresh implements [subnet.Registry].
func (r *Registry) Refresh(ctx context.Context, e subnet.Entry) (subnet.Entry, error) {
	if e.Modified == 0 { // which would be no condition to etcd
		return subnet.Entry{}, fmt.Errorf("refresh %s/%s, which was absent: %w", r.prefix, e.Key, subnet.ErrConflict)
	}
	options := &client.SetOptions{TTL: etcdconn.WholeSeconds(e.TTL), PrevIndex: e.Modified, Refresh: true}
	value := ""
	if r.forgotten() && e.Value != "" {
		value, options.Refresh = e.Value, false
	}
	return r.swap(ctx, "refresh ", e, value, options)
}

// forgotten tells whether the store soon has no change any more, or has none already, by which a
// watch could go on: it remembers the last 1,000, and a lifetime that is set in silence is one. So in a
// store in which nothing else happens every 300th renewal or so is told to the watchers.
func (r *Registry) forgotten() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.index > r.trail.Begins()+rememberAt
}

// rememberAt leaves room for the renewals of those who have not heard yet of one that was told.
const rememberAt = 300

// Resume implements [subnet.Registry].
func (r *Registry) Resume(ctx context.Context, after uint64) error {
	err := ctx.Err()
	if err == nil && !r.trail.Leads() {
		err = subnet.ErrHistoryLost
	}
	var now uint64
	if err == nil {
		now, err = r.ask(ctx)
	}
	if err == nil {
		err = r.same(r.members.last(), now, max(after, r.trail.Last()))
	}
	if err != nil {
		return fmt.Errorf("go on with the watch on %s after index %d: %w", r.prefix, after, err)
	}
	return nil
}

// same says what a reply through the cluster's log shows of a store that is not the one that was
// listed and watched up to an index: another cluster, or an earlier state.
func (r *Registry) same(reply reply, now, after uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case reply.cluster != r.cluster:
		return fmt.Errorf("%s belongs to cluster %s now, instead of %s: %w",
			reply.member, reply.cluster, r.cluster, subnet.ErrHistoryLost)
	case now < after:
		return fmt.Errorf("%s is back at index %d: %w", reply.member, now, subnet.ErrHistoryLost)
	case reply.term != 0 && reply.term < r.term: // where there is no such key, etcd does not tell it
		return fmt.Errorf("%s is back at raft's term %d: %w", reply.member, reply.term, subnet.ErrHistoryLost)
	}
	r.term = max(r.term, reply.term)
	return nil
}

// swap writes value under the condition in options.
func (r *Registry) swap(
	ctx context.Context, what string, e subnet.Entry, value string, options *client.SetOptions,
) (subnet.Entry, error) {
	if ctx.Err() != nil {
		return subnet.Entry{}, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, r.limits.call)
	defer cancel()
	key := r.prefix + "/" + e.Key
	reply, err := r.keys.Set(ctx, key, value, options)
	if isConflict(err) {
		reply, err = r.own(ctx, key, e)
	}
	if err == nil && (reply.Node == nil || reply.Node.Dir) {
		err = fmt.Errorf("%s does not show the key", r.members.last().member)
	}
	if err != nil {
		return subnet.Entry{}, r.explain(what+key, err)
	}
	stored := entry(reply.Node)
	stored.Key = e.Key
	return stored, nil
}

// own looks whether a conflict is with a former attempt of our own, whose reply
// was lost: client/v2 tries the next endpoint by itself, and so may our caller.
func (r *Registry) own(ctx context.Context, key string, e subnet.Entry) (*client.Response, error) {
	reply, err := r.keys.Get(ctx, key, &client.GetOptions{Quorum: true})
	switch {
	case client.IsKeyNotFound(err):
		return nil, subnet.ErrConflict
	case err != nil:
		return nil, err
	case reply.Node != nil && reply.Node.Dir:
		return nil, r.blocked(r.members.last().member, key, true)
	case reply.Node == nil || reply.Node.Value != e.Value || reply.Node.ModifiedIndex <= e.Modified:
		return nil, subnet.ErrConflict
	}
	return reply, nil
}

// Delete implements [subnet.Registry].
func (r *Registry) Delete(ctx context.Context, e subnet.Entry) error {
	key := r.prefix + "/" + e.Key
	if e.Modified == 0 { // which would be no condition to etcd
		return fmt.Errorf("delete %s, which was absent: %w", key, subnet.ErrConflict)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, r.limits.call)
	defer cancel()
	_, err := r.keys.Delete(ctx, key, &client.DeleteOptions{PrevIndex: e.Modified})
	if isConflict(err) {
		err = subnet.ErrConflict
	}
	if err != nil {
		return r.explain("delete "+key, err)
	}
	return nil
}

// ask reads the config key through the cluster's log, and returns the index at
// which that was done. It finds a member that is in touch with the others.
func (r *Registry) ask(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, r.limits.call)
	defer cancel()
	reply, err := r.keys.Get(ctx, r.prefix+"/"+subnet.ConfigKey, &client.GetOptions{Quorum: true})
	var said client.Error
	switch {
	case client.IsKeyNotFound(err) && errors.As(err, &said):
		return said.Index, nil
	case err != nil:
		return 0, r.explain("read "+r.prefix+"/"+subnet.ConfigKey, err)
	}
	return reply.Index, nil
}

func isConflict(err error) bool {
	var said client.Error
	if !errors.As(err, &said) {
		return false
	}
	switch said.Code {
	case client.ErrorCodeKeyNotFound, client.ErrorCodeTestFailed, client.ErrorCodeNodeExist:
		return true
	}
	return false
}
