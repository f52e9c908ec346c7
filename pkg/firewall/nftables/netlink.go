package nftables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// ErrUnsupported: this kernel has no nf_tables.
var ErrUnsupported = errors.New("this kernel has no nf_tables")

// conn is a connection to the kernel's nf_tables.
type conn struct {
	*netlink.Conn
	commit func(want table, trial bool) error // write
}

// generation counts the changes of nf_tables in a network namespace.
type generation uint32

// open connects to nf_tables of the thread's network namespace. Its error wraps
// ErrUnsupported if there is none.
func open() (conn, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return conn{}, fmt.Errorf("open netfilter's socket: %w (%w)", ErrUnsupported, err)
	}
	if err != nil {
		return conn{}, fmt.Errorf("open netfilter's socket: %w", err)
	}
	if _, err := (conn{c, write}).generation(); err != nil {
		_ = c.Close()
		return conn{}, err
	}
	return conn{c, write}, nil
}

// Supported reports whether this kernel has nf_tables.
func Supported() (bool, error) {
	c, err := open()
	if errors.Is(err, ErrUnsupported) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, c.Close()
}

// exists reports whether there is a table of that name.
func (c conn) exists(family nftables.TableFamily, name string) (bool, error) {
	_, err := c.ask(unix.NFT_MSG_GETTABLE, byte(family), 0, nulTerminated(unix.NFTA_TABLE_NAME, name))
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil, err
}

func (c conn) generation() (g generation, err error) {
	answer, err := c.ask(unix.NFT_MSG_GETGEN, unix.NFPROTO_UNSPEC, 0)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		return 0, fmt.Errorf("ask for nf_tables' generation: %w (%w)", ErrUnsupported, err)
	}
	if err != nil {
		return 0, fmt.Errorf("ask for nf_tables' generation: %w", err)
	}
	for _, a := range answer {
		g = generation(a.uint32(unix.NFTA_GEN_ID))
	}
	return g, nil
}

// answer is one message of the kernel: the family, and its attributes.
type answer struct {
	family byte
	attributes
}

// attributes of a message, by type. Where one occurs several times it is the
// last; lists are read with each.
type attributes map[uint16][]byte

func (c conn) dump(kind uint16, family byte, about ...netlink.Attribute) ([]answer, error) {
	return c.ask(kind, family, netlink.Dump, about...)
}

func (c conn) ask(kind uint16, family byte, flags netlink.HeaderFlags, about ...netlink.Attribute) ([]answer, error) {
	data, err := netlink.MarshalAttributes(about)
	if err != nil {
		return nil, err
	}
	messages, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind), Flags: netlink.Request | flags},
		Data:   append([]byte{family, unix.NFNETLINK_V0, 0, 0}, data...),
	})
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("%w (CAP_NET_ADMIN is needed)", err)
	}
	if err != nil {
		return nil, err
	}
	var out []answer
	for _, m := range messages {
		if len(m.Data) < 4 {
			continue
		}
		a, err := parse(m.Data[4:])
		if err != nil {
			return nil, fmt.Errorf("read a message of nf_tables: %w", err)
		}
		out = append(out, answer{m.Data[0], a})
	}
	return out, nil
}

// nulTerminated is a name as the kernel expects it.
func nulTerminated(kind uint16, name string) netlink.Attribute {
	return attribute(kind, append([]byte(name), 0))
}

func attribute(kind uint16, data []byte) netlink.Attribute {
	return netlink.Attribute{Type: kind, Data: data}
}

func parse(data []byte) (attributes, error) {
	out := attributes{}
	err := each(data, func(kind uint16, value []byte) { out[kind] = value })
	return out, err
}

// errCutOff: the length of an attribute does not fit into the message.
var errCutOff = errors.New("an attribute is cut off")

// each calls do for the attributes in order. The library's decoder makes a list of
// them first, which needs ten times as much memory for the elements of a large set.
func each(data []byte, do func(kind uint16, value []byte)) error {
	const header, flags = 4, unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER
	for len(data) > 0 {
		if len(data) < header {
			return errCutOff
		}
		size, kind := int(binary.NativeEndian.Uint16(data)), binary.NativeEndian.Uint16(data[2:])
		if size < header || size > len(data) {
			return errCutOff
		}
		do(kind&^uint16(flags&0xffff), data[header:size:size])
		data = data[min((size+3)/4*4, len(data)):]
	}
	return nil
}

// within is the value of the last attribute of a kind in a list.
func within(list []byte, kind uint16) (out []byte) {
	_ = each(list, func(k uint16, value []byte) {
		if k == kind {
			out = value
		}
	})
	return out
}

// Numbers are big-endian. A missing one is 0.
func (a attributes) uint32(kind uint16) uint32 {
	if len(a[kind]) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(a[kind])
}

func (a attributes) uint64(kind uint16) uint64 {
	if len(a[kind]) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(a[kind])
}

// name is the printable name of a table, chain, set or expression.
func (a attributes) name(kind uint16) string { return textOf(a[kind]) }

// nested are the attributes within an attribute; none if it is missing or malformed.
func (a attributes) nested(kind uint16) attributes {
	out, err := parse(a[kind])
	if err != nil {
		return nil
	}
	return out
}
