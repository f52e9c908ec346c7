package wgdevice

import (
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestRefusedDescriptor has wireguard-go refuse a descriptor, and nobody else's file closed later.
func TestRefusedDescriptor(t *testing.T) {
	for range 20 {
		fd, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := hand(fd); err == nil {
			t.Fatal("it took /dev/null for a TUN device")
		}
	}
	var files []int
	for range 40 { // some by the numbers that are free
		fd, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		files = append(files, fd)
	}
	for range 5 {
		runtime.GC()
		time.Sleep(10 * time.Millisecond) // cleanups run beside
	}
	for _, fd := range files {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
			t.Errorf("somebody has closed %d: %v", fd, err)
		}
	}
}
