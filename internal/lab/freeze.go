package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Freeze stops the process, and returns when all its threads have stopped. Its sockets
// stay open and the kernel answers for it, as for a process that gets no CPU time on a
// busy machine. Thaw resumes it.
func (d *Daemon) Freeze() {
	d.lab.t.Helper()
	d.Signal(syscall.SIGSTOP)
	Eventually(d.lab.t, waitTimeout, fmt.Sprintf("the daemon on %s to stop", d.Host), func() error {
		if frozen, err := d.frozen(); err != nil || !frozen {
			return errors.Join(errors.New("it runs"), err)
		}
		return nil
	})
}

// Thaw ends a Freeze.
func (d *Daemon) Thaw() {
	d.lab.t.Helper()
	d.Signal(syscall.SIGCONT)
}

// frozen reports whether a signal has stopped all threads. None begins after it
// was sent: the kernel delivers what is pending first.
func (d *Daemon) frozen() (bool, error) {
	stats, err := d.perThread("stat")
	for _, s := range stats {
		// proc_pid_stat(5): the state follows the name, which may hold anything.
		if name := strings.LastIndexByte(s, ')'); !strings.HasPrefix(s[name+1:], " T ") {
			return false, err
		}
	}
	return len(stats) > 0, err
}

// perThread reads a file that /proc has of each thread. One that has just ended
// has none.
func (d *Daemon) perThread(file string) (contents []string, err error) {
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/%s", d.PID, file))
	for _, path := range paths {
		content, e := os.ReadFile(path)
		switch {
		case errors.Is(e, os.ErrNotExist) || errors.Is(e, syscall.ESRCH):
		case e != nil:
			err = e
		default:
			contents = append(contents, string(content))
		}
	}
	return contents, err
}
