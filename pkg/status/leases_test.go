package status

import (
	"strings"
	"testing"
	"time"

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
	var out strings.Builder
	if err := s.PrintLeases(&out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 4 || !strings.HasSuffix(lines[1], ", outside of the network") || strings.Contains(lines[2], "key") ||
		!strings.HasSuffix(lines[3], ", key subnets/172.7.22.0-24&fc00:7::-64") {
		t.Error(out.String())
	}
	for _, c := range s.Conditions {
		if strings.Contains(c.Text(), "0.0.0.0-0") {
			t.Error(c.Text())
		}
	}
}
