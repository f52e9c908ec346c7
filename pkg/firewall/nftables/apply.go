package nftables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"k8s.io/klog/v2"
)

// errForeign: another program has a table of our name.
var errForeign = errors.New("it is not flanneld's: rename it")

// apply makes our table what it should be, atomically, and writes nothing if it is so
// already. drift is how it differed.
func (c conn) apply(want table) (drift string, err error) {
	have, exists, err := c.table(want.family, want.name)
	if err != nil {
		return "", fmt.Errorf("cannot read the nftables table %v: %w", want, err)
	}
	if exists && !have.isOurs() {
		return "", fmt.Errorf("cannot write the nftables table %v: %w", want, errForeign)
	}
	if drift = have.drift(exists, want); drift != "" {
		err = c.commit(want, false)
	} else if drift = have.peersDrift(want); drift != "" {
		err = have.update(want)
	}
	if err != nil {
		return drift, fmt.Errorf("cannot write the nftables table %v: %w", want, err)
	}
	return drift, nil
}

// setIDs guards the numbers that package nftables gives to sets: all connections of the
// process share them, and each family has one of its own.
var setIDs sync.Mutex

// update adds and deletes elements of all sets, in one transaction.
func (t installedTable) update(want table) error {
	c, err := transaction()
	if err != nil {
		return err
	}
	ours := &nftables.Table{Family: want.family, Name: want.name}
	for i, w := range want.sets {
		s := &nftables.Set{Table: ours, Name: w.name, KeyType: want.keyType()}
		have := t.sets[i].elements
		remove := func(e []nftables.SetElement) error { return c.SetDeleteElements(s, e) }
		add := func(e []nftables.SetElement) error { return c.SetAddElements(s, e) }
		err := errors.Join(
			w.inChunks(difference(have, w.elements), remove), w.inChunks(difference(w.elements, have), add))
		if err != nil {
			return err
		}
	}
	return commit(c, "update sets")
}

// transaction starts a transaction, which may be as large as the set of all peers of a
// large cluster.
func transaction() (*nftables.Conn, error) {
	return nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error { return c.SetWriteBuffer(4 << 20) }))
}

// commit ends a transaction: the kernel applies all of it, or nothing.
func commit(c *nftables.Conn, operation string) error {
	start := time.Now()
	err := c.Flush()
	if v := klog.V(3); v.Enabled() {
		result := "ok"
		if err != nil {
			result = err.Error()
		}
		v.InfoS("Ran nftables transaction", "operation", operation, "took", time.Since(start), "result", result)
	}
	return err
}

func (t table) keyType() nftables.SetDatatype {
	if t.family == nftables.TableFamilyIPv6 {
		return nftables.TypeIP6Addr
	}
	return nftables.TypeIPAddr
}

// write replaces our table in one transaction. trial: it makes the table under another
// name, and deletes it in the same transaction; no packet sees that.
func write(want table, trial bool) error {
	c, err := transaction()
	if err != nil {
		return err
	}
	ours := &nftables.Table{Family: want.family, Name: want.name}
	if trial {
		ours.Name = tryTable
	}
	// Added first, as deleting a table that is gone by now would fail.
	c.AddTable(ours)
	c.DelTable(ours)
	if len(want.chains) > 0 || trial {
		c.AddTable(ours)
	}
	for _, w := range want.sets {
		s := &nftables.Set{Table: ours, Name: w.name, KeyType: want.keyType()}
		setIDs.Lock()
		err := c.AddSet(s, nil)
		setIDs.Unlock()
		if err != nil {
			return fmt.Errorf("set %s: %w", w.name, err)
		}
		if err := w.inChunks(w.elements, func(e []nftables.SetElement) error { return c.SetAddElements(s, e) }); err != nil {
			return err
		}
	}
	accept := nftables.ChainPolicyAccept
	for _, w := range want.chains {
		in := c.AddChain(&nftables.Chain{
			Name: w.name, Table: ours, Type: w.kind, Hooknum: &w.hook, Priority: &w.priority, Policy: &accept,
		})
		for _, r := range w.rules {
			comment := userdata.AppendString(nil, userdata.TypeComment, ourComment)
			c.AddRule(&nftables.Rule{Table: ours, Chain: in, Exprs: r, UserData: comment})
		}
	}
	if trial {
		c.DelTable(ours)
		return commit(c, "try")
	}
	return commit(c, "replace table")
}

// native is a number in this machine's byte order.
func native(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }
