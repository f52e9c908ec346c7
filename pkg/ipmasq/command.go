package ipmasq

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

// command is the iptables of this machine.
type command struct {
	*iptables.IPTables
	restorer string // the path of iptables-restore
}

func newCommand(dirs ...string) (command, error) {
	path, ok := find("iptables", dirs)
	if !ok {
		return command{}, fmt.Errorf("%w: it is neither in PATH nor in %s; install it, or start without --ip-masq and with --iptables-forward-rules=false",
			ErrNotInstalled, strings.Join(dirs, ", "))
	}
	// The one beside it: a machine may have several flavours, with rules of their own.
	restorer, err := exec.LookPath(path + "-restore")
	if err != nil {
		return command{}, fmt.Errorf("find iptables-restore beside %s: %w; install the whole iptables package", path, err)
	}
	ipt, err := iptables.New(iptables.Path(path), iptables.Timeout(lockSeconds))
	if err != nil {
		return command{}, fmt.Errorf("run %s: %w", path, err)
	}
	return command{IPTables: ipt, restorer: restorer}, nil
}

// find looks for a program in PATH, which often lacks sbin, and then in dirs.
func find(program string, dirs []string) (string, bool) {
	candidates := []string{program}
	for _, dir := range dirs {
		candidates = append(candidates, filepath.Join(dir, program))
	}
	for _, c := range candidates {
		if path, err := exec.LookPath(c); err == nil {
			return path, true
		}
	}
	return "", false
}

func (c command) list(h home) ([]string, error) {
	lines, err := c.List(h.table, h.chain)
	if err != nil {
		return nil, explain(err)
	}
	return lines, nil
}

// restore applies a script as a whole or not at all.
func (c command) restore(ctx context.Context, script string) error {
	cmd := exec.CommandContext(ctx, c.restorer, "--noflush", fmt.Sprintf("--wait=%d", lockSeconds))
	cmd.WaitDelay = time.Second
	cmd.Stdin = strings.NewReader(script)
	if output, err := cmd.CombinedOutput(); err != nil {
		return explain(fmt.Errorf("running %s: %w: %s", c.restorer, err, output))
	}
	return nil
}

// errLocked is in the error when the lock did not become free in time.
var errLocked = fmt.Errorf("another program has held the iptables lock for more than %d seconds; find it with: fuser -v /run/xtables.lock", lockSeconds)

// explain puts what iptables said on one line, with what to do about it.
func explain(err error) error {
	said := err.Error()
	switch {
	case strings.Contains(said, "xtables lock"):
		return errLocked // iptables' own words count the time: news at each try
	case strings.Contains(said, "Permission denied"):
		said += " (CAP_NET_ADMIN is needed; iptables-legacy also needs CAP_NET_RAW and to write /run/xtables.lock)"
	}
	return &failure{strings.Join(strings.Fields(said), " "), err}
}

// failure words an error anew.
type failure struct {
	text string
	err  error
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.err }

// noSuchTable reports whether the kernel or iptables lacks a table or chain,
// which then holds no rules of ours.
func noSuchTable(err error) bool {
	var e *iptables.Error
	return errors.As(err, &e) && e.IsNotExist()
}
