// Package monitor probes a bounded, random sample of a host's peers all the time, and says how
// they answer. What it finds is information: nothing else goes by it.
package monitor

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"flanneld/pkg/probe"
	"flanneld/pkg/status"
)

// everySeconds is what every is made from: a build for tests sets it (go build -ldflags=-X).
var everySeconds = "30"

// every is how often a round begins, a quarter more or less: hosts that start together
// do not go on together.
var every = seconds(everySeconds)

func seconds(text string) time.Duration {
	d, err := time.ParseDuration(text + "s")
	if err != nil || d <= 0 {
		panic("everySeconds is no number above zero: " + text)
	}
	return d
}

// patience is how long an answer may take.
const patience = time.Second

// Host is what a look at peers needs of this host.
type Host struct {
	Works   bool         // its side is in place: who does not answer is to blame
	MTU     int          // of containers, in bytes
	Sources []netip.Addr // to send from, for each family the best first; it need not have them all
}

// Options are what a Monitor works with.
type Options struct {
	// Paths shows this host, and the paths to all peers that flanneld carries packets to, as
	// they are at a moment: look keeps nothing of it. It ends with an error where ctx ends.
	Paths func(ctx context.Context, look func(Host, Peers)) error
	// Gather is probe.Gather.
	Gather func(
		ctx context.Context, sources []netip.Addr, queries []probe.Query, wait time.Duration, timed bool,
	) ([]probe.Heard, error)
	// Count is told of each packet, and of the round trip of those that were answered; 0: it is
	// not known. Nil: nobody wants to know.
	Count func(answered bool, rtt time.Duration)
}

// Monitor is one goroutine, Run's, that owns what is known of the peers.
type Monitor struct {
	Options
	sample  *sample
	log     transitions
	failing bool // the last round could not be made

	shown atomic.Pointer[status.Probes] // nobody changes what it points to
}

// New returns a Monitor; Run starts it.
func New(o Options) *Monitor {
	if o.Count == nil {
		o.Count = func(bool, time.Duration) {}
	}
	m := &Monitor{Options: o, sample: newSample()}
	m.shown.Store(&status.Probes{Every: every.Seconds(), Peers: []status.Probe{}})
	return m
}

func (m *Monitor) String() string { return "monitor of peers" }

// Probes is what is known of the peers, whose public IPs the monitor does not know. Nil: they
// are not probed. It belongs to all who ask.
func (m *Monitor) Probes() *status.Probes { return m.shown.Load() }

// Run probes until ctx ends, or until it is seen that this process may not.
func (m *Monitor) Run(ctx context.Context) error {
	timer := time.NewTimer(rand.N(every))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		err := m.round(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.EPERM):
			m.shown.Store(nil)
			klog.InfoS("Not probing peers, which needs the capability CAP_NET_RAW", "err", err)
			<-ctx.Done()
			return nil
		case err != nil && !m.failing:
			klog.ErrorS(err, "Cannot probe peers, trying again")
		case err == nil && m.failing:
			klog.InfoS("Can probe peers again")
		}
		m.failing = err != nil
		timer.Reset(every*3/4 + rand.N(every/2))
	}
}

// round looks at some peers, and a second time at those that do not answer at first.
func (m *Monitor) round(ctx context.Context) error {
	var host Host
	var targets []target
	began := time.Now()
	err := m.Paths(ctx, func(h Host, peers Peers) {
		if host = h; h.Works {
			targets = m.sample.next(began, peers)
		}
	})
	if err != nil || len(targets) == 0 {
		if err == nil && host.Works {
			m.show() // all may be forgotten
		}
		return err
	}
	looks := make([][]answer, len(targets))
	first := func(i int) []packet { return targets[i].packets(targets[i].peer, targets[i].path, host.MTU) }
	if err := m.ask(ctx, host, targets, looks, first, true); err != nil {
		return err
	}
	second := func(i int) []packet {
		if slices.ContainsFunc(looks[i], func(a answer) bool { return a.reached || a.Held }) {
			return nil
		}
		return again(targets[i].peer, targets[i].path)
	}
	if err := m.ask(ctx, host, targets, looks, second, false); err != nil {
		return err
	}
	now := time.Now()
	for i, t := range targets {
		before := t.state
		for _, c := range t.look(now, t.path, host.MTU, looks[i]) {
			m.Count(!c.lost, c.rtt)
		}
		m.log.note(t.peer, before, t.record)
	}
	m.sample.bound()
	m.log.write(now)
	m.show()
	return nil
}

// ask sends what there is to send to each target, and adds the answers to its look.
func (m *Monitor) ask(
	ctx context.Context, host Host, targets []target, looks [][]answer, packets func(target int) []packet, timed bool,
) error {
	var queries []probe.Query
	var sent []answer
	var of []int
	for i := range targets {
		for _, p := range packets(i) {
			queries, sent, of = append(queries, p.Query), append(sent, answer{packet: p}), append(of, i)
		}
	}
	if len(queries) == 0 {
		return nil
	}
	heard, err := m.Gather(ctx, host.Sources, queries, patience, timed)
	if err != nil {
		return err
	}
	for i, a := range sent {
		t := targets[of[i]]
		a.Heard, a.reached = heard[i], reached(t.peer, t.path, heard[i].Answer)
		looks[of[i]] = append(looks[of[i]], a)
	}
	return nil
}

func (m *Monitor) show() {
	m.shown.Store(&status.Probes{Every: every.Seconds(), Peers: m.sample.shown()})
}
