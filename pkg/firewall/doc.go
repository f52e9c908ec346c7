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
// carries a mark, --bridge-accept-fwmark.
//
// # What comes past docker's protection
//
// docker 28 drops in the raw table, and in filter, whatever comes to a
// container's own address from elsewhere than its bridge, so that a neighbour of
// the host cannot reach ports that were not published. We let pass what comes
// from a peer by a device over which we route to peers, and nothing else: from an
// address of its subnet, and by the external interface from its host's address
// too, which a container has that its docker masquerades. The external interface
// is such a device only where routes are plain, or were or will be. Peers are told
// by sets of our table of nftables, which marks their packets in front of
// everything; the rules in iptables let marked packets pass. Thousands of peers
// cost a packet no more than one.
//
// A neighbour who uses its own address is dropped as before. One that forges a
// peer's address gets a packet in, and no answer out: that goes to the peer. With
// plain routes the link lets it, and with a tunnel its UDP port, as vxlan proves
// nothing of the sender. rp_filter sees the interface that it expects.
//
// A kernel without nf_tables has no marks: there, what has an address of the
// network and comes by a device of some peer passes.
package firewall
