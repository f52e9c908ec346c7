package nftables

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sort"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"k8s.io/klog/v2"

	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/printable"
)

// lacks is what a kernel does not have of what our table is made of. Without counters and
// random ports the table does the same; without marks rules in iptables know peers by
// their devices.
type lacks struct{ counters, random, marks bool }

// without is the table with nothing of that.
func (t table) without(l lacks) table {
	all := t.chains
	t.chains = nil
	for _, c := range all {
		if l.marks && c.name == marksChain {
			t.sets = nil
			continue
		}
		each := c.rules
		c.rules = nil
		for _, r := range each {
			c.rules = append(c.rules, slices.DeleteFunc(slices.Clone(r), func(e expr.Any) bool {
				_, counts := e.(*expr.Counter)
				return counts && l.counters
			}))
		}
		t.chains = append(t.chains, c)
	}
	return t
}

// step is a table with one more thing in it than the one before: the table itself, a set,
// a chain, or an expression of a rule.
type step struct {
	table
	last  any
	chain string // in which an expression is
}

// steps lead from nothing to the whole table.
func (t table) steps() (out []step) {
	now := table{name: t.name, family: t.family}
	add := func(last any, chain string) {
		// Each has its own chains and rules.
		s := step{table: now, last: last, chain: chain}
		s.chains = nil
		for _, c := range now.chains {
			c.rules = slices.Clone(c.rules)
			s.chains = append(s.chains, c)
		}
		out = append(out, s)
	}
	add(nil, "")
	for _, a := range t.sets {
		now.sets = append(now.sets, addresses{name: a.name})
		add(a, "")
	}
	for _, c := range t.chains {
		all := c.rules
		c.rules = nil
		now.chains = append(now.chains, c)
		add(c, "")
		here := &now.chains[len(now.chains)-1]
		for _, r := range all {
			here.rules = append(here.rules, nil)
			for i := range r {
				here.rules[len(here.rules)-1] = r[:i+1]
				add(r[i], c.name)
			}
		}
	}
	return out
}

// tryTable is the name of a table that is made and deleted in one transaction.
const tryTable = "flanneld-try"

// refused is the first thing of a table that the kernel refuses; nil if it takes all of
// it, or does so for another reason.
func (c conn) refused(want table) *step {
	steps, why := want.steps(), error(nil)
	first := sort.Search(len(steps), func(i int) bool {
		err := c.commit(steps[i].table, true)
		if err != nil {
			why = err
		}
		return err != nil
	})
	if first == len(steps) || errors.Is(why, os.ErrPermission) {
		return nil
	}
	return &steps[first]
}

// learn finds out what the kernel refuses of a table that could not be written. It
// reports whether the table can do without, and what is refused, if anything is.
func (k *Writer) learn(want table) (another bool, lacks rules.Lacks) {
	s := k.conn.refused(want)
	if s == nil {
		return false, lacks
	}
	before := k.lacks
	switch e := s.last.(type) {
	case *expr.Counter:
		k.lacks.counters = true
	case *expr.Masq:
		k.lacks.random = k.lacks.random || e.FullyRandom
	case addresses:
		k.lacks.marks = true
	case chain:
		k.lacks.marks = k.lacks.marks || e.name == marksChain
	default:
		k.lacks.marks = k.lacks.marks || s.chain == marksChain
	}
	lacks.Text, lacks.Fix = s.advice()
	if k.lacks == before {
		return false, lacks
	}
	if k.lacks.marks && !before.marks {
		k.cannotMark = lacks
	}
	if k.lacks.marks == before.marks { // when marks are tried again is another matter
		k.learned = time.Now()
	}
	if told := k.told.and(k.lacks); told != k.told {
		k.told = told
		klog.InfoS("Doing without what this kernel's nf_tables lacks", "reason", lacks.Text)
	}
	return true, lacks
}

// and is what either of both lacks.
func (l lacks) and(o lacks) lacks {
	return lacks{l.counters || o.counters, l.random || o.random, l.marks || o.marks}
}

// taken logs what the kernel takes with a table, and lacked before.
func (k *Writer) taken(t table) {
	tell := func(told *bool, part string) {
		if *told {
			*told = false
			klog.InfoS("This kernel's nf_tables takes what it refused before", "part", part)
		}
	}
	for _, c := range t.chains {
		if c.name == marksChain {
			tell(&k.told.marks, "marks")
		}
		for _, e := range slices.Concat(c.rules...) {
			switch e := e.(type) {
			case *expr.Counter:
				tell(&k.told.counters, "counters")
			case *expr.Masq:
				if e.FullyRandom {
					tell(&k.told.random, "random ports")
				}
			}
		}
	}
}

// advice names what a step adds, and what brings it about.
func (s step) advice() (text, fix string) {
	what, module, option := "a table of family ip", "nf_tables", "CONFIG_NF_TABLES_IPV4"
	if s.family == nftables.TableFamilyIPv6 {
		what, option = "a table of family ip6", "CONFIG_NF_TABLES_IPV6"
	}
	switch e := s.last.(type) {
	case addresses, *expr.Lookup:
		what, module, option = "a set of addresses", "nft_hash", "CONFIG_NF_TABLES_SET"
	case chain:
		if e.kind == nftables.ChainTypeNAT {
			what, module, option = "a chain that translates addresses", "nft_chain_nat", "CONFIG_NFT_NAT"
		}
	case *expr.Masq:
		what, module, option = "masquerade", "nft_masq", "CONFIG_NFT_MASQ"
	case *expr.NAT:
		what, module, option = "snat", "nft_nat", "CONFIG_NFT_NAT"
	case *expr.Ct:
		what, module, option = "ct", "nft_ct", "CONFIG_NFT_CT"
	case *expr.Meta:
		what, module, option = "meta", "nft_meta", "CONFIG_NFT_META"
	case *expr.Counter:
		what, module, option = "counter", "nft_counter", "CONFIG_NFT_COUNTER"
	}
	fix = printable.Command("modprobe", module)
	return fmt.Sprintf("this kernel refuses %s: run %s, or use a kernel with %s", what, fix, option), fix
}

// answerTime is how long it counts what the kernel refused: a module may be loaded later.
const answerTime = 10 * time.Minute

// CanMark reports whether this kernel takes what marks packets from peers, as far as is
// known. It is asked before rules are written that match marks.
func (k *Writer) CanMark(w rules.Wanted) bool {
	if !k.asked.IsZero() && (!k.lacks.marks || time.Since(k.asked) < answerTime) {
		return !k.lacks.marks
	}
	if _, err := k.Generation(); err != nil {
		return true // Apply says why
	}
	k.asked, k.lacks.marks = time.Now(), false
	w.Forward, w.NFTables = true, false
	w.Peers = []rules.Peer{{Subnet: w.Subnet, Device: "lo", Host: w.Subnet.Addr()}}
	for more := true; more && !k.lacks.marks; {
		want := tableFor(w, true).without(k.lacks)
		if k.conn.commit(want, true) == nil {
			k.taken(want)
			break
		}
		more, _ = k.learn(want)
	}
	return !k.lacks.marks
}

// tableNow is the table that is wanted, made of what this kernel has.
func (k *Writer) tableNow(w rules.Wanted, marks bool) table {
	w.PlainPorts = w.PlainPorts || k.lacks.random
	return tableFor(w, marks).without(k.lacks)
}
