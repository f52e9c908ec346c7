package etcdv2

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/etcd/client/v2"

	"flanneld/pkg/subnet"
)

const (
	// catchUp is how many changes, of whatever key, a watch follows one by
	// one when it begins: beyond that a list is cheaper for both sides.
	catchUp = 100

	longestEvent = 4 << 20 // bytes; etcd takes requests of 1.5 MiB
)

// Watch implements [subnet.Registry]. Where it goes on, it first waits for the changes that
// are known already, one by one: the member has them in its memory, or not any more.
func (r *Registry) Watch(ctx context.Context, after uint64, emit func([]subnet.Event)) error {
	if ctx.Err() != nil { // and no watch has taken the place of a list
		return ctx.Err()
	}
	retrace, err := r.trail.Retrace(after)
	if err != nil {
		return fmt.Errorf("watch %s after index %d: %w", r.prefix, after, err)
	}
	announce := sync.OnceFunc(func() { emit(nil) })
	first, at, soon := retrace.First(), retrace.From()-1, time.Duration(0)
	if !first { // no list has just shown that what is known is recent
		soon = r.limits.probe/5 + rand.N(r.limits.probe*2/5)
	}
	member := ""
	watching, fail := context.WithCancelCause(ctx)
	defer r.watches.Add(fail)()
	probe := &prober{Registry: r, fail: fail}
	standing := func(w waiting) {
		w.member = member
		probe.at(w)
		announce()
	}
	var probing sync.WaitGroup
	probing.Go(func() { probe.run(watching, cmp.Or(soon, r.limits.probe)) })
	defer probing.Wait()
	defer fail(nil)
	ends := func(err error) error { // also while it is yet to begin
		if ctx.Err() == nil && watching.Err() != nil {
			err = context.Cause(watching)
		}
		return fmt.Errorf("watch %s after index %d: %w", r.prefix, at, err)
	}
	for {
		var err error
		if member == "" {
			if member, err = r.connected(watching); err != nil {
				return ends(err)
			}
		}
		probe.at(waiting{member: member})
		var reply answer
		if retrace.Sure() {
			reply, err = r.wait(watching, member, at, first, standing)
			first = false
			if err == nil && reply.ahead > catchUp {
				err = fmt.Errorf("%s is %d changes ahead: %w", member, reply.ahead, subnet.ErrHistoryLost)
			}
		} else {
			reply, err = r.retold(watching, member, at)
		}
		if err == nil && reply.events != nil {
			err = retrace.Told(reply.said)
		}
		if err != nil {
			return ends(err)
		}
		if at = reply.index; at <= after && !reply.idle { // the caller has heard of it
			continue
		}
		if reply.events != nil {
			announce()
			emit(reply.events)
			after = at
		}
		r.noteIndex(at)
		if reply.idle {
			member = ""
			probe.at(waiting{})
		}
	}
}

// retold waits for a change that was told before: a member that has it tells it at once.
func (r *Registry) retold(ctx context.Context, member string, after uint64) (answer, error) {
	known, cancel := context.WithTimeout(ctx, r.limits.probe)
	defer cancel()
	reply, err := r.wait(known, member, after, false, func(waiting) {})
	if ctx.Err() == nil && known.Err() != nil || reply.idle {
		return reply, fmt.Errorf("%s does not tell once more what it has told: %w", member, subnet.ErrHistoryLost)
	}
	return reply, err
}

// connected names a member that was in touch with the others lately: since this
// was asked before.
func (r *Registry) connected(ctx context.Context) (string, error) {
	member, fresh := r.members.take()
	if fresh {
		return member, nil
	}
	_, err := r.ask(ctx)
	member, _ = r.members.take()
	return member, err
}

// answer is what comes of one wait.
type answer struct {
	events []subnet.Event
	said   subnet.Change // of them, by the store
	index  uint64        // everything up to here has been told
	idle   bool          // nothing happened
	ahead  uint64        // how many changes, of whatever key, the member has to tell still
}

// wait asks one member for the first event after an index. standing is called
// when the member has begun to wait as well. first is for the first watch after a list.
func (r *Registry) wait(
	ctx context.Context, member string, after uint64, first bool, standing func(waiting),
) (answer, error) {
	limit, cancel := context.WithTimeout(ctx, r.limits.watch-rand.N(r.limits.watch/10+1))
	defer cancel()
	begun := time.Now()
	idle := func(index uint64, err error) (answer, error) {
		switch {
		case ctx.Err() != nil: // while we give up, the server may end its reply well
			return answer{}, ctx.Err()
		case limit.Err() != nil || err == nil && time.Since(begun) >= r.limits.brief:
			return answer{index: index, idle: true}, nil
		case err == nil:
			when := "at once"
			if lasted := time.Since(begun).Round(time.Second); lasted > 0 {
				when = "after " + lasted.String()
			}
			err = fmt.Errorf("%s ended the watch %s, without an event", member, when)
		}
		return answer{}, err
	}

	mute := time.AfterFunc(r.limits.mute, cancel)
	defer mute.Stop()
	reply, err := r.open(limit, member, after)
	if began := mute.Stop(); !began && ctx.Err() == nil {
		return answer{}, fmt.Errorf("%s has not begun to answer the watch within %v", member, r.limits.mute)
	}
	if err != nil {
		return idle(after, err)
	}
	defer reply.Body.Close()
	reached, err := r.reached(ctx, member, reply, after, first)
	if err != nil {
		return answer{}, err
	}
	standing(waiting{reached: reached, begun: begun, again: cancel})
	body, err := io.ReadAll(io.LimitReader(reply.Body, longestEvent))
	if err != nil || len(body) == 0 {
		return idle(reached, err)
	}
	index, events, said, err := r.event(body, after)
	if err != nil {
		return answer{}, fmt.Errorf("%s: %w", member, err)
	}
	if index > reached { // so the member has heard of what came after it was asked
		r.prove(begun)
	}
	return answer{events: events, said: said, index: index, ahead: max(reached, index) - index}, nil
}

// open sends the request and waits for the reply's headers.
func (r *Registry) open(ctx context.Context, member string, after uint64) (*http.Response, error) {
	next := strconv.FormatUint(after+1, 10)
	query := url.Values{"wait": {"true"}, "recursive": {"true"}, "waitIndex": {next}}.Encode()
	request, err := r.request(ctx, member, "/", query)
	if err != nil {
		return nil, err
	}
	return r.members.send(request)
}

// request is one for a key at one member.
func (r *Registry) request(ctx context.Context, member, key, query string) (*http.Request, error) {
	u, err := url.Parse(member)
	if err != nil {
		return nil, err
	}
	u.Path, u.RawPath, u.RawQuery = u.Path+"/v2/keys"+r.prefix+key, "", query
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err == nil {
		r.members.authenticate(request)
	}
	return request, err
}

// sameCluster says that a member is not of the cluster that was listed.
func (r *Registry) sameCluster(member string, reply *http.Response) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := reply.Header.Get(clusterHeader); r.cluster != "" && now != r.cluster {
		return fmt.Errorf("%s belongs to cluster %s now, instead of %s: %w", member, now, r.cluster, subnet.ErrHistoryLost)
	}
	return nil
}

// reached reads a reply's headers: the index that the member has reached, or
// why this watch is of no use.
func (r *Registry) reached(
	ctx context.Context, member string, reply *http.Response, after uint64, first bool,
) (uint64, error) {
	if reply.StatusCode != http.StatusOK {
		return 0, refusal(member, reply.Body)
	}
	if err := r.sameCluster(member, reply); err != nil {
		return 0, err
	}
	if err := r.elected(member, reply, first); err != nil {
		return 0, err
	}
	index, err := strconv.ParseUint(reply.Header.Get(indexHeader), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s does not tell the index", member)
	}
	if index >= after {
		return index, nil
	}
	// An index that was there is not: the store is another one, or the member
	// lags behind that which was asked before.
	now, err := r.ask(ctx)
	switch {
	case err != nil:
		return 0, err
	case now < after:
		return 0, fmt.Errorf("%s is back at index %d: %w", member, now, subnet.ErrHistoryLost)
	}
	return 0, fmt.Errorf("%s lags behind: it has reached index %d of %d", member, index, now)
}

// elected says that there was an election between a list and the first watch after it: the store may
// have been replaced. In a watch that stands, elections mean nothing.
func (r *Registry) elected(member string, reply *http.Response, first bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	term := number(reply, termHeader)
	if first && r.term > 0 && term > r.term {
		return fmt.Errorf("%s has seen an election since the list: %w", member, subnet.ErrHistoryLost)
	}
	r.term = max(r.term, term)
	return nil
}

// noteIndex notes how far the store is.
func (r *Registry) noteIndex(index uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.index = max(r.index, index)
}

// refusal reads etcd's error.
func refusal(member string, body io.Reader) error {
	var said client.Error
	if err := json.NewDecoder(io.LimitReader(body, longestEvent)).Decode(&said); err != nil {
		return fmt.Errorf("%s answers with something that is not etcd's JSON: %w", member, err)
	}
	switch said.Code {
	case client.ErrorCodeEventIndexCleared, client.ErrorCodeWatcherCleared:
		return fmt.Errorf("%s: %w", member, subnet.ErrHistoryLost)
	}
	return answered(member, said)
}
