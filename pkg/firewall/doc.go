// Package firewall keeps the rules in place that containers need. What they are
// is [rules.Wanted]; the packages iptables and nftables read and write them.
//
// One [Reconciler] looks after both, so that a change from one to the other, and
// a host that has both, are no cases of their own: each writer is told what is
// wanted, and takes away what is not.
//
// # Which of the two
//
// An accept in one base chain does not overrule a drop in another. So rules that
// let packets pass must stand where another program would drop them, whichever
// of the two flanneld was told to use: docker 28 and later drop in chains of
// iptables, and there is a chain for the operator in front of them. Only docker
// 29's own tables of nftables have no such place; dockerd then lets pass what
// carries a mark, --bridge-accept-fwmark, and we set it.
//
// # What comes past docker's protection
//
// docker 28 drops in the raw table, and in filter, whatever comes to a
// container's own address from elsewhere than its bridge, so that a neighbour of
// the host cannot reach ports that were not published. We let pass what comes
// from the network to this host's subnet by a device over which we route to
// peers: the tunnel's, and the external interface only where routes are plain.
// A neighbour who uses its own address is dropped as before. One that forges an
// address of the network on a link with plain routes gets a packet in, and no
// answer out: that goes to the peer whose address it is. Where that matters,
// strict rp_filter or the tunnel keeps it out.
package firewall
