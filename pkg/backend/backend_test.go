package backend_test

import (
	"net/netip"
	"testing"

	"flanneld/pkg/backend"
	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet"
)

// TestPlainRoute leads to the peer itself, whose route it is.
func TestPlainRoute(t *testing.T) {
	peer := subnet.Lease{Subnet: netip.MustParsePrefix("172.7.22.0/24"), Attrs: subnet.Attrs{PublicIP: netip.MustParseAddr("10.4.7.22")}}
	want := kernel.Route{Dst: peer.Subnet, Via: peer.PublicIP, Dev: "ens33", Peer: peer.PublicIP}
	if got := backend.PlainRoute(&peer, "ens33"); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
