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
			out, code := verb(t, h.Host, "check")
			expect(t, "check", out, code, 0, "ok       daemon        flanneld ", "ok       probe         the peer answered, to packets of up to 1")
			if found, _ := checked(t, h, ""); len(found) < 15 || found[0].Step != "daemon" || found[0].Level != check.OK {
				t.Errorf("%+v", found)
			}
			out, code = verb(t, h.Host, "check", "172.7.99.0/24")
			expect(t, "a subnet that nobody has", out, code, 1, "FAULT", "no host has leased a subnet with 172.7.99.0/24")
			out, code = verb(t, h.Host, "check", "172.7.21.1")
			expect(t, "the host itself", out, code, 2, "that is this host itself")
			out, code = verb(t, h.Host, "check", "hdss7-22")
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
		{"nft does not work", hiding("/usr/sbin/nft", "exit 7"), "flanneld", "nftables could not be read: /usr/sbin/nft: exit status 7"},
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

// hiding is what goes before a command for which a program shall be replaced by
// a line of shell, as if another had been installed.
func hiding(program, script string) []string {
	return []string{"unshare", "-m", "sh", "-c", fmt.Sprintf(
		`set -e; d=$(mktemp -d -p /run); printf '#!/bin/sh\n%s\n' > $d/p; chmod 755 $d/p; mount --bind $d/p %s; exec "$@"`, script, program), "sh"}
}
