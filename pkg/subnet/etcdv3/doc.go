// Package etcdv3 keeps flanneld's keys in etcd, by its v3 API: gRPC, which etcd
// serves since 3.0, and nothing else since 3.6. Keys and values are those of
// flannel 0.28, so that both can share a cluster.
//
// # What the API promises, and what it does not
//
// Every write in the cluster, of whatever key, raises one revision. A key
// carries the revision of its creation and of its last write; a transaction
// compares the latter and writes. A read goes through the leader, so it shows
// every earlier write; a member that has lost the others cannot answer it.
//
// A watch is a stream, which is asked for its progress every few seconds (see
// pulse; etcd answers that since 3.4). It shows every event after a revision, as long as the
// cluster has not been compacted beyond it. A member that has lost the leader
// for some seconds ends the streams that ask for it (see outgoing), so a watch
// does not stand at a member that hears of nothing.
//
// A key has no lifetime of its own: it belongs to an etcd lease, which is called
// a grant here, as lease means a host's hold on a subnet. A grant has the
// lifetime for which it was made, and renewing it gives it that again, without
// an event. Another lifetime takes another grant, and so a write. Each of our
// keys has a grant of its own; the one that a write replaces is revoked, unless
// somebody has hung other keys on it. A grant whose write was lost ends by
// itself.
//
// A list does not tell lifetimes: to ask for each would be a request for each
// host of the cluster, by each host of the cluster. So an Entry's TTL is known
// where this Registry has made or renewed the grant, and otherwise is
// [subnet.UnknownTTL]. ListExact asks.
//
// # What client/v3 is used for
//
// Its connection: the choice among endpoints, and the users' tokens. Its Watcher
// is not: it goes on by itself after a break, also where the store was replaced
// by another one meanwhile, and then waits in silence for a revision of the old
// one. Neither is its Lessor, which asks without pause where nobody answers.
package etcdv3
