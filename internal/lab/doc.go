// Package lab is a network of hosts in network namespaces, for tests,
// benchmarks and `make demo`: hosts on segments, routers between them, containers
// behind docker-like bridges, a real etcd, flanneld, and the faults that such a
// network has. It runs in namespaces of its own (see [Enter]), so that it needs
// no root and cannot touch the machine's network.
//
//	func TestMain(m *testing.M) { lab.Main(m) }
//
//	func TestContainersReachEachOther(t *testing.T) {
//		l := lab.New(t)
//		l.Host("hdss7-12", "10.4.7.12/24")
//		l.Etcd().Set("/coreos.com/network/config", `{"Network":"172.7.0.0/16","Backend":{"Type":"host-gw"}}`)
//		h21 := l.Host("hdss7-21", "10.4.7.21/24").SubnetEnv("172.7.21.1/24")
//		h22 := l.Host("hdss7-22", "10.4.7.22/24").SubnetEnv("172.7.22.1/24")
//		h21.Flanneld()
//		h22.Flanneld()
//		h21.Container("c1").Reach(h22.Container("c2"), time.Second)
//	}
//
// Whatever cannot be done ends the test there and then, so nothing returns an
// error that a test would only pass on. When a test has failed, the lab prints
// each host's daemon log, routes, neighbours, forwarding entries and the keys in
// etcd. A lab ends with its test and leaves nothing behind.
package lab
