package check

import (
	"encoding/json"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"flanneld/pkg/condition"
	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/probe"
	"flanneld/pkg/status"
)

// payloads would each make a file p, if a shell carried them out. They are as short as
// an interface's name must be.
var payloads = []string{"$(>p)", "`>p`", ";>p;", "&>p&", "|>p", "\n>p\n", `";>p;"`, `';>p;'`, `\';>p;'`, `'"$(>p)"'`, "a b>p", "${x:=$(>p)}", "x#\n>p"}

// hostile are hosts on which whatever somebody may name is named so, and something is
// wrong with it.
func hostile(name string) map[string]func(*Facts) {
	path := "/" + name
	links := func(f *Facts) {
		f.Status.Host.Interface, f.Status.Device.Name = name, name
		f.Links[0].Name, f.Links[2].Name, f.Links[3].Master = name, name, name
	}
	dropping := func(f *Facts, table, chain string) rules.Ruleset {
		set := saved(table, ":"+chain+" - [0:0]", "FORWARD -j OFFICE", "INPUT -j OFFICE", "OUTPUT -j OFFICE", "OFFICE -d 172.7.0.0/16 -j DROP", "OFFICE -p udp -j DROP")
		return set
	}
	return map[string]func(*Facts){
		"interface":         func(f *Facts) { links(f); f.Links[0].Up = false },
		"its address":       func(f *Facts) { links(f); f.Links[0].Addrs = nil },
		"another interface": func(f *Facts) { f.Links[0].Name = name; f.Flags = map[string]string{"iface": name} },
		"a second one":      func(f *Facts) { vagrant(f); f.Links[len(f.Links)-1].Name = name },
		"contested": func(f *Facts) {
			vagrant(f)
			f.Links[len(f.Links)-1].Name = name
			is(f, condition.LeaseContested, name)
		},
		"none": func(f *Facts) {
			f.Status.Host, f.Status.Peers, f.Links = nil, nil, []kernel.Link{{Name: name, Addrs: addr("10.4.7.21/24")}}
			is(f, condition.InterfaceMissing, name)
		},
		"another device": func(f *Facts) { f.Links = append(f.Links, f.Links[1]); f.Links[4].Name = name },
		"bridge":         func(f *Facts) { links(f); f.Links[2].Up = false; f.Links[2].Addrs = addr("172.17.0.1/16") },
		"two bridges": func(f *Facts) {
			f.Links = append(f.Links, f.Links[2])
			f.Links[4].Name = name
			f.Status.Daemon.SubnetFile = path
		},
		"a bridge of the network": func(f *Facts) {
			f.Links[2].Name, f.Links[2].Addrs = name, addr("172.7.99.1/24")
		},
		"settings": func(f *Facts) {
			links(f)
			f.Sysctl["net.ipv4.conf."+name+".forwarding"], f.Sysctl["net.ipv4.conf."+name+".rp_filter"] = "0", "1"
			f.Paths[peer] = Path{Dev: name + "x"}
		},
		"routes": func(f *Facts) {
			f.Routes = append(f.Routes, kernel.FoundRoute{Route: kernel.Route{Dst: far, Dev: name}})
			f.Entries.FDB = nil
		},
		"process": func(f *Facts) { f.Sockets = []Socket{{8472, Process{PID: 7, Name: name}, inet.IPv4}} },
		"subnet file": func(f *Facts) {
			f.Status.Daemon.SubnetFile, f.OptsScript, f.Env.Subnet, f.Links[2].Addrs = path, path, far, nil
		},
		"docker's options": func(f *Facts) {
			f.Status.Daemon.SubnetFile, f.OptsScript, f.Links[2].Addrs = path, path, addr("172.17.0.1/16")
		},
		"unwritable": func(f *Facts) { f.Status.Daemon.SubnetFile = path + "/x"; is(f, condition.SubnetFileUnwritten, name) },
		"config": func(f *Facts) {
			text, _ := json.Marshal(map[string]string{"Network": name})
			f.Status.Network.Config, f.Status.Etcd.Prefix, f.Status.Etcd.Endpoints = string(text), path, []string{"http://" + name}
			f.Flags = map[string]string{"etcd-username": name, "etcd-password-file": path}
			is(f, condition.ConfigInvalid, name)
		},
		"no config": func(f *Facts) {
			f.Status.Network, f.Status.Etcd.Prefix, f.Status.Daemon.SubnetFile = nil, path, path
			is(f, condition.ConfigMissing, name)
		},
		"no lease": func(f *Facts) { f.Status.Lease, f.Status.Etcd.Prefix = nil, path; is(f, condition.NoLease, name) },
		"etcd's rights": func(f *Facts) {
			f.Status.Etcd.Prefix, f.Flags = path, map[string]string{"etcd-username": name}
			denied(f, condition.EtcdUnwritable, name)
		},
		"files": func(f *Facts) {
			f.Certificates[0] = Certificate{File: path, Err: &fs.PathError{Op: "open", Path: path, Err: fs.ErrPermission}}
			f.Certificates = append(f.Certificates, Certificate{File: path, Err: &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}})
		},
		"what systemd starts": func(f *Facts) {
			f.Status, f.Daemon, f.Missing = nil, status.ErrNoDaemon, []NeededFile{{"etcd-certfile", path, fs.ErrNotExist}}
		},
		"iptables": func(f *Facts) {
			f.Firewall = dropping(f, "filter", "OFFICE")
			for _, c := range f.Firewall[0].Chains {
				for i := range c.Rules {
					r := &c.Rules[i]
					r.Chain, r.Text = name, `-m comment --comment "`+strings.ReplaceAll(strings.ReplaceAll(name, `\`, `\\`), `"`, `\"`)+`" `+r.Text
				}
			}
		},
		"nftables": func(f *Facts) {
			t := foreign("inet", name, ":FORWARD DROP [0:0]", ":INPUT DROP [0:0]", "OUTPUT -p udp -j DROP")
			for _, c := range t.Chains {
				for i := range c.Rules {
					c.Rules[i].Chain = name
				}
			}
			f.Firewall = append(f.Firewall, t)
		},
		"containers of one host": func(f *Facts) {
			links(f)
			t := foreign("ip", name, "FORWARD -d 172.7.21.0/24 -j DROP")
			f.Firewall = append(saved("filter", "FORWARD -s 172.7.21.0/24 -j DROP"), t)
		},
		"addresses": func(f *Facts) {
			t := foreign("ip", name, "POSTROUTING -s 172.7.21.0/24 -j MASQUERADE")
			t.Chains["POSTROUTING"].NAT = true
			f.Firewall = append(f.Firewall, t)
		},
	}
}

// TestWhatIsPastedIsNotCarriedOut: whatever names there are, a shell that reads a line
// that check prints carries out nothing but the command that check means.
func TestWhatIsPastedIsNotCarriedOut(t *testing.T) {
	seen := map[string]bool{}
	for i, name := range payloads {
		for what, spoil := range hostile(name) {
			spoilt := healthy()
			spoil(&spoilt)
			hosts := []Facts{spoilt}
			if i%4 == 0 { // the lines are made by the same code
				hosts = append(hosts, routed(asIn(inet.IPv6, spoilt), name))
			}
			for _, f := range hosts {
				for _, x := range append(all(f), prober(f)...) {
					for _, line := range x.Fix {
						if !seen[line] {
							seen[line] = true
							pasted(t, what, line)
						}
					}
				}
			}
		}
		f := healthy()
		f.Status.Etcd.CAFile, f.Status.Etcd.CertFile, f.Status.Etcd.KeyFile = "/"+name, "/"+name, "/"+name
		f.Status.Host.Interface, f.Status.Device.Name = name, name
		for _, trouble := range []Trouble{NoAddress, NoRoute, Refused, Filtered, Dead, SpeaksTLS, SpeaksPlain, UnknownSigner, OtherName, RefusesClient, ""} {
			m := Member{URL: "http://" + name, Host: name, Port: name, From: here, Names: []string{name}, Issuer: name, UsualPort: true, Trouble: trouble}
			f.Status.Etcd.Endpoints = []string{m.URL}
			_, fix := f.remedy(m)
			for _, line := range named("etcd", []Finding{fault(fix, "x")}, nil)[0].Fix {
				pasted(t, string(trouble), line)
			}
		}
	}
	if len(seen) < 100 {
		t.Errorf("only %d lines were read", len(seen))
	}
}

// routed is a host of IPv6 that does not forward, and has a default route by an interface
// of that name, and packets too short.
func routed(f Facts, name string) Facts {
	conf := dialects[inet.IPv6].conf
	f.Sysctl["net.ipv6.conf.all.forwarding"], f.Sysctl[conf+name+".accept_ra"], f.Sysctl[conf+name+".disable_ipv6"] = "0", "1", "1"
	if l, _ := f.link(name); l.Kind == nil { // a tunnel's has a finding of its own
		f.Routes = append(f.Routes, kernel.FoundRoute{Route: kernel.Route{Dst: netip.MustParsePrefix("::/0"), Via: netip.MustParseAddr("fe80::2"), Dev: name}, Protocol: 9, Metric: 1024})
	}
	for i := range f.Links {
		if f.Links[i].Type == "veth" {
			f.Links[i].MTU = 1200
		}
	}
	return f
}

// prober is what probes find where large packets get lost and TCP does.
func prober(f Facts) []Finding {
	if f.Status == nil {
		return nil
	}
	family := f.inUse()[0]
	echo := probe.Answer{Answered: true, Echo: true, From: netip.MustParseAddr("172.7.22.1")}
	n := &network{answers: answersIn(family, map[string]probe.Answer{"172.7.22.1": echo}), longest: 1000}
	return Prober{Network: n, Dropped: func() int { return 0 }}.Run(f, f.Status.Peers, nil)
}

// pasted has a shell read a line where no program is to be found.
func pasted(t *testing.T, what, line string) {
	t.Helper()
	if strings.ContainsAny(line, "\n\r") || strings.HasPrefix(line, "kill ") || strings.Contains(line, "> /") {
		t.Errorf("%s: %q", what, line)
		return
	}
	dir := t.TempDir()
	cmd := exec.Command("/bin/sh", "-c", line)
	cmd.Dir, cmd.Env = dir, []string{"PATH=" + dir}
	_ = cmd.Run() // nothing of it is found
	if made, err := filepath.Glob(dir + "/*"); err != nil || len(made) > 0 {
		t.Errorf("%s: %q makes %q", what, line, made)
	}
	_ = os.Remove(dir)
}
