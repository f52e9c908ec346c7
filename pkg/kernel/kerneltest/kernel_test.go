package kerneltest_test

import (
	"strings"
	"testing"

	"flanneld/pkg/kernel/kerneltest"
)

// That the fake behaves as Linux does is what package kernel's tests are about:
// they play every script on both.

func run(t *testing.T, k *kerneltest.Kernel, commands string) {
	t.Helper()
	for line := range strings.Lines(commands) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if err := k.Run(line); err != nil {
			t.Fatal(err)
		}
	}
}

// What a kernel prints, another one takes, and prints the same.
func TestStringIsCommands(t *testing.T) {
	const state = `ip link add flannel.1 address 0a:39:13:5c:8e:15 mtu 1450 type vxlan id 1 local 10.4.7.21 dev ens33 dstport 8472 nolearning alias flanneld up
		ip link add flannel.2 address 0a:39:13:5c:8e:15 mtu 1400 type vxlan id 2 local 10.4.7.21 dev ens33 dstport 4789 gbp
		ip addr add 172.7.21.0/32 dev flannel.1
		ip neigh add 172.7.22.0 lladdr 0a:39:13:5c:8e:16 dev flannel.1 nud permanent
		ip neigh add 172.7.23.0 lladdr 0a:39:13:5c:8e:17 dev flannel.1 nud reachable
		bridge fdb add 0a:39:13:5c:8e:16 dev flannel.1 dst 10.4.7.22 self permanent
		bridge fdb add 0a:39:13:5c:8e:17 dev flannel.1 dst 10.4.7.23 self dynamic
		ip route add 172.7.22.0/24 via 172.7.22.0 dev flannel.1 onlink proto 77
		ip route add 172.7.23.0/24 via 10.4.7.23 dev ens33 proto 3 metric 5`
	k := kerneltest.New("ens33", 1500, "10.4.7.21/24")
	run(t, k, state)
	for line := range strings.Lines(state) {
		if line = strings.TrimSpace(line); !strings.Contains("\n"+k.String()+"\n", "\n"+line+"\n") {
			t.Errorf("no %q in\n%s", line, k)
		}
	}
	if n := strings.Count(k.String(), "\n"); n != 8 {
		t.Errorf("%d lines too many:\n%s", n-8, k)
	}
}

func TestWhatTheFakeRefuses(t *testing.T) {
	k := kerneltest.New("ens33", 1500, "10.4.7.21/24")
	run(t, k, `
		ip link add flannel.1 type vxlan id 1 local 10.4.7.21 dev ens33 dstport 8472 nolearning
		ip route add 172.7.22.0/24 via 10.4.7.22`)
	before := k.String()
	for command, want := range map[string]string{
		``:                                                               "invalid argument",
		`reboot now please yes`:                                          "invalid argument",
		`ip link frobnicate flannel.1`:                                   "invalid argument",
		`ip link add flannel.1 type bridge`:                              "file exists",
		`ip link set flannel.9 up`:                                       "no such device",
		`ip link del flannel.9`:                                          "no such device",
		`ip addr add 10.0.0.1/24 dev ens99`:                              "no such device",
		`ip addr add nonsense dev ens33`:                                 "nonsense",
		`ip route add nonsense/24 dev ens33`:                             "nonsense",
		`ip route add 172.7.22.0/24 via 10.4.7.23`:                       "file exists",
		`ip route add 10.4.7.0/24 via 10.4.7.23`:                         "file exists",
		`ip route del 172.7.99.0/24`:                                     "no such process",
		`ip route add 172.7.23.0/24 via 192.168.1.1 dev ens33`:           "network is unreachable",
		`ip route add 172.7.23.0/24 via 172.7.23.0 dev flannel.1 onlink`: "network is down",
		`ip neigh add 172.7.22.0 lladdr 0a:39:13:5c:8e:16 dev flannel.9 nud permanent`:                           "no such device",
		`bridge fdb add 0a:39:13:5c:8e dev flannel.1 dst 10.4.7.22 self permanent`:                               "not a MAC address",
		`bridge fdb add 0a:39:13:5c:8e:16 dev flannel.9 dst 10.4.7.22 self permanent`:                            "no such device",
		`ip link add other type vxlan id 1 local 10.4.7.21 dev ens33 dstport 8472 nolearning`:                    "file exists",
		`ip link add other type vxlan id 2 local 10.4.7.21 dev ens99 dstport 8472 nolearning`:                    "no such device",
		`ip link add other type vxlan id two local 10.4.7.21 dev ens33 dstport 8472 nolearning address 0a:1:1:1`: "two",
	} {
		if err := k.Run(command); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, not %q", command, err, want)
		}
	}
	if k.String() != before {
		t.Errorf("changed nevertheless:\n%s", k)
	}
}
