package e2e

import (
	"fmt"
	"strings"
	"testing"

	"flanneld/internal/lab"
)

// TestGarbage starts hosts on a store whose values are of 1 MB, and repairs it by
// the commands, by each of etcd's APIs.
func TestGarbage(t *testing.T) {
	for name, o := range map[string]lab.EtcdOptions{"v2": {}, "v3": {Newest: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t)
			etcd := l.EtcdOn(o, l.Host("hdss7-12", "10.4.7.12/24"))
			h := l.Host("hdss7-21", "10.4.7.21/24")
			long := strings.Repeat("x", 1_000_000)
			for _, key := range []string{configKey, leases + "172.7.30.0-24", leases + "gar\x1b[2J\nbage"} {
				etcd.Set(key, long)
			}
			etcd.Set(leases+"172.7.22.0-24", `{"PublicIP":"10.4.7.22","BackendType":"host-gw"}`)
			d := h.Flanneld("--healthz-port=2401")
			const tooLong = "is 1000000 bytes long, more than the 16384 that are read"
			lab.Eventually(t, soon, "what is wrong", func() error {
				if reply, err := h.TryGet("http://127.0.0.1:2401/readyz"); !strings.Contains(reply, tooLong) || len(reply) > 3000 {
					return fmt.Errorf("%.3000s, %v", reply, err)
				}
				return nil
			})
			run := func(code int, args string, parts ...string) {
				t.Helper()
				words := append(strings.Fields(args), "--etcd-endpoints="+strings.Join(etcd.Endpoints(), ","))
				out, got := input(t, h, "", words...)
				expect(t, args, out, got, code, parts...)
				if len(out) > 5000 || strings.Contains(out, "\x1b") {
					t.Errorf("%s prints %d bytes", args, len(out))
				}
			}
			run(1, "config get", "the config key "+tooLong)
			run(0, "status", "config key is wrong: "+tooLong, `the key "`+leases+`172.7.30.0-24" is no lease: it `+tooLong, `bage`)
			run(0, `config set {"Network":"172.7.0.0/16","Backend":{"Type":"host-gw"}}`, "written: ")
			d.WaitReady()
			lab.Eventually(t, soon, "the way to the peer", func() error {
				out, err := h.Command("ip", "route", "show", "172.7.22.0/24").CombinedOutput()
				if !strings.HasPrefix(string(out), "172.7.22.0/24 via 10.4.7.22 ") {
					return fmt.Errorf("%s %v", out, err)
				}
				return nil
			})
			run(1, "lease reserve 172.7.30.0/24 10.4.7.30", tooLong, "flanneld lease release --now 172.7.30.0/24 removes it")
			run(0, "lease release --yes --now 172.7.30.0/24", "is removed")
			run(0, "lease reserve 172.7.30.0/24 10.4.7.30", "is reserved")
			if log := d.Log(); len(log) > 20_000 || !strings.Contains(log, `subnets/172.7.30.0-24`) || strings.Contains(log, "\x1b") {
				t.Errorf("the log has %d bytes", len(log))
			}
		})
	}
}
