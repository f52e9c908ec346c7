package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"flanneld/internal/lab"
)

// TestUselessMember: the member that a host watches is of no use any more. The
// host finds out, and asks another one; packets go on meanwhile, and the host
// says that it is ready only as long as what it knows is recent.
func TestUselessMember(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*lab.Host, *lab.Member){
		"hung":    func(_ *lab.Host, m *lab.Member) { m.Signal(syscall.SIGSTOP) },
		"cut off": func(h *lab.Host, _ *lab.Member) { h.Cut() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &cluster{Lab: lab.New(t), t: t}
			var stores []*lab.Host
			for i := range 3 {
				stores = append(stores, c.Host(fmt.Sprintf("store%d", i), fmt.Sprintf("10.4.7.%d/24", 11+i)))
			}
			c.etcd = c.EtcdOn(lab.EtcdOptions{}, stores...)
			c.etcd.Set(configKey, hostGW)
			h21, h22 := c.join("hdss7-21", "--healthz-port=2401"), c.join("hdss7-22")
			for _, h := range []*node{h21, h22} {
				h.daemon.WaitReady()
				h.box = h.Container("c1")
			}
			c.connected(soon)
			c.losesNothing(name, func() { c.goesOn(h21, stores, spoil) })
		})
	}
}

// goesOn spoils the member that a host watches, and holds the host to what it owes.
func (c *cluster) goesOn(h *node, stores []*lab.Host, spoil func(*lab.Host, *lab.Member)) {
	watched := statusOf(c.t, h.Host).Etcd.Member
	var other string
	for i, m := range c.etcd.Members {
		if m.Endpoint == watched {
			spoil(stores[i], m)
			defer m.Signal(syscall.SIGCONT)
		} else {
			other = m.Endpoint
		}
	}
	if other == "" || !strings.HasPrefix(watched, "http") {
		c.t.Fatalf("it watches at %q", watched)
	}
	spoiled := time.Now()
	hasty := h.Client()
	hasty.Timeout = 5 * time.Second // an election leaves a request unanswered
	// A newcomer's lease, by another member: there may be an election first.
	lab.Eventually(c.t, soon, "a lease", func() error {
		value := url.Values{"value": {`{"PublicIP":"10.4.7.99","BackendType":"host-gw"}`}}
		request, err := http.NewRequest(http.MethodPut, other+"/v2/keys/coreos.com/network/subnets/172.7.99.0-24",
			strings.NewReader(value.Encode()))
		if err != nil {
			return err
		}
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		reply, err := hasty.Do(request)
		if err != nil {
			return err
		}
		defer reply.Body.Close()
		if reply.StatusCode/100 != 2 {
			return fmt.Errorf("HTTP %s", reply.Status)
		}
		return nil
	})
	lab.Eventually(c.t, 3*soon, "the newcomer's route", func() error {
		routed := strings.Contains(h.routes(), "172.7.99.0/24 via 10.4.7.99")
		_, err := h.TryGet("http://127.0.0.1:2401/readyz")
		if since := time.Since(spoiled); !routed && err == nil && since > 32*time.Second {
			c.t.Errorf("it is ready %v after it has heard of something", since)
		}
		if !routed {
			return fmt.Errorf("it is missing in\n%s", h.routes())
		}
		return nil
	})
	took := time.Since(spoiled)
	c.t.Logf("the newcomer's route came after %v", took.Round(100*time.Millisecond))
	if took > 30*time.Second { // 15, and some for a busy machine
		c.t.Errorf("it took %v:\n%s", took, h.daemon.Log())
	}
	eventually(c.t, "readiness", func() string { out, _ := h.TryGet("http://127.0.0.1:2401/readyz"); return out }, "ready\n")
	if now := statusOf(c.t, h.Host).Etcd.Member; now == watched {
		c.t.Errorf("it asks %s again", now)
	}
}
