package nftables

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// installedTable is a table as the kernel has it.
type installedTable struct {
	family byte
	chains []installedChain
	sets   []addresses
}

type installedChain struct {
	name     string
	kind     string
	hook     uint32 // only meaningful together with kind
	priority int32
	policy   uint32
	rules    []installedRule
}

type installedRule struct {
	exprs   []any
	comment string
}

// table reads one table.
func (c conn) table(family nftables.TableFamily, name string) (t installedTable, exists bool, err error) {
	err = c.consistently(func() (err error) {
		t, exists, err = c.tableNow(family, name)
		return err
	})
	return t, exists, err
}

func (c conn) tableNow(family nftables.TableFamily, name string) (t installedTable, exists bool, err error) {
	if exists, err = c.exists(family, name); err != nil || !exists {
		return t, false, err
	}
	t.family = byte(family)
	chains, err := c.dump(unix.NFT_MSG_GETCHAIN, byte(family))
	if err != nil {
		return t, false, err
	}
	if t.sets, err = c.addresses(family, name); err != nil {
		return t, false, err
	}
	list, err := c.dump(unix.NFT_MSG_GETRULE, byte(family), nulTerminated(unix.NFTA_RULE_TABLE, name))
	if err != nil {
		return t, false, err
	}
	for _, a := range chains {
		// While another program prepares a change, the kernel may list a chain twice.
		if a.name(unix.NFTA_CHAIN_TABLE) == name && t.chain(a.name(unix.NFTA_CHAIN_NAME)) == nil {
			t.chains = append(t.chains, chainFrom(a))
		}
	}
	for _, a := range list {
		if a.name(unix.NFTA_RULE_TABLE) != name {
			continue // an old kernel that does not filter
		}
		for i := range t.chains {
			if c := &t.chains[i]; c.name == a.name(unix.NFTA_RULE_CHAIN) {
				exprs, comment := expressions(a.family, a.attributes[unix.NFTA_RULE_EXPRESSIONS])
				if comment == "" {
					comment = commentOf(a.attributes[unix.NFTA_RULE_USERDATA])
				}
				c.rules = append(c.rules, installedRule{exprs, comment})
			}
		}
	}
	return t, true, nil
}

func chainFrom(a answer) installedChain {
	hook := a.nested(unix.NFTA_CHAIN_HOOK)
	return installedChain{
		name: a.name(unix.NFTA_CHAIN_NAME), kind: a.name(unix.NFTA_CHAIN_TYPE), policy: a.uint32(unix.NFTA_CHAIN_POLICY),
		hook: hook.uint32(unix.NFTA_HOOK_HOOKNUM), priority: int32(hook.uint32(unix.NFTA_HOOK_PRIORITY)),
	}
}

// isOurs reports whether a table of our name can be ours: it is empty, or has a rule
// with our comment.
func (t installedTable) isOurs() bool {
	empty := true
	for _, c := range t.chains {
		for _, r := range c.rules {
			if r.comment == ourComment {
				return true
			}
			empty = false
		}
	}
	return empty
}

// drift is the first difference between a table and the wanted one; "" if none.
func (t installedTable) drift(exists bool, want table) string {
	switch {
	case !exists && len(want.chains) == 0:
		return ""
	case !exists:
		return "the table " + want.String() + " is not there"
	case len(want.chains) == 0:
		return "the table " + want.String() + " is there, and not wanted"
	case len(t.chains) != len(want.chains):
		return fmt.Sprintf("%d chains in place of %d", len(t.chains), len(want.chains))
	}
	same := func(have, want addresses) bool { return have.name == want.name }
	if !slices.EqualFunc(t.sets, want.sets, same) {
		return "other sets than there should be"
	}
	for _, w := range want.chains {
		if drift := t.chain(w.name).drift(w); drift != "" {
			return "chain " + w.name + ": " + drift
		}
	}
	return ""
}

func (t installedTable) chain(name string) *installedChain {
	for i := range t.chains {
		if t.chains[i].name == name {
			return &t.chains[i]
		}
	}
	return nil
}

func (c *installedChain) drift(want chain) string {
	switch {
	case c == nil:
		return "is not there"
	case c.kind != string(want.kind) || c.hook != uint32(want.hook) || c.priority != int32(want.priority):
		return "sees other packets than it should"
	case c.policy != uint32(nftables.ChainPolicyAccept):
		return "has another policy"
	case len(c.rules) != len(want.rules):
		return fmt.Sprintf("%d rules in place of %d", len(c.rules), len(want.rules))
	}
	for i, r := range c.rules {
		if !r.equals(want.rules[i]) {
			return fmt.Sprintf("rule %d is another one", i+1)
		}
	}
	return ""
}

// equals compares a rule as the kernel has it with one as we write it.
func (r installedRule) equals(want []expr.Any) bool {
	if r.comment != ourComment || len(r.exprs) != len(want) {
		return false
	}
	for i, e := range want {
		wanted := any(e)
		if _, counts := e.(*expr.Counter); counts {
			wanted = inert{"counter"}
		}
		if !reflect.DeepEqual(r.exprs[i], wanted) {
			return false
		}
	}
	return true
}

// peersDrift is the first difference between the elements of a set and the wanted
// ones; "" if none.
func (t installedTable) peersDrift(want table) string {
	for i, w := range want.sets {
		if have := t.sets[i].elements; !slices.Equal(have, w.elements) {
			return fmt.Sprintf("%d peers missing, %d too many in set %s",
				len(difference(w.elements, have)), len(difference(have, w.elements)), w.name)
		}
	}
	return ""
}
