package wgdevice

import (
	"encoding/binary"
	"errors"
	"hash/maphash"
	"io/fs"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"github.com/mdlayher/netlink/nlenc"
	"golang.org/x/sys/unix"
)

// dump asks the kernel for devices over one socket (linux/wireguard.h).
type dump struct {
	conn   *genetlink.Conn
	family uint16
	seed   maphash.Seed
}

func openDump() (*dump, error) {
	conn, err := genetlink.Dial(nil)
	if err != nil {
		return nil, err
	}
	family, err := conn.GetFamily(unix.WG_GENL_NAME)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &dump{conn: conn, family: family.ID, seed: maphash.MakeSeed()}, nil
}

func (d *dump) close() {
	if d != nil {
		_ = d.conn.Close()
	}
}

// changed compares a hash of the device with that of the last call.
func (k *kernelDevices) changed(name string) (bool, error) {
	if k.dump == nil {
		d, err := openDump()
		if err != nil {
			return false, err
		}
		k.dump, k.hashes = d, map[string]uint64{}
	}
	hash, err := k.dump.hash(name)
	switch {
	case errors.Is(err, unix.EINTR): // others were writing
		delete(k.hashes, name)
		return true, nil
	case err != nil:
		k.dump.close()
		k.dump, k.hashes = nil, nil
		return false, err
	}
	before, known := k.hashes[name]
	k.hashes[name] = hash
	return !known || hash != before, nil
}

func (d *dump) hash(name string) (uint64, error) {
	which := netlink.Attribute{Type: unix.WGDEVICE_A_IFNAME, Data: nlenc.Bytes(name)}
	attrs, err := netlink.MarshalAttributes([]netlink.Attribute{which})
	if err != nil {
		return 0, err
	}
	request := genetlink.Message{
		Header: genetlink.Header{Command: unix.WG_CMD_GET_DEVICE, Version: unix.WG_GENL_VERSION}, Data: attrs,
	}
	answers, err := d.conn.Execute(request, d.family, netlink.Request|netlink.Dump)
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EOPNOTSUPP) {
		return 0, fs.ErrNotExist
	}
	if err != nil {
		return 0, err
	}
	h := &maphash.Hash{}
	h.SetSeed(d.seed)
	for _, a := range answers {
		hashAttrs(h, a.Data, inDevice)
		clear(a.Data) // it has the keys
	}
	return h.Sum64(), nil
}

// where attributes are.
type where int

const (
	inDevice where = iota
	inPeers        // an array
	inPeer
)

// hashAttrs takes in all but what changes by itself: counters and the time of the last
// handshake. A text that is no list of attributes is taken in as it is.
func hashAttrs(h *maphash.Hash, b []byte, in where) {
	const header = unix.SizeofNlAttr
	for len(b) >= header {
		length := int(binary.NativeEndian.Uint16(b))
		kind := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
		if length < header || length > len(b) {
			break
		}
		data := b[header:length]
		b = b[min(len(b), (length+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1)):]
		switch {
		case in == inDevice && kind == unix.WGDEVICE_A_PEERS:
			hashAttrs(h, data, inPeers)
		case in == inPeers:
			hashAttrs(h, data, inPeer)
		case in == inPeer && (kind == unix.WGPEER_A_LAST_HANDSHAKE_TIME ||
			kind == unix.WGPEER_A_RX_BYTES || kind == unix.WGPEER_A_TX_BYTES):
		default:
			_, _ = h.Write([]byte{byte(in), byte(kind), byte(length), byte(length >> 8)})
			_, _ = h.Write(data)
		}
	}
	_, _ = h.Write(b)
}
