package check

// Reason is why a peer is not reached, as far as can be told from this host. Scripts read it.
type Reason string

// What the packets to a peer show. Findings of the steps before them have those steps' names.
const (
	HostSilent      Reason = "host-silent"         // the peer's host does not answer at all
	ReversePath     Reason = "rp-filter"           // this host drops the answers
	NotPassedOn     Reason = "not-passed-on"       // the peer's host answers, and nothing behind it
	NetworkDrops    Reason = "network-drops"       // what is between drops containers' addresses
	RouterDrops     Reason = "router-drops"        // of the tunnel, before this host
	NoTunnel        Reason = "nobody-listens"      // at the peer's UDP port
	TunnelSilent    Reason = "tunnel-silent"       // the peer's host answers, and the tunnel does not
	NotByKey        Reason = "not-by-key"          // WireGuard shakes hands, and nothing comes of it
	PathMTU         Reason = "path-mtu"            // long packets get lost
	NoTCP           Reason = "no-tcp"              // and pings arrive
	Rejected        Reason = "rejected"            // by the peer's firewall
	Dropped         Reason = "dropped"             // likewise, or its bridge is down
	BridgeDown      Reason = "bridge-down"         // the peer's
	NotForwarding   Reason = "not-forwarding"      // the peer
	NoBridge        Reason = "no-bridge"           // the peer has none yet
	NotSeen         Reason = "not-seen"            // whether the peer passes packets on
	NoTCPInside     Reason = "no-tcp-to-container" // and pings arrive there
	ContainerSilent Reason = "container-silent"    // its host finds it
)

// because is the finding with its reason.
func (x Finding) because(r Reason) Finding {
	x.reason = r
	return x
}
