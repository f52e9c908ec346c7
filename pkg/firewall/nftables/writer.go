package nftables

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/nftables"

	"flanneld/pkg/firewall/rules"
)

// Writer keeps our table for one family as it should be, and deletes the table of flannel
// 0.28 for it.
type Writer struct {
	conn *conn // nil: to be opened at the next use
	// The generation since which the tables are as wanted, what was wanted, and the
	// result.
	unchangedSince uint32
	wanted         rules.Wanted
	marks          bool
	result         rules.Result

	lacks      lacks
	told       lacks                              // what was logged as lacking, and not yet as there again
	cannotMark rules.Lacks                        // why marks are lacking
	asked      time.Time                          // when it was found out whether this kernel can mark
	learned    time.Time                          // and what else it lacks
	commit     func(want table, trial bool) error // nil: write
}

// dockersTable is the table in which docker 29 drops packets, if it uses nftables.
const dockersTable = "docker-bridges"

// Apply writes the table that is wanted, or that sets marks for rules in iptables or
// for docker's own table. It deletes the table if none is needed. If nobody has
// changed nf_tables since it was as wanted, it only reads the generation.
func (k *Writer) Apply(ctx context.Context, w rules.Wanted, marks bool) (out rules.Result) {
	if ctx.Err() != nil {
		return out
	}
	before, err := k.Generation()
	if errors.Is(err, ErrUnsupported) && !w.NFTables {
		return out
	}
	if k.lacks != (lacks{marks: k.lacks.marks}) && time.Since(k.learned) > answerTime {
		k.lacks, k.unchangedSince = lacks{marks: k.lacks.marks}, 0
	}
	if err == nil && before != 0 && before == k.unchangedSince && marks == k.marks && w.Equal(k.wanted) {
		return k.result
	}
	k.unchangedSince = 0
	o := rules.Outcome{Subject: subject(w), Err: err}
	if err == nil {
		out, o.Drift, o.Err = k.applyOurs(w, marks)
	}
	out.Outcomes = append(out.Outcomes, o)
	if o.Err != nil {
		k.close()
		return out
	}
	legacy := rules.Outcome{Subject: subject(w) + " of an earlier flannel"}
	removed, err := k.conn.deleteLegacy(w)
	if legacy.Err = err; err != nil {
		k.close()
	}
	if len(removed) > 0 {
		legacy.Drift = "deleted the tables " + strings.Join(removed, ", ")
	}
	out.Outcomes = append(out.Outcomes, legacy)
	if o.Drift == "" && legacy.Drift == "" && legacy.Err == nil {
		k.unchangedSince, k.wanted, k.marks, k.result = before, w, marks, out
	}
	return out
}

// subject is what outcomes are about.
func subject(w rules.Wanted) string {
	if f := tableFamily(w.Family()); f != nftables.TableFamilyIPv4 {
		return "nftables " + families[byte(f)]
	}
	return "nftables"
}

// applyOurs is Apply for our own table.
func (k *Writer) applyOurs(w rules.Wanted, marks bool) (out rules.Result, drift string, err error) {
	docker, err := k.conn.exists(tableFamily(w.Family()), dockersTable)
	if err != nil {
		return out, "", fmt.Errorf("cannot look for the nftables table %s: %w", dockersTable, err)
	}
	want := k.tableNow(w, marks || docker)
	drift, err = k.conn.apply(want)
	if err != nil {
		another, lacks := k.learn(want)
		if another {
			return k.applyOurs(w, marks)
		}
		if lacks.Text != "" {
			err = rules.Lacks{Text: lacks.Text + "; or start flanneld with --firewall=iptables", Fix: lacks.Fix, Err: err}
		}
		return out, "", err
	}
	k.taken(want)
	out.Marks = (marks || docker || w.NFTables) && !k.lacks.marks
	for _, c := range want.chains {
		for _, s := range c.texts {
			out.Rules = append(out.Rules, fmt.Sprintf("nft %v %s: %s", want, c.name, s))
		}
	}
	if docker && k.lacks.marks && w.Forward { // nothing else gets peers past its drops
		k.cannotMark.Err = fmt.Errorf("docker's nftables table %s needs marks", dockersTable)
		return out, drift, k.cannotMark
	}
	return out, drift, nil
}

// Generation is the number of changes of nf_tables in this network namespace,
// including those of iptables-nft. It is never 0, except with an error.
func (k *Writer) Generation() (uint32, error) {
	if k.conn == nil {
		c, err := open()
		if err != nil {
			return 0, err
		}
		if k.conn = &c; k.commit != nil {
			c.commit = k.commit
		}
	}
	g, err := k.conn.generation()
	if err != nil {
		k.close()
	}
	return uint32(g), err
}

// close closes a connection that failed: answers to it may still be pending.
func (k *Writer) close() {
	if k.conn != nil {
		_ = k.conn.Close()
		k.conn = nil
	}
}

func (t table) ruleTexts(specs []rules.Spec) (out []string) {
	for _, s := range specs {
		out = append(out, t.ruleText(s))
	}
	return out
}

var targets = map[rules.Target]string{
	rules.TargetAccept: "accept", rules.TargetNoNAT: "return", rules.TargetMasquerade: "masquerade fully-random",
	rules.TargetMasqueradePlain: "masquerade",
}

// ruleText is a rule as nft would print it, without its counter.
func (t table) ruleText(s rules.Spec) string {
	var out []string
	add := func(what, value string, not bool) {
		if not {
			what += " !="
		}
		out = append(out, what+" "+value)
	}
	if s.In != "" {
		add("iifname", `"`+s.In+`"`, false)
	}
	if s.Out != "" {
		add("oifname", `"`+s.Out+`"`, false)
	}
	if s.Src.Prefix.IsValid() {
		add(t.familyName()+" saddr", s.Src.Prefix.Masked().String(), s.Src.Not)
	}
	if s.Dst.Prefix.IsValid() {
		add(t.familyName()+" daddr", s.Dst.Prefix.Masked().String(), s.Dst.Not)
	}
	return strings.Join(append(out, targets[s.Target]), " ")
}
