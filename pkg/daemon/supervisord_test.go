package daemon

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The names that supervisord gives to the tutorial's program.
var supervised = []string{"SUPERVISOR_ENABLED=1", "SUPERVISOR_GROUP_NAME=flanneld-7-21", "SUPERVISOR_PROCESS_NAME=flanneld-7-21"}

// standIn starts a copy of a system's program under another name, in a process
// group of its own, as supervisord does. ended is closed when it is gone.
func standIn(t *testing.T, name string, change func(*exec.Cmd), program string, args ...string) (ended chan struct{}) {
	t.Helper()
	original, err := exec.LookPath(program)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(copied, content, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := &exec.Cmd{Path: copied, Args: append([]string{program}, args...), Env: supervised, SysProcAttr: &syscall.SysProcAttr{Setpgid: true}}
	change(cmd)
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := output.Read(make([]byte, 1)); err != nil { // it runs, and not as a copy of this process
		t.Fatal(err)
	}
	ended = make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, output)
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	return ended
}

func closed(c chan struct{}, within time.Duration) bool {
	select {
	case <-c:
		return true
	case <-time.After(within):
		return false
	}
}

func under(t *testing.T, environ []string) {
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		t.Setenv(name, value)
	}
}

const (
	lives   = `echo; while :; do sleep 0.1; done`
	ignores = `trap "" TERM; ` + lives
)

func TestLeftovers(t *testing.T) {
	nothing := func(*exec.Cmd) {}
	tests := []struct {
		name   string
		change func(*exec.Cmd)
		script string
		ends   bool
	}{
		{"flanneld", nothing, lives, true},
		{"flanneld-v0.11", nothing, lives, true},
		{"flanneld", nothing, ignores, true},
		{"etcd", nothing, lives, false},
		{"flanneld", func(c *exec.Cmd) { c.Env = c.Env[:2] }, lives, false},
		{"flanneld", func(c *exec.Cmd) { c.Env = append(c.Env[:2:2], "SUPERVISOR_PROCESS_NAME=flanneld-7-22") }, lives, false},
		{"flanneld", func(c *exec.Cmd) { c.SysProcAttr.Cloneflags = unix.CLONE_NEWNET }, lives, false},
		{"flanneld", func(c *exec.Cmd) { c.SysProcAttr.Setpgid = false }, lives, false}, // of this very run
	}
	under(t, supervised)
	ends := make([]chan struct{}, len(tests))
	for i, tt := range tests {
		ends[i] = standIn(t, tt.name, tt.change, "sh", "-c", tt.script)
	}
	const second = 100 * time.Millisecond
	began := time.Now()
	endLeftovers(t.Context(), second)
	if took := time.Since(began); took < 4*second || took > 10*time.Second {
		t.Errorf("it took %v: one of them is to be killed after %v", took, 4*second)
	}
	for i, tt := range tests {
		within := 50 * time.Millisecond
		if tt.ends {
			within = 10 * time.Second
		}
		if got := closed(ends[i], within); got != tt.ends {
			t.Errorf("%d: ended is %v, want %v", i, got, tt.ends)
		}
	}
}

func TestLeftoverOfARemovedRelease(t *testing.T) {
	under(t, supervised)
	dir := ""
	ended := standIn(t, "flanneld", func(c *exec.Cmd) { dir = filepath.Dir(c.Path) }, "sh", "-c", lives)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	endLeftovers(t.Context(), time.Second)
	if !closed(ended, 10*time.Second) {
		t.Error("it has not ended")
	}
}

// One that ends by itself gets no signal: a second one would end it at once.
func TestLeftoverThatEnds(t *testing.T) {
	under(t, supervised)
	end, said := filepath.Join(t.TempDir(), "end"), filepath.Join(t.TempDir(), "said")
	ended := standIn(t, "flanneld", func(*exec.Cmd) {}, "sh", "-c",
		`trap "echo signalled >`+said+`" TERM; echo; while [ ! -e `+end+` ]; do sleep 0.05; done; echo well >>`+said)
	go func() { _ = os.WriteFile(end, nil, 0o644) }()
	endLeftovers(t.Context(), 10*time.Second)
	if !closed(ended, 10*time.Second) {
		t.Error("it has not ended")
	}
	if content, err := os.ReadFile(said); err != nil || string(content) != "well\n" {
		t.Errorf("it says %q, %v", content, err)
	}
}

func TestNobodyIsEndedOutsideOfSupervisord(t *testing.T) {
	ended := standIn(t, "flanneld", func(*exec.Cmd) {}, "sh", "-c", lives)
	if err := underSupervisord(t.Context()); err != nil {
		t.Error(err)
	}
	if closed(ended, 100*time.Millisecond) {
		t.Error("it has ended")
	}
}

// A flanneld that is to end while it waits for a leftover does so.
func TestLeftoverIsNotAwaitedForEver(t *testing.T) {
	under(t, supervised)
	standIn(t, "flanneld", func(*exec.Cmd) {}, "sh", "-c", ignores)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	endLeftovers(ctx, time.Minute)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

// helperEnv has the test binary be a process that ends with its start script.
const helperEnv = "FLANNELD_TEST_HELPER"

// endingWithShell is that process. It says what endWithShell did, then waits.
func endingWithShell() {
	for os.Getenv(helperEnv) == "orphan" {
		if group, err := unix.Getpgid(unix.Getppid()); err != nil || group != unix.Getpgrp() {
			break // the shell has gone, as this case wants it
		}
		time.Sleep(time.Millisecond)
	}
	if err := endWithShell(); err != nil {
		fmt.Println(err)
		return
	}
	var signal int32
	if err := unix.Prctl(unix.PR_GET_PDEATHSIG, uintptr(unsafe.Pointer(&signal)), 0, 0, 0); err != nil {
		fmt.Println(err)
	}
	fmt.Println("signal", signal)
	if signal > 0 {
		time.Sleep(time.Minute)
		fmt.Println("forgotten")
	}
}

func TestEndsWithItsShell(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ mode, script, says string }{
		{"child", `"$0"; :`, "signal 15\n"},
		{"orphan", `"$0" & exit`, "the start script that supervisord runs has ended already\n"},
		{"supervisord's own", `exec "$0"`, "signal 0\n"},
	} {
		t.Run(tt.mode, func(t *testing.T) {
			cmd := exec.Command("sh", "-c", tt.script, self)
			cmd.Env = append(os.Environ(), helperEnv+"="+tt.mode)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			output, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			line := make([]byte, len(tt.says))
			if _, err := io.ReadFull(output, line); err != nil || string(line) != tt.says {
				t.Errorf("it says %q, %v", line, err)
			}
			if tt.mode == "child" {
				_ = cmd.Process.Kill() // the shell alone
			}
			// The end of the output is the end of all who had it open.
			if rest, err := io.ReadAll(output); err != nil || len(rest) > 0 {
				t.Errorf("then it says %q, %v", rest, err)
			}
			_ = cmd.Wait()
		})
	}
}
