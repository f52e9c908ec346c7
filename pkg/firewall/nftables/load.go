package nftables

// Bits of a connection's status, as the kernel has them.
const (
	statusDNAT = 0x20
)
