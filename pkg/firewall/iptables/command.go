package iptables

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/coreos/go-iptables/iptables"
)

// ErrNotInstalled is in New's error on a machine without iptables.
var ErrNotInstalled = errors.New("iptables is not installed")

// lockSeconds is how long iptables waits for the lock that all of its users
// share (iptables-legacy: /run/xtables.lock; iptables-nft has none).
const lockSeconds = 5

// How long iptables may take before it counts as hung: to say what it is, and to
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
}

func newCommand(ctx context.Context, dirs ...string) (command, error) {
	path, ok := find("iptables", dirs)
	if !ok {
		return command{}, fmt.Errorf("%w: it is neither in PATH nor in %s; install it, or start flanneld with --firewall=nftables",
			ErrNotInstalled, strings.Join(dirs, ", "))
	}
	// Those beside it: a machine may have several flavours, with rules of their own.
	savePath, err := sibling(path, "-save")
	if err != nil {
		return command{}, err
	}
	restorePath, err := sibling(path, "-restore")
	if err != nil {
		return command{}, err
	}
	version, err := run(ctx, versionTime, exec.Command(path, "--version")) // before the library asks, which would wait for ever
	if err != nil {
		return command{}, err
	}
	ipt, err := iptables.New(iptables.Path(path), iptables.Timeout(lockSeconds))
	if err != nil {
		return command{}, fmt.Errorf("run %s: %w", path, err)
	}
	return command{IPTables: ipt, inNFTables: strings.Contains(version, "nf_tables"), timeout: rulesTime, savePath: savePath, restorePath: restorePath}, nil
}

// companion is the program of the same flavour as iptables with that ending.
func sibling(path, ending string) (string, error) {
	program, err := exec.LookPath(path + ending)
	if err != nil {
		return "", fmt.Errorf("find iptables%s beside %s: %w; install the whole iptables package", ending, path, err)
	}
	return program, nil
}

// systemDirs are where iptables and its like are. An ordinary user's PATH often
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

// save is all rules.
func (c command) save(ctx context.Context) (string, error) {
	return run(ctx, c.timeout, exec.Command(c.savePath))
}

// restore applies a script as a whole or not at all.
func (c command) restore(ctx context.Context, script string) error {
	cmd := exec.Command(c.restorePath, "--noflush", fmt.Sprintf("--wait=%d", lockSeconds))
	cmd.Stdin = strings.NewReader(script)
	_, err := run(ctx, c.timeout, cmd)
	return err
}

// run is what a program prints. One that hangs is killed.
func run(ctx context.Context, timeout time.Duration, command *exec.Cmd) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, command.Path, command.Args[1:]...)
	cmd.WaitDelay = 100 * time.Millisecond // for what a killed script leaves behind
	var out, stderr strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = command.Stdin, &out, &stderr
	err := cmd.Run()
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return "", fmt.Errorf("%s did not end within %v and was killed: find out by hand what it waits for", cmd.Path, timeout)
	case err != nil:
		return "", explain(fmt.Errorf("running %s: %w: %s", cmd.Path, err, stderr.String()))
	}
	return out.String(), nil
}

// errLocked is in the error when the lock did not become free in time.
var errLocked = fmt.Errorf("another program has held the iptables lock for more than %d seconds; find it with: fuser -v /run/xtables.lock", lockSeconds)

// explain puts what iptables said on one line, with what to do about it.
func explain(err error) error {
	text := err.Error()
	switch {
	case strings.Contains(text, "xtables lock"):
		return errLocked // iptables' own words count the time: news at each try
	case strings.Contains(text, "Permission denied"):
		text += " (CAP_NET_ADMIN is needed; iptables-legacy also needs CAP_NET_RAW and to write /run/xtables.lock)"
	}
	return &failure{strings.Join(strings.Fields(text), " "), err}
}

// failure words an error anew.
type failure struct {
	text string
	err  error
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.err }
