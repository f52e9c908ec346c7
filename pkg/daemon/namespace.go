package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"flanneld/pkg/status"
)

// namespaceLock holds a prefix in this network namespace for this flanneld, by an
// abstract unix socket. Those belong to a network namespace, as flanneld's routes do,
// and go with the process that holds them (unix(7)); so no stale lock file is ever
// left to be cleared.
type namespaceLock struct {
	*net.UnixListener
	// status is what clients that may know are told; nil: nothing. Set it before
	// Run.
	status func(context.Context) (status.Status, error)
}

// lockNamespace makes sure that no other flanneld works for the same prefix in this
// network namespace: they would undo each other's routes. The lock is held until Run
// has ended.
func lockNamespace(prefix string) (*namespaceLock, error) {
	address := &net.UnixAddr{Name: string(status.SocketOf(prefix)), Net: "unix"}
	for range 3 {
		listener, err := net.ListenUnix("unix", address)
		if err == nil {
			return &namespaceLock{UnixListener: listener}, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("make sure that no other flanneld runs here: %w", err)
		}
		holder, err := askHolder(address)
		if !errors.Is(err, syscall.ECONNREFUSED) { // which says that it has just ended, or only just begun
			return nil, fmt.Errorf("another flanneld%s already runs in this network namespace with --etcd-prefix=%s: "+
				"stop it first, or give this one another prefix", holder, prefix)
		}
	}
	return nil, errors.New("another flanneld starts or ends in this network namespace at this moment: try again")
}

// askHolder names the process that listens: " (pid 1234)", or nothing where
// the kernel does not tell, as in another PID namespace.
func askHolder(address *net.UnixAddr) (string, error) {
	conn, err := net.DialUnix("unix", nil, address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	peer, err := status.Credentials(conn)
	if err != nil || peer.Pid == 0 {
		return "", err
	}
	if int(peer.Uid) != os.Geteuid() {
		return fmt.Sprintf(" (pid %d, of user %d)", peer.Pid, peer.Uid), nil
	}
	return fmt.Sprintf(" (pid %d)", peer.Pid), nil
}

// maxClients is how many are answered at a time.
const maxClients = 4

// Run lets others see who holds the namespace, and tells those who may know how
// the daemon is, until ctx ends.
func (l *namespaceLock) Run(ctx context.Context) error {
	var answering errgroup.Group
	answering.SetLimit(maxClients)
	defer answering.Wait()
	var closing sync.WaitGroup
	closing.Go(func() {
		<-ctx.Done()
		_ = l.Close()
	})
	defer closing.Wait()
	for ctx.Err() == nil {
		client, err := l.AcceptUnix()
		if err == nil {
			if l.status == nil || !answering.TryGo(func() error { l.answer(ctx, client); return nil }) {
				_ = client.Close()
			}
			continue
		}
		select { // no file descriptors left, perhaps: the namespace stays locked
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	return nil
}

func (l *namespaceLock) answer(ctx context.Context, client *net.UnixConn) {
	began := time.Now()
	status.Answer(ctx, client, l.status)
	if v := klog.V(3); v.Enabled() {
		v.InfoS("Answered a client of the status socket", "took", time.Since(began))
	}
}

func (*namespaceLock) String() string { return "lock of the network namespace" }
