package check

import (
	"errors"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"flanneld/pkg/condition"
	"flanneld/pkg/kernel"
	"flanneld/pkg/status"
)

const (
	ownKey   = "8dPfT0MPHsJiQmmtW+8iMAiseyi44Tv4ByAGnT9m2XM="
	peerKey  = "TxWqtKzmu5rtso1xv5KBnGfnoPAZUdiv7YVtzh+XTAE="
	otherKey = "M9fvMamQ9hqZFPby7XV2S17cR+nzju2skb68JQsSzS4="
)

var network16 = netip.MustParsePrefix("172.7.0.0/16")

// tunnelled is a healthy host whose device has a table of hosts of its own.
func tunnelled(backend, dev string, port, mtu int, kind kernel.DeviceKind) Facts {
	f := healthy()
	f.Status.Time = now
	f.Status.Network.Backend = backend
	f.Status.Network.Config = `{"Network":"172.7.0.0/16","Backend":{"Type":"` + backend + `"}}`
	f.Status.Lease.Backend, f.Status.Lease.MTU = backend, mtu
	f.Status.Device = &status.Device{Name: dev, Kind: backend, Port: port, MTU: mtu, Addr: own.Addr()}
	f.Status.Peers[0] = status.Peer{
		Subnet: far, PublicIP: peer, Backend: backend, Mode: status.Tunnel, Dev: dev, Kernel: status.InPlace, Route: network16,
		Endpoint: netip.AddrPortFrom(peer, uint16(port)),
	}
	f.Links[1] = kernel.Link{Name: dev, MTU: mtu, Up: true, Type: kind.Type(), Alias: kernel.Alias, Kind: kind, Addrs: addr("172.7.21.0/32")}
	f.Links[2].MTU, f.Links[3].MTU, f.Env.MTU = mtu, mtu, mtu
	f.Routes[0] = kernel.FoundRoute{Route: kernel.Route{Dst: network16, Dev: dev}, Protocol: kernel.Protocol}
	f.Paths[gateway(far)] = Path{Dev: dev}
	f.Entries = kernel.Entries{}
	f.Firewall = saved("filter", "INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT")
	return f
}

// wireguarded is one by the kernel's WireGuard.
func wireguarded() Facts {
	f := tunnelled("wireguard", "flannel-wg", 51820, 1420, kernel.WireGuard{Port: 51820})
	f.Status.Device.PublicKey, f.Status.Lease.PublicKey = ownKey, ownKey
	f.Status.Daemon.KeyFile = "/run/flannel/wgkey"
	f.Key = &KeyFile{File: "/run/flannel/wgkey", Mode: 0o600, Public: ownKey}
	p := &f.Status.Peers[0]
	p.PublicKey, p.Session = peerKey, &status.Session{Handshake: now.Add(-time.Minute), Sent: 1, Received: 1}
	return f
}

// inUserSpace is one whose kernel has none.
func inUserSpace() Facts {
	f := wireguarded()
	f.Status.Device.UserSpace = true
	f.Links[1].Type, f.Links[1].Kind, f.Links[1].Unserved = kernel.TAP, kernel.UDP{}, true // as another process sees it
	return f
}

// byUDP is one by backend udp.
func byUDP() Facts {
	f := tunnelled("udp", "flannel0", 8285, 1472, kernel.UDP{})
	f.Status.Device.UserSpace, f.Status.Peers[0].Backend = true, ""
	f.Links[1].Type, f.Links[1].Unserved = kernel.TAP, true
	return f
}

// vain has nothing come of packets to the peer.
func vain(f *Facts, last time.Time, heard bool) {
	f.Status.Peers[0].Session = &status.Session{Handshake: last, Sent: 444}
	f.Silent = map[netip.Prefix]Vain{far: {For: 16 * time.Second, Heard: heard}}
}

// twin is one more host.
func twin(f *Facts, subnet, ip, key string) {
	p := f.Status.Peers[0]
	p.Subnet, p.PublicIP, p.PublicKey, p.Session, p.Mode, p.Kernel = netip.MustParsePrefix(subnet), netip.MustParseAddr(ip), key, nil, status.NoWay, ""
	f.Status.Peers = append(slices.Clone(f.Status.Peers), p)
}

func TestTunnelsAreWell(t *testing.T) {
	idle := wireguarded()
	idle.Status.Peers[0].Session.Handshake = now.Add(-time.Hour) // and tried, with success
	idle.Silent = map[netip.Prefix]Vain{}
	external := healthy()
	external.Status.Network.Backend, external.Status.Device, external.Links = "alloc", nil, slices.Delete(slices.Clone(external.Links), 1, 2)
	external.Status.Peers[0] = status.Peer{Subnet: far, PublicIP: peer, Mode: status.External}
	for name, tt := range map[string]struct {
		f     Facts
		says  []string
		notes int
	}{
		"wireguard":        {wireguarded(), []string{"flannel-wg is up, UDP port 51820", "the public key " + ownKey, "has a session"}, 0},
		"an idle peer":     {idle, []string{"has a session"}, 0},
		"in user space":    {inUserSpace(), []string{"this host's kernel has no WireGuard, so flanneld encrypts itself: that is slower"}, 1},
		"udp":              {byUDP(), []string{"flanneld carries its packets itself, and none while it is stopped"}, 0},
		"alloc":            {external, []string{"flanneld carries no packets with the backend alloc", "the operator's own routing"}, 0},
		"vxlan is as ever": {healthy(), []string{"flannel.1 is up, VNI 1, UDP port 8472"}, 0},
	} {
		found := append(all(tt.f), Prober{Network: silence{}, Dropped: func() int { return 0 }}.Run(tt.f, nil, nil)...)
		text := printed(t, found)
		for _, x := range found {
			if x.Level == Fault || x.Level == Unknown {
				t.Errorf("%s: %+v", name, x)
			}
		}
		if n := strings.Count(text, "\nnote "); n != tt.notes {
			t.Errorf("%s: %d notes in\n%s", name, n, text)
		}
		for _, want := range tt.says {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q in\n%s", name, want, text)
			}
		}
		if (tt.f.by(status.WireGuard)) != strings.Contains(text, "keys") {
			t.Errorf("%s: %s", name, text)
		}
	}
}

func TestFindingsOfWireGuard(t *testing.T) {
	const allow = "iptables -I INPUT -p udp --dport 51820 -s 10.4.7.0/24 -j ACCEPT   # on the peer, or the like on what is between"
	for _, tt := range []finding{
		{"no handshake at all", func(f *Facts) { vain(f, time.Time{}, false) }, "handshake", Fault,
			"no handshake with 10.4.7.22 at 10.4.7.22:51820 though packets were sent for 16s, there was none yet: UDP port 51820 seems to be blocked there or on the way, or the peer has an old key of this host's, or another PSK, or this host's clock was set back",
			allow + "\nflanneld check 172.7.21.0/24   # on the peer 10.4.7.22: does it know this host by the public key " + ownKey + "?\nflanneld wireguard rotate   # here, if this host's clock was set back"},
		{"an old handshake, and none now", func(f *Facts) { vain(f, now.Add(-200*time.Second), false) }, "handshake", Fault, "the last one was 3m20s ago", allow},
		{"the peer's tries arrive", func(f *Facts) { vain(f, time.Time{}, true) }, "handshake", Fault,
			"what comes from it arrives, and it knows this host's key; UDP port 51820 seems to be blocked there or on the way, or it has another PSK", "one of the two has another PSK"},
		{"no handshake, and a clock that is wrong", func(f *Facts) { vain(f, time.Time{}, false); f.Members[0].Ahead = time.Hour }, "handshake", Fault, "; this host's clock is wrong", allow},
		{"the clock is wrong", func(f *Facts) { f.Members[0].Ahead = -time.Hour }, "clock", Fault, "WireGuard's peers take no handshake that is older than the last", "timedatectl"},
		{"the clock was set back", func(f *Facts) { vain(f, now.Add(time.Hour), false) }, "clock", Fault,
			"this host's clock was set back: the last handshake with 10.4.7.22 lies 1h0m0s ahead; until the clock is there again peers refuse handshakes that this host begins, unless it has another key", "flanneld wireguard rotate   # here"},
		{"the clock was set back, and peers begin", func(f *Facts) { f.Status.Peers[0].Session.Handshake = now.Add(time.Hour) }, "clock", Note, "was set back", "flanneld wireguard rotate"},
		{"a session is not waited for before the port is open", func(f *Facts) {
			vain(f, time.Time{}, false)
			f.Firewall = saved("filter", "INPUT -p udp -m udp --dport 51820 -j DROP")
		}, "handshake", Skipped, "not before the port is open", ""},
		{"nor before packets go by the tunnel", func(f *Facts) {
			vain(f, time.Time{}, false)
			f.Paths[gateway(f.Status.Peers[0].Subnet)] = Path{Dev: "ens33", Via: netip.MustParseAddr("10.4.7.12")}
		}, "handshake", Skipped, "not before the route is right", ""},
		{"the port is closed here", func(f *Facts) { f.Firewall = saved("filter", "INPUT -p udp -m udp --dport 51820 -j DROP") }, "port", Fault,
			"the tunnel's packets from 10.4.7.22, UDP port 51820, are dropped where they arrive", "iptables -I INPUT -p udp --dport 51820 -s 10.4.7.0/24 -j ACCEPT"},
		{"the peer's port, which its lease names, is closed here", func(f *Facts) {
			f.Status.Peers[0].Endpoint = netip.AddrPortFrom(peer, 51999)
			f.Firewall = saved("filter", "OUTPUT -p udp -m udp --dport 51999 -j DROP")
		}, "port", Fault, "the tunnel's packets to 10.4.7.22, UDP port 51999, are dropped where they leave", "iptables -I OUTPUT -p udp --dport 51999 -d 10.4.7.0/24 -j ACCEPT"},
		{"others may read the key", func(f *Facts) { f.Key.Mode = 0o644 }, "keys", Note, "the mode of /run/flannel/wgkey is 0644", "chmod 600 /run/flannel/wgkey\nflanneld wireguard rotate --wireguard-key-file=/run/flannel/wgkey   # if others may have read it"},
		{"another key in the file", func(f *Facts) { f.Key.Public = otherKey }, "keys", Note, "of the public key " + otherKey + ": flanneld is to take it up", "systemctl restart flanneld"},
		{"the daemon makes the file again", func(f *Facts) { f.Key.Err, f.Key.Public = fs.ErrNotExist, "" }, "keys", OK, "", ""},
		{"the key cannot be read", func(f *Facts) {
			f.Key.Err = &fs.PathError{Op: "open", Path: f.Key.File, Err: fs.ErrPermission}
		}, "keys", Fault, "flanneld cannot read its private key: open /run/flannel/wgkey: permission denied", "chown 0 /run/flannel/wgkey"},
		{"no key in the file, as the config's condition says", func(f *Facts) {
			f.Key.Err = errors.New("it has no key")
			f.Status.Lease, f.Status.Device = nil, nil
			is(f, condition.ConfigInvalid, "the file /run/flannel/wgkey has no WireGuard key")
		}, "keys", Fault, "flanneld cannot use its private key: it has no key", "put the right key into /run/flannel/wgkey, of mode 0600\nflanneld wireguard rotate --wireguard-key-file=/run/flannel/wgkey"},
		{"the config step leaves that to the other", func(f *Facts) {
			f.Key.Err = errors.New("it has no key")
			is(f, condition.KeyUnusable, "no key")
		}, "config", Skipped, "flanneld cannot use its private key", ""},
		{"a key that cannot be written", func(f *Facts) { is(f, condition.KeyUnusable, "read-only file system") }, "keys", Fault, "read-only file system", "flanneld wireguard rotate"},
		{"the lease names another key", func(f *Facts) { f.Status.Lease.PublicKey = otherKey }, "keys", Fault,
			"peers encrypt for the public key " + otherKey + ", which this host's lease names, and its device has " + ownKey, "systemctl restart flanneld"},
		{"a copy of this host", func(f *Facts) { twin(f, "172.7.24.0/24", "10.4.7.24", ownKey) }, "keys", Fault,
			"10.4.7.24 and this host have one WireGuard key, as if one were a copy of the other", "flanneld wireguard rotate   # on the copy, here or there"},
		{"a copy of another", func(f *Facts) { twin(f, "172.7.24.0/24", "10.4.7.24", peerKey) }, "keys", Fault, "10.4.7.22 and 10.4.7.24 have one WireGuard key", "flanneld wireguard rotate   # on all of them but one"},
		{"two leases of a host", func(f *Facts) { twin(f, "172.7.24.0/24", "10.4.7.22", peerKey); f.Status.Peers = f.Status.Peers[:1] }, "keys", OK, "", ""},
		{"a lease that names no key", func(f *Facts) {
			f.Status.Peers[0].Mode, f.Status.Peers[0].Kernel, f.Status.Peers[0].PublicKey = status.NoWay, "", ""
		}, "route", Fault, "there is no way to 172.7.22.0/24", "every host needs a tunnel: flanneld on 10.4.7.22 too"},
		{"no common family", func(f *Facts) {
			f.Status.Peers[0].Mode, f.Status.Peers[0].Kernel = status.NoWay, ""
			f.Status.Conditions.Add(condition.Condition{Code: condition.PeerUnreachable, Subject: far.String(), Message: "its lease names no address of the family"})
		}, "route", Fault, "its lease names no address of the family", "flanneld check 172.7.21.0/24   # on the peer 10.4.7.22"},
		{"no route", func(f *Facts) { f.Routes = f.Routes[1:] }, "route", Fault, "no route", "systemctl restart flanneld"},
		{"a route to the subnet in front of the one for all", func(f *Facts) {
			f.Routes = append(f.Routes, kernel.FoundRoute{Route: kernel.Route{Dst: far, Via: peer, Dev: "ens33"}, Protocol: 4})
		}, "route", Fault, "another route: 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 4", "ip route del 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 4"},
		{"the device has not the peer", func(f *Facts) { f.Status.Peers[0].Kernel = "flannel-wg has no peer for 172.7.22.0/24" }, "route", Fault, "flannel-wg has no peer for 172.7.22.0/24", "systemctl restart flanneld"},
		{"another device has the port", func(f *Facts) {
			f.Links = append(slices.Clone(f.Links), kernel.Link{Name: "wg0", Type: "wireguard", Kind: kernel.WireGuard{Port: 51820}})
		}, "device", Fault, "wg0 is a wireguard device with the port 51820 that flanneld needs", "ip link del wg0"},
		{"another program has the port", func(f *Facts) {
			f.Sockets = []Socket{{Port: 51820, Process: Process{PID: 7, Name: "boringtun"}, Family: 1}}
		}, "device", Fault, "UDP port 51820, the tunnel's, is held by boringtun (pid 7)", "stop boringtun (pid 7)"},
		{"another device's port is held", func(f *Facts) {
			f.Sockets = []Socket{{Port: 51821, Process: Process{PID: 7, Name: "boringtun"}, Family: 1}}
		}, "device", OK, "flannel-wg is up", ""},
		{"the device listens elsewhere", func(f *Facts) { f.Links[1].Kind = kernel.WireGuard{Port: 5} }, "device", Fault, "flannel-wg has port 5, and flanneld wants port 51820", "systemctl restart flanneld"},
	} {
		tt.check(t, wireguarded())
	}
	for _, tt := range []finding{
		{"the device is gone", func(f *Facts) { f.Links = slices.Delete(slices.Clone(f.Links), 1, 2) }, "device", Fault, "the device flannel-wg is not there", "systemctl restart flanneld"},
		{"the device is down", func(f *Facts) { f.Links[1].Up = false }, "device", Fault, "flannel-wg is down", "systemctl restart flanneld"},
		{"the device is somebody's", func(f *Facts) { f.Links[1].Alias = "" }, "device", Fault, "flannel-wg is not flanneld's device", "systemctl restart flanneld"},
	} {
		tt.check(t, inUserSpace())
	}
}

func TestFindingsOfUDP(t *testing.T) {
	noTUN := func(f *Facts) {
		f.TUN = fs.ErrNotExist
		is(f, condition.KernelNotApplied, "open /dev/net/tun: no such file or directory")
	}
	for _, tt := range []finding{
		{"no TUN", noTUN, "device", Fault, "flanneld cannot make a TUN device, which carries its packets: open /dev/net/tun", "modprobe tun && mkdir -p /dev/net && mknod /dev/net/tun c 10 200"},
		{"no TUN at the first start", func(f *Facts) { noTUN(f); f.Status.Lease, f.Status.Device = nil, nil }, "lease", Fault, "this host has no subnet, as the kernel does not take", "modprobe tun"},
		{"TUN is not needed any more", func(f *Facts) { f.TUN = fs.ErrNotExist }, "device", OK, "flannel0 is up, UDP port 8285", ""},
		{"the port is closed here", func(f *Facts) { f.Firewall = saved("filter", "INPUT -p udp -m udp --dport 8285 -j DROP") }, "port", Fault,
			"the tunnel's packets from 10.4.7.22, UDP port 8285, are dropped where they arrive", "iptables -I INPUT -p udp --dport 8285 -s 10.4.7.0/24 -j ACCEPT"},
		{"rp_filter", func(f *Facts) {
			f.Sysctl["net.ipv4.conf.all.rp_filter"] = "1"
			f.Paths[peer] = Path{Dev: "ens34"}
		}, "rp_filter", Fault, "packets from 10.4.7.22 are dropped where they come in on ens33", "sysctl -w net.ipv4.conf.ens33.rp_filter=2"},
		{"a host that carries no datagrams", func(f *Facts) { f.Status.Peers[0].Mode, f.Status.Peers[0].Kernel = status.NoWay, "" }, "route", Fault, "there is no way to 172.7.22.0/24", "every host needs a tunnel: flanneld on 10.4.7.22 too"},
	} {
		tt.check(t, byUDP())
	}
}
