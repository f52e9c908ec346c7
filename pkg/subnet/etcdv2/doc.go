// Package etcdv2 keeps flanneld's keys in etcd, by its v2 API: HTTP and JSON
// under /v2/keys (etcd 2.x, and 3.0 to 3.5 with --enable-v2).
//
// # What the API promises, and what it does not
//
// Every write in the cluster, of whatever key, raises one index. A key carries
// the index of its creation and of its last write, by which it is compared and
// swapped. A read with quorum=true goes through the cluster's log, so it shows
// every earlier write; a member that has lost the others cannot answer it.
//
// A watch is a request that is answered with the first event after an index,
// so each event takes a request. The member answers it from its own memory,
// which holds the last 1,000 events of the whole store, also after a restart, and which tells nothing
// new where the member is cut off from the others. Therefore each wait here
// begins at a member that has answered a quorum read since the last one ended,
// and ends after five minutes; in between, the member is asked every five seconds
// for one key from its memory (see prober). The reply's headers come at once and
// say which index the member has reached: what was not told until then did not
// happen. Where a proxy holds the headers back, the watch breaks after 15 seconds:
// it may never tell anything, so a list has to.
//
// Directories are neither listed as entries nor followed event by event: the end
// of one is announced as one event, whatever it held.
//
// # What client/v2 is used for
//
// Its requests, its decoding and its way through several endpoints. Its Watcher
// is not: it panics on a reply without a node, and asks without pause where the
// body is empty. Every reply is vetted beneath it (see transport), because it
// takes whatever speaks HTTP for a member and stays with it.
package etcdv2
