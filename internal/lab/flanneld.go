package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"flanneld/pkg/inet"
)

// FlanneldOptions are the options of a daemon.
type FlanneldOptions struct {
	Binary string   // path
	Args   []string // flags
	Env    []string // "NAME=value", added to a plain environment
	Dir    string   // working directory; empty: the program's own

	MayCrash bool // of another project's program: a crash in the log is no failure of the test
}

// Flanneld starts flanneld as the tutorial does, with further flags. The lab's
// etcd is started where it is not there yet.
func (h *Host) Flanneld(flags ...string) *Daemon {
	h.lab.t.Helper()
	return h.FlanneldAs(func(o *FlanneldOptions) { o.Args = append(o.Args, flags...) })
}

// FlanneldAs starts flanneld with the tutorial's options, after change has changed them.
func (h *Host) FlanneldAs(change func(*FlanneldOptions)) *Daemon {
	h.lab.t.Helper()
	o := FlanneldOptions{Dir: h.dir, Args: slices.Concat(
		h.publicIPs(),
		h.lab.Etcd().clientFlags(),
		[]string{"--iface=" + h.nics[0].name, "--subnet-file=" + h.SubnetFile()},
	)}
	change(&o)
	if o.Binary == "" {
		o.Binary = Binary(h.lab.t)
	}
	return h.Start(o)
}

// publicIPs are the flags that name the host's addresses.
func (h *Host) publicIPs() (flags []string) {
	for _, ip := range h.ips {
		flag := "--public-ip="
		if inet.Of(ip) == inet.IPv6 {
			flag = "--public-ipv6="
		}
		flags = append(flags, flag+ip.String())
	}
	return flags
}

// NeedFlanneld builds flanneld. A package that runs it says so in its TestMain,
// before Main: in the lab there is no network to fetch modules by.
func NeedFlanneld() {
	if os.Getenv(stageEnv) != "" {
		return
	}
	if _, err := buildFlanneld(); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

// Binary is the path of the flanneld under test: FLANNELD_BINARY where it is
// set, and otherwise one that is built from this source, with the race detector
// where the test itself has it.
func Binary(t TB) string {
	t.Helper()
	path, err := buildFlanneld()
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	return path
}

// BinaryFrom is the path of a flanneld built from this source that writes routes by
// next hop objects from so many on.
func BinaryFrom(t TB, routes int) string {
	t.Helper()
	path, err := build("-nexthops-"+strconv.Itoa(routes),
		"-ldflags=-X flanneld/pkg/kernel.nexthopsFrom="+strconv.Itoa(routes))
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	return path
}

// BinaryProbing is the path of a flanneld built from this source that probes its peers every
// so many seconds.
func BinaryProbing(t TB, every int) string {
	t.Helper()
	path, err := build("-probing-"+strconv.Itoa(every),
		"-ldflags=-X flanneld/pkg/monitor.everySeconds="+strconv.Itoa(every))
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	return path
}

var buildFlanneld = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("FLANNELD_BINARY"); path != "" {
		return filepath.Abs(path)
	}
	return build("")
})

func build(suffix string, more ...string) (string, error) {
	root, err := ModuleRoot()
	if err != nil {
		return "", err
	}
	args, name := append([]string{"build"}, more...), "flanneld-lab"
	if raceEnabled {
		args, name = append(args, "-race"), "flanneld-race"
	}
	name += suffix
	path := filepath.Join(root, "build", name)
	unlock, err := lockFile(path + ".lock") // packages are tested side by side
	if err != nil {
		return "", fmt.Errorf("build flanneld: %w", err)
	}
	defer unlock()
	build := exec.Command("go", append(args, "-o", path, "./cmd/flanneld")...)
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build flanneld: %w\n%s", err, out)
	}
	return path, nil
}

// lockFile locks a file against other processes that call it.
func lockFile(path string) (unlock func() error, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	return f.Close, unix.Flock(int(f.Fd()), unix.LOCK_EX)
}

// ModuleRoot is the nearest folder upwards that has a go.mod: tests run in
// their package's folder.
func ModuleRoot() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("there is no go.mod above the working directory")
		}
		dir = filepath.Dir(dir)
	}
	return "", err
}
