package etcdv2

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"flanneld/pkg/subnet"
)

// An idle wait says nothing, so its silence proves nothing. Its member is asked
// for one small key beside it, about every five seconds: from the member's own
// memory, as the reply's X-Raft-Index rises by itself where the member is in
// touch with the others. While any key of the store has a lifetime, the leader
// writes the time into the cluster's log twice a second. Only where that index
// stands still, or is not told because the key is not there, is the key read
// through the log. So 1,000 hosts cost the whole cluster about 200 reads from
// memory a second, of half a kilobyte each.
//
// Where an endpoint stands for several members, as a balancer does, the one that
// answers may not be the one that waits. So an answer proves something only while the
// store is where it was as the wait began. Once it has gone on, be it by other keys,
// the wait proves what there was at its beginning, and soon another one takes its place.

// strikes is how many probes in a row fail before a member is given up: one may
// fall into an election.
const strikes = 2

// prober asks the member at which a watch waits.
type prober struct {
	*Registry
	fail context.CancelCauseFunc // ends the watch

	mu   sync.Mutex
	wait waiting
}

// waiting is a wait for the next event.
type waiting struct {
	member  string             // "": there is none at the moment
	again   context.CancelFunc // has another one take its place; nil: it has not begun to be answered
	begun   time.Time
	reached uint64 // the store's index as it began
	passed  bool   // the store has gone on since
}

func (p *prober) at(w waiting) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wait = w
}

func (p *prober) current() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.wait.member
}

// prove notes that the member, or one behind the same endpoint, was in touch with the
// others at a time, and which index the store had reached. A member that lives proves
// nothing of a watch that a proxy holds back.
func (p *prober) prove(at time.Time, index uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := &p.wait
	switch {
	case w.again == nil:
	case index <= w.reached:
		p.Registry.prove(at)
	default:
		p.Registry.prove(w.begun)
		if w.passed {
			w.again()
		}
		w.passed = true
	}
}

// run probes until ctx ends, or ends the watch. first is when it begins.
func (p *prober) run(ctx context.Context, first time.Duration) {
	timer := time.NewTimer(first)
	defer timer.Stop()
	var last sighting
	failed := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		next := p.limits.probe - rand.N(p.limits.probe/5+1) // hosts do not move together
		member := p.current()
		now, err := p.see(ctx, member, last)
		switch {
		case ctx.Err() != nil:
			return
		case member == "" || member != p.current():
			failed, last = 0, sighting{}
		case err == nil:
			failed, last = 0, now
		default:
			if failed++; failed == strikes {
				p.members.avoid(member)
				p.fail(fmt.Errorf("%s is silent, or has lost the others: %w", member, err))
				return
			}
			next, last = 0, sighting{}
		}
		timer.Reset(next)
	}
}

// sighting is what a member has shown, and when it was asked.
type sighting struct {
	member string
	asked  time.Time
	raft   uint64 // 0: it does not tell
	index  uint64 // of the store, as it knows
}

// see looks whether a member is alive and in touch with the others.
func (p *prober) see(ctx context.Context, member string, last sighting) (sighting, error) {
	if member == "" {
		return sighting{}, nil
	}
	if last.member == member && last.raft > 0 {
		now, err := p.look(ctx, member, false)
		if err != nil {
			return now, err
		}
		if now.raft > last.raft {
			p.prove(last.asked, now.index) // since when it has heard of something
			return now, nil
		}
	}
	now, err := p.look(ctx, member, true)
	if err == nil {
		p.prove(now.asked, now.index)
	}
	return now, err
}

// look reads the config key at one member.
func (p *prober) look(ctx context.Context, member string, quorum bool) (sighting, error) {
	ctx, cancel := context.WithTimeout(ctx, p.limits.header)
	defer cancel()
	now := sighting{member: member, asked: time.Now()}
	request, err := p.request(ctx, member, "/"+subnet.ConfigKey, map[bool]string{true: "quorum=true"}[quorum])
	if err != nil {
		return now, err
	}
	reply, err := p.members.send(request)
	if err != nil {
		return now, err
	}
	defer reply.Body.Close()
	if reply.StatusCode != http.StatusOK && reply.StatusCode != http.StatusNotFound {
		return now, refusal(member, reply.Body)
	}
	if _, err := io.Copy(io.Discard, reply.Body); err != nil { // so that the connection serves again
		return now, err
	}
	if err := p.sameCluster(member, reply); err != nil {
		return now, err
	}
	now.raft, now.index = number(reply, raftHeader), number(reply, indexHeader)
	p.noteIndex(now.index)
	return now, nil
}

// prove notes that all that had happened at that time is told by the watch.
func (r *Registry) prove(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at.After(r.proven) {
		r.proven = at
	}
}

// Proven implements [subnet.Registry].
func (r *Registry) Proven() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.proven
}
