package status

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func probed(n int, state string, lost int) Probe {
	p := Probe{Subnet: netip.MustParsePrefix(fmt.Sprintf("172.7.%d.0/24", n)), State: state, Sent: 32, Lost: lost, PathMTU: 1300}
	if state != Well {
		p.Since = now.Add(-3 * time.Minute)
	}
	return p
}

func TestPrintProbes(t *testing.T) {
	for _, tt := range []struct {
		name  string
		peers []Probe
		want  string
	}{
		{"none", nil, "probes       no peer was probed yet\n"},
		{"one", []Probe{probed(22, Well, 1)}, "probes       1 peer probed, all well\n"},
		{"all well", []Probe{probed(22, Well, 0), probed(23, Well, 0)}, "probes       2 peers probed, all well\n"},
		{"one each", []Probe{probed(22, Silent, 32), probed(23, Lossy, 5), probed(24, Narrow, 0), probed(25, Well, 0)},
			`probes       4 peers probed, 1 does not answer, 1 loses packets, 1 gets no full packets
             172.7.22.0/24 does not answer (for 3m0s): flanneld check 172.7.22.0/24
             172.7.23.0/24 lost 5 of 32 packets (for 3m0s): flanneld check 172.7.23.0/24
             172.7.24.0/24 gets packets of up to 1300 bytes (for 3m0s): flanneld check 172.7.24.0/24
`},
		{"many", []Probe{probed(1, Silent, 9), probed(2, Silent, 9), probed(3, Lossy, 9), probed(4, Lossy, 8), probed(5, Narrow, 8), probed(6, Narrow, 7)},
			`probes       6 peers probed, 2 do not answer, 2 lose packets, 2 get no full packets
             172.7.1.0/24 does not answer (for 3m0s): flanneld check 172.7.1.0/24
             172.7.2.0/24 does not answer (for 3m0s): flanneld check 172.7.2.0/24
             172.7.3.0/24 lost 9 of 32 packets (for 3m0s): flanneld check 172.7.3.0/24
             172.7.4.0/24 lost 8 of 32 packets (for 3m0s): flanneld check 172.7.4.0/24
             172.7.5.0/24 gets packets of up to 1300 bytes (for 3m0s): flanneld check 172.7.5.0/24
`},
	} {
		s := full()
		s.Probes = &Probes{Every: 10, Peers: tt.peers}
		got := text(t, s, false)
		_, got, _ = strings.Cut(got, "ip route add …\n")
		got, _, _ = strings.Cut(got, "\nPEER")
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s, -want +got:\n%s", tt.name, diff)
		}
	}
	if got := text(t, full(), false); strings.Contains(got, "probe") {
		t.Errorf("without probes:\n%s", got)
	}
	s := full()
	s.Probes = &Probes{Peers: []Probe{probed(22, Silent, 9)}}
	if got := text(t, s, true); !strings.Contains(got, red+"probes       1 peer probed, 1 does not answer"+reset) {
		t.Errorf("without colour:\n%s", got)
	}
}

func TestWorse(t *testing.T) {
	want := []Probe{probed(1, Silent, 3), probed(2, Lossy, 9), probed(3, Lossy, 5), probed(4, Narrow, 0), probed(5, Well, 1), probed(6, Well, 0), probed(7, Well, 0)}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, Worse)
	for i := range want {
		if got[i].Subnet != want[i].Subnet {
			t.Errorf("place %d: %v", i, got[i].Subnet)
		}
	}
}

// TestAmong gives each probe its host's public IP, and leaves out who is no peer any more.
func TestAmong(t *testing.T) {
	all := &Probes{Every: 10, Peers: []Probe{probed(22, Well, 0), probed(99, Well, 0)}}
	got := all.Among(full().Peers)
	if len(got.Peers) != 1 || got.Every != 10 || got.Peers[0].PublicIP != netip.MustParseAddr("10.4.7.22") {
		t.Errorf("%+v", got)
	}
	if all.Peers[0].PublicIP.IsValid() {
		t.Error("what belongs to all is changed")
	}
	if (*Probes)(nil).Among(full().Peers) != nil {
		t.Error("who does not probe has probed")
	}
}
