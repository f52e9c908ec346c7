package check

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/status"
	"flanneld/pkg/subnet"
)

// DefaultSubnetFile is where the subnet file lies unless the daemon says
// otherwise.
const DefaultSubnetFile = "/run/flannel/subnet.env"

// Read reads the facts about this host. What cannot be read is noted in Unread.
func Read(ctx context.Context, daemon status.Socket) Facts { return read(ctx, daemon, daemon.Ask) }

func read(ctx context.Context, daemon status.Socket, ask func(context.Context) (status.Status, error)) Facts {
	f := Facts{Paths: map[netip.Addr]Path{}, Sysctl: map[string]string{}}
	s, err := ask(ctx)
	if f.Daemon = err; err == nil && s.Daemon != nil {
		f.Status, f.PID = &s, pidOf(daemon)
		f.readFlags()
		f.user = readUser(f.PID)
	}
	if errors.Is(err, status.ErrNoDaemon) {
		f.readUnit(ctx)
	}
	if errors.Is(err, status.ErrNoAnswer) {
		f.Frozen = frozen(daemon)
	}
	f.readEnv()
	f.note("interfaces and routes", f.readKernel())
	f.readSysctl()
	f.Leasing = readLeasing()
	f.note("sockets", f.readSockets())
	f.readFirewall(ctx)
	f.Docker = findProcess("dockerd")
	f.Managers = map[string]bool{}
	for _, m := range managers {
		f.Managers[m.comm] = findProcess(m.comm) != nil
	}
	if f.Status != nil {
		f.readCertificates()
		f.readKey()
		if _, err := os.Stat(f.asDaemon(tunFile)); err != nil {
			f.TUN = err
		}
		f.readMembers(ctx)
	}
	f.Now = time.Now()
	return f
}

func (f *Facts) note(what string, err error) {
	if err != nil {
		f.Unread = append(f.Unread, fmt.Sprintf("%s could not be read: %v", what, err))
	}
}

func (f *Facts) readKernel() error {
	families := f.askedFor()
	conn, err := kernel.Open(families...)
	if err != nil {
		return err
	}
	defer conn.Close()
	if f.Links, err = conn.Links(); err != nil {
		return err
	}
	for _, l := range f.Links {
		if l.Kind == nil || !f.isDevice(l.Name) {
			continue
		}
		of, err := conn.Entries(l)
		if err != nil {
			return err
		}
		f.Entries.Neighbours = append(f.Entries.Neighbours, of.Neighbours...)
		f.Entries.FDB = append(f.Entries.FDB, of.FDB...)
	}
	if f.Routes, err = conn.Routes(); err != nil {
		return err
	}
	f.Rules = map[inet.Family][]kernel.Rule{}
	for _, family := range families {
		if f.Rules[family], err = conn.Rules(family); err != nil {
			return err
		}
	}
	return nil
}

// isDevice tells the tunnel's end of one of the families.
func (f Facts) isDevice(name string) bool {
	return f.Status != nil && slices.ContainsFunc(f.Status.Halves(), func(h status.Half) bool {
		return h.Device != nil && h.Device.Name == name
	})
}

// ReadPaths asks the kernel how it reaches peers.
func (f *Facts) ReadPaths(peers []status.Peer) {
	conn, err := kernel.Open(f.inUse()...)
	if err == nil {
		defer conn.Close()
		_, err = conn.Links() // their names
	}
	if err != nil {
		f.note("paths to peers", err)
		return
	}
	for _, p := range peers {
		for _, to := range []netip.Addr{gateway(p.Subnet), p.PublicIP} {
			if _, known := f.Paths[to]; !known {
				path := Path{}
				path.Via, path.Dev, path.Err = conn.Lookup(to)
				f.Paths[to] = path
			}
		}
	}
}

// perDevice are the settings of an interface that matter.
var perDevice = map[inet.Family][]string{
	inet.IPv4: {"forwarding", "rp_filter"},
	inet.IPv6: {"forwarding", "force_forwarding", "accept_ra", "disable_ipv6"},
}

func (f *Facts) readSysctl() {
	for _, family := range f.askedFor() {
		v := f.of(family)
		keys := []string{v.words().forwarding, v.words().bridged, v.setting("all", "rp_filter")}
		for _, dev := range append(v.devices(), v.outward()...) {
			for _, name := range perDevice[family] {
				keys = append(keys, v.setting(dev, name))
			}
		}
		for _, key := range keys {
			if content, err := os.ReadFile(sysctlFile(key)); err == nil {
				f.Sysctl[key] = strings.TrimSpace(string(content))
			}
		}
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		f.Kernel = unix.ByteSliceToString(name.Release[:])
	}
}

// sysctlFile is where a setting lies.
func sysctlFile(key string) string {
	if conf, dev, name, is := sysctlOf(key); is {
		return "/proc/sys/" + strings.ReplaceAll(conf, ".", "/") + dev + "/" + name
	}
	return "/proc/sys/" + strings.ReplaceAll(key, ".", "/")
}

// envFile is where the subnet file lies, as far as is known.
func (f *Facts) envFile() string {
	if f.Status != nil {
		return f.Status.Daemon.SubnetFile
	}
	return DefaultSubnetFile
}

func (f *Facts) readEnv() {
	file := f.envFile()
	f.Env, f.EnvError = subnet.ReadEnv(file)
	if info, err := os.Stat(file); err == nil {
		f.EnvTime = info.ModTime()
	}
	_, err := os.Stat("/run/flannel/docker_opts.env")
	f.OptsByUnit = err == nil
	if own, err := os.Executable(); err == nil {
		script := filepath.Join(filepath.Dir(own), "mk-docker-opts.sh")
		if _, err := os.Stat(script); err == nil {
			f.OptsScript = script
		}
	}
}
