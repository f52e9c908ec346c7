package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// underSupervisord makes up for a start script without exec. supervisord knows
// its shell alone then: stop ends the shell, at the latest by SIGKILL, while
// flanneld would live on and be in the way of every later start. So where
// supervisord says in the environment that it is there,
//
//   - flanneld ends with that shell,
//   - and before it begins it ends those that earlier runs have left behind,
//     of whatever version: supervisord runs one process of a name.
//
// Elsewhere this does nothing. It is called from the main goroutine.
func underSupervisord(ctx context.Context) error {
	if os.Getenv("SUPERVISOR_ENABLED") == "" {
		return nil
	}
	if err := endWithShell(); err != nil {
		return err
	}
	endLeftovers(ctx, time.Second)
	return nil
}

// endWithShell has the kernel send SIGTERM when the shell between supervisord
// and this process ends. supervisord makes each process that it starts the
// leader of a group, so where there is such a shell it leads ours.
func endWithShell() error {
	group := unix.Getpgrp()
	if group == os.Getpid() {
		return nil
	}
	runtime.LockOSThread() // whose property this is: prctl(2)
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGTERM), 0, 0, 0); err != nil {
		return fmt.Errorf("ask the kernel to end flanneld together with its start script: %w", err)
	}
	if parent, err := unix.Getpgid(unix.Getppid()); err != nil || parent != group { // too late
		return errors.New("the start script that supervisord runs has ended already")
	}
	return nil
}

// endLeftovers returns when they are gone. Some end already, with their shell,
// which takes up to a second: SIGTERM is for those that do not, and SIGKILL for
// those that this does not end either.
func endLeftovers(ctx context.Context, second time.Duration) {
	left := stillThere(ctx, leftovers(), second)
	for _, s := range []os.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if ctx.Err() != nil {
			return
		}
		for _, p := range left {
			klog.ErrorS(nil, "Ending a flanneld that is left over from an earlier run under supervisord",
				"pid", p.Pid, "signal", s)
			_ = p.Signal(s) // fails where it has just ended
		}
		left = stillThere(ctx, left, 3*second)
	}
	if len(left) > 0 {
		klog.ErrorS(nil, "A flanneld of an earlier run does not end, trying to start beside it", "pid", left[0].Pid)
	}
}

// stillThere waits for processes to end, and returns those that have not.
func stillThere(ctx context.Context, all []*os.Process, patience time.Duration) []*os.Process {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	poll := time.NewTicker(20 * time.Millisecond) // nobody tells the end of a stranger's child
	defer poll.Stop()
	for {
		all = slices.DeleteFunc(all, func(p *os.Process) bool { return p.Signal(syscall.Signal(0)) != nil })
		if len(all) == 0 {
			return nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return all
		}
	}
}

func leftovers() (found []*os.Process) {
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, proc := range all {
		pid, _ := strconv.Atoi(filepath.Base(proc))
		// A handle first: should the number pass on to another process now,
		// it is not that one which gets the signal.
		if p, err := os.FindProcess(pid); err == nil && isLeftover(pid, proc) {
			found = append(found, p)
		}
	}
	return found
}

// isLeftover tells a flanneld in this network namespace that supervisord started
// under our name, but not in this run: those have our process group.
func isLeftover(pid int, proc string) bool {
	if group, err := unix.Getpgid(pid); err != nil || group == unix.Getpgrp() {
		return false
	}
	program, err := os.Readlink(proc + "/exe") // "flanneld (deleted)" once a new release was put there
	if err != nil || !strings.HasPrefix(filepath.Base(program), "flanneld") {
		return false
	}
	here, err := os.Stat("/proc/self/ns/net")
	if err != nil {
		return false
	}
	if there, err := os.Stat(proc + "/ns/net"); err != nil || !os.SameFile(here, there) {
		return false
	}
	environ, err := os.ReadFile(proc + "/environ")
	variables := strings.Split(string(environ), "\x00")
	same := func(name string) bool { return slices.Contains(variables, name+"="+os.Getenv(name)) }
	return err == nil && same("SUPERVISOR_GROUP_NAME") && same("SUPERVISOR_PROCESS_NAME")
}
