package health

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// Descriptors are what the service manager keeps open for the daemon over a restart:
// systemd's file descriptor store (sd_notify(3), FDSTORE=1), which a unit has with
// FileDescriptorStoreMax=. It is empty, and keeps nothing, where there is no manager.
// Its methods may be called from several goroutines.
type Descriptors struct {
	mu   sync.Mutex
	kept map[string]*kept
}

// kept is a descriptor that the manager has too. Go's poller knows nothing of this one.
type kept struct {
	number int
	used   bool // it was taken, or is of this process
}

// Inherited are those that the manager has handed over (LISTEN_FDS, LISTEN_FDNAMES).
// Ask once, before other programs are started, so that these get none of it.
func Inherited() *Descriptors {
	d := &Descriptors{kept: map[string]*kept{}}
	for _, f := range activation.Files(true) {
		if copied, err := duplicate(f); err == nil {
			d.hold(f.Name(), &kept{number: copied})
		}
		_ = f.Close()
	}
	return d
}

// Take hands over what is kept under a name, or nil. It is kept on, so it can be taken
// again when the file was closed.
func (d *Descriptors) Take(name string) *os.File {
	d.mu.Lock()
	defer d.mu.Unlock()
	k := d.kept[name]
	if k == nil {
		return nil
	}
	k.used = true
	copied, err := unix.FcntlInt(uintptr(k.number), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(copied), name)
}

// Keep has the manager keep a file, which may be closed then. Names are of letters,
// digits, '.' and '-'; whoever keeps another file under one forgets the first before.
// The manager says nothing of what it will not keep, as above FileDescriptorStoreMax=.
func (d *Descriptors) Keep(name string, f *os.File) error {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return nil
	}
	copied, err := duplicate(f)
	if err != nil {
		return fmt.Errorf("keep the descriptor %s: %w", name, err)
	}
	// FDPOLL: else systemd drops what poll(2) calls faulty for a moment.
	if err := tell("FDSTORE=1\nFDPOLL=0\nFDNAME="+name, unix.UnixRights(copied)); err != nil {
		_ = unix.Close(copied)
		return fmt.Errorf("have the service manager keep the descriptor %s: %w", name, err)
	}
	d.hold(name, &kept{copied, true})
	return nil
}

// hold remembers a descriptor in place of another one.
func (d *Descriptors) hold(name string, k *kept) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if other := d.kept[name]; other != nil {
		_ = unix.Close(other.number)
	}
	d.kept[name] = k
}

// Forget closes what is kept under a name.
func (d *Descriptors) Forget(name string) error {
	d.mu.Lock()
	if k := d.kept[name]; k != nil {
		_ = unix.Close(k.number)
		delete(d.kept, name)
	}
	d.mu.Unlock()
	if err := tell("FDSTOREREMOVE=1\nFDNAME="+name, nil); err != nil {
		return fmt.Errorf("have the service manager forget the descriptor %s: %w", name, err)
	}
	return nil
}

// ForgetRest forgets whatever was handed over and not taken: nobody uses it any more,
// and a device's descriptor keeps others from attaching to it.
func (d *Descriptors) ForgetRest() error {
	d.mu.Lock()
	var names []string
	for name, k := range d.kept {
		if !k.used {
			names = append(names, name)
		}
	}
	d.mu.Unlock()
	var errs []error
	for _, name := range names {
		errs = append(errs, d.Forget(name))
	}
	return errors.Join(errs...)
}

// duplicate is another descriptor of the same file. (File.Fd would make it block.)
func duplicate(f *os.File) (copied int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	if e := raw.Control(func(fd uintptr) { copied, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); e != nil {
		return 0, e
	}
	return copied, err
}

// managerTime is how long a manager may take to read what it was told before.
const managerTime = 5 * time.Second

// tell sends one message of sd_notify(3), with rights as of unix(7).
func tell(message string, rights []byte) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	// By hand: package net lets no rights be sent by a connected socket of datagrams.
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	limit := unix.NsecToTimeval(managerTime.Nanoseconds())
	err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit)
	for again := err == nil; again; again = errors.Is(err, unix.EINTR) {
		err = unix.Sendmsg(fd, []byte(message), rights, &unix.SockaddrUnix{Name: path}, unix.MSG_NOSIGNAL)
	}
	if errors.Is(err, unix.EAGAIN) {
		err = errors.New("nobody reads it")
	}
	if err != nil {
		return fmt.Errorf("write to NOTIFY_SOCKET %s: %w", path, err)
	}
	return nil
}
