package nftables

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
)

// errForeign says that somebody else has a table of our name.
var errForeign = errors.New("there is a table ip " + tableName + " that flanneld has not made; rename it")

// put makes our table what it should be, all at once, and writes nothing where it
// is so already. It returns what was wrong.
func (c conn) apply(want table) (drift string, err error) {
	have, exists, err := c.table(want.family, tableName)
	if err != nil {
		return "", fmt.Errorf("read the nftables table ip %s: %w", tableName, err)
	}
	if exists && !have.isOurs() {
		return "", errForeign
	}
	if drift = have.drift(exists, want); drift != "" {
		err = write(want)
	} else if drift = have.peersDrift(want); drift != "" {
		err = have.update(want)
	}
	if err != nil {
		return drift, fmt.Errorf("write the nftables table ip %s: %w", tableName, err)
	}
	return drift, nil
}

// update brings the elements of all sets into order, in one transaction.
func (t installedTable) update(want table) error {
	c, err := transaction()
	if err != nil {
		return err
	}
	ours := &nftables.Table{Family: want.family, Name: tableName}
	for i, w := range want.sets {
		s := &nftables.Set{Table: ours, Name: w.name, KeyType: want.keyType()}
		err := errors.Join(
			w.put(difference(t.sets[i].elements, w.elements), func(e []nftables.SetElement) error { return c.SetDeleteElements(s, e) }),
			w.put(difference(w.elements, t.sets[i].elements), func(e []nftables.SetElement) error { return c.SetAddElements(s, e) }))
		if err != nil {
			return err
		}
	}
	return c.Flush()
}

// transaction is a connection whose one message may hold all peers of a large
// cluster.
func transaction() (*nftables.Conn, error) {
	return nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error { return c.SetWriteBuffer(4 << 20) }))
}

func (t table) keyType() nftables.SetDatatype {
	if t.family == nftables.TableFamilyIPv6 {
		return nftables.TypeIP6Addr
	}
	return nftables.TypeIPAddr
}

// write replaces our table in one transaction.
func write(want table) error {
	c, err := transaction()
	if err != nil {
		return err
	}
	ours := &nftables.Table{Family: want.family, Name: tableName}
	// Added in order to be deleted: somebody may have done so by now.
	c.AddTable(ours)
	c.DelTable(ours)
	if len(want.chains) > 0 {
		c.AddTable(ours)
	}
	for _, w := range want.sets {
		s := &nftables.Set{Table: ours, Name: w.name, KeyType: want.keyType()}
		if err := c.AddSet(s, nil); err != nil {
			return fmt.Errorf("set %s: %w", w.name, err)
		}
		if err := w.put(w.elements, func(e []nftables.SetElement) error { return c.SetAddElements(s, e) }); err != nil {
			return err
		}
	}
	accept := nftables.ChainPolicyAccept
	for _, w := range want.chains {
		in := c.AddChain(&nftables.Chain{Name: w.name, Table: ours, Type: w.kind, Hooknum: &w.hook, Priority: &w.priority, Policy: &accept})
		for _, r := range w.rules {
			c.AddRule(&nftables.Rule{Table: ours, Chain: in, Exprs: r, UserData: userdata.AppendString(nil, userdata.TypeComment, ourComment)})
		}
	}
	return c.Flush()
}

// native is a number as the kernel computes with it.
func native(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }
