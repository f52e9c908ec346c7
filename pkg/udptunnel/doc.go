// Package udptunnel carries the packets of flannel's udp backend: what the kernel
// routes to a TUN device goes to peers in UDP datagrams, one IPv4 packet in each,
// without a header of its own, and what comes in such datagrams goes to the kernel.
// It routes: each end takes the time to live down by one, and says by ICMP what it
// cannot carry (RFC 1812).
//
// It is fast by doing little per packet. The kernel hands over and takes back TCP
// segments by the dozen (virtio_net_hdr), and UDP datagrams as well (UDP_SEGMENT,
// UDP_GRO of udp(7)); their payload is never copied here, and the rest goes by many
// packets a system call. On the wire all that shows is single packets.
package udptunnel
