// Package nftables reads what nf_tables holds in this network namespace, and
// keeps a table of flanneld's own there.
//
// It talks to the kernel over netlink and never runs the program nft: the one of
// Debian 12 ends in a segmentation fault at every call, also "nft -f", once the
// tables of docker 29 exist. For the same reason sigs.k8s.io/knftables is out,
// which runs nft. Rules are written by github.com/google/nftables. It is not used
// to read them, but for single expressions: it leaves out the expressions that it
// does not know, so that a rule would look as if it held for every packet.
//
// Each table sees every packet, and a packet that one base chain accepts goes on
// to the next. So an accept of ours never lets pass what somebody else drops; what
// our table does is to mark packets, for those who let marked ones pass, and to
// translate addresses. Of all chains that translate, the first one that has done so
// for a connection is the last that is asked.
package nftables
