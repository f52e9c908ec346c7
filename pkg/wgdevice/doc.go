// Package wgdevice makes and configures WireGuard devices: the kernel's, and, where the
// kernel has none, wireguard-go's in this process on a TUN device. Both are read and written by
// one Control, whose values compare with ==. The package knows nothing of leases.
//
//	key, err := wgdevice.LoadKey(path)                   // made once
//	c := wgdevice.New()
//	err = c.StartUserspace("flannel-wg", 1420)            // where `ip link add` knows no type wireguard
//	err = c.Configure("flannel-wg", wgdevice.Settings{Private: key, ListenPort: 51820})
//	                                                      // now the link is set up
//	err = c.SetPeers("flannel-wg", peers, nil)
//	settings, found, err := c.Read("flannel-wg")
//	changed, err := c.Changed("flannel-wg")               // each second or two
//
// # Sessions
//
// WireGuard keeps a session until it has heard nothing for 15 s after it sent. A host that
// has restarted has no session and cannot read what its peers send by the old one. So
// each peer that is new on a device is sent a handshake at once, of which both sides have
// a new session. Linux' and wireguard-go's devices send one when the persistent keepalive of a
// peer is changed from none to some while the device is up (and, for Linux, the
// interface): SetPeers does that, and changes it back where none is wanted. Where two
// greet each other at the same moment, or a packet is lost, that fails, and is done
// again after a few tenths of a second (greet.go); WireGuard itself waits for 5 s.
//
// A greeting costs a quarter of a millisecond, by SetPeers itself for a device in this process:
// name some hundred peers in a call where the caller has other things to do.
//
// # Endpoints
//
// A device sends to where a peer's last authentic packet came from, whatever it was
// told, and tells that as the peer's endpoint. Read tells what was configured, lest
// a reconciler undoes it. An endpoint that changed although nothing was received was
// edited, and is told as it is. Of a device of the kernel's, an edit while packets
// arrive is taken for their doing; the next packet from the peer undoes it.
package wgdevice
