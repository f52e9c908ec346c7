package check

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"flanneld/pkg/kernel"
	"flanneld/pkg/status"
	"flanneld/pkg/subnet"
)

// DefaultSubnetFile is where the subnet file lies unless the daemon says
// otherwise.
const DefaultSubnetFile = "/run/flannel/subnet.env"

// Read reads the facts about this host. What cannot be read is noted in Unread.
func Read(ctx context.Context, ask func(context.Context) (status.Status, error)) Facts {
	f := Facts{Paths: map[netip.Addr]Path{}, Sysctl: map[string]string{}}
	s, err := ask(ctx)
	if f.Daemon = err; err == nil && s.Daemon != nil {
		f.Status = &s
	}
	if errors.Is(err, status.ErrNoAnswer) {
		f.Frozen = frozen()
	}
	f.note("interfaces and routes", f.readKernel())
	f.readEnv()
	f.readSysctl()
	f.note("sockets", f.readSockets())
	f.readFirewall(ctx)
	f.Docker = findProcess("dockerd")
	if f.Status != nil {
		f.readCertificates()
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
	conn, err := kernel.Open()
	if err != nil {
		return err
	}
	defer conn.Close()
	links, err := conn.Links()
	if err != nil {
		return err
	}
	masters, err := masters()
	if err != nil {
		return err
	}
	for _, l := range links {
		f.Links = append(f.Links, Link{l, masters[l.Name]})
		if f.Status != nil && f.Status.Device != nil && l.Name == f.Status.Device.Name && l.Kind != nil {
			if f.Entries, err = conn.Entries(l); err != nil {
				return err
			}
		}
	}
	if f.Routes, err = conn.Routes(); err != nil {
		return err
	}
	f.Rules, err = routingRules()
	return err
}

// routingRules are the rules that are asked before the main table, but for the
// one of the table local.
func routingRules() (out []RoutingRule, err error) {
	all, err := netlink.RuleList(netlink.FAMILY_V4)
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if r.Priority == 0 || r.Table == unix.RT_TABLE_MAIN {
			continue
		}
		rule := RoutingRule{Priority: r.Priority, Narrow: r.Src != nil || r.IifName != "" || r.OifName != "" || r.Mark != 0 || r.Tos != 0 || r.IPProto != 0 || r.Dport != nil || r.Sport != nil || r.UIDRange != nil}
		if r.Dst != nil {
			ip, _ := netip.AddrFromSlice(r.Dst.IP.To4())
			bits, _ := r.Dst.Mask.Size()
			rule.Dst = netip.PrefixFrom(ip, bits)
		}
		out = append(out, rule)
	}
	return out, nil
}

// masters are the bridges that interfaces are ports of, by name.
func masters() (map[string]string, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	names, out := map[int]string{}, map[string]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	for _, l := range links {
		out[l.Attrs().Name] = names[l.Attrs().MasterIndex]
	}
	return out, nil
}

// ReadPaths asks the kernel how it reaches peers.
func (f *Facts) ReadPaths(peers []status.Peer) {
	names := map[int]string{}
	for _, l := range f.Links {
		names[l.Index] = l.Name
	}
	for _, p := range peers {
		for _, to := range []netip.Addr{gateway(p.Subnet), p.PublicIP} {
			if _, known := f.Paths[to]; known {
				continue
			}
			path := Path{}
			routes, err := netlink.RouteGet(net.IP(to.AsSlice()))
			if path.Err = err; err == nil && len(routes) > 0 {
				path.Via, _ = netip.AddrFromSlice(routes[0].Gw.To4())
				path.Dev = names[routes[0].LinkIndex]
			}
			f.Paths[to] = path
		}
	}
}

func (f *Facts) readSysctl() {
	keys := []string{"net.ipv4.ip_forward", "net.ipv4.conf.all.rp_filter", "net.bridge.bridge-nf-call-iptables"}
	for _, dev := range f.devices() {
		keys = append(keys, "net.ipv4.conf."+dev+".forwarding", "net.ipv4.conf."+dev+".rp_filter")
	}
	for _, key := range keys {
		if content, err := os.ReadFile(sysctlFile(key)); err == nil {
			f.Sysctl[key] = strings.TrimSpace(string(content))
		}
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		f.Kernel = unix.ByteSliceToString(name.Release[:])
	}
}

// sysctlFile is where a setting lies. A dot in an interface's name, as in
// flannel.1, separates nothing.
func sysctlFile(key string) string {
	if rest, isConf := strings.CutPrefix(key, "net.ipv4.conf."); isConf {
		dev, setting := rest[:strings.LastIndexByte(rest, '.')], rest[strings.LastIndexByte(rest, '.')+1:]
		return "/proc/sys/net/ipv4/conf/" + dev + "/" + setting
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
