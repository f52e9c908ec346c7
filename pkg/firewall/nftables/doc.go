// Package nftables reads the tables of nf_tables in this network namespace, and
// keeps a table of flanneld's own there: one for each family of packets, of the same
// name. A table for both (inet) would need a kernel that has it, Linux 5.2 for its chains
// of type nat, and every change of one family's rules would replace the other's.
//
// It talks to the kernel over netlink and never runs the program nft: the one of
// Debian 12 crashes at every call, also "nft -f", once the tables of docker 29 exist.
// sigs.k8s.io/knftables runs nft, so it cannot be used either. Rules are written with
// github.com/google/nftables. Only single expressions are read with it: it skips
// expressions that it does not know, so that a rule would seem to match every packet.
//
// Each table sees every packet, and a packet that one base chain accepts goes on
// to the next. So an accept of ours cannot overrule a drop of another program. Our
// table marks packets, for rules that accept marked packets, and translates
// addresses. The first chain that translates a connection is the only one: no later
// chain translates it again.
//
// Where a table cannot be written, tables with ever more of it are tried, each made and
// deleted in one transaction, until the kernel refuses one: that names what it lacks. Our
// table does without counters, random ports and, where nothing else needs them, marks;
// anything else is the error, with the module and the option of the kernel.
package nftables
