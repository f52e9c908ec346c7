// Package rules models a firewall: tables, chains and rules, whoever wrote them, and
// what they do to a packet.
//
// It knows nothing of iptables or nftables. Their packages read the rules of a host
// into a [Ruleset], and write the rules of [Wanted]. The same model places our rules
// and tells `flanneld check` what a host does: it evaluates packets, and does not
// compare the text of rules.
package rules
