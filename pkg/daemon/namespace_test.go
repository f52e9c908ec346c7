package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"flanneld/pkg/status"
)

// start runs the lock's task; end ends it and waits.
func (l *namespaceLock) start(t *testing.T) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- l.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-result; err != nil {
			t.Errorf("Run ended with %v", err)
		}
	}
}

func TestSecondFlanneld(t *testing.T) {
	first, err := lockNamespace(status.DefaultPrefix)
	if err != nil {
		t.Fatal(err)
	}
	refused := func() {
		t.Helper()
		want := fmt.Sprintf("another flanneld (pid %d) already runs in this network namespace with --etcd-prefix=/coreos.com/network: "+
			"stop it first, or give this one another prefix", os.Getpid())
		if _, err := lockNamespace(status.DefaultPrefix); err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	refused() // the first does not answer yet
	end := first.start(t)
	for range 5 {
		refused()
	}
	end()
	second, err := lockNamespace(status.DefaultPrefix)
	if err != nil {
		t.Fatalf("after the first one's end: %v", err)
	}
	second.Close()
}

// TestFullQueue has a first flanneld that is too busy to answer.
func TestFullQueue(t *testing.T) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: string(status.SocketOf(status.DefaultPrefix))}); err != nil {
		t.Fatal(err)
	}
	if _, err := lockNamespace(status.DefaultPrefix); err == nil || err.Error() != "another flanneld starts or ends in this network namespace at this moment: try again" {
		t.Errorf("before it listens: %v", err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		conn, err := net.Dial("unix", string(status.SocketOf(status.DefaultPrefix)))
		if err != nil {
			break
		}
		defer conn.Close()
	}
	want := "another flanneld already runs in this network namespace with --etcd-prefix=/coreos.com/network: " +
		"stop it first, or give this one another prefix"
	if _, err := lockNamespace(status.DefaultPrefix); err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestManyAtOnce(t *testing.T) {
	var all sync.WaitGroup
	var winners atomic.Int32
	held := make(chan *namespaceLock, 100)
	for range 20 {
		all.Go(func() {
			if l, err := lockNamespace(status.DefaultPrefix); err == nil {
				winners.Add(1)
				held <- l
			}
		})
	}
	all.Wait()
	close(held)
	for l := range held {
		l.Close()
	}
	if n := winners.Load(); n != 1 {
		t.Errorf("%d of 20 hold the namespace", n)
	}
}

func TestEachNamespaceHasItsOwn(t *testing.T) {
	first, err := lockNamespace(status.DefaultPrefix)
	if err != nil {
		t.Fatal(err)
	}
	defer first.start(t)()
	result := make(chan error)
	go func() {
		// Never unlocked: the thread ends with this goroutine. The main thread
		// cannot end, so it has to come back: /proc/self/ns is its.
		runtime.LockOSThread()
		home, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
		if err != nil {
			result <- err
			return
		}
		defer home.Close()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			result <- err
			return
		}
		second, err := lockNamespace(status.DefaultPrefix)
		if err == nil {
			err = second.Close()
		}
		result <- errors.Join(err, unix.Setns(int(home.Fd()), unix.CLONE_NEWNET))
	}()
	if err := <-result; err != nil {
		t.Errorf("in another network namespace: %v", err)
	}
}
