package lab

import (
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// wireguardSockets is where WireGuard devices in user space are found, by name alone.
const wireguardSockets = "/run/wireguard"

// WireGuardDir is the host's own /run/wireguard: all hosts of a lab share a /run, and the
// devices of all of them have one name.
func (h *Host) WireGuardDir() string { return filepath.Join(h.dir, "wireguard") }

// StartAsDaemon starts a command of the host's with the host's own /run/wireguard, as its
// daemons are started.
func (h *Host) StartAsDaemon(c *Cmd) error {
	for _, dir := range []string{wireguardSockets, h.WireGuardDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	started := make(chan error)
	go func() {
		// For good: a thread that has left its mount namespace ends with its goroutine.
		runtime.LockOSThread()
		started <- c.ns.do(func() error {
			if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
				return os.NewSyscallError("unshare", err)
			}
			if err := unix.Mount(h.WireGuardDir(), wireguardSockets, "", unix.MS_BIND, ""); err != nil {
				return &os.PathError{Op: "mount", Path: wireguardSockets, Err: err}
			}
			return c.Cmd.Start()
		})
	}()
	return <-started
}
