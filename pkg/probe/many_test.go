package probe

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"pgregory.net/rapid"

	"flanneld/pkg/inet"
)

// Each answer gets to who waits for it, in whatever order they come, and nobody gets another's.
func TestDeliver(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		family := rapid.SampledFrom(inet.Families()).Draw(t, "family")
		s := &shared{wire: wires[family], id: 7, last: uint16(rapid.IntRange(0, 1<<16-1).Draw(t, "last")), waiting: map[uint16]waiting{}}
		dst, others := target(family), target(family).Next()
		n := rapid.IntRange(1, 50).Draw(t, "packets")
		answers, seqs := map[uint16]<-chan Answer{}, []uint16(nil)
		for range n {
			seq, answer, err := s.expect(dst)
			if _, twice := answers[seq]; twice || err != nil {
				t.Fatalf("number %d twice, %v", seq, err)
			}
			answers[seq], seqs = answer, append(seqs, seq)
		}
		reply := func(id, seq int) []byte {
			packet, err := (&icmp.Message{Type: wires[family].reply, Body: &icmp.Echo{ID: id, Seq: seq}}).Marshal(nil)
			if err != nil {
				t.Fatal(err)
			}
			return packet
		}
		for i, seq := range rapid.Permutation(seqs).Draw(t, "order") {
			s.deliver(reply(8, int(seq)), others) // another program's
			if len(answers[seq]) > 0 {
				t.Fatal("an answer to another program's packet")
			}
			s.deliver(reply(7, int(seq)), others) // by a host that knows the number from a packet to itself
			if len(answers[seq]) > 0 {
				t.Fatal("an answer by another host")
			}
			if i%2 == 0 {
				s.deliver(reply(7, int(seq)), dst)
				s.deliver(reply(7, int(seq)), dst) // a duplicate
				if a := <-answers[seq]; !a.Echo || a.From != dst {
					t.Fatalf("%+v", a)
				}
			} else {
				s.forget(seq)
				s.deliver(reply(7, int(seq)), dst)
				if len(answers[seq]) > 0 {
					t.Fatal("an answer to who does not wait any more")
				}
			}
		}
		if len(s.waiting) > 0 {
			t.Fatalf("%d wait for good", len(s.waiting))
		}
	})
}

// What waits does not wait for a network that is closed, or for a user who has had enough.
func TestManyEnds(t *testing.T) {
	src := netip.MustParseAddr("127.0.0.1")
	for name, want := range map[string]error{"closed": net.ErrClosed, "interrupted": context.Canceled} {
		ctx, cancel := context.WithCancel(t.Context())
		m := Open(ctx)
		if want == net.ErrClosed {
			m.Close()
		} else {
			cancel()
		}
		for how, send := range map[string]func() (Answer, error){
			"Ping":     func() (Answer, error) { return m.Ping(src, src, Small, time.Hour) },
			"Step":     func() (Answer, error) { return m.Step(src, src, 0, time.Hour) },
			"Connect":  func() (Answer, error) { return m.Connect(src, src, time.Hour) },
			"ProbeUDP": func() (Answer, error) { return m.ProbeUDP(src, netip.AddrPortFrom(src, Discard), time.Hour) },
		} {
			if a, err := send(); !errors.Is(err, want) {
				t.Errorf("%s, %s: %+v, %v", name, how, a, err)
			}
		}
		m.Close()
		cancel()
	}
}
