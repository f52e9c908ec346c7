package iptables

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-iptables/iptables"
	"k8s.io/klog/v2"
)

// ErrNotInstalled is in New's error on a machine without iptables.
var ErrNotInstalled = errors.New("iptables is not installed")

// lockSeconds is how long iptables waits for the lock that all its users share
// (iptables-legacy: /run/xtables.lock; iptables-nft has none).
const lockSeconds = 5

// How long iptables may run before it counts as hung: to print its version, and to
// read or write rules, of which a host may have a hundred thousand.
const (
	versionTime = 5 * time.Second
	rulesTime   = 30 * time.Second
)

// command is the iptables of this machine.
type command struct {
	*iptables.IPTables
	savePath    string // the path of iptables-save
	restorePath string // and of iptables-restore

	inNFTables bool // it keeps its rules in nf_tables
	timeout    time.Duration
	running    *atomic.Pointer[string] // the path of the program that runs now, or ""
}

func newCommand(ctx context.Context, dirs ...string) (command, error) {
	path, ok := find("iptables", dirs)
	if !ok {
		return command{}, fmt.Errorf(
			"%w: it is neither in PATH nor in %s; install it, or start flanneld with --firewall=nftables",
			ErrNotInstalled, strings.Join(dirs, ", "))
	}
	// From the same directory: a machine may have several flavours, with rules of
	// their own.
	savePath, err := sibling(path, "-save")
	if err != nil {
		return command{}, err
	}
	restorePath, err := sibling(path, "-restore")
	if err != nil {
		return command{}, err
	}
	// Before the library runs it, which would wait forever.
	version, err := run(ctx, versionTime, exec.Command(path, "--version"))
	if err != nil {
		return command{}, err
	}
	ipt, err := library(ctx, path)
	if err != nil {
		return command{}, fmt.Errorf("run %s: %w", path, err)
	}
	idle := &atomic.Pointer[string]{}
	idle.Store(new(string))
	return command{
		running:  idle,
		IPTables: ipt, savePath: savePath, restorePath: restorePath, timeout: rulesTime,
		inNFTables: strings.Contains(version, "nf_tables"),
	}, nil
}

// sibling is the path of iptables-save or the like in the directory of iptables.
func sibling(path, ending string) (string, error) {
	found, err := exec.LookPath(path + ending)
	if err != nil {
		return "", fmt.Errorf("find iptables%s beside %s: %w; install the whole iptables package", ending, path, err)
	}
	return found, nil
}

// systemDirs are where iptables and the like are. An ordinary user's PATH often
// lacks them.
var systemDirs = []string{"/usr/sbin", "/sbin", "/usr/local/sbin"}

// Find looks for a program in PATH and in the directories of system programs.
func Find(program string) (path string, found bool) { return find(program, systemDirs) }

func find(program string, dirs []string) (string, bool) {
	for _, dir := range append([]string{""}, dirs...) {
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path, true
		}
	}
	return "", false
}

// save reads all rules.
func (c command) save(ctx context.Context) (string, error) {
	return c.run(ctx, exec.Command(c.savePath))
}

// restore applies a script atomically.
func (c command) restore(ctx context.Context, script string) error {
	cmd := exec.Command(c.restorePath, "--noflush", fmt.Sprintf("--wait=%d", lockSeconds))
	cmd.Stdin = strings.NewReader(script)
	_, err := c.run(ctx, cmd)
	return err
}

func (c command) run(ctx context.Context, cmd *exec.Cmd) (string, error) {
	if c.running != nil {
		c.running.Store(&cmd.Path)
		defer c.running.Store(new(string))
	}
	return run(ctx, c.timeout, cmd)
}

// library asks iptables what it can do, by the library, which sets no time limit.
func library(ctx context.Context, path string) (*iptables.IPTables, error) {
	type answer struct {
		*iptables.IPTables
		err error
	}
	done := make(chan answer, 1)
	go func() {
		ipt, err := iptables.New(iptables.Path(path), iptables.Timeout(lockSeconds))
		done <- answer{ipt, err}
	}()
	select {
	case a := <-done:
		return a.IPTables, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(versionTime):
		return nil, fmt.Errorf("it did not end within %v: %w", versionTime, os.ErrDeadlineExceeded)
	}
}

// run returns the output of a program. It kills one that runs longer than timeout.
func run(ctx context.Context, timeout time.Duration, prepared *exec.Cmd) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, prepared.Path, prepared.Args[1:]...)
	cmd.WaitDelay = 100 * time.Millisecond
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a script is killed with its children
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var out, stderr strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = prepared.Stdin, &out, &stderr
	start := time.Now()
	err := cmd.Run()
	if v := klog.V(3); v.Enabled() {
		v.InfoS("Ran program", "path", cmd.Path, "args", cmd.Args[1:], "took", time.Since(start), "result", cmd.ProcessState)
	}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return "", &failure{fmt.Sprintf("%s did not end within %v and was killed: find out by hand what it waits for",
			cmd.Path, timeout), os.ErrDeadlineExceeded}
	case err != nil:
		return "", explain(fmt.Errorf("running %s: %w: %s", cmd.Path, err, stderr.String()))
	}
	return out.String(), nil
}

// errLocked is the error when the lock did not become free in time.
var errLocked = fmt.Errorf("another program has held the iptables lock for more than %d seconds; "+
	"find it with: fuser -v /run/xtables.lock", lockSeconds)

// explain puts the error output of iptables on one line, with advice.
func explain(err error) error {
	text := err.Error()
	switch {
	case strings.Contains(text, "xtables lock"):
		return errLocked // the text of iptables has the time in it, and would be logged at each try
	case strings.Contains(text, "Permission denied"):
		text += " (CAP_NET_ADMIN is needed; iptables-legacy also needs CAP_NET_RAW and to write /run/xtables.lock)"
		err = errors.Join(err, fs.ErrPermission)
	}
	return &failure{strings.Join(strings.Fields(text), " "), err}
}

// failure gives an error another text.
type failure struct {
	text string
	err  error
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.err }
