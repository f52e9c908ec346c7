package status

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"flanneld/pkg/subnet"
)

// TestLeasesAreMarked: what is unusual about a lease stands beside it.
func TestLeasesAreMarked(t *testing.T) {
	now := time.Now()
	const by22 = `{"PublicIP":"10.4.7.22","BackendType":"host-gw"}`
	s := FromStore(subnet.Snapshot{Entries: []subnet.Entry{
		{Key: "config", Value: `{"Network":"172.7.0.0/16","Backend":{"Type":"host-gw"}}`, Modified: 1},
		{Key: "subnets/10.9.8.0-24", Value: by22, TTL: time.Hour, Created: 2, Modified: 2},
		{Key: "subnets/172.7.22.0-24", Value: by22, TTL: time.Hour, Created: 3, Modified: 3},
		{Key: "subnets/172.7.22.0-24&fc00:7::-64", Value: by22, TTL: time.Hour, Created: 4, Modified: 4},
		{Key: "subnets/0.0.0.0-0&fc00:7::-64", Value: `{"PublicIP":"0.0.0.0"}`, TTL: time.Hour, Created: 5, Modified: 5},
	}}.Read(now), Etcd{}, now)
	want := `
SUBNET         PUBLIC IP  BACKEND  LEASE
10.9.8.0/24    10.4.7.22  host-gw  lease, outside of the network
172.7.22.0/24  10.4.7.22  host-gw  lease
172.7.22.0/24  10.4.7.22  host-gw  lease, key subnets/172.7.22.0-24&fc00:7::-64
fc00:7::/64    -          host-gw  lease
`
	if diff := cmp.Diff(want, "\n"+leases(t, s)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	problems := strings.Join(texts(s), "\n")
	if !strings.Contains(problems, "the lease of 10.9.8.0/24 does not fit") || !strings.Contains(problems, `0.0.0.0-0&fc00:7::-64" is no lease: it has PublicIP "0.0.0.0"`) ||
		len(s.Conditions) != 2 {
		t.Error(problems)
	}
}

// leases is the table, without what depends on the clock.
func leases(t *testing.T, s Status) string {
	t.Helper()
	var out strings.Builder
	if err := s.PrintLeases(&out); err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(` until [^(]*\(1h0m\)`).ReplaceAllString(out.String(), "")
}

func texts(s Status) (out []string) {
	for _, c := range s.Conditions {
		out = append(out, c.Text())
	}
	return out
}

// TestLeasesOfBothFamilies has hosts of IPv4, of IPv6 and of both in one cluster, whatever the config says.
func TestLeasesOfBothFamilies(t *testing.T) {
	const (
		four = `"EnableIPv4":true,"Network":"172.7.0.0/16"`
		six  = `"EnableIPv6":true,"IPv6Network":"fd00:7::/48"`
		want = `
SUBNET            PUBLIC IP   BACKEND  LEASE
172.7.22.0/24     10.4.7.22   host-gw  lease
172.7.23.0/24     10.4.7.23   host-gw  lease
fd00:7:0:23::/64  fd00:4::23  host-gw  lease
fd00:7:0:24::/64  fd00:4::24  host-gw  lease
`
	)
	now := time.Now()
	for config, problems := range map[string][]string{
		four:                        {"the lease of fd00:7:0:24::/64 is of IPv6 alone, which the config does not use: its host"},
		four + "," + six:            nil,
		`"EnableIPv4":false,` + six: {"the lease of 172.7.22.0/24 is of IPv4 alone, which the config does not use: its host"},
		four + `,"EnableIPv6":true,"IPv6Network":"fd00:8::/48"`: {
			"the lease of 172.7.23.0/24 and fd00:7:0:23::/64 does not fit", "the lease of fd00:7:0:24::/64 does not fit"},
	} {
		s := FromStore(subnet.Snapshot{Entries: []subnet.Entry{
			{Key: "config", Value: `{` + config + `,"Backend":{"Type":"host-gw"}}`, Modified: 1},
			{Key: "subnets/172.7.22.0-24", Value: `{"PublicIP":"10.4.7.22","BackendType":"host-gw"}`, TTL: time.Hour, Created: 2, Modified: 2},
			{Key: "subnets/172.7.23.0-24&fd00:7:0:23::-64", Value: `{"PublicIP":"10.4.7.23","PublicIPv6":"fd00:4::23","BackendType":"host-gw"}`, TTL: time.Hour, Created: 3, Modified: 3},
			{Key: "subnets/0.0.0.0-0&fd00:7:0:24::-64", Value: `{"PublicIP":"0.0.0.0","PublicIPv6":"fd00:4::24","BackendType":"host-gw"}`, TTL: time.Hour, Created: 4, Modified: 4},
		}}.Read(now), Etcd{}, now)
		table := leases(t, s)
		if problems != nil { // whose subnets are outside of the network may differ
			table = strings.ReplaceAll(table, ", outside of the network", "")
		}
		if diff := cmp.Diff(want, "\n"+table); diff != "" {
			t.Errorf("%s, -want +got:\n%s", config, diff)
		}
		if (s.IPv6 != nil) != (strings.Contains(config, "172.7") && strings.Contains(config, six[:17])) {
			t.Errorf("%s: %+v", config, s.IPv6)
		}
		got := texts(s)
		if len(got) != len(problems) {
			t.Errorf("%s: %q, want %q", config, got, problems)
		}
		for i := range problems {
			if i < len(got) && !strings.HasPrefix(got[i], problems[i]) {
				t.Errorf("%s: %q, want %q", config, got[i], problems[i])
			}
		}
	}
}
