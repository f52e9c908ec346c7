package iptables

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/coreos/go-iptables/iptables"

	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
)

// NotInstalled is in New's error on a machine without iptables for a family.
type NotInstalled struct{ Family inet.Family }

func (n NotInstalled) Error() string { return Program(n.Family) + " is not installed" }

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
	family      inet.Family
	path        string
	savePath    string // the path of iptables-save
	restorePath string // and of iptables-restore

	inNFTables bool // it keeps its rules in nf_tables
	timeout    time.Duration
	activity   *activity
}

// locate finds the programs, and runs none of them.
func locate(f inet.Family, dirs ...string) (command, error) {
	path, ok := find(Program(f), dirs)
	if !ok {
		return command{}, fmt.Errorf(
			"%w: it is neither in PATH nor in %s; install it, or start flanneld with --firewall=nftables",
			NotInstalled{f}, strings.Join(dirs, ", "))
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
	return command{
		family: f, path: path, savePath: savePath, restorePath: restorePath, timeout: rulesTime,
		activity: &activity{},
	}, nil
}

// ask returns the command with what its version is able to do.
func (c command) ask(ctx context.Context) (command, error) {
	// Before the library runs it, which would wait forever.
	version, err := c.activity.run(ctx, versionTime, exec.Command(c.path, "--version"))
	if err != nil {
		return c, err
	}
	c.inNFTables = strings.Contains(version, "nf_tables")
	type answer struct {
		ipt *iptables.IPTables
		err error
	}
	answered := make(chan answer, 1)
	protocol := iptables.ProtocolIPv4
	if c.family == inet.IPv6 {
		protocol = iptables.ProtocolIPv6
	}
	go func() {
		ipt, err := iptables.New(
			iptables.IPFamily(protocol), iptables.Path(c.path), iptables.Timeout(lockSeconds))
		answered <- answer{ipt, err}
	}()
	select {
	case a := <-answered:
		if c.IPTables = a.ipt; a.err != nil {
			return c, fmt.Errorf("run %s: %w", c.path, a.err)
		}
		return c, nil
	case <-time.After(versionTime):
		return c, rules.NoAnswer{Program: c.path}
	case <-ctx.Done():
		return c, ctx.Err()
	}
}

// sibling is the path of iptables-save or the like in the directory of iptables, by the
// ending that its name has.
func sibling(path, ending string) (string, error) {
	found, err := exec.LookPath(path + ending)
	if err != nil {
		return "", fmt.Errorf("find %s beside %s: %w; install the whole iptables package",
			filepath.Base(path)+ending, path, err)
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
	return c.activity.run(ctx, c.timeout, exec.Command(c.savePath))
}

// restore applies a script atomically. iptables-restore waits for the lock from iptables
// 1.6.2 on; an older one refuses the option, which a script that does nothing shows.
func (c command) restore(ctx context.Context, script string) error {
	wait := fmt.Sprintf("--wait=%d", lockSeconds)
	run := func(script string, options ...string) error {
		cmd := exec.Command(c.restorePath, append([]string{"--noflush"}, options...)...)
		cmd.Stdin = strings.NewReader(script)
		if !c.inNFTables {
			c.activity.forgive(lockSeconds * time.Second)
		}
		_, err := c.activity.run(ctx, c.timeout, cmd)
		return err
	}
	if c.activity.waitless {
		return run(script)
	}
	err := run(script, wait)
	if err == nil || errors.Is(err, errLocked) || errors.As(err, &rules.NoAnswer{}) || ctx.Err() != nil {
		return err
	}
	if run("", wait) == nil || run("") != nil {
		return err
	}
	c.activity.waitless = true
	return run(script)
}

// has reports whether iptables itself finds a rule: rules that iptables-save does not
// show must not be written again and again.
func (c command) has(ctx context.Context, at chainID, rule string) bool {
	wait := fmt.Sprintf("--wait=%d", lockSeconds)
	args := append([]string{wait, "-t", at.table, "-C", at.chain}, splitArgs(rule)...)
	_, err := c.activity.run(ctx, c.timeout, exec.Command(c.path, args...))
	return err == nil
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
