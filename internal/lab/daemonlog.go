package lab

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// Log is what the daemon has printed since its last start, on both outputs.
func (d *Daemon) Log() string {
	return d.wholeLog()[d.logFrom:]
}

// wholeLog includes what was printed before a Restart.
func (d *Daemon) wholeLog() string {
	content, err := os.ReadFile(d.log)
	d.lab.must("read a log", err)
	return string(content)
}

// WaitLog waits until the log since the last start contains text.
func (d *Daemon) WaitLog(text string) {
	d.lab.t.Helper()
	Eventually(d.lab.t, waitTimeout, fmt.Sprintf("%q in the log on %s", text, d.Host), func() error {
		if log := d.Log(); !strings.Contains(log, text) {
			return errors.New("the log is:\n" + log)
		}
		return nil
	})
}

// CPUTime is what the process has used so far: while it runs, what those of its
// threads have that are left, to the nanosecond.
func (d *Daemon) CPUTime() (used time.Duration) {
	d.lab.t.Helper()
	if !d.Running() {
		return d.state.UserTime() + d.state.SystemTime()
	}
	threads, err := d.perThread("schedstat")
	d.lab.must("read the daemon's CPU time", err)
	for _, stat := range threads {
		// Documentation/scheduler/sched-stats.rst: the first figure is the time on a CPU, in ns.
		var ns int64
		_, err := fmt.Sscan(stat, &ns)
		d.lab.must("read the daemon's CPU time", err)
		used += time.Duration(ns)
	}
	return used
}

// MaxRSS is the most memory that the running process has held so far, in bytes.
func (d *Daemon) MaxRSS() int {
	d.lab.t.Helper()
	return d.memory("VmHWM:")
}

// FileRSS is what it holds of its program's file, in bytes: pages that the
// kernel can drop at any time.
func (d *Daemon) FileRSS() int {
	d.lab.t.Helper()
	return d.memory("RssFile:")
}

// memory reads a line of proc_pid_status(5).
func (d *Daemon) memory(name string) int {
	d.lab.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.PID))
	d.lab.must("read the daemon's memory use", err)
	_, rest, found := strings.Cut(string(status), name)
	var kB int
	if _, err := fmt.Sscanf(rest, "%d kB", &kB); err != nil || !found {
		d.lab.t.Fatalf("lab: /proc/%d/status of %s has no %s", d.PID, d.Host, name)
	}
	return kB * 1024
}
