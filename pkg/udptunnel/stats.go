package udptunnel

import "sync/atomic"

// Reason is why a packet was dropped.
type Reason int

// The reasons. Garbage is a datagram that is no valid IPv4 packet from one host to
// another, NoRoute a packet for which no peer is there, Expired one whose time to
// live ended here, Refused one that the network stack did not take from us
// (a firewall's rule, no route to the peer, no memory).
const (
	Garbage Reason = iota
	NoRoute
	Expired
	Refused
	reasons
)

// String is the reason as metrics name it.
func (r Reason) String() string { return [...]string{"garbage", "no route", "expired", "refused"}[r] }

// Reasons are all that there are.
func Reasons() []Reason { return []Reason{Garbage, NoRoute, Expired, Refused} }

// Traffic is what went in one direction since the tunnel was opened. Packets and
// bytes are those of the containers, without the datagrams' headers.
type Traffic struct {
	Packets, Bytes uint64
	Dropped        [reasons]uint64 // packets by Reason
}

// Stats are a tunnel's counters.
type Stats struct {
	Out Traffic // from the device to peers
	In  Traffic // from peers to the device
}

// counters are one direction's: its loop adds, everybody reads.
type counters struct {
	packets, bytes atomic.Uint64
	dropped        [reasons]atomic.Uint64
}

func (c *counters) carried(packets, bytes int) {
	c.packets.Add(uint64(packets))
	c.bytes.Add(uint64(bytes))
}

func (c *counters) drop(r Reason, packets int) { c.dropped[r].Add(uint64(packets)) }

func (c *counters) read() Traffic {
	t := Traffic{Packets: c.packets.Load(), Bytes: c.bytes.Load()}
	for r := range c.dropped {
		t.Dropped[r] = c.dropped[r].Load()
	}
	return t
}
