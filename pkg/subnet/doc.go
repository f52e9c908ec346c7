// Package subnet is flanneld's domain: the cluster's network as the config key
// describes it, the leases that hosts hold on its subnets, the file that tells
// dockerd which subnet is this host's, and the Manager that takes a lease,
// keeps it, and follows everybody else's.
//
// It knows no kernel and no particular store: all it asks of a store goes
// through Registry.
package subnet
