package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"flanneld/internal/lab"
)

// TestSilentIPTables has an iptables-save that does not return: the daemon says so
// within seconds and is not ready, and is once the rules are there.
func TestSilentIPTables(t *testing.T) {
	c := start(t, hostGW)
	h := c.Host("hdss7-21", "10.4.7.21/24").SubnetEnv("172.7.21.1/24")
	bin, hang := filepath.Join(h.Dir(), "bin"), filepath.Join(h.Dir(), "hang")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := lab.IPTablesAs("iptables-nft", bin); err != nil {
		t.Fatal(err)
	}
	save := filepath.Join(bin, "iptables-save")
	if err := os.Rename(save, save+".real"); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\nwhile [ -e " + hang + " ]; do sleep 0.1; done\nexec iptables-nft-save \"$@\"\n"
	for path, text := range map[string]string{save: script, hang: ""} {
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	path := "PATH=" + bin + ":" + os.Getenv("PATH")
	daemon := h.FlanneldAs(func(o *lab.FlanneldOptions) { o.Env = []string{path} })
	lab.Eventually(t, 20*time.Second, "the silence to be told", func() error {
		if log := daemon.Log(); !strings.Contains(log, "iptables-save has not answered yet") {
			return os.ErrNotExist
		}
		return nil
	})
	if strings.Contains(daemon.Log(), `"Ready"`) {
		t.Error("ready without rules")
	}
	if err := os.Remove(hang); err != nil {
		t.Fatal(err)
	}
	daemon.WaitReady()
	if rules := h.Shell(path + " iptables -S FORWARD"); !strings.Contains(rules, "172.7.0.0/16") {
		t.Errorf("ready, and the rules are\n%s", rules)
	}
}
