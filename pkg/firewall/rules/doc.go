// Package rules is what flanneld knows of firewalls: tables, chains and rules,
// whoever wrote them, and what becomes of a packet that meets them.
//
// It knows nothing of iptables or nftables. Their packages read what a host has
// into a [Ruleset], and write the rules of [Wanted]. What places our rules and
// what judges a host for `flanneld check` is this one piece of knowledge: judged
// is the packet, not the text of a rule.
package rules
