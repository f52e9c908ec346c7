package e2e

import (
	"fmt"
	"html"
	"strings"
	"testing"

	"flanneld/internal/lab"
)

// TestPageOverTheNetwork: another host sees by the page what is wrong with this one, what mends it, and
// that it is over. A host without the flag has no page.
func TestPageOverTheNetwork(t *testing.T) {
	c := start(t, hostGW)
	n := c.join("hdss7-21", "--healthz-port=2401", "--healthz-page")
	other := c.join("hdss7-22", "--healthz-port=2401")
	n.daemon.WaitReady()
	other.daemon.WaitReady()
	shows := func(what string, wanted ...string) {
		t.Helper()
		lab.Eventually(t, soon, "the page to show "+what, func() error {
			page, err := other.TryGet("http://10.4.7.21:2401/")
			if err != nil {
				return err
			}
			page = html.UnescapeString(page)
			for _, want := range wanted {
				if !strings.Contains(page, want) {
					return fmt.Errorf("no %q in %s", want, page[strings.Index(page, "<body>"):])
				}
			}
			return nil
		})
	}
	shows("a host that is well", "<strong>ready</strong>", "None is known.", ">1 of 1<", "172.7.22.0/24<small>10.4.7.22</small>", "peer reached: 172.7.22.0/24 directly by ens33")

	// What others write is shown as they wrote it, and is no markup.
	const key = "/coreos.com/network/subnets/<img src=x>"
	c.etcd.Set(key, "{}")
	shows("a key that is no lease", "<strong>ready, with warnings</strong>", `LeaseIgnored</span>`, "ignoring the key")
	if page := other.Get("http://10.4.7.21:2401/"); strings.Contains(page, "<img") || !strings.Contains(page, "&lt;img src=x&gt;") {
		t.Errorf("a key is markup in %s", page)
	}
	c.etcd.Delete(key)
	c.etcd.Set(configKey, "{")
	shows("a config key that is wrong", "<strong>ready, with errors</strong>", "config key is wrong: ", "ConfigInvalid", "flanneld check")
	c.etcd.Set(configKey, hostGW)
	shows("that it is over", "<strong>ready</strong>", "None is known.", "over: config key is wrong: ")
	n.Run("ip", "route", "del", "172.7.22.0/24")
	shows("what was repaired", "put right: ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77")
	if got := n.Shell("curl -s -w ' %{http_code}' http://10.4.7.22:2401/"); got != "404 page not found\n 404" {
		t.Errorf("without --healthz-page, / answers %q", got)
	}
}
