package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Lab is one network. Labs of tests that run in parallel are isolated from each
// other, even if their hosts have the same names. A lab is built by one goroutine.
type Lab struct {
	t        TB
	wire     *namespace // holds the segments' bridges
	segments map[netip.Prefix]*Segment
	counter  atomic.Int32 // of what needs a name of its own
	hosts    []*Host
	etcd     *Etcd

	ctx     context.Context // ends when the lab closes
	cancel  context.CancelFunc
	dialing sync.WaitGroup

	mu      sync.Mutex // guards the following, and closing against dialing
	closers []func()
}

// New makes an empty lab that ends with t.
func New(t TB) *Lab {
	t.Helper()
	wire, err := newNamespace("wire")
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	l := &Lab{t: t, wire: wire, segments: map[netip.Prefix]*Segment{}}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	t.Cleanup(l.close)
	l.onClose(func() { l.must("remove the segments", wire.delete()) })
	return l
}

// close prints the report of a failed test, and then removes the lab, the last part
// first.
func (l *Lab) close() {
	l.mu.Lock()
	l.cancel()
	closers := l.closers
	l.closers = nil
	l.mu.Unlock()
	for _, c := range closers {
		defer c() // also where another one ends the test
	}
	l.dialing.Wait()
	if l.t.Failed() {
		l.report()
	}
}

func (l *Lab) onClose(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closers = append(l.closers, f)
}

// subTB is the lab's t for parts with a cleanup of their own: it runs in the lab's
// order, after its report.
type subTB struct {
	TB
	lab *Lab
}

func (p subTB) Cleanup(f func()) { p.lab.onClose(f) }

func (p subTB) TempDir() string {
	return p.lab.dir(fmt.Sprintf("%s-part%d", p.lab.wire.name, p.lab.counter.Add(1)))
}

// must ends the test if the lab itself failed.
func (l *Lab) must(what string, err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatalf("lab: %s: %v", what, err)
	}
}

// dir makes a folder on the lab's own /run, which nothing survives.
func (l *Lab) dir(name string) string {
	dir := filepath.Join("/run/lab", name)
	l.must("make a folder", os.MkdirAll(dir, 0o755))
	l.onClose(func() { l.must("remove a folder", os.RemoveAll(dir)) })
	return dir
}

// Eventually waits until check returns nil, and ends the test with its last error
// after timeout. what completes "waited for …". It rests twice as long as check takes: one
// that starts programs must not take the CPU from what it waits for.
func Eventually(t TB, timeout time.Duration, what string, check func() error) {
	t.Helper()
	const slowest, longest = 50 * time.Millisecond, 500 * time.Millisecond
	start := time.Now()
	for pause := time.Millisecond; ; pause = min(2*pause, slowest) {
		began := time.Now()
		err := check()
		if err == nil {
			return
		}
		if time.Since(start) > timeout {
			t.Fatalf("waited %v for %s: %v", timeout, what, err)
		}
		time.Sleep(max(pause, min(2*time.Since(began), longest)))
	}
}
