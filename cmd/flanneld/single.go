package main

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

	"flanneld/pkg/status"
)

// namespaceSocket is an abstract unix socket. Those belong to a network
// namespace, as flanneld's routes do, and go with the process that holds them
// (unix(7)); so no stale lock file is ever left to be cleared.
const namespaceSocket = status.Socket

// onlyOne holds this network namespace for this flanneld.
type onlyOne struct {
	*net.UnixListener
	// ask is what visitors who may know are told; nil: nothing. Set it before
	// Run.
	ask func(context.Context) (status.Status, error)
}

// claimNamespace makes sure that no other flanneld works in this network
// namespace: they would undo each other's routes. The claim lasts until Run
// has ended.
func claimNamespace() (*onlyOne, error) {
	address := &net.UnixAddr{Name: namespaceSocket, Net: "unix"}
	for range 3 {
		listener, err := net.ListenUnix("unix", address)
		if err == nil {
			return &onlyOne{UnixListener: listener}, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("make sure that no other flanneld runs here: %w", err)
		}
		holder, err := askHolder(address)
		if !errors.Is(err, syscall.ECONNREFUSED) { // which says that it has just ended, or only just begun
			return nil, fmt.Errorf("another flanneld%s already runs in this network namespace: stop it first", holder)
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

// visitors is how many are answered at a time.
const visitors = 4

// Run lets others see who holds the namespace, and tells those who may know how
// the daemon is, until ctx ends.
func (o *onlyOne) Run(ctx context.Context) error {
	var answering errgroup.Group
	answering.SetLimit(visitors)
	defer answering.Wait()
	var closing sync.WaitGroup
	closing.Go(func() {
		<-ctx.Done()
		_ = o.Close()
	})
	defer closing.Wait()
	for ctx.Err() == nil {
		visitor, err := o.AcceptUnix()
		if err == nil {
			if o.ask == nil || !answering.TryGo(func() error { status.Answer(ctx, visitor, o.ask); return nil }) {
				_ = visitor.Close()
			}
			continue
		}
		select { // no file descriptors left, perhaps: the claim stands all the same
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	return nil
}

func (*onlyOne) String() string { return "claim on the network namespace" }
