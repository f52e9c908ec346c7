package health

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/klog/v2"
)

func TestNotify(t *testing.T) {
	manager := newManager(t).conn
	for _, tt := range []struct {
		assignments []string
		want        string
	}{
		{[]string{"READY=1", "STATUS=subnet 172.7.21.0/24\nREADY=0"}, "READY=1\nSTATUS=subnet 172.7.21.0/24 READY=0"},
		{[]string{"STATUS=waiting for etcd"}, "STATUS=waiting for etcd"},
		{[]string{"STOPPING=1"}, "STOPPING=1"},
	} {
		Notify(tt.assignments...)
		buffer := make([]byte, 200)
		if err := manager.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := manager.Read(buffer)
		if got := string(buffer[:n]); err != nil || got != tt.want {
			t.Errorf("%q, %v; want %q", got, err, tt.want)
		}
	}
}

func TestNotifyWithoutManager(t *testing.T) {
	var log bytes.Buffer
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	klog.SetOutputBySeverity("WARNING", &log)
	defer func() {
		klog.SetOutput(io.Discard)
		klog.LogToStderr(true)
	}()
	t.Setenv("NOTIFY_SOCKET", "")
	Notify("READY=1")
	if log.Len() > 0 {
		t.Errorf("where nobody asks, it logs %s", &log)
	}
	path := filepath.Join(t.TempDir(), "gone")
	t.Setenv("NOTIFY_SOCKET", path)
	Notify("STOPPING=1")
	klog.Flush()
	if !strings.Contains(log.String(), path) || strings.Count(log.String(), "\n") != 1 {
		t.Errorf("where the manager is gone, it logs %q", &log)
	}
}

// TestNotifyWhereNobodyReads: a manager that hangs holds up nobody for long.
func TestNotifyWhereNobodyReads(t *testing.T) {
	manager := newManager(t).conn
	other, err := net.Dial("unixgram", manager.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := other.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	for err == nil { // until there is no room
		_, err = other.Write([]byte("STATUS=filled"))
	}
	var log bytes.Buffer
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	klog.SetOutputBySeverity("WARNING", &log)
	defer func() {
		klog.SetOutput(io.Discard)
		klog.LogToStderr(true)
	}()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		Notify("READY=1")
		d := &Descriptors{kept: map[string]*kept{}}
		if err := d.Keep("udp-flannel0", os.Stdin); err == nil || !strings.Contains(err.Error(), "nobody reads it") {
			t.Errorf("a descriptor to keep: %v", err)
		}
	}()
	select {
	case <-ended:
		klog.Flush()
		if !strings.Contains(log.String(), "Cannot notify the service manager") {
			t.Errorf("it logs %q", &log)
		}
	case <-time.After(managerTime + time.Minute):
		t.Fatal("it hangs")
	}
}
