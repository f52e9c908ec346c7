package lab

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed testdata/lacking.c
var lackingSource []byte

// Lacking is a kernel without some parts of netfilter, for the programs that have its
// environment: the real kernel refuses these by name, as it does for want of a module.
type Lacking struct {
	Env  []string
	file string
}

// NewLacking makes one in a folder of its own. It needs a C compiler, as -race does.
func NewLacking(dir string, names ...string) (*Lacking, error) {
	l := &Lacking{file: filepath.Join(dir, "lacking")}
	source, library := l.file+".c", l.file+".so"
	if err := os.WriteFile(source, lackingSource, 0o644); err != nil {
		return nil, err
	}
	cc := os.Getenv("CC")
	if cc == "" {
		cc = "gcc"
	}
	compile := exec.Command(cc, "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, source, "-ldl")
	if out, err := compile.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("compile %s: %w: %s", source, err, out)
	}
	l.Env = []string{"LD_PRELOAD=" + library, "LACKING=" + l.file}
	return l, l.Set(names...)
}

// Set has the kernel lack these parts, and no others: matches and targets of iptables
// ("comment", "MASQUERADE"), its tables, expressions of nf_tables. Programs that run
// already follow.
func (l *Lacking) Set(names ...string) error {
	if err := os.WriteFile(l.file+".new", []byte(strings.Join(names, ",")), 0o644); err != nil {
		return err
	}
	return os.Rename(l.file+".new", l.file)
}
