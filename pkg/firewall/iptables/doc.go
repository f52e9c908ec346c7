// Package iptables reads and writes rules by this host's iptables, of either
// flavour.
//
// # Whose rule is it
//
// Every rule of ours carries the comment "flanneld", and otherwise reads as
// flannel's always did:
//
//	-A POSTROUTING -s 172.7.0.0/16 -d 172.7.0.0/16 -m comment --comment flanneld -j RETURN
//
// A chain of our own would mark them as well, but change what they do: RETURN
// in the builtin chain ends the translation, RETURN in a chain jumped to goes
// back to the builtin chain, where docker's MASQUERADE waits for the packet.
// So a rule with that comment is ours, to be removed when it is not wanted any
// more. What an earlier flannel wrote for our network is replaced: a rule that is
// wanted and has no comment, or "flanneld masq"; the four rules of v0.11 where all
// four are there; the chains FLANNEL-POSTRTG and FLANNEL-FWD of 0.28. Any other
// rule is somebody else's and never touched.
//
// # Where it stands
//
// Our rules are appended, as flannel did: what an administrator blocks in front
// of them stays blocked, and a translation written by hand for a special case
// goes on working. Only what would take the effect away from ours must stand
// behind them. That is asked of all packets from container to container at once
// (class), also behind jumps: a REJECT or DROP to which packets come without any
// condition, and a translation by nothing but addresses and interfaces, such as
// docker's "-s 172.7.21.0/24 ! -o docker0 -j MASQUERADE". Everything else may be
// put in front at any time, so that no contention begins with a program that
// likes to be first.
//
// docker 28 and later drop in their chains what does not come from the bridge.
// Where they do, what peers and containers send each other passes in
// DOCKER-USER, which dockerd calls first and leaves to the operator; behind what
// the operator wrote there. In the raw table, where docker singles out one
// container after the other, ours stand in front of the first such rule. What
// comes from peers is told by its mark (see package firewall).
//
// # How it is written
//
// Each pass reads all rules by iptables-save and compares. If anything differs in
// a chain, one run of iptables-restore --noflush replaces our rules there: the
// kernel takes such an update as a whole, so no packet meets half of them and no
// connection is bound to the wrong address. iptables-legacy and iptables-nft
// behave alike in this (measured with 1.8.9); go-iptables, which knows the
// version and what it can do, offers no such update.
package iptables
