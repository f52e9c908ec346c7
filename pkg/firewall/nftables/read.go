package nftables

import (
	"errors"
	"fmt"
	"net"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"flanneld/pkg/firewall/rules"
)

// What is read at most.
const (
	maxRules    = 100_000
	maxElements = 100_000 // of one set
)

// attempts bounds how often tables are read again that changed meanwhile.
const attempts = 5

// Read reads all tables of the families ip, ip6 and inet, also those of iptables-nft and
// ip6tables-nft. Its error wraps ErrUnsupported if the kernel has no nf_tables.
func Read() (rules.Ruleset, error) {
	c, err := open()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var out rules.Ruleset
	err = c.consistently(func() (err error) {
		out, err = c.ruleset()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read the tables of nftables: %w", err)
	}
	return out, nil
}

// consistently calls read until nobody has changed anything meanwhile. If a list changes
// while the kernel sends it, entries may be missing or occur twice.
func (c conn) consistently(read func() error) error {
	for range attempts {
		before, err := c.generation()
		if err != nil {
			return err
		}
		err = read()
		after, errAfter := c.generation()
		switch {
		case errAfter != nil:
			return errAfter
		case before == after: // otherwise the error may be due to the change
			return err
		}
	}
	return errors.New("nf_tables changes faster than it can be read; try again")
}

var hooks = map[uint32]rules.Hook{
	unix.NF_INET_PRE_ROUTING: rules.Prerouting, unix.NF_INET_LOCAL_IN: rules.Input, unix.NF_INET_FORWARD: rules.Forward,
	unix.NF_INET_LOCAL_OUT: rules.Output, unix.NF_INET_POST_ROUTING: rules.Postrouting,
}

// tableKey names a table among all families.
type tableKey struct {
	family byte
	name   string
}

// reading is what has been read so far.
type reading struct {
	host   *host
	out    rules.Ruleset
	tables map[tableKey]*rules.Table
	sets   map[tableKey]map[string]*set
}

func (c conn) ruleset() (rules.Ruleset, error) {
	r := reading{host: &host{map[string]int{}}, tables: map[tableKey]*rules.Table{}, sets: map[tableKey]map[string]*set{}}
	links, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range links {
		r.host.indexes[l.Name] = l.Index
	}
	for _, part := range []struct {
		kind uint16
		take func(answer) error
	}{
		{unix.NFT_MSG_GETTABLE, r.table},
		{unix.NFT_MSG_GETCHAIN, r.chain},
		{unix.NFT_MSG_GETSET, func(a answer) error { return r.set(c, a) }},
		{unix.NFT_MSG_GETRULE, r.rule},
	} {
		list, err := c.dump(part.kind, unix.NFPROTO_UNSPEC)
		if err != nil {
			return nil, err
		}
		if len(list) > maxRules {
			return nil, fmt.Errorf("there are more than %d", maxRules)
		}
		for _, a := range list {
			if families[a.family] == "" {
				continue
			}
			if err := part.take(a); err != nil {
				return nil, err
			}
		}
	}
	return r.out, nil
}

// dormant is NFT_TABLE_F_DORMANT: the table's base chains see nothing.
const dormant = 1

func (r *reading) table(a answer) error {
	if a.uint32(unix.NFTA_TABLE_FLAGS)&dormant != 0 {
		return nil
	}
	name := tableKey{a.family, a.name(unix.NFTA_TABLE_NAME)}
	t := &rules.Table{Family: families[a.family], Name: name.name, Program: "nft", Chains: map[string]*rules.Chain{}}
	r.tables[name], r.sets[name] = t, map[string]*set{}
	r.out = append(r.out, t)
	return nil
}

func (r *reading) chain(a answer) error {
	t := r.tables[tableKey{a.family, a.name(unix.NFTA_CHAIN_TABLE)}]
	if t == nil {
		return nil
	}
	c := &rules.Chain{Name: a.name(unix.NFTA_CHAIN_NAME)}
	if a.attributes[unix.NFTA_CHAIN_HOOK] != nil {
		hook := a.nested(unix.NFTA_CHAIN_HOOK)
		c.Hook = hooks[hook.uint32(unix.NFTA_HOOK_HOOKNUM)]
		c.Priority = int(int32(hook.uint32(unix.NFTA_HOOK_PRIORITY)))
		c.NAT = a.name(unix.NFTA_CHAIN_TYPE) == "nat"
		c.Drops = a.attributes[unix.NFTA_CHAIN_POLICY] != nil &&
			a.uint32(unix.NFTA_CHAIN_POLICY) == uint32(nftables.ChainPolicyDrop)
	}
	t.Chains[c.Name] = c
	return nil
}

func (r *reading) set(c conn, a answer) error {
	sets := r.sets[tableKey{a.family, a.name(unix.NFTA_SET_TABLE)}]
	if sets == nil {
		return nil
	}
	s := setFrom(a)
	sets[a.name(unix.NFTA_SET_NAME)] = s
	// By the bytes of its name, which may differ from how we print it.
	list, err := c.dump(unix.NFT_MSG_GETSETELEM, a.family,
		attribute(unix.NFTA_SET_ELEM_LIST_TABLE, a.attributes[unix.NFTA_SET_TABLE]),
		attribute(unix.NFTA_SET_ELEM_LIST_SET, a.attributes[unix.NFTA_SET_NAME]))
	if err != nil {
		return fmt.Errorf("list the elements of %s: %w", a.name(unix.NFTA_SET_NAME), err)
	}
	for _, part := range list {
		s.add(part.attributes[unix.NFTA_SET_ELEM_LIST_ELEMENTS])
	}
	s.complete()
	return nil
}

func (r *reading) rule(a answer) error {
	name := tableKey{a.family, a.name(unix.NFTA_RULE_TABLE)}
	t := r.tables[name]
	if t == nil || t.Chains[a.name(unix.NFTA_RULE_CHAIN)] == nil {
		return nil
	}
	c := t.Chains[a.name(unix.NFTA_RULE_CHAIN)]
	exprs, comment := expressions(a.family, a.attributes[unix.NFTA_RULE_EXPRESSIONS])
	if comment == "" {
		comment = commentOf(a.attributes[unix.NFTA_RULE_USERDATA])
	}
	b := body{host: r.host, family: a.family, sets: r.sets[name], exprs: exprs}
	handle := a.uint64(unix.NFTA_RULE_HANDLE)
	c.Rules = append(c.Rules, rules.Rule{
		Table: t, Chain: c.Name, Text: b.text(handle), Comment: comment, Handle: handle, Body: b,
	})
	return nil
}
