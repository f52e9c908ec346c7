package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"flanneld/pkg/condition"
	"flanneld/pkg/subnet"
)

// reloads is a task that reads etcd's certificates and password anew at each SIGHUP, and has
// the connection made anew with them.
type reloads struct {
	asked <-chan os.Signal
	etcd  Etcd
	store interface {
		Renew(ctx context.Context, password string) error
	}
	wrong  *condition.Set
	ready  *atomic.Bool // READY=1 was said: systemd takes any for the first
	notify func(...string)
	clock  func() (microseconds int64) // CLOCK_MONOTONIC, which systemd compares with its own
}

func (*reloads) String() string { return "reload" }

// Run works until ctx ends.
func (r *reloads) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.asked:
			r.reload(ctx)
		}
	}
}

// reload is between RELOADING=1 and READY=1, as sd_notify(3) wants it of a unit of
// Type=notify-reload; other managers take it for news too.
func (r *reloads) reload(ctx context.Context) {
	if r.ready.Load() {
		r.notify("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", r.clock()))
		defer r.notify("READY=1")
	}
	klog.InfoS("Reading anew what etcd knows this host by, as SIGHUP asks", "files", r.etcd.files())
	secret, err := r.etcd.ReadPassword()
	if err == nil {
		err = r.store.Renew(ctx, string(secret))
	}
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, subnet.ErrUntried): // that etcd is away, or wants others, is said anyhow
		r.wrong.Clear(condition.ReloadFailed, "")
		klog.InfoS("What was read counts as soon as etcd answers", "err", err)
	case err != nil:
		r.wrong.Set(condition.Condition{
			Code: condition.ReloadFailed, Cause: err.Error(),
			Message: "the certificates or the password for etcd were to be read anew, and do not work; put them right, " +
				"and reload once more",
		})
	default:
		r.wrong.Clear(condition.ReloadFailed, "")
		klog.InfoS("Connected to etcd anew, with what was read")
	}
}

// files are those that a reload reads.
func (e Etcd) files() string {
	var all []string
	for _, f := range []string{e.CertFile, e.KeyFile, e.CAFile, e.PasswordFile} {
		if f != "" {
			all = append(all, f)
		}
	}
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all, ",")
}

// hangups are the SIGHUPs that ask for a reload. At a terminal the signal says that this was
// closed, and ends the process as it ends others; so it is ignored where nohup(1) wants that.
func hangups() <-chan os.Signal {
	asked := make(chan os.Signal, 1)
	if managed() || !signal.Ignored(syscall.SIGHUP) && !hasTerminal() {
		signal.Notify(asked, syscall.SIGHUP)
	}
	return asked
}

// managed tells whether systemd or supervisord has started this process.
func managed() bool {
	return os.Getenv("NOTIFY_SOCKET") != "" || os.Getenv("SUPERVISOR_ENABLED") != ""
}

// hasTerminal tells whether the process has a controlling one, whatever its output goes to.
func hasTerminal() bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	_ = tty.Close()
	return true
}

// monotonic is the kernel's clock of that name.
func monotonic() int64 {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // fails for an unknown clock alone
	return now.Nano() / 1000
}
