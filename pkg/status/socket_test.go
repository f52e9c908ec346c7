package status

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"flanneld/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m) } // for a network namespace, and so a socket, of its own

// serve answers every visitor as the daemon does.
func serve(t *testing.T, answer func(*net.UnixConn)) {
	t.Helper()
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: anySocket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.AcceptUnix()
			if err != nil {
				return
			}
			answer(conn)
		}
	})
	t.Cleanup(func() {
		listener.Close()
		serving.Wait()
	})
}

func TestAskAndAnswer(t *testing.T) {
	if _, err := SocketOf(DefaultPrefix).Ask(t.Context()); !errors.Is(err, ErrNoDaemon) {
		t.Fatalf("without a daemon: %v", err)
	}
	var failure error
	serve(t, func(c *net.UnixConn) {
		Answer(t.Context(), c, func(ctx context.Context) (Status, error) {
			if _, bounded := ctx.Deadline(); !bounded {
				t.Error("the question has no end")
			}
			return full(), failure
		})
	})
	s, err := SocketOf(DefaultPrefix).Ask(t.Context())
	if err != nil || s.Daemon.PID != 812 || len(s.Peers) != 3 || s.Peers[0].Via.IsValid() || !s.Time.Equal(now) {
		t.Errorf("%+v, %v", s, err)
	}
	failure = errors.New("busy")
	if _, err := SocketOf(DefaultPrefix).Ask(t.Context()); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("a daemon that cannot say: %v", err)
	}
}

func TestStrangers(t *testing.T) {
	for _, tt := range []struct{ says, want string }{
		{"", "does not answer: it is busy, has just started, or is of another release"},
		{"flanneld is running", "read the answer of flanneld (pid "},
	} {
		t.Run(tt.says, func(t *testing.T) {
			serve(t, func(c *net.UnixConn) {
				_, _ = c.Write([]byte(tt.says))
				c.Close()
			})
			if _, err := SocketOf(DefaultPrefix).Ask(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestOnlyRootIsTold(t *testing.T) {
	for uid, want := range map[int]bool{0: true, os.Geteuid(): true, os.Geteuid() + 1: false, 65534: false} {
		if got := trusted(&unix.Ucred{Uid: uint32(uid)}); got != want {
			t.Errorf("user %d: %t", uid, got)
		}
	}
}

// TestSocketsOf: each prefix has a socket of its own, which is found again.
func TestSocketsOf(t *testing.T) {
	long := "/" + strings.Repeat("x", 300)
	seen := map[Socket]string{}
	for _, prefix := range []string{DefaultPrefix, "/a", "/a b", "/coreos.com/network2", long + "1", long + "2"} {
		s := SocketOf(prefix)
		if other, twice := seen[s]; twice {
			t.Errorf("%q and %q have one socket", prefix, other)
		}
		seen[s] = prefix
	}
	if s, err := Find(""); s != SocketOf(DefaultPrefix) || err != nil {
		t.Errorf("without a daemon: %s, %v", s, err)
	}
	var held []net.Listener
	for _, prefix := range []string{"/a b", long} {
		l, err := net.Listen("unix", string(SocketOf(prefix)))
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, l)
		s, err := Find("")
		switch {
		case len(held) == 1 && (s != SocketOf("/a b") || err != nil):
			t.Errorf("the only one: %s, %v", s, err)
		case len(held) == 2 && (err == nil || !strings.Contains(err.Error(), "2 flannelds") || !strings.Contains(err.Error(), "'/a b', '/xxx")):
			t.Errorf("of two: %s, %v", s, err)
		}
	}
	if SocketOf("a b") != SocketOf("/a b") || SocketOf("coreos.com/network") != SocketOf(DefaultPrefix) {
		t.Error("a prefix without the slash in front is another one")
	}
	if s, err := Find("/a b"); s != SocketOf("/a b") || err != nil {
		t.Errorf("by its prefix: %s, %v", s, err)
	}
	for _, l := range held {
		l.Close()
	}
}
