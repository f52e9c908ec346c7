package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Socket is the daemon's: an abstract unix socket, of which each network
// namespace has its own (unix(7)). Whoever connects as root, or as the daemon's
// own user, is sent a Status in JSON, and the connection is closed; anybody
// else's is closed at once.
const Socket = "@flanneld"

const (
	answerTime = 3 * time.Second // for the daemon to find out and for the visitor to read
	longest    = 64 << 20        // bytes of an answer
)

// Answer sends what ask says to a visitor who may know, and closes the
// connection. There is nobody to tell of an error: the visitor sees that the
// answer is missing.
func Answer(ctx context.Context, visitor *net.UnixConn, ask func(context.Context) (Status, error)) {
	defer visitor.Close()
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	defer context.AfterFunc(ctx, func() { visitor.Close() })()
	peer, err := Credentials(visitor)
	if err != nil || !trusted(peer) {
		return
	}
	if s, err := ask(ctx); err == nil {
		_ = json.NewEncoder(visitor).Encode(s)
	}
}

// Errors of Ask, for errors.Is.
var (
	ErrNoDaemon = errors.New("no flanneld runs in this network namespace")
	ErrNoAnswer = errors.New("does not answer")
)

// Ask asks the daemon of this network namespace.
func Ask(ctx context.Context) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime+time.Second)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", Socket)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return Status{}, ErrNoDaemon
	case err != nil:
		return Status{}, fmt.Errorf("ask the running flanneld: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	peer, err := Credentials(conn.(*net.UnixConn))
	if err != nil {
		return Status{}, fmt.Errorf("ask the running flanneld who it is: %w", err)
	}
	if !trusted(peer) {
		return Status{}, fmt.Errorf(
			"process %d of user %d holds flanneld's socket and %w: try as root, or end that process",
			peer.Pid,
			peer.Uid,
			ErrNoAnswer,
		)
	}
	body, err := io.ReadAll(io.LimitReader(conn, longest))
	if err != nil || len(body) == 0 {
		if ctx.Err() != nil {
			err = nil
		}
		return Status{}, noAnswer(peer, err)
	}
	var s Status
	if err := json.Unmarshal(body, &s); err != nil {
		return Status{}, fmt.Errorf("read the answer of flanneld (pid %d): %w", peer.Pid, err)
	}
	return s, nil
}

func noAnswer(peer *unix.Ucred, err error) error {
	switch {
	case os.Geteuid() != 0:
		return fmt.Errorf("flanneld (pid %d) %w: it tells root only; try with sudo", peer.Pid, ErrNoAnswer)
	case err != nil:
		return fmt.Errorf("flanneld (pid %d) %w: %v", peer.Pid, ErrNoAnswer, err)
	}
	return fmt.Errorf(
		"flanneld (pid %d) %w: it is busy, has just started, or is of another release",
		peer.Pid,
		ErrNoAnswer,
	)
}

func trusted(peer *unix.Ucred) bool { return peer.Uid == 0 || int(peer.Uid) == os.Geteuid() }

// Credentials are those of the process at the other end.
func Credentials(conn *net.UnixConn) (peer *unix.Ucred, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { peer, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	return peer, errors.Join(err, failed)
}
