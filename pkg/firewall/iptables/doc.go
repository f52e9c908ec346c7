// Package iptables reads and writes rules with this host's iptables, of either
// flavour, and those of IPv6 in the same way with its ip6tables.
//
// # Which rules are ours
//
// Every rule of ours has the comment "flanneld", and is otherwise the same as
// flannel's always was:
//
//	-A POSTROUTING -s 172.7.0.0/16 -d 172.7.0.0/16 -m comment --comment flanneld -j RETURN
//
// A chain of our own would also identify them, but they would do something else:
// RETURN in the builtin chain ends the translation, RETURN in another chain goes
// back to the builtin chain, where docker's MASQUERADE follows. So every rule with
// that comment is ours, and deleted when it is no longer wanted. Rules of an earlier
// flannel for our network are replaced: a rule that is wanted and has no comment, or
// "flanneld masq"; the four rules of v0.11 if all four are there; the chains
// FLANNEL-POSTRTG and FLANNEL-FWD of 0.28. All other rules belong to other programs
// and are never changed.
//
// # What a kernel lacks
//
// Where rules cannot be written, or turn out as others, each part that they are made of
// is tried by itself in a chain that nothing jumps to ([part]): what the program prints
// is for people. Rules can do without some parts. Without a comment ours are known by
// their form (kindOf): that which the planner itself would give a rule for our network,
// whatever the subnet and the device. In POSTROUTING and FORWARD, where a rule of that
// form may be an operator's, ours are there all together or not at all. Without marks
// peers are known by their devices, without --random-fully ports stay where they can,
// and without the raw or filter table nobody drops anything there. Anything else is the
// error, with the module and the option of the kernel. A refused part is tried again
// after ten minutes, and by every daemon that starts.
//
// # Position in the chain
//
// Our rules are appended, as flannel's were: what an administrator blocks in front
// of them stays blocked. Ours only precede rules that would make them ineffective: a
// REJECT or DROP that packets reach without any condition, a rule that ends nat for
// all packets, and, with the two that keep a packet's addresses, a translation that
// depends only on addresses and interfaces, such as docker's
// "-s 172.7.21.0/24 ! -o docker0 -j MASQUERADE". These are searched for all packets
// between containers at once (class), also behind jumps.
//
// The two that masquerade follow whatever translates some of their packets to another
// address, an operator's SNAT for one, wherever he puts it and whenever. So of what
// leaves the network, ours only decide what nobody else does. Where somebody else
// masquerades as well, it does not matter who does. Unless the one and the other
// contradict, all four stand together in flannel's order.
//
// With tables of nftables, ours are in FORWARD only where something in iptables drops
// packets. Then they stay until the daemon starts again: ufw, too, takes its rules away
// for a while.
//
// All other rules may be inserted in front at any time, so that there is no contention
// with a program that wants its rules to come first.
//
// docker 28 and later drop in their chains what does not come from the bridge.
// Then our rules accept packets between peers and containers in DOCKER-USER, which
// dockerd jumps to first and leaves to the operator; they follow the operator's
// rules there. In the raw table, where docker has a rule for each container, ours
// precede the first of them. Once written, they stay without those drops, as long as there
// are peers: a dockerd that starts takes its chains away and writes them again over seconds,
// and rules that go and come with them come too late for new connections. Packets from peers are recognized by their mark (see
// package firewall).
//
// # How rules are written
//
// Each pass reads all rules with iptables-save and compares. If anything differs in
// a chain, one run of iptables-restore --noflush replaces our rules there. The kernel
// applies such an update atomically, so no packet sees half of them and no connection
// gets the wrong address. iptables-legacy and iptables-nft behave alike in this
// (measured with 1.8.9). go-iptables, which knows the version and its features, has
// no such update.
package iptables
