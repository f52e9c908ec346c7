package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// insideEnv marks a process that already runs in the lab's namespaces.
const insideEnv = "FLANNELD_LAB"

// Enter runs the rest of the program in namespaces of its own: mount, network
// and process IDs, and a user namespace too where the caller is not root. It
// returns in the inner process only, as root over a network that holds nothing
// but a loopback interface, with an empty /run for `ip netns`. The outer
// process waits and ends with the inner one's exit code; when either of them
// dies, the kernel ends everything that was started within.
func Enter() error {
	if os.Getenv(insideEnv) == "" {
		code, err := reexec()
		if err != nil {
			return err
		}
		os.Exit(code)
	}
	return furnish()
}

func reexec() (code int, err error) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = os.Args
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	attr := &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	if os.Geteuid() != 0 {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	cmd.SysProcAttr = attr

	// Ctrl-C reaches the inner process through the terminal; a signal sent to
	// this process alone is passed on.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		if errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL) {
			return 0, fmt.Errorf("this system lets user %d create no namespaces (%w); run the same command with sudo, or allow user namespaces: "+
				"sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns", os.Getuid(), err)
		}
		return 0, fmt.Errorf("start in new namespaces: %w", err)
	}
	done := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-signals:
				if s != syscall.SIGINT || !sharesTerminal() {
					_ = cmd.Process.Signal(s)
				}
			case <-done:
				return
			}
		}
	}()
	err = cmd.Wait()
	close(done)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit) && exit.Exited():
		return exit.ExitCode(), nil
	case errors.As(err, &exit):
		return 1, fmt.Errorf("the lab's process ended: %w", err)
	}
	return 1, err
}

// sharesTerminal reports whether a Ctrl-C has reached the inner process
// already, as a member of the terminal's foreground group.
func sharesTerminal() bool {
	group, err := unix.IoctlGetInt(int(os.Stdin.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// furnish lays out the fresh namespaces.
func furnish() error {
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
		{"set loopback up", func() error { return exec.Command(lookup("ip"), "link", "set", "lo", "up").Run() }},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			return fmt.Errorf("lab: %s: %w", s.what, err)
		}
	}
	return nil
}

// lookup finds a program also where an ordinary user's PATH lacks sbin.
func lookup(program string) string {
	if path, err := exec.LookPath(program); err == nil {
		return path
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		path := filepath.Join(dir, program)
		if info, err := os.Stat(path); err == nil && !info.IsDir() && !strings.HasSuffix(path, "/") {
			return path
		}
	}
	return program
}
