package check

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// commandTime bounds one program that is asked.
const commandTime = 10 * time.Second

// find looks for a program in PATH, which often lacks sbin, and there.
func find(program string) (string, bool) {
	for _, dir := range []string{"", "/usr/sbin/", "/sbin/", "/usr/local/sbin/"} {
		if path, err := exec.LookPath(dir + program); err == nil {
			return path, true
		}
	}
	return "", false
}

// run is what a program prints.
func run(ctx context.Context, path string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, args...).Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) && len(failed.Stderr) > 0 {
		return "", errors.New(path + ": " + strings.Join(strings.Fields(string(failed.Stderr)), " "))
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return string(out), nil
}

// readFirewalls reads iptables, and the rules of its other flavour where there
// are any: those hold as well. Where it is not installed there are no rules.
func (f *Facts) readFirewalls(ctx context.Context) error {
	iptables, found := find("iptables")
	if !found {
		f.Firewalls = []Firewall{{Command: "iptables"}}
		return nil
	}
	version, err := run(ctx, iptables, "-V")
	if err != nil {
		return err
	}
	text, err := run(ctx, iptables+"-save")
	if err != nil {
		return err
	}
	f.Firewalls = append(f.Firewalls, ParseRules("iptables", text))
	other := "iptables-nft"
	if strings.Contains(version, "nf_tables") {
		other = "iptables-legacy"
	}
	if path, exists := find(other + "-save"); exists {
		// An error is that of a kernel without it, which then holds no rules.
		if text, err := run(ctx, path); err == nil && strings.Contains(text, "\n-A ") {
			f.Firewalls = append(f.Firewalls, ParseRules(other, text))
		}
	}
	return nil
}

// readForeign lists the tables of nftables that iptables has not made.
func (f *Facts) readForeign(ctx context.Context) error {
	path, found := find("nft")
	if !found {
		return nil // without the program there is hardly a table
	}
	text, err := run(ctx, path, "list", "ruleset")
	if err != nil {
		return err
	}
	f.Foreign = foreign(text)
	return nil
}

// foreign takes the output of nft list ruleset apart.
func foreign(text string) (out []ForeignTable) {
	managed := false // by iptables-nft, as a comment in front of the table says
	for line := range strings.Lines(text) {
		name, isTable := strings.CutPrefix(line, "table ")
		switch {
		case strings.HasPrefix(line, "#"):
			managed = strings.Contains(line, "managed by iptables-nft")
		case isTable && !managed && !byIPTables(name):
			out = append(out, ForeignTable{Name: strings.TrimSuffix(strings.TrimSpace(name), " {"), Text: line})
		case isTable:
			out = append(out, ForeignTable{})
			managed = false
		case len(out) > 0:
			out[len(out)-1].Text += line
		}
	}
	kept := out[:0]
	for _, t := range out {
		if t.Name != "" {
			kept = append(kept, t)
		}
	}
	return kept
}

// byIPTables tells iptables-nft's tables by their names, for releases of nft
// without the comment.
func byIPTables(name string) bool {
	words := strings.Fields(name)
	if len(words) < 2 || words[0] != "ip" && words[0] != "ip6" {
		return false
	}
	switch words[1] {
	case "filter", "nat", "mangle", "raw", "security":
		return true
	}
	return false
}
