package vxlan

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"

	"flanneld/pkg/backend"
	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet"
)

// wireData is what a vxlan lease carries.
type wireData struct {
	VNI     int64
	VtepMAC string
}

const wirePrefix, wireSuffix = `{"VtepMAC":"`, `"}`

func leaseData(m kernel.MAC) string { return wirePrefix + m.String() + wireSuffix }

// vtepMAC reads a lease's VTEP; false where it has none that packets can be
// sent to. A lease of this backend that has none is wrong; one of another has one while its
// host changes from one to the other.
func vtepMAC(a *subnet.Attrs) (kernel.MAC, bool) {
	if a.BackendData == "" {
		return kernel.MAC{}, false
	}
	text, begins := strings.CutPrefix(a.BackendData, wirePrefix)
	text, ends := strings.CutSuffix(text, wireSuffix)
	if m, err := kernel.ParseMAC(text); err == nil && begins && ends {
		return m, true // as nearly all are; decoding JSON takes ten times as long
	}
	var data wireData
	if json.Unmarshal([]byte(a.BackendData), &data) != nil {
		return kernel.MAC{}, false
	}
	m, err := kernel.ParseMAC(data.VtepMAC)
	return m, err == nil && data.VNI >= 0 && data.VNI <= maxVNI
}

// chooseMAC keeps the MAC that peers may know: that of a device in use, also of one that
// has to be made anew, else the lease's, else a new one of those that nobody assigns
// (IEEE 802: the second lowest bit of the first byte).
func chooseMAC(d kernel.Device, h backend.Host) (kernel.MAC, error) {
	leased, isLeased := vtepMAC(&h.Lease)
	for _, l := range h.Links {
		known := isLeased && l.MAC == leased || h.Others == nil || !h.Others(l.MAC)
		if isOurs(l, d) && l.MAC.Unicast() && known {
			return l.MAC, nil
		}
	}
	if isLeased {
		return leased, nil
	}
	var m kernel.MAC
	if _, err := rand.Read(m[:]); err != nil {
		return m, fmt.Errorf("draw a random MAC address: %w", err)
	}
	m[0] = m[0]&^1 | 2
	return m, nil
}

// isOurs tells of a link whether it is d of an earlier run, or of flannel's: what else
// it was made for may have changed with the host, as its addresses do.
func isOurs(l kernel.Link, d kernel.Device) bool {
	has, isVXLAN := l.Kind.(kernel.VXLAN)
	wants, _ := d.Kind.(kernel.VXLAN)
	return isVXLAN && l.Name == d.Name && (l.Alias == kernel.Alias || has.VNI == wants.VNI)
}
