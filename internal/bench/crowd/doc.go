// Package crowd behaves towards etcd as thousands of daemons do, in one process.
//
// # What is simulated, and what is not
//
// Each simulated host is a real [subnet.Manager] over a real registry (etcdauto, as in the
// daemon with --etcd-api), with its own connections. So every request, watch, pause and
// decision is the daemon's own code, whatever that is today; nothing here says what a host
// does. What cannot be had 10,000 times in one process is the Manager's replica of 10,000
// leases. So between both is a registry of this package, thin, that lets through all that
// the Manager asks, and of what etcd answers only what decides the Manager's next step:
//
//   - the config key, the host's own lease, and each key that it has tried to write;
//   - how far the store has come: with each of those, and where a watch ends;
//   - while the host has no lease, which subnets are taken. All hosts share that list, and
//     each is given as much of it as it has heard of, as [subnet.Claim.Reserved]: so hosts
//     that start together lose as many races for a subnet as real ones do.
//
// [TestAsRealHosts] compares both kinds at one etcd.
//
// # What is checked
//
// Nothing is dropped unread. Of each entry and event a digest is made, and compared with what
// the first host was told at that index (History). A host keeps the index of its last list,
// the sum of what was listed, and the sum of the events since. At the end these must be what
// follows from the history for each host, and the history's end must be what the store holds.
// A lost, repeated, reordered or altered event changes a sum. Some hosts are whole: Managers
// with their replica, which must show the store's leases.
//
// # What differs from as many machines
//
// The hosts share the processors with each other and with etcd, so seconds are an upper bound;
// etcd's CPU time, its memory, the requests and the bytes are what many machines would cost.
// Etcd sees one address with many ports. A subnet that was leased once counts as taken for
// good. The kernel's part, flannel's files and the agent's pauses are not there: none of them
// asks etcd.
package crowd
