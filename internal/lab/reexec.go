package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"runtime"

	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// stageEnv is the stage of a process on its way into the lab: unset outside,
// "init" in the process that lays out the new namespaces, and then that
// process's ID as it is seen from outside.
const stageEnv = "FLANNELD_LAB"

// Enter runs the rest of the program in namespaces of its own: mount, network
// and process IDs, and a user namespace too where the caller is not root. It
// returns in the innermost of three processes only:
//
//	outside   waits, passes signals on, ends with the program's exit code
//	init      is process 1 of the new namespaces: lays them out, reaps orphans
//	program   is root over a network of nothing but loopback, with an empty /run
//
// When any of them dies, the kernel ends everything that was started within.
func Enter() error {
	var code int
	var err error
	switch os.Getenv(stageEnv) {
	case "":
		code, err = enterNamespaces()
	case "init":
		code, err = runInit()
	default:
		return nil
	}
	if err != nil {
		return err
	}
	// Unlike os.Exit, this does not wait a second for late reports of races.
	syscall.Exit(code)
	return nil
}

// OuterPID is the process ID, as seen from outside, of the process whose
// namespaces are the lab's: what nsenter takes.
func OuterPID() (int, error) { return strconv.Atoi(os.Getenv(stageEnv)) }

func enterNamespaces() (code int, err error) {
	attr := &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	if os.Geteuid() != 0 {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	runtime.LockOSThread() // Pdeathsig is about the thread that starts the process
	defer runtime.UnlockOSThread()

	signals := catchSignals()
	cmd := reexec("init", attr)
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start in new namespaces: %w", withAdvice(err))
	}
	go passSignals(signals, cmd.Process)
	err = cmd.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit) && exit.Exited():
		return exit.ExitCode(), nil
	}
	return 1, fmt.Errorf("the lab's first process ended: %w", err)
}

// reexec is this program with the same arguments, at another stage.
func reexec(stage string, attr *syscall.SysProcAttr) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = os.Args
	cmd.Env = append(os.Environ(), stageEnv+"="+stage)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = attr
	return cmd
}

// withAdvice adds what to do to the error of a system that forbids namespaces.
func withAdvice(err error) error {
	if !errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EINVAL) {
		return err
	}
	return fmt.Errorf("%w: this system forbids user %d to create namespaces; "+
		"run the same command with sudo (in a container: one started with --privileged), "+
		"or allow them, by whichever of these sysctls exists: "+
		"user.max_user_namespaces=10000, kernel.unprivileged_userns_clone=1, "+
		"kernel.apparmor_restrict_unprivileged_userns=0", err, os.Getuid())
}

// catchSignals keeps signals from ending this process, whose child decides.
func catchSignals() <-chan os.Signal {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP)
	return signals
}

// passSignals forwards signals without end, except for a Ctrl-C, which the terminal
// has also sent to the child.
func passSignals(signals <-chan os.Signal, to *os.Process) {
	for s := range signals {
		if s != syscall.SIGINT || !sharesTerminal() {
			_ = to.Signal(s)
		}
	}
}

// sharesTerminal reports whether Ctrl-C reaches this process and its children
// alike, as members of the terminal's foreground group.
func sharesTerminal() bool {
	group, err := unix.IoctlGetInt(int(os.Stdin.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}
