package iptables

import (
	"fmt"
	"strings"

	"flanneld/pkg/firewall/rules"
)

// ourComment is the comment by which a rule is ours.
const ourComment = "flanneld"

// spec is a rule of ours in the order and notation of iptables-save, without its
// comment. randomFully spreads source ports, which avoids a race between
// connections that are opened at the same time; it needs Linux 3.14 and iptables
// 1.6.2.
func spec(r rules.Spec, randomFully bool) string {
	var out []string
	side := func(option string, s rules.Side) {
		if s.Not {
			out = append(out, "!")
		}
		if s.Prefix.IsValid() {
			out = append(out, option, s.Prefix.Masked().String())
		}
	}
	side("-s", r.Src)
	side("-d", r.Dst)
	if r.In != "" {
		out = append(out, "-i", r.In)
	}
	if r.Out != "" {
		out = append(out, "-o", r.Out)
	}
	if r.Marked {
		out = append(out, "-m", "mark", "--mark", peerMark)
	}
	out = append(out, "-j", targets[r.Target])
	if r.Target == rules.TargetMasquerade && randomFully {
		out = append(out, "--random-fully")
	}
	return strings.Join(out, " ")
}

// peerMark is the mark as iptables prints it.
var peerMark = fmt.Sprintf("%#x/%#x", rules.PeerMark, rules.PeerMark)

// targets by name. RETURN in a builtin chain ends the translation.
var targets = map[rules.Target]string{
	rules.TargetAccept: "ACCEPT", rules.TargetNoNAT: "RETURN", rules.TargetMasquerade: "MASQUERADE",
	rules.TargetMasqueradePlain: "MASQUERADE",
}

func specs(all []rules.Spec, randomFully bool) (out []string) {
	for _, r := range all {
		out = append(out, spec(r, randomFully))
	}
	return out
}

// commented is a spec with the comment, as iptables prints and reads it.
func commented(spec string) string {
	conditions, target, _ := strings.Cut(spec, "-j ")
	return conditions + "-m comment --comment " + ourComment + " -j " + target
}

// withoutRandomFully is a spec without the option that later releases of iptables
// have.
func withoutRandomFully(spec string) string { return strings.TrimSuffix(spec, " --random-fully") }
