package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"flanneld/internal/lab"
)

// TestForgetsDescriptors: what systemd has kept for a mode that is over is let go once all is in
// place, and not before.
func TestForgetsDescriptors(t *testing.T) {
	c := newFlannels(t, nil, allocMode)
	path := filepath.Join(c.store.Dir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	c.joinAs("hdss7-21", func(h *lab.Host, o *lab.FlanneldOptions) {
		wrapper := filepath.Join(h.Dir(), "flanneld")
		script := fmt.Sprintf("#!/bin/sh\nexec 3</dev/null\nLISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=tun-flannel9 exec %s \"$@\"\n", lab.Binary(t))
		if err := os.WriteFile(wrapper, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		o.Binary, o.Env = wrapper, append(o.Env, "NOTIFY_SOCKET="+path)
	})
	_ = manager.SetReadDeadline(time.Now().Add(soon))
	said := make([]byte, 4096)
	for _, want := range []string{"READY=1\nSTATUS=serving 172.7.21.0/24", "FDSTOREREMOVE=1\nFDNAME=tun-flannel9"} {
		n, err := manager.Read(said)
		if got := string(said[:n]); err != nil || got != want {
			t.Errorf("it says %q, want %q; %v", got, want, err)
		}
	}
}
