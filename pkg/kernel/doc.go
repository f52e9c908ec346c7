// Package kernel puts routes, neighbours, forwarding entries, peers and the devices of
// tunnels into the Linux kernel, or beside it, and keeps them there.
//
// A State says what there shall be; a Syncer reads what there is, subtracts,
// and makes the fewest writes. It is the only writer. A Watcher says when
// somebody else wrote; of peers, which nobody announces, Netlink.PeersChanged says it when
// it is asked. The package knows nothing of leases or subnets.
//
// # Whose object is it
//
// What we did not write we never delete or change. The kernel's own marks tell:
//
//   - A route is ours by its protocol number, Protocol. A route of protocol
//     boot, as `ip route add` and older flannels write it, is taken over where
//     it leads exactly where such a flannel would have sent it. One that
//     appears in place of a route of ours was edited by hand and is put right;
//     one that was there before us, or that somebody puts in front of ours, is
//     left alone and reported.
//   - A next hop object is ours by its protocol number and an id of our range,
//     where a route of ours leads to it, or no route does. One that this run
//     wrote and that somebody edited under our routes is put right in place. One
//     to which only others' routes lead is theirs, whatever its number.
//   - A tunnel's device is ours by its alias, Alias. One of the wanted name that
//     is compatible gets the alias and is otherwise left as it is; one that is
//     not is made anew.
//   - A device of user space, whose packets this process carries, is a TUN device with the
//     alias. It outlives the process: the next one takes it up in place, so that its
//     addresses and routes stay. A TUN device without the alias is a stranger's.
//   - All peers of a device of ours are ours: one that is not wanted goes, whoever added it,
//     as it would let a host in that has no lease. Other WireGuard devices are not read.
//   - An address on such a device is ours if we wrote it, or if it is the first
//     one of a subnet of our network, by its whole length, an earlier run's, or
//     with the length of the network, as flannel up to 0.7 wrote it.
//   - Neighbours and forwarding entries have no room for a mark: ours are those
//     that we put in place and, after a restart, those that a route of ours
//     leads to, by the chain route → gateway → neighbour → MAC → entry.
//
// # Families
//
// A State says which families it is about (State.Families). Of another one the pass
// removes what is ours, and once nothing is left, neither reads it nor hears of its
// changes (Conn.Look): a host that needs no IPv6 pays for none.
//
// # Order
//
// A pass follows the packet backwards when it adds (peer, forwarding entry,
// neighbour, next hop object, route), so that no packet finds half a path, and
// forwards when it removes. Peers that are added or changed go to a device in one
// exchange, in which a subnet moves from one to another.
//
// An IPv6 route to a gateway that another route leads elsewhere is refused; so for a
// moment a route to the gateway alone lies beneath it (pavements), and routes without a
// gateway, of which one may be to the whole network, come last.
//
// # Two forms of a route
//
// Where many routes are wanted they are written by next hop objects (Nexthop),
// and plain otherwise, as are those without a gateway. A route that is there is right in
// either form, so nothing is converted. The kernel drops an object, and its routes with it, where the
// object is deleted or its device goes down or loses its carrier; of the routes it
// says nothing.
package kernel
