package wireguard

import (
	"encoding/json"
	"strconv"
	"strings"

	"flanneld/pkg/subnet"
	"flanneld/pkg/wgdevice"
)

// end is that of a host's tunnel, as its lease says.
type end struct {
	key  wgdevice.Key
	port uint16 // UDP; 0: it is not said
}

// wireData is what a lease carries of it.
type wireData struct {
	PublicKey string
	Port      uint16
}

// readEnd reads it, from a lease of whichever type: one of another has it too while its host changes
// from one to the other. False where there is none.
func readEnd(a *subnet.Attrs) (end, bool) {
	if a.BackendData == "" {
		return end{}, false
	}
	data, quick := usual(a.BackendData)
	if !quick && json.Unmarshal([]byte(a.BackendData), &data) != nil {
		return end{}, false
	}
	key, err := wgdevice.ParseKey(data.PublicKey)
	return end{key, data.Port}, err == nil && !key.IsZero()
}

// usual reads the form that nearly all leases have: decoding JSON takes ten times as long.
func usual(text string) (d wireData, ok bool) {
	text, begins := strings.CutPrefix(text, `{"PublicKey":"`)
	text, ends := strings.CutSuffix(text, `}`)
	key, port, both := strings.Cut(text, `","Port":`)
	n, err := strconv.ParseUint(port, 10, 16)
	return wireData{key, uint16(n)}, begins && ends && both && err == nil
}

// otherPort is where hosts have the other family's device, 0 where one is for both. A peer that says it
// has one for both as yet, or already: no device of a single family may shake hands with that. A host
// has one key, so the peer would take it for our device of the other family, and send that one's packets here.
func (b *wireguard) otherPort() uint16 {
	switch {
	case b.options.Mode != separate:
		return 0
	case b.port == b.options.ListenPort:
		return uint16(b.options.ListenPortV6)
	}
	return uint16(b.options.ListenPort)
}
