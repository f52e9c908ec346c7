package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/condition"
	"flanneld/pkg/subnet"
)

// renewable is a store that notes with which passwords it was told to connect anew.
type renewable struct {
	took   time.Duration
	fails  error
	shown  []string
	during func()
}

func (r *renewable) Renew(ctx context.Context, password string) error {
	r.shown = append(r.shown, password)
	if r.during != nil {
		r.during()
	}
	select {
	case <-time.After(r.took):
	case <-ctx.Done():
		return ctx.Err()
	}
	return r.fails
}

// hangup is one SIGHUP, or more of them at once.
func hangup(to chan os.Signal) {
	select {
	case to <- syscall.SIGHUP:
	default: // as os/signal does
	}
}

func TestReload(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	put := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		asked, store, wrong, ready := make(chan os.Signal, 1), &renewable{took: time.Second}, &condition.Set{}, &atomic.Bool{}
		var said []string
		r := &reloads{
			asked: asked, etcd: Etcd{PasswordFile: file}, store: store, wrong: wrong, ready: ready,
			notify: func(a ...string) { said = append(said, strings.Join(a, " ")) }, clock: func() int64 { return 123 },
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		is := func(what, shown, notified, cause string) {
			t.Helper()
			time.Sleep(time.Minute)
			synctest.Wait()
			c, _ := wrong.Find(condition.ReloadFailed, "")
			if got := strings.Join(store.shown, ","); got != shown {
				t.Errorf("%s: passwords %q, want %q", what, got, shown)
			}
			if got := strings.Join(said, ","); got != notified {
				t.Errorf("%s: notified of %q, want %q", what, got, notified)
			}
			if (cause == "") != (c.Cause == "") || !strings.Contains(c.Cause, cause) {
				t.Errorf("%s: %q, want %q", what, c.Text(), cause)
			}
			store.shown, said = nil, nil
		}
		put("one\n")
		store.during = func() { ready.Store(true) } // READY=1 must not come from here
		hangup(asked)
		is("before it is ready", "one", "", "")
		store.during = nil
		const round = "RELOADING=1 MONOTONIC_USEC=123,READY=1"
		put("two\n")
		hangup(asked)
		is("when ready", "two", round, "")
		store.fails = errors.New("etcd wants another password")
		hangup(asked)
		is("refused", "two", round, "another password")
		store.fails = fmt.Errorf("%w: connection refused", subnet.ErrUntried)
		hangup(asked)
		is("etcd is away", "two", round, "")
		store.fails = nil
		put("\n")
		hangup(asked)
		is("an empty file", "", round, "the first line of --etcd-password-file="+file+" is empty")
		put("three\n")
		store.during = func() { hangup(asked); hangup(asked); store.during = nil }
		hangup(asked)
		is("three at once", "three,three", round+","+round, "")
		hangup(asked)
		time.Sleep(time.Second / 2)
		cancel()
		is("the end", "three", round, "") // the manager is not left waiting
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// hangupEnv makes this program one that says whether SIGHUP asks it for a reload.
const hangupEnv = "DAEMON_HANGUPS"

func tellHangups() {
	asked := hangups()
	os.Stdout.WriteString("<")
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		panic(err)
	}
	select {
	case <-asked:
		os.Stdout.WriteString("reloads>")
	case <-time.After(time.Second):
		os.Stdout.WriteString("ignores>")
	}
}

// TestHangups: what SIGHUP does, by who has started the process. A session of its own has no terminal.
func TestHangups(t *testing.T) {
	nohup, err := exec.LookPath("nohup")
	if err != nil {
		t.Fatal(err)
	}
	script, err := exec.LookPath("script")
	if err != nil {
		t.Fatal(err)
	}
	self := os.Args[0]
	for _, tt := range []struct {
		name string
		args []string
		env  string
		want string
	}{
		{"a service without a terminal", []string{self}, "", "<reloads>"},
		{"under systemd", []string{self}, "NOTIFY_SOCKET=/nowhere", "<reloads>"},
		{"nohup", []string{nohup, self}, "", "<ignores>"},
		{"nohup, and supervisord", []string{nohup, self}, "SUPERVISOR_ENABLED=1", "<reloads>"},
		{"at a terminal", []string{script, "-qec", self, "/dev/null"}, "", "<"},
		{"at a terminal, by supervisord", []string{script, "-qec", self, "/dev/null"}, "SUPERVISOR_ENABLED=1", "<reloads>"},
	} {
		cmd := exec.Command(tt.args[0], tt.args[1:]...)
		cmd.Env = append(os.Environ(), hangupEnv+"=1", "NOTIFY_SOCKET=", "SUPERVISOR_ENABLED=", tt.env)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		out, _ := cmd.Output() // fails where the signal ends it
		got := string(out)
		if i := strings.IndexByte(got, '<'); i >= 0 {
			got = got[i:]
		}
		if end := strings.IndexByte(got, '>'); end >= 0 {
			got = got[:end+1]
		} else if got != "" {
			got = got[:1] // and what the shell says of the signal
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
