package main

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"flanneld/internal/cli"
	"flanneld/internal/lab"
)

// TestReserveWants: each subnet has its host's address.
func TestReserveWants(t *testing.T) {
	const form = "flanneld lease reserve needs a subnet and a public IP, such as 172.7.21.0/24 10.4.7.21, or two of both, one of each family"
	const host = " address at which other hosts reach the one that the subnet is for"
	for args, want := range map[string]string{
		"":                                            form,
		"172.7.21.0/24":                               form,
		"10.4.7.21":                                   form,
		"172.7.21.0 10.4.7.21":                        form,
		"172.7.21.0/24 fd00:4::21":                    form,
		"fd00:7:0:21::/64 10.4.7.21":                  form,
		"172.7.21.0/24 10.4.7.21 10.4.7.22":           form,
		"172.7.21.0/24 172.7.22.0/24":                 form,
		"172.7.21.0/24 10.4.7.21 fd00:4::21":          form,
		"172.7.21.0/24 10.4.7.21 fd00:7::/64":         form,
		"172.7.21.0/24 172.7.22.0/24 1.1.1.1 1.1.1.2": form,
		"172.7.21.0/33 10.4.7.21":                     `"172.7.21.0/33" must be a subnet such as 172.7.21.0/24`,
		"::ffff:172.7.21.0/120 10.4.7.21":             `"::ffff:172.7.21.0/120" must be a subnet such as 172.7.21.0/24`,
		"172.7.21.0/24 host":                          `"host" must be the IPv4` + host,
		"172.7.21.0/24 127.0.0.1":                     `"127.0.0.1" must be the IPv4` + host,
		"fd00:7:0:21::/64 fe80::1":                    `"fe80::1" must be the IPv6` + host,
		"172.7.21.0/24 ::ffff:10.4.7.21":              `"::ffff:10.4.7.21" must be the IPv6` + host,
	} {
		err := newProgram().run(t.Context(), append([]string{"lease", "reserve", "--etcd-endpoints=http://127.0.0.1:1"}, strings.Fields(args)...))
		var e *cli.Exit
		if !errors.As(err, &e) || e.Code != cli.Usage || e.Text != want {
			t.Errorf("%q: %v, want %s", args, err, want)
		}
	}
}

// TestCommandsOfBothFamilies has a config of both, and hosts of one and of both, in each of etcd's stores.
func TestCommandsOfBothFamilies(t *testing.T) {
	t.Parallel()
	const config = `{"Network":"172.7.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:7::/48","Backend":{"Type":"host-gw"}}`
	const prefix = "/coreos.com/network/"
	etcd := lab.StartEtcd(t, lab.EtcdOptions{})
	for _, tt := range []struct{ args, says string }{
		{"config set --etcd-api=3 " + config, "written: "},
		{"config check", "network  172.7.0.0/16\nsubnets  /24, from 172.7.1.0 to 172.7.255.0\n" +
			"network  fd00:7::/48\nsubnets  /64, from fd00:7:0:1:: to fd00:7:0:ffff::\nbackend  host-gw\n"},
		{"lease reserve 172.7.21.0/24 10.4.7.21", "172.7.21.0/24 is reserved for 10.4.7.21"},
		{"lease reserve 172.7.22.0/24 fd00:7:0:22::/64 10.4.7.22 fd00:4::22", "172.7.22.0/24 and fd00:7:0:22::/64 are reserved for 10.4.7.22 and fd00:4::22"},
		{"lease reserve fd00:4::23 fd00:7:0:23::/64", "fd00:7:0:23::/64 is reserved for fd00:4::23"},
		{"lease reserve 172.7.24.0/24 10.4.7.24 fd00:7:0:24::/64 fd00:4::24", "are reserved"},
		{"lease release --now --yes fd00:7:0:24::/64", "the lease of 172.7.24.0/24 and fd00:7:0:24::/64 is removed"},
		{"lease list", "\n172.7.21.0/24     10.4.7.21   host-gw  reserved, without expiry\n" +
			"172.7.22.0/24     10.4.7.22   host-gw  reserved, without expiry\n" +
			"fd00:7:0:22::/64  fd00:4::22  host-gw  reserved, without expiry\n" +
			"fd00:7:0:23::/64  fd00:4::23  host-gw  reserved, without expiry\n"},
		{"migrate --from=3 --to=2 --yes", "All is copied"},
		{"lease release --etcd-api=2 fd00:7:0:23::/64", "fd00:7:0:23::/64 is no longer reserved"},
		{"lease release --etcd-api=2 172.7.22.0-24&fd00:7:0:22::-64", "172.7.22.0/24 and fd00:7:0:22::/64 are no longer reserved"},
	} {
		if out, err := runOn(t, etcd, strings.Fields(tt.args)...); err != nil || !strings.Contains(out, tt.says) {
			t.Fatalf("%s: %v\n%s\nwant\n%s", tt.args, err, out, tt.says)
		}
	}
	want := []string{
		prefix + "config", prefix + "subnets/0.0.0.0-0&fd00:7:0:23::-64", prefix + "subnets/172.7.21.0-24", prefix + "subnets/172.7.22.0-24&fd00:7:0:22::-64",
	}
	for _, api := range []int{2, 3} {
		keys := etcd.API(api).Keys("/coreos.com/network")
		names := slices.DeleteFunc(slices.Sorted(maps.Keys(keys)), func(k string) bool { return k == prefix+"api" })
		if diff := cmp.Diff(want, names); diff != "" {
			t.Errorf("v%d, -want +got:\n%s", api, diff)
		}
		if got := keys[want[3]]; got != `{"PublicIP":"10.4.7.22","PublicIPv6":"fd00:4::22","BackendType":"host-gw"}` {
			t.Errorf("v%d: %s", api, got)
		}
	}
}
