// Package ipmasq holds the iptables rules that containers need, as data, and
// the Keeper that keeps them in the kernel.
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
// more. A rule that is wanted and stands there without a comment, or with one
// of a later flannel ("flanneld masq"), was written by a flannel before us and
// is replaced by ours. Any other rule is somebody else's and never touched.
//
// # Where it stands
//
// Our rules are appended, as flannel did: what an administrator or docker's
// DOCKER-USER chain blocks in front of them stays blocked, and a translation
// written by hand for a special case goes on working. Only rules that would
// take the effect away from ours must stand behind them: a REJECT or DROP
// without any condition, and a translation that, by nothing but addresses and
// interfaces, covers traffic from container to container, such as docker's
// "-s 172.7.21.0/24 ! -o docker0 -j MASQUERADE". Everything else may be put in
// front at any time, so that no tug of war begins with a program that likes to
// be first. What happens within other programs' chains is not looked at.
//
// # How it is written
//
// Each pass lists a chain and compares. If anything differs, one run of
// iptables-restore --noflush replaces our rules: the kernel takes such an
// update as a whole, so no packet meets half of them and no connection is
// bound to the wrong address. iptables-legacy and iptables-nft behave alike in
// this (measured with 1.8.9); go-iptables, which finds, lists and waits for the
// lock, offers no such update.
package ipmasq
