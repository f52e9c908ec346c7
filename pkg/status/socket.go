package status

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"flanneld/pkg/printable"
)

// Socket is a daemon's: an abstract unix socket, of which each network namespace has
// its own (unix(7)). Whoever connects as root, or as the daemon's own user, is sent a
// Status in JSON, and the connection is closed; anybody else's is closed at once.
type Socket string

const (
	// DefaultPrefix is where flanneld's keys lie unless it is told otherwise.
	DefaultPrefix = "/coreos.com/network"

	anySocket     = "@flanneld"
	otherPrefix   = anySocket + ":"
	longestSocket = 100 // bytes; unix(7) takes 107
)

// SocketOf is the socket of the daemon whose keys lie below a prefix. A namespace has
// room for one of each. A slash in front makes no difference.
func SocketOf(prefix string) Socket {
	prefix = "/" + strings.TrimPrefix(prefix, "/")
	if prefix == DefaultPrefix {
		return anySocket
	}
	return Socket(Name(otherPrefix + prefix))
}

// Name is a text as the name of an abstract socket. The end of a long one gives way to
// a sum of the whole, so that no two texts have one name.
func Name(text string) string {
	if len(text) <= longestSocket {
		return text
	}
	sum := fmt.Sprintf("#%x", sha256.Sum256([]byte(text)))[:17]
	return text[:longestSocket-len(sum)] + sum
}

// prefix is the one of SocketOf, or its beginning.
func (s Socket) prefix() string {
	if prefix, other := strings.CutPrefix(string(s), otherPrefix); other {
		return prefix
	}
	return DefaultPrefix
}

// Find is the socket of the daemon of a prefix; of the only one here, where that is
// empty.
func Find(prefix string) (Socket, error) {
	if prefix != "" {
		return SocketOf(prefix), nil
	}
	all, err := sockets()
	switch {
	case err != nil || len(all) == 0:
		return SocketOf(DefaultPrefix), err
	case len(all) == 1:
		return all[0], nil
	}
	var of []string
	for _, s := range all {
		of = append(of, printable.Word(printable.Bounded(s.prefix(), longestSocket)))
	}
	return "", fmt.Errorf("%d flannelds run in this network namespace: choose one by --etcd-prefix, of %s",
		len(all), strings.Join(of, ", "))
}

// sockets are those of the daemons of this network namespace.
func sockets() (out []Socket, err error) {
	names, err := Abstract()
	for _, name := range names {
		if name == anySocket || strings.HasPrefix(name, otherPrefix) {
			out = append(out, Socket(name))
		}
	}
	return out, err
}

// Abstract are the names of the abstract sockets that somebody of this network
// namespace listens at, as "@name"; sorted, each once.
func Abstract() (names []string, err error) {
	content, err := os.ReadFile("/proc/self/net/unix")
	if err != nil {
		return nil, fmt.Errorf("list the sockets of this network namespace: %w", err)
	}
	for line := range strings.Lines(string(content)) {
		// Num RefCount Protocol Flags Type St Inode Path; a path may have blanks
		i := strings.Index(line, " @")
		if fields := strings.Fields(line); i > 0 && len(fields) > 3 && fields[3] == listens {
			names = append(names, strings.TrimSuffix(line[i+1:], "\n"))
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// listens is __SO_ACCEPTCON among a socket's flags (linux/net.h).
const listens = "00010000"

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

// Ask asks the daemon.
func (s Socket) Ask(ctx context.Context) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime+time.Second)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", string(s))
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
	var told Status
	if err := json.Unmarshal(body, &told); err != nil {
		return Status{}, fmt.Errorf("read the answer of flanneld (pid %d): %w", peer.Pid, err)
	}
	return told, nil
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
