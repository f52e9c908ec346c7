package check

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"flanneld/pkg/status"
)

// TestSessions: what a peer does after a packet decides, and not how old its session is.
func TestSessions(t *testing.T) {
	old := status.Session{Handshake: now.Add(-time.Hour), Received: 500}
	young := status.Session{Handshake: now.Add(-time.Minute), Received: 500}
	ahead := status.Session{Handshake: now.Add(time.Hour), Received: 500}
	grown := func(s status.Session, bytes int64) status.Session { s.Received += bytes; return s }
	for name, tt := range map[string]struct {
		before status.Session
		after  time.Duration // the daemon says then:
		now    status.Session
		want   *Vain
	}{
		"a first handshake":                        {status.Session{}, time.Second, status.Session{Handshake: now.Add(time.Second), Received: 92}, nil},
		"none at all":                              {status.Session{}, 0, status.Session{Sent: 148}, &Vain{For: handshakeTime}},
		"none, though the peer tries":              {status.Session{}, time.Second, status.Session{Received: 2 * initiation}, &Vain{For: handshakeTime, Heard: true}},
		"an old one, and a new one":                {old, 6 * time.Second, status.Session{Handshake: now.Add(6 * time.Second)}, nil},
		"an old one, and none":                     {old, 0, old, &Vain{For: handshakeTime}},
		"an old one, and what can be no data":      {old, time.Second, grown(old, 32), &Vain{For: handshakeTime, Heard: true}},
		"a young one, and an answer":               {young, time.Second, grown(young, 96), nil},
		"a young one, and a keepalive":             {young, 11 * time.Second, grown(young, 32), nil},
		"a young one, and nothing any more":        {young, 0, young, &Vain{For: handshakeTime}},
		"a young one, and only tries of the peer":  {young, time.Second, grown(young, initiation), &Vain{For: handshakeTime, Heard: true}},
		"a step of the clock, and an answer":       {ahead, time.Second, grown(ahead, 96), nil},
		"a step of the clock, and silence":         {ahead, 0, ahead, &Vain{For: handshakeTime}},
		"a step of the clock, and a new handshake": {ahead, time.Second, status.Session{Handshake: now.Add(time.Second)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := wireguarded()
				f.Status.Peers[0].Session = &tt.before
				begin, asked := time.Now(), 0
				var sent []netip.Addr
				s := Sessions{
					Send: func(to netip.Addr) { sent = append(sent, to) },
					Ask: func(context.Context) (status.Status, error) {
						if asked++; asked == 1 {
							return status.Status{}, errors.New("busy")
						}
						told := *wireguarded().Status
						told.Time = now.Add(time.Since(begin))
						told.Peers[0].Session = &tt.before
						if time.Since(begin) >= tt.after {
							told.Peers[0].Session = &tt.now
						}
						return told, nil
					},
				}
				peers := s.Run(t.Context(), &f, f.Status.Peers)
				want := map[netip.Prefix]Vain{}
				if tt.want != nil {
					want[far] = *tt.want
				}
				if diff := cmp.Diff(want, f.Silent, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
					t.Error(diff)
				}
				if len(sent) != 1 || sent[0] != far.Addr() || *peers[0].Session != tt.now || *f.Status.Peers[0].Session != tt.now {
					t.Errorf("sent to %v, and %+v is left", sent, peers)
				}
				if took := time.Since(begin); tt.want == nil && took > max(tt.after, askEvery*2)+askEvery {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// TestSessionsOfALargeCluster: a daemon that takes long to answer is not kept at it.
func TestSessionsOfALargeCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := wireguarded()
		f.Status.Peers[0].Session = &status.Session{}
		answers := 0
		s := Sessions{Send: func(netip.Addr) {}, Ask: func(context.Context) (status.Status, error) {
			time.Sleep(time.Second)
			answers++
			return *f.Status, nil
		}}
		s.Run(t.Context(), &f, f.Status.Peers)
		if answers > 5 {
			t.Errorf("it was asked %d times in %v", answers, handshakeTime)
		}
	})
}

// TestSessionsOfOthers: who has none is sent nothing.
func TestSessionsOfOthers(t *testing.T) {
	f := healthy()
	s := Sessions{Send: func(netip.Addr) { t.Error("sent") }, Ask: func(context.Context) (status.Status, error) { t.Error("asked"); return status.Status{}, nil }}
	if peers := s.Run(t.Context(), &f, f.Status.Peers); len(peers) != 1 {
		t.Error(peers)
	}
}
