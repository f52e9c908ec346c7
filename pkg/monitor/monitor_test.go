package monitor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"flanneld/pkg/probe"
	"flanneld/pkg/status"
)

// fake is a cluster and its network.
type fake struct {
	sync.Mutex
	host    Host
	all     map[netip.Prefix]Path
	dead    map[netip.Prefix]bool
	err     error // of a gathering
	rounds  int   // gatherings
	packets int
	began   []time.Time
	answers map[bool]int // counted
}

func newFake(peers int) *fake {
	f := &fake{
		host: Host{Works: true, MTU: mtu, Sources: []netip.Addr{addr("172.7.21.1")}}, all: map[netip.Prefix]Path{},
		dead: map[netip.Prefix]bool{}, answers: map[bool]int{},
	}
	for i := range peers {
		f.all[nth(i)] = Path{Since: time.Now()}
	}
	return f
}

func (f *fake) options() Options {
	return Options{
		Paths: func(_ context.Context, look func(Host, Peers)) error {
			f.Lock()
			defer f.Unlock()
			look(f.host, sequence(f.all))
			return nil
		},
		Gather: func(ctx context.Context, sources []netip.Addr, queries []probe.Query, wait time.Duration, _ bool) ([]probe.Heard, error) {
			time.Sleep(wait)
			f.Lock()
			defer f.Unlock()
			f.rounds++
			f.began = append(f.began, time.Now())
			f.packets += len(queries)
			heard := make([]probe.Heard, len(queries))
			for i, q := range queries {
				for peer := range f.all {
					if peer.Contains(q.Dst) && !f.dead[peer] {
						heard[i] = expired(peer.Addr())
					}
				}
			}
			return heard, f.err
		},
		Count: func(answered bool, _ time.Duration) {
			f.Lock()
			defer f.Unlock()
			f.answers[answered]++
		},
	}
}

// logged is what is logged meanwhile.
func logged(t *testing.T) *bytes.Buffer {
	t.Helper()
	var log bytes.Buffer
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	klog.SetOutputBySeverity("INFO", &log) // which gets the graver lines too
	t.Cleanup(func() { klog.SetOutput(io.Discard); klog.LogToStderr(true) })
	return &log
}

// after lets some time pass. Between two of them the fake is the test's.
func (f *fake) after(d time.Duration) {
	f.Unlock()
	time.Sleep(d)
	synctest.Wait()
	f.Lock()
}

// during runs a monitor of f for as long as test takes.
func during(t *testing.T, f *fake, test func(m *Monitor)) {
	t.Helper()
	m := New(f.options())
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	f.Lock()
	test(m)
	f.Unlock()
	end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestRounds(t *testing.T) {
	log := logged(t)
	synctest.Test(t, func(t *testing.T) {
		f := newFake(30)
		during(t, f, func(m *Monitor) {
			if p := m.Probes(); len(p.Peers) != 0 || p.Every != every.Seconds() {
				t.Errorf("%+v", p)
			}
			f.after(settled - time.Second)
			if f.packets > 0 {
				t.Error("peers are probed that have just come")
			}
			f.after(40 * every)
			if n := len(m.Probes().Peers); n != 30 {
				t.Errorf("%d of 30 peers are known", n)
			}
			if f.packets > atOnce*f.rounds || f.answers[false] > 0 || f.answers[true] != f.packets {
				t.Errorf("%d packets in %d rounds, %v", f.packets, f.rounds, f.answers)
			}
			if f.rounds < 30 || f.rounds > 60 {
				t.Errorf("%d rounds in the time of 40", f.rounds)
			}
			gone := m.Probes().Peers[0].Subnet
			delete(f.all, gone)
			f.dead[nth(4)], f.dead[nth(5)] = true, true
			f.after(16 * every)
			p := m.Probes()
			if len(p.Peers) != 29 && gone != nth(4) && gone != nth(5) {
				t.Errorf("%d peers are left", len(p.Peers))
			}
			silent := p.Count()[status.Silent]
			if silent < 1 || p.Peers[0].State != status.Silent || p.Peers[0].Lost == 0 {
				t.Errorf("%+v", p.Peers[0])
			}
			clear(f.dead)
			f.after(16 * every)
			if p := m.Probes(); p.Count()[status.Well] != len(p.Peers) {
				t.Errorf("%+v", p.Count())
			}
			f.host.Works = false
			f.after(3 * patience) // a round may be under way
			packets := f.packets
			f.after(4 * every)
			if f.packets != packets {
				t.Error("a host that does not work probes")
			}
			f.host.Works, f.all = true, nil
			f.after(4 * every)
			if p := m.Probes(); len(p.Peers) != 0 {
				t.Errorf("of no peers %d are known", len(p.Peers))
			}
		})
	})
	klog.Flush()
	if n := strings.Count(log.String(), "\n"); n < 2 || n > 4 || !strings.Contains(log.String(), `"Peers do not answer probes; flanneld check tries the path" peers="`) ||
		!strings.Contains(log.String(), `"Peers answer probes again" peers="`) {
		t.Error(log.String())
	}
}

// TestHostsAreNotInStep: two that start together go on apart.
func TestHostsAreNotInStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newFake(1), newFake(1)
		during(t, a, func(*Monitor) {
			during(t, b, func(*Monitor) {
				a.Unlock()
				b.after(40 * every)
				a.Lock()
			})
		})
		at := map[time.Time]bool{}
		for _, x := range a.began {
			at[x] = true
		}
		for _, x := range b.began {
			if at[x] {
				t.Errorf("both begin a round at %v", x)
			}
		}
	})
}

// TestAThousandDeadPeers are bounded: packets, memory and lines of the log.
func TestAThousandDeadPeers(t *testing.T) {
	log := logged(t)
	synctest.Test(t, func(t *testing.T) {
		f := newFake(1000)
		for i := range 1000 {
			f.dead[nth(i)] = true
		}
		during(t, f, func(m *Monitor) {
			f.after(240 * every)
			if p := m.Probes(); len(p.Peers) > known || p.Count()[status.Silent] != knownWrong {
				t.Errorf("%d peers known, %v", len(p.Peers), p.Count())
			}
			if most := atOnce * 5 * f.rounds / 2; f.packets > most {
				t.Errorf("%d packets in %d gatherings", f.packets, f.rounds)
			}
		})
	})
	klog.Flush()
	if n := strings.Count(log.String(), "\n"); n == 0 || n > 20 {
		t.Errorf("%d lines:\n%s", n, log.String())
	}
}

// TestNoRights: a process that may not open raw sockets says so once, and does no more.
func TestNoRights(t *testing.T) {
	log := logged(t)
	synctest.Test(t, func(t *testing.T) {
		f := newFake(1)
		f.err = fmt.Errorf("open a raw socket: %w", unix.EPERM)
		during(t, f, func(m *Monitor) {
			f.after(240 * every)
			if f.rounds != 1 || m.Probes() != nil {
				t.Errorf("%d rounds, %+v", f.rounds, m.Probes())
			}
		})
	})
	klog.Flush()
	if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "CAP_NET_RAW") {
		t.Error(log.String())
	}
}

// TestAnotherFailure is said once, and tried again, and that it is over as well.
func TestAnotherFailure(t *testing.T) {
	log := logged(t)
	synctest.Test(t, func(t *testing.T) {
		f := newFake(1)
		f.err = errors.New("too many open files")
		during(t, f, func(m *Monitor) {
			f.after(20 * every)
			if len(m.Probes().Peers) != 0 || f.rounds < 10 {
				t.Errorf("%+v after %d rounds", m.Probes(), f.rounds)
			}
			f.err = nil
			f.after(4 * every)
			if p := m.Probes(); len(p.Peers) != 1 || !p.Peers[0].Well() {
				t.Errorf("%+v", p)
			}
		})
	})
	klog.Flush()
	if n := strings.Count(log.String(), "\n"); n != 2 || !strings.Contains(log.String(), `"Cannot probe peers, trying again" err="too many open files"`) ||
		!strings.Contains(log.String(), `"Can probe peers again"`) {
		t.Error(log.String())
	}
}

// TestFewAreFew: that some peers are dead is known of these and of no more, though most packets
// go to them.
func TestFewAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(1000)
		for i := range 4 {
			f.dead[nth(i)] = true
		}
		during(t, f, func(m *Monitor) {
			f.after(720 * every)
			of := m.Probes().Count()
			if of[status.Silent] != 4 || of[status.Well] < known*3/4 {
				t.Errorf("%v", of)
			}
		})
	})
}

func TestNamed(t *testing.T) {
	var peers []netip.Prefix
	for i := range 5 {
		peers = append(peers, nth(2*i))
	}
	if got := named(peers[:2]); got != "10.0.0.0/24, 10.0.2.0/24" {
		t.Error(got)
	}
	if got := named(peers); got != "10.0.0.0/24, 10.0.2.0/24, 10.0.4.0/24 and 2 more" {
		t.Error(got)
	}
}
