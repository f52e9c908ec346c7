// Package firewall keeps the rules in place that containers need. What they are
// is [rules.Wanted]; the packages iptables and nftables read and write them.
//
// One [Reconciler] drives both, so that a change from one to the other, and a host
// that has both, need no special code: each writer gets what is wanted, and removes
// its other rules. IPv4 and IPv6 have a Reconciler each, with writers of its own: the
// rules of a family depend on nothing of the other's, and each can fail, or not be
// there, by itself. What follows holds for both.
//
// # Which of the two
//
// An accept in one base chain does not overrule a drop in another. So rules that
// let packets pass must stand where another program would drop them, whichever
// of the two flanneld is configured to use: docker 28 and later drop in chains of
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
// is such a device only where routes are direct, or were or will be. Sets in our
// nftables table recognize peers. It marks their packets before any other table
// sees them, and the rules in iptables accept marked packets. A lookup costs the
// same for thousands of peers as for one.
//
// Packets of a neighbour that uses its own address are dropped as before. A
// neighbour that forges a peer's address gets a packet in, but no answer: the answer
// goes to the peer. With direct routes anybody on the link can do that, and with a
// tunnel anybody who reaches its UDP port, as vxlan does not authenticate the sender.
// rp_filter does not help: it sees the interface that it expects.
//
// A kernel without nf_tables has no marks, nor has one without what sets or matches
// them, such as sets: there, packets pass that have an address of the network and arrive
// by a device of some peer. Whether they can be set is asked before rules match them.
package firewall
