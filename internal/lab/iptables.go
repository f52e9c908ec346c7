package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// IPTablesFlavours are the two kernel interfaces behind the name iptables. A
// program takes the one that PATH has.
var IPTablesFlavours = []string{"iptables-nft", "iptables-legacy"}

// IPTablesAs makes one flavour the iptables and the ip6tables of a folder, which may then
// stand first in somebody's PATH.
func IPTablesAs(flavour, dir string) error {
	for _, name := range []string{"iptables", "ip6tables"} {
		if err := programAs(name, strings.Replace(flavour, "iptables", name, 1), dir); err != nil {
			return err
		}
	}
	return nil
}

func programAs(name, flavour, dir string) error {
	for _, end := range []string{"", "-save", "-restore"} {
		path, err := exec.LookPath(flavour + end)
		if err == nil {
			// xtables-nft-multi or the like, which runs as the command of its link's name.
			path, err = filepath.EvalSymlinks(path)
		}
		if err == nil {
			err = os.Symlink(path, filepath.Join(dir, name+end))
		}
		if err != nil {
			return fmt.Errorf("make %s the %s of %s: %w; Debian's package iptables has it (make deps)", flavour, name, dir, err)
		}
	}
	return nil
}
