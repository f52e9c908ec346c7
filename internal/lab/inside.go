package lab

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// runInit is process 1 of the lab: it sets up the namespaces, starts the
// program, and reaps what the program's children leave behind, so that an ended
// process is gone in there as it would be on a host.
func runInit() (code int, err error) {
	// The old /proc, still mounted, has our ID outside.
	outside, err := os.Readlink("/proc/self")
	if err != nil {
		return 1, fmt.Errorf("lab: learn the own process ID: %w", err)
	}
	if err := setUpNamespaces(); err != nil {
		return 1, err
	}
	signals := catchSignals()
	cmd := reexec(outside, nil)
	if err := cmd.Start(); err != nil {
		return 1, fmt.Errorf("lab: start the program: %w", err)
	}
	go passSignals(signals, cmd.Process)
	return reap(cmd)
}

// reap waits for every child until the program itself has ended.
func reap(program *exec.Cmd) (code int, err error) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR || err == nil && pid != program.Process.Pid:
			continue
		case err != nil:
			return 1, fmt.Errorf("lab: wait for the program: %w", err)
		case status.Signaled():
			return 128 + int(status.Signal()), fmt.Errorf("lab: the program was ended by signal %v", status.Signal())
		}
		return status.ExitStatus(), nil
	}
}

// setUpNamespaces prepares the new namespaces.
func setUpNamespaces() error {
	steps := []struct {
		what string
		do   func() error
	}{
		{"make mounts private", func() error { return unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") }},
		{"mount /proc", func() error {
			return unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
		}},
		{"mount a tmpfs on /run", func() error {
			return unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755")
		}},
		{"set loopback up", func() error {
			return netlink.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo"}})
		}},
		// An ordinary user's PATH may lack the folders of ip and iptables.
		{"set PATH", func() error { return os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin") }},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			return fmt.Errorf("lab: %s: %w", s.what, withAdvice(err))
		}
	}
	return nil
}
