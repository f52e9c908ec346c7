package e2e

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"flanneld/internal/docs"
	"flanneld/internal/lab"
)

// TestIPv6Page types what docs/ipv6.md says about the keys in etcd, without a question.
func TestIPv6Page(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	etcd := l.EtcdOn(lab.EtcdOptions{}, l.Host("hdss7-12", "10.4.7.12/24"))
	login := newMachine(t, l.Host("hdss7-21", "10.4.7.21/24"))
	login.installCommand("FLANNELD_ETCD_ENDPOINTS=" + strings.Join(etcd.Endpoints(), ","))
	for _, step := range []struct {
		block docs.Block
		says  []string
	}{
		{docs.Containing(t, "docs/ipv6.md", "\"172.7.0.0/16\", \"EnableIPv6\": true"), []string{"written: "}},
		{docs.Containing(t, "docs/ipv6.md", "flanneld lease reserve 172.7.21.0/24"), []string{"172.7.21.0/24 and fd00:7:0:21::/64 are reserved for 10.4.7.21 and fd00:4::21"}},
		{docs.Containing(t, "docs/ipv6.md", "\"EnableIPv4\": false"), []string{"IPv4 goes: running hosts", "written: "}},
	} {
		step.block.Text = ". " + profile + "\n" + step.block.Text // as in every login
		said := login.types(step.block)
		for _, part := range step.says {
			if !strings.Contains(said, part) {
				t.Errorf("%s\nprints\n%s\nand not %q", step.block.Text, said, part)
			}
		}
	}
	want := []string{configKey, leases + "172.7.21.0-24&fd00:7:0:21::-64"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(etcd.Keys("/coreos.com/network")))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
