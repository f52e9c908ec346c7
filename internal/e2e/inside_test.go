package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/status"
)

// runCommand runs flanneld with arguments on a host, and returns both outputs and the
// exit code.
func runCommand(t *testing.T, n *lab.Host, args ...string) (string, int) {
	t.Helper()
	return input(t, n, "", args...)
}

func input(t *testing.T, n *lab.Host, stdin string, args ...string) (string, int) {
	t.Helper()
	cmd := n.Command(lab.Binary(t), args...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0") // no second's wait for late reports of races
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func statusOf(t *testing.T, n *lab.Host, flags ...string) (s status.Status) {
	t.Helper()
	out, _ := runCommand(t, n, append([]string{"status", "-o", "json"}, flags...)...)
	// What it says of not being ready comes after the document.
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&s); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return s
}

// expect compares an answer with parts that it must have, and with its code.
func expect(t *testing.T, what, got string, code, wantCode int, parts ...string) {
	t.Helper()
	for _, want := range parts {
		if !strings.Contains(got, want) {
			t.Errorf("%s: no %q in\n%s", what, want, got)
		}
	}
	if code != wantCode {
		t.Errorf("%s: exit code %d, want %d:\n%s", what, code, wantCode, got)
	}
}

func TestStatus(t *testing.T) {
	c := start(t, direct)
	c.Router("gateway", "10.4.7.254/24", "10.4.8.254/24")
	h21, h22 := c.join("hdss7-21", "--healthz-port=2401", "--iptables-resync=1"), c.join("hdss7-22")
	far := &node{Host: c.Host("hdss8-31", "10.4.8.31/24").SubnetEnv("172.7.31.1/24")}
	far.daemon = far.Flanneld()
	for _, d := range []*lab.Daemon{h21.daemon, h22.daemon, far.daemon} {
		d.WaitReady()
	}
	lab.Eventually(t, soon, "peers", func() error {
		if s := statusOf(t, h21.Host); len(s.Peers) != 2 || s.Peers[0].Kernel != status.InPlace || s.Peers[1].Kernel != status.InPlace {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	ready := func() string {
		reply, err := h21.Client().Get("http://127.0.0.1:2401/readyz")
		if err != nil {
			return err.Error()
		}
		defer reply.Body.Close()
		return reply.Status
	}
	eventually(t, "readiness", ready, "200 OK")
	out, code := runCommand(t, h21.Host, "status")
	t.Logf("hdss7-21# flanneld status\n%s", out)
	expect(t, "status", out, code, 0,
		"ready\n", "172.7.0.0/16 in subnets of /24, backend vxlan\n", "172.7.21.0/24, lease until ", "ens33, 10.4.7.21, MTU 1500\n",
		"flannel.1, VNI 1, UDP port 8472, MTU 1450\n", "http://10.4.7.12:2379, API v2, current\n", "last change", " ago: ip route add 172.7.",
		"\nPEER           PUBLIC IP  BACKEND  REACHED               KERNEL    SINCE\n172.7.22.0/24  10.4.7.22  vxlan    direct, by ens33      in place  ",
		"\n172.7.31.0/24  10.4.8.31  vxlan    tunnel, by flannel.1  in place  ")
	if strings.Contains(out, "\x1b") || strings.Contains(out, "problems") {
		t.Errorf("colours or problems in\n%s", out)
	}

	s := statusOf(t, h21.Host)
	if p := s.Peers[1]; s.Daemon.PID == 0 || s.Daemon.SubnetFile != h21.SubnetFile() || len(s.Daemon.Rules) != 2 || !s.Etcd.Current ||
		p.MAC == "" || p.Via.String() != "172.7.31.0" || p.Since.IsZero() || s.Device.Port != 8472 || s.Lease.MTU != 1450 {
		t.Errorf("%+v", s)
	}

	// The store alone, from a host without flanneld.
	etcd := strings.Join(c.etcd.Endpoints(), ",")
	out, code = runCommand(t, c.Host("desk", "10.4.7.5/24"), "status", "--etcd-endpoints="+etcd)
	expect(t, "the store", out, code, 0, "172.7.0.0/16 in subnets of /24, backend vxlan\n", "SUBNET         PUBLIC IP  BACKEND  LEASE\n",
		"172.7.21.0/24  10.4.7.21  vxlan    lease until ", "172.7.31.0/24  10.4.8.31")
	out, code = runCommand(t, c.Host("desk", "10.4.7.6/24"), "status")
	expect(t, "nowhere", out, code, 2, "no flanneld runs in this network namespace")

	// Something is wrong: it is told at once, by everything that tells.
	h21.Shell("ip route replace 172.7.99.0/24 via 10.4.7.254; ip route replace table main blackhole 172.7.98.0/24")
	c.etcd.Set(leases+"172.7.99.0-24", `{"PublicIP":"10.4.7.99","BackendType":"host-gw"}`)
	c.etcd.Set(leases+"172.7.98.0-24", `{"PublicIP":"10.4.9.98","BackendType":"host-gw"}`)
	lab.Eventually(t, soon, "the stranger's route in the status", func() error {
		out, code = runCommand(t, h21.Host, "status")
		if !strings.Contains(out, "route 172.7.99.0/24 via 10.4.7.254 dev ens33 proto 3 was written by somebody else") ||
			!strings.Contains(out, "no way to 172.7.98.0/24") || !strings.Contains(out, "another route: 172.7.99.0/24 via 10.4.7.254") {
			return errors.New(out)
		}
		return nil
	})
	expect(t, "with problems", out, code, 1, "not ready", "\nproblems\n  ")
	eventually(t, "readiness with problems", ready, "503 Service Unavailable")

	metrics := h21.Get("http://127.0.0.1:2401/metrics")
	expect(t, "metrics", metrics, 0, 0, `flanneld_peers{mode="direct"} 2`, `flanneld_peers{mode="none"} 1`, `flanneld_peers{mode="tunnel"} 1`,
		"\nflanneld_ready 0\n", `flanneld_backend_info{backend="vxlan",network="172.7.0.0/16"} 1`, "flanneld_lease_expiry_timestamp_seconds 1.",
		`flanneld_etcd_requests_total{operation="put",result="success"} `, `flanneld_kernel_operations_total{kind="route",result="success"} `,
		`flanneld_kernel_apply_duration_seconds_bucket{le="+Inf"} `, `flanneld_repairs_total{kind="route"} 0`)
	h21.Shell("ip route del 172.7.99.0/24 via 10.4.7.254; ip route flush proto 77; iptables -F FORWARD")
	eventually(t, "readiness without that route", ready, "200 OK")
	lab.Eventually(t, 2*soon, "repairs are counted", func() error {
		metrics := h21.Get("http://127.0.0.1:2401/metrics")
		if strings.Contains(metrics, `flanneld_repairs_total{kind="route"} 0`) || strings.Contains(metrics, `flanneld_repairs_total{kind="iptables"} 0`) {
			return errors.New(metrics)
		}
		return nil
	})

	c.etcd.Stop()
	eventually(t, "readiness without etcd", ready, "503 Service Unavailable")
	out, code = runCommand(t, h21.Host, "status")
	expect(t, "without etcd", out, code, 1, "not ready", "cannot be read\n", "the list of peers may be old: ", "172.7.22.0/24  10.4.7.22  vxlan    direct, by ens33      in place  ")
	c.etcd.Start()
	eventually(t, "readiness with etcd again", ready, "200 OK")
}

// Before the lease, and where it cannot be had, it says what is missing.
func TestStatusBeforeTheLease(t *testing.T) {
	c := start(t, "")
	h := c.join("hdss7-21", "--healthz-port=2401")
	lab.Eventually(t, soon, "an answer", func() error {
		out, code := runCommand(t, h.Host, "status")
		if code != 1 || !strings.Contains(out, "no lease: there is no config key yet") {
			return errors.New(out)
		}
		return nil
	})
	if metrics := h.Get("http://127.0.0.1:2401/metrics"); !strings.Contains(metrics, "\nflanneld_ready 0\n") {
		t.Error(metrics)
	}
	c.etcd.Set(configKey, hostGW)
	h.daemon.WaitReady()
	started := time.Now()
	eventually(t, "readiness", func() string { out, _ := h.TryGet("http://127.0.0.1:2401/readyz"); return out }, "ready\n")
	if took := time.Since(started); took > soon {
		t.Errorf("ready %v after READY=1", took)
	}
}
