package iptables

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"k8s.io/klog/v2"

	"flanneld/pkg/firewall/rules"
)

// activity is the program that runs now.
type activity struct {
	now atomic.Pointer[running]
	// wait is how long the next program may wait for a lock, before its time counts.
	wait time.Duration
	// waitless: iptables-restore has no option to wait for a lock.
	waitless bool
}

type running struct {
	path  string
	since time.Time
}

// waitsFor returns which program has not ended yet, and how long it is silent.
func (a *activity) waitsFor() (path string, lasted time.Duration) {
	if r := a.now.Load(); r != nil {
		return r.path, time.Since(r.since)
	}
	return "", 0
}

// forgive has the next program's wait for a lock not count as silence.
func (a *activity) forgive(wait time.Duration) { a.wait = wait }

// outputTime is how long the output of a program may go on after its end, as where it has
// left a process behind. On a busy host it takes a while until all of it is read.
const outputTime = 10 * time.Second

// errCutOff: a program did not start, or was killed, so that it has not said anything.
var errCutOff = errors.New("it did not run to its end")

// run returns the output of a program. It kills one that runs longer than timeout; the
// error is a rules.NoAnswer then.
func (a *activity) run(ctx context.Context, timeout time.Duration, prepared *exec.Cmd) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, prepared.Path, prepared.Args[1:]...)
	// Where it is a script, what that runs must end as well.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = outputTime
	var out, stderr strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = prepared.Stdin, &out, &stderr
	start := time.Now()
	a.now.Store(&running{cmd.Path, start.Add(a.wait)})
	a.wait = 0
	defer a.now.Store(nil)
	err := cmd.Run()
	if v := klog.V(3); v.Enabled() {
		v.InfoS("Ran program", "path", cmd.Path, "args", cmd.Args[1:], "took", time.Since(start), "result", cmd.ProcessState)
	}
	switch {
	case err == nil:
		return out.String(), nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded), errors.Is(err, exec.ErrWaitDelay):
		return "", rules.NoAnswer{Program: cmd.Path}
	case cmd.ProcessState == nil || !cmd.ProcessState.Exited():
		err = fmt.Errorf("%w: %w", errCutOff, err)
	}
	return "", explain(fmt.Errorf("running %s: %w: %s", cmd.Path, err, stderr.String()))
}
