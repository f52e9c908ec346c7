package tun_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"flanneld/pkg/tun"
)

// alone puts the test on a thread in a network namespace of its own.
func alone(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
}

func sh(t *testing.T, line string) string {
	t.Helper()
	out, err := exec.Command("sh", "-c", line).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", line, err, out)
	}
	return string(out)
}

func open(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := tun.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestDeviceOutlivesItsFile(t *testing.T) {
	alone(t)
	f := open(t, "flannel0")
	sh(t, `ip link set flannel0 mtu 1472 up && ip addr add 10.1.5.0/32 dev flannel0 && ip route add 10.1.0.0/16 dev flannel0`)
	if name, err := tun.Name(f); err != nil || name != "flannel0" {
		t.Errorf("it is attached to %q, %v", name, err)
	}
	_ = f.Close()
	again := open(t, "flannel0")
	if got := sh(t, `ip addr show flannel0; ip route`); !strings.Contains(got, "10.1.5.0/32") ||
		!strings.Contains(got, "10.1.0.0/16") || !strings.Contains(got, "mtu 1472") {
		t.Errorf("after the file was closed and opened again:\n%s", got)
	}
	sh(t, `ip link delete flannel0`)
	if name, err := tun.Name(again); err == nil {
		t.Errorf("the deleted device is still %q", name)
	}
}

// TestPacketsHaveTheHeader reads what the kernel sends, and waits as files do.
func TestPacketsHaveTheHeader(t *testing.T) {
	alone(t)
	f := open(t, "flannel0")
	sh(t, `ip link set flannel0 up && ip addr add 10.1.5.0/32 dev flannel0 && ip route add 10.1.0.0/16 dev flannel0`)
	if err := f.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("udp", "10.1.6.2:9")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(make([]byte, 56)); err != nil {
		t.Fatal(err)
	}
	packet := make([]byte, 2000)
	for {
		n, err := f.Read(packet)
		if err != nil {
			t.Fatal(err)
		}
		if n == tun.HeaderLen+84 && packet[tun.HeaderLen] == 0x45 {
			break
		}
	}
	if err := f.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(f, packet); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("reading from an empty queue: %v", err)
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	alone(t)
	open(t, "busy0")
	sh(t, `ip link add bridge0 type bridge`)
	sh(t, `ip tuntap add dev many0 mode tun multi_queue`)
	for name, want := range map[string]struct {
		err error
		say string
	}{
		"":                  {nil, "1 to 15 characters"},
		"flannel-is-longer": {nil, "1 to 15 characters"},
		"busy0":             {unix.EBUSY, fmt.Sprintf("process %d (exe) is attached", os.Getpid())},
		"bridge0":           {unix.EINVAL, "ip link delete bridge0"},
		"many0":             {unix.EINVAL, "ip link delete many0"},
	} {
		f, err := tun.Open(name)
		if err == nil {
			_ = f.Close()
		}
		if err == nil || want.err != nil && !errors.Is(err, want.err) || !strings.Contains(err.Error(), want.say) {
			t.Errorf("%q: %v; want %q", name, err, want.say)
		}
	}
}

// TestWithoutRights: no right, and then no device file at all.
func TestWithoutRights(t *testing.T) {
	alone(t)
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Fatal(err)
	}
	// A thread that has given its rights up ends with the test's goroutine, which never unlocks it.
	none := [2]unix.CapUserData{}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Mount("none", "/dev/net", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	_, err := tun.Open("flannel0")
	if !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), "modprobe tun") || !strings.Contains(err.Error(), "--device=/dev/net/tun") {
		t.Errorf("without /dev/net/tun: %v", err)
	}
	if err := unix.Unmount("/dev/net", 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.Capset(&header, &none[0]); err != nil {
		t.Fatal(err)
	}
	_, err = tun.Open("flannel0")
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
		t.Errorf("without rights: %v", err)
	}
}
