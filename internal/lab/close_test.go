package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// fakeTest is a test within a test, so that one may fail.
type fakeTest struct {
	t        *testing.T
	failed   bool
	log      strings.Builder
	cleanups []func()
}

func (f *fakeTest) Helper()           {}
func (f *fakeTest) Failed() bool      { return f.failed }
func (f *fakeTest) TempDir() string   { return f.t.TempDir() }
func (f *fakeTest) Cleanup(do func()) { f.cleanups = append(f.cleanups, do) }

func (f *fakeTest) Logf(format string, args ...any) { fmt.Fprintf(&f.log, format+"\n", args...) }

func (f *fakeTest) Fatalf(format string, args ...any) {
	f.Logf(format, args...)
	f.failed = true
	runtime.Goexit()
}

// run is the test runner's part.
func (f *fakeTest) run(test func()) {
	for _, do := range append([]func(){test}, func() {
		for _, c := range f.cleanups {
			defer c()
		}
	}) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			do()
		}()
		<-done
	}
}

func TestLabLeavesNothingBehind(t *testing.T) {
	files := func() int {
		fds, err := filepath.Glob("/proc/self/fd/*")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	before, goroutines := files(), runtime.NumGoroutine()
	for _, ending := range []string{"success", "failure"} {
		f := &fakeTest{t: t}
		f.run(func() {
			l := New(f)
			h21 := l.Host("hdss7-21", "10.4.7.21/24").SubnetEnv("172.7.21.1/24")
			h22 := l.Host("hdss7-22", "10.4.7.22/24")
			c1 := h21.Container("c1")
			script(h21, "echo about to sleep; sleep 600; true").WaitLog("sleep")
			c1.PingEvery(10*time.Millisecond, h22)
			c1.HTTPServer()
			l.Etcd().Set("/coreos.com/network/subnets/172.7.21.0-24", `{"PublicIP":"10.4.7.21"}`)
			l.Host("hdss7-21", "10.4.9.21/24") // a namesake
			if ending == "failure" {
				h21.Run("ip", "route", "add", "nonsense")
			}
			h21.Run("ip", "link", "set", "ens33", "mtu", "1400")
		})
		if f.failed != (ending == "failure") {
			t.Errorf("%s: failed is %v:\n%s", ending, f.failed, f.log.String())
		}
		if f.failed {
			for _, want := range []string{"ip route add nonsense: exit status", "about to sleep", "FLANNEL_MTU=1500", "default via 10.4.7.254", "172.7.21.1/24",
				`/coreos.com/network/subnets/172.7.21.0-24 = {"PublicIP":"10.4.7.21"} (TTL 0)`} {
				if !strings.Contains(f.log.String(), want) {
					t.Errorf("the report of a failure lacks %q:\n%s", want, f.log.String())
				}
			}
		} else if f.log.Len() > 0 {
			t.Errorf("a report without a failure:\n%s", f.log.String())
		}
	}
	for _, dir := range []string{"/run/netns", "/run/lab"} {
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left in %s: %v, %v", dir, left, err)
		}
	}
	Eventually(t, waitTimeout, "processes to end", noProcess("sleep 600"))
	Eventually(t, waitTimeout, "goroutines and files to end", func() error {
		if f, g := files(), runtime.NumGoroutine(); f > before || g > goroutines {
			return fmt.Errorf("%d files and %d goroutines, before: %d and %d", f, g, before, goroutines)
		}
		return nil
	})
}

func TestABrokenDaemonFailsTheTest(t *testing.T) {
	f := &fakeTest{t: t}
	f.run(func() {
		script(New(f).Host("a", "10.4.7.21/24"), "echo 'panic: no route'").Wait(waitTimeout)
	})
	if !f.failed || !strings.Contains(f.log.String(), "panic: no route") {
		t.Errorf("failed %v, log:\n%s", f.failed, f.log.String())
	}
}

func TestNeighboursHaveTheSameNames(t *testing.T) {
	for range 2 {
		l := New(t)
		a, b := l.Host("a", "10.4.7.21/24"), l.Host("b", "10.4.7.22/24")
		a.Ping(b)
		a.Cut()
	}
}
