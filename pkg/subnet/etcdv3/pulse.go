package etcdv3

import (
	"context"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"flanneld/pkg/subnet"
)

// pulse finds out whether the member at the other end of a watch lives. gRPC
// pings a connection every ten seconds at the most, and one that is answered says
// nothing of the watch. So the watch itself is asked for its progress, which a
// member answers since etcd 3.4, in the same stream; that it is in touch with the
// others is seen to by the stream's demand for a leader, within about five
// seconds. 1,000 hosts make 290 such requests a second, each of some bytes, which
// touch neither the disk nor the cluster's log, but leave a kilobyte of garbage.
type pulse struct {
	limits limits
	since  atomic.Int64 // when it was begun to listen, after start; 0: nobody listens
	start  time.Time
	now    chan struct{} // one slot: ask was called
}

func newPulse(l limits) *pulse {
	return &pulse{limits: l, start: time.Now(), now: make(chan struct{}, 1)}
}

// ask asks at once. It is to be called once.
func (p *pulse) ask() { p.now <- struct{}{} }

// listen notes that the member is waited for from now on.
func (p *pulse) listen() { p.since.Store(max(int64(time.Since(p.start)), 1)) }

// heard notes that something came from the member, and that it is not waited for until listen is
// called: who takes long to take in what was told knows nothing of a silence.
func (p *pulse) heard() { p.since.Store(0) }

// beat asks until ctx ends, or ends the watch.
func (p *pulse) beat(ctx context.Context, stream pb.Watch_WatchClient, end context.CancelCauseFunc) {
	ticker := time.NewTicker(p.limits.pulse)
	defer ticker.Stop()
	deaf := time.NewTimer(p.limits.deaf)
	defer deaf.Stop()
	ask := func() {
		_ = stream.Send(&pb.WatchRequest{ // Recv says what is wrong
			RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}},
		})
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			ask()
		case <-p.now:
			ask()
		case <-deaf.C:
			silence := time.Duration(0)
			if since := p.since.Load(); since > 0 {
				silence = time.Since(p.start) - time.Duration(since)
			}
			if silence >= p.limits.deaf {
				end(subnet.ErrSilent)
				return
			}
			deaf.Reset(p.limits.deaf - silence)
		}
	}
}

// prove notes that all that had happened at that time is told by the watch.
func (r *Registry) prove(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.proven = at
}

// Proven implements [subnet.Registry].
func (r *Registry) Proven() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.proven
}
