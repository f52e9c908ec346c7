package lab

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
)

// Daemon is a process that a host keeps running, and its log.
type Daemon struct {
	Host    *Host
	PID     int       // 0: it could not be started
	Started time.Time // just before the process was started

	lab     *Lab
	options FlanneldOptions
	log     string // path
	logFrom int64  // where the present process began to write

	ready  *readiness
	exited chan struct{} // closed when it has ended
	state  *os.ProcessState
}

// Running reports whether the process has not ended.
func (d *Daemon) Running() bool {
	select {
	case <-d.exited:
		return false
	default:
		return true
	}
}

// WaitReady waits for READY=1 and returns how long it took from the start.
func (d *Daemon) WaitReady() time.Duration {
	d.lab.t.Helper()
	select {
	case <-d.ready.notified:
		return d.ready.at.Sub(d.Started)
	case <-d.exited:
		d.lab.t.Fatalf("%s on %s ended before it was ready, with exit code %d:\n%s",
			d.options.Binary, d.Host, d.exitCode(), d.Log())
	case <-time.After(waitTimeout):
		d.lab.t.Fatalf("%s on %s was not ready after %v:\n%s", d.options.Binary, d.Host, waitTimeout, d.Log())
	}
	return 0
}

// Signal sends a signal to the process alone, as supervisord does.
func (d *Daemon) Signal(s os.Signal) {
	d.lab.t.Helper()
	d.lab.must(fmt.Sprintf("send %v to the daemon on %s", s, d.Host), syscall.Kill(d.PID, s.(syscall.Signal)))
}

// Wait waits for the end and returns the exit code, or 128 and the number of the
// signal that ended it.
func (d *Daemon) Wait(timeout time.Duration) int {
	d.lab.t.Helper()
	select {
	case <-d.exited:
		return d.exitCode()
	default:
	}
	select {
	case <-d.exited:
	case <-time.After(timeout):
		d.lab.t.Fatalf("%s on %s still runs after %v:\n%s", d.options.Binary, d.Host, timeout, d.Log())
	}
	return d.exitCode()
}

func (d *Daemon) exitCode() int {
	if status := d.state.Sys().(syscall.WaitStatus); status.Signaled() {
		return 128 + int(status.Signal())
	}
	return d.state.ExitCode()
}

// Stop asks the daemon to end, and ends the test unless its exit code is 0.
func (d *Daemon) Stop() {
	d.lab.t.Helper()
	d.Signal(syscall.SIGTERM)
	if code := d.Wait(waitTimeout); code != 0 {
		d.lab.t.Fatalf("%s on %s ended with exit code %d:\n%s", d.options.Binary, d.Host, code, d.Log())
	}
}

// Kill ends the process and its children at once.
func (d *Daemon) Kill() {
	d.lab.t.Helper()
	d.lab.must("kill the daemon on "+d.Host.Name, d.kill())
	d.Wait(waitTimeout)
}

func (d *Daemon) kill() error {
	if d.PID == 0 { // not started; the group 0 would be our own
		return nil
	}
	err := syscall.Kill(-d.PID, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// Restart stops the daemon where it runs, and starts it again as before.
func (d *Daemon) Restart() {
	d.lab.t.Helper()
	if d.Running() {
		d.Stop()
	}
	d.start()
}

// RestartAs is Restart with other options.
func (d *Daemon) RestartAs(change func(*FlanneldOptions)) {
	d.lab.t.Helper()
	d.Stop()
	change(&d.options)
	d.start()
}

// finish kills the process if it still runs, and fails the test if the log shows a
// crash or a data race.
func (d *Daemon) finish() {
	if d.PID == 0 {
		return
	}
	_ = d.kill()
	<-d.exited
	if d.options.MayCrash {
		return
	}
	for _, bad := range []string{"DATA RACE", "panic:", "fatal error:"} {
		if log := d.wholeLog(); strings.Contains(log, bad) {
			d.lab.t.Fatalf("%s on %s logged %q:\n%s", d.options.Binary, d.Host, bad, log)
		}
	}
}
