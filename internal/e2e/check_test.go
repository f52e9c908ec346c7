package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"flanneld/internal/lab"
	"flanneld/pkg/check"
)

// Nothing is found where nothing is wrong.
func TestCheckFindsNothing(t *testing.T) {
	for _, mode := range []string{hostGW, vxLAN} {
		t.Run(mode, func(t *testing.T) {
			c := start(t, mode, "hdss7-21", "hdss7-22")
			h := c.hosts[0]
			for _, what := range []string{"", "172.7.22.0/24", "172.7.22.77", "10.4.7.22"} {
				clean(t, h, "check "+what, what)
			}
			out, code := runCommand(t, h.Host, "check")
			expect(t, "check", out, code, 0, "ok       daemon        flanneld ", "ok       probe         the peer answered, to packets of up to 1")
			if found, _ := checked(t, h, ""); len(found) < 15 || found[0].Step != "daemon" || found[0].Level != check.OK {
				t.Errorf("%+v", found)
			}
			out, code = runCommand(t, h.Host, "check", "172.7.99.0/24")
			expect(t, "a subnet that nobody has", out, code, 1, "FAULT", "no host has leased a subnet with 172.7.99.0/24")
			out, code = runCommand(t, h.Host, "check", "172.7.21.1")
			expect(t, "the host itself", out, code, 2, "that is this host itself")
			out, code = runCommand(t, h.Host, "check", "hdss7-22")
			expect(t, "a name", out, code, 2, `"hdss7-22" is neither a subnet such as 172.7.22.0/24 nor an address`)
		})
	}
}

// What keeps check from looking is said as well, and is no fault of the host's.
func TestCheckThatCannotLook(t *testing.T) {
	c := start(t, vxLAN, "hdss7-21", "hdss7-22")
	h := c.hosts[0]
	binary := lab.Binary(t)
	type handicap struct {
		name   string
		as     []string // goes before the command
		step   string
		reason string
	}
	handicaps := []handicap{
		{"no raw sockets", []string{"setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"}, "probe", "open a raw socket at 172.7.21.1: "},
		{"iptables does not work", hiding("/usr/sbin/iptables-save", "exit 7"), "forward", "iptables could not be read"},
		{"no right to read nftables", []string{"setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"}, "forward", "iptables could not be read"},
	}
	if strings.Contains(read(t, "/proc/self/uid_map"), "4294967295") { // otherwise the lab has no other user than root
		handicaps = append(handicaps, handicap{"an ordinary user", []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}, "daemon", "does not answer: it tells root only; try with sudo"})
	}
	for _, tt := range handicaps {
		cmd := append(slices.Clone(tt.as), binary, "check", "-o", "json")
		out, err := h.Try(cmd[0], cmd[1:]...)
		if err == nil || err.Error() != "exit status 2" {
			t.Errorf("%s: %v", tt.name, err)
		}
		first := firstOf(parsed(t, out), check.Unknown)
		if first.Step != tt.step || !strings.Contains(first.Text, tt.reason) {
			t.Errorf("%s: the first is %+v in\n%s", tt.name, first, out)
		}
	}
}

// TestCheckWithoutPrograms has a host without iptables and nft, and one whose nft
// crashes: neither keeps check from looking.
func TestCheckWithoutPrograms(t *testing.T) {
	c := start(t, vxLAN, "hdss7-21", "hdss7-22")
	h := c.hosts[0]
	h.Shell(`nft 'table inet office { chain from { type filter hook forward priority 5; oifname "flannel.1" ip daddr 172.7.22.0/24 counter drop comment "no"; }; }'`)
	for _, tt := range []struct {
		name string
		as   []string
		note string
	}{
		{"nft crashes", hiding("/usr/sbin/nft", `[ "$1" = --version ] && echo "nftables v1.0.6 (Lester Gooch #5)" || kill -SEGV $$`),
			"nft 1.0.6 cannot read this host's tables: /usr/sbin/nft: signal: segmentation fault; flanneld does not need it; to look yourself, install nftables 1.1.2 or later"},
		{"nft hangs", hiding("/usr/sbin/nft", `[ "$1" = --version ] || exec sleep 60`), "nft  cannot read"},
		{"neither nft nor iptables", []string{"unshare", "-m", "sh", "-c", `set -e; d=$(mktemp -d -p /run); cp -a /usr/sbin/. $d/; rm -f $d/nft $d/iptables* $d/xtables*; mount --bind $d /usr/sbin; exec "$@"`, "sh"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := append(slices.Clone(tt.as), lab.Binary(t), "check", "-o", "json")
			out, err := h.Try(cmd[0], cmd[1:]...)
			if err == nil || err.Error() != "exit status 1" {
				t.Errorf("%v: %s", err, out)
			}
			found := parsed(t, out)
			if first := firstOf(found, check.Fault); first.Step != "nftables" || !strings.Contains(first.Text, `the nftables table "inet office" drops what containers send to 172.7.22.0/24, in chain from, by: oifname "flannel.1" ip daddr 172.7.22.0/24 drop comment "no"`) ||
				len(first.Fix) < 2 || !strings.HasPrefix(first.Fix[1], "nft delete rule inet office from handle ") {
				t.Errorf("%+v", first)
			}
			var noted string
			for _, x := range found {
				if x.Level == check.Note && strings.HasPrefix(x.Text, "nft ") {
					noted = x.Text
				}
			}
			if !strings.HasPrefix(noted, tt.note) || tt.note == "" && noted != "" {
				t.Errorf("noted: %s", noted)
			}
			if x := firstOf(found, check.Unknown); x.Text != "" {
				t.Errorf("%+v", x)
			}
		})
	}
}

// hiding is what goes before a command for which a program shall be replaced by
// a line of shell, as if another had been installed.
func hiding(program, script string) []string {
	return []string{"unshare", "-m", "sh", "-c", fmt.Sprintf(
		`set -e; d=$(mktemp -d -p /run); printf '#!/bin/sh\n%s\n' > $d/p; chmod 755 $d/p; mount --bind $d/p %s; exec "$@"`, script, program), "sh"}
}
