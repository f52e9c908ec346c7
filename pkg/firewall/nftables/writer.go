package nftables

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"flanneld/pkg/firewall/rules"
)

// Writer keeps our table as it should be, and takes away what flannel 0.28 has
// left.
type Writer struct{}

// dockersTable is the one that docker 29 drops packets in, where it uses nftables.
const dockersTable = "docker-bridges"

// Put makes the table that is wanted, or that others ask for by marks: rules in
// iptables, or docker's own table. It deletes it where none is.
func (Writer) Put(ctx context.Context, w rules.Wanted, marks bool) (out rules.Result) {
	if ctx.Err() != nil {
		return out
	}
	o := rules.Outcome{Subject: "nftables"}
	docker, err := exists(nftables.TableFamilyIPv4, dockersTable)
	if errors.Is(err, ErrUnsupported) && !w.NFTables {
		return out
	}
	want := TableFor(w, marks || docker)
	if err == nil {
		o.Wrong, err = Put(want)
	}
	if o.Err = err; err != nil {
		o.Wrong = ""
		out.Outcomes = append(out.Outcomes, o)
		return out
	}
	out.Outcomes = append(out.Outcomes, o)
	for _, c := range want.chains {
		for _, s := range c.words {
			out.Kept = append(out.Kept, fmt.Sprintf("nft ip %s %s: %s", TableName, c.name, s))
		}
	}
	removed, err := Former(w)
	switch {
	case err != nil:
		out.Outcomes = append(out.Outcomes, rules.Outcome{Subject: "nftables, an earlier flannel's", Err: err})
	case len(removed) > 0:
		out.Outcomes = append(out.Outcomes, rules.Outcome{Subject: "nftables, an earlier flannel's", Wrong: "deleted the tables " + strings.Join(removed, ", ")})
	}
	return out
}

// exists asks for a table by its name.
func exists(family nftables.TableFamily, name string) (bool, error) {
	c, err := open()
	if err != nil {
		return false, err
	}
	defer c.Close()
	switch _, err := c.ask(unix.NFT_MSG_GETTABLE, byte(family), 0, zeroEnded(unix.NFTA_TABLE_NAME, name)); {
	case errors.Is(err, unix.ENOENT):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look for the nftables table %s: %w", name, err)
	}
	return true, nil
}

func inWords(specs []rules.Spec) (out []string) {
	for _, s := range specs {
		out = append(out, words(s))
	}
	return out
}

// words is a rule as nft would print it, without its counter.
func words(s rules.Spec) string {
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
		add("ip saddr", s.Src.Prefix.Masked().String(), s.Src.Not)
	}
	if s.Dst.Prefix.IsValid() {
		add("ip daddr", s.Dst.Prefix.Masked().String(), s.Dst.Not)
	}
	does := map[rules.Verb]string{rules.Pass: "accept", rules.Keep: "return", rules.Masquerade: "masquerade fully-random"}
	return strings.Join(append(out, does[s.Do]), " ")
}
