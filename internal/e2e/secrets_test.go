package e2e

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"

	"flanneld/internal/lab"
)

// TestSecretsStayHidden has a cluster with a PSK, and looks for it and for the private key
// in all that the daemon and the commands say, in whichever form.
func TestSecretsStayHidden(t *testing.T) {
	const (
		psk    = "xh3UK6fCL7Y0fJ2BfHkLrOdQYvVqg1hY4x1rCmbC2mM="
		config = `{"Network": "172.7.0.0/16", "Backend": {"Type": "wireguard", "PSK": "` + psk + `"}}`
	)
	c := start(t, config)
	h := c.join("hdss7-21", "--v=9", "--healthz-port=2401")
	other := c.join("hdss7-22", "--v=9")
	for _, n := range c.hosts {
		n.box = n.Container("c1")
		n.daemon.WaitReady()
	}
	c.connected(soon)
	said := map[string]string{}
	run := func(args ...string) {
		t.Helper()
		out, _ := runCommand(t, h.Host, args...)
		said[strings.Join(args, " ")] = out
	}
	etcd := "--etcd-endpoints=http://10.4.7.12:2379"
	run("status")
	run("status", "-o", "json")
	run("status", "-o", "json", etcd)
	run("check")
	run("check", "-o", "json")
	run("config", "check", etcd)
	run("config", "set", etcd, config)
	run("config", "set", etcd, "--yes", strings.Replace(config, `"PSK"`, `"Psk"`, 1))
	run("config", "set", etcd, "--yes", strings.Replace(config, `"PSK"`, `"PreSharedKe"`, 1))
	run("config", "set", etcd, "--yes", config)
	run("config", "check", strings.Replace(config, psk, psk[1:], 1))
	run("config", "set", etcd, strings.Replace(config, psk+`"`, psk, 1))
	run("config", "set", etcd, strings.Replace(config, `"172.7.0.0/16"`, `"`+psk+`"`, 1))
	run("config", "set", etcd, strings.Replace(config, `"Type"`, `"`+psk+`"`, 1))
	run("lease", "list", etcd)
	run("wireguard", "rotate", "--wireguard-key-file="+h.Dir()+"/another")
	for _, wrong := range []string{strings.Replace(config, psk, psk[1:], 1), strings.Replace(config, `"wireguard"`, `"`+psk+`"`, 1), config[:len(config)-1]} {
		c.etcd.Set(configKey, wrong)
		h.daemon.WaitLog("ConfigInvalid")
		run("status")
		run("status", "-o", "json", etcd)
		run("check")
		said["readyz "+wrong[:20]] = h.Run("curl", "-s", "http://127.0.0.1:2401/readyz")
	}
	said["metrics"] = h.Run("curl", "-s", "http://127.0.0.1:2401/metrics")
	h.Shell("ip link del flannel-wg")
	lab.Eventually(t, soon, "the device to be there again", func() error { _, err := h.Try("ip", "link", "show", "flannel-wg"); return err })
	c.etcd.Set(configKey, config)
	h.daemon.Restart()
	h.daemon.WaitReady()
	said["the log"], said["the peer's log"] = h.daemon.Log(), other.daemon.Log()

	for what, text := range said {
		if text == "" {
			t.Errorf("%s says nothing", what)
		}
		for name, secret := range map[string]string{"PSK": psk, "private key": strings.TrimSpace(read(t, h.KeyFile())), "peer's private key": strings.TrimSpace(read(t, other.KeyFile()))} {
			raw, err := base64.StdEncoding.DecodeString(secret)
			if err != nil {
				t.Fatal(err)
			}
			for form, is := range map[string]string{"base64": secret, "base64, but for the first character": secret[1:], "hexadecimal": hex.EncodeToString(raw)} {
				if i := strings.Index(text, is); i >= 0 {
					t.Errorf("%s has the %s in %s: …%s", what, name, form, text[max(0, i-300):i])
				}
			}
		}
	}
	if out, code := runCommand(t, h.Host, "config", "get", etcd); code != 0 || !strings.Contains(out, psk) {
		t.Errorf("config get, which shows what it is asked for: %s", out)
	}
}
