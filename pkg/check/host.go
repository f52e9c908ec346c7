package check

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"flanneld/pkg/kernel"
)

func goodInterface(f Facts) string {
	h := f.Status.Host
	return fmt.Sprintf("%s is up, with %v", h.Interface, h.Address)
}

func findInterface(f Facts) []Finding {
	switch {
	case f.Status == nil:
		return skipped("flanneld does not say which one it uses")
	case f.Status.Host == nil:
		return []Finding{fault([]string{"ip -4 -brief address", "start flanneld with --iface=NAME"}, "flanneld has no external interface: %s", f.Status.Daemon.Reason)}
	}
	h := f.Status.Host
	l, exists := f.link(h.Interface)
	switch {
	case !exists:
		return []Finding{fault([]string{"ip -brief link"}, "the external interface %s is gone", h.Interface)}
	case !l.Up:
		return []Finding{fault([]string{"ip link set " + h.Interface + " up"}, "the external interface %s is down", h.Interface)}
	case !l.Has(h.Address):
		return []Finding{fault([]string{"ip -4 address show " + h.Interface}, "%s has lost its address %v", h.Interface, h.Address)}
	}
	for _, l := range f.Links {
		if l.Has(h.PublicIP) {
			return nil
		}
	}
	return []Finding{note("the public IP %v is no address of this host: a router must pass what comes there on to %v", h.PublicIP, h.Address)}
}

func goodDevice(f Facts) string {
	if f.Status.Device == nil {
		return "none is needed: packets travel as they are"
	}
	d := f.Status.Device
	return fmt.Sprintf("%s is up, VNI %d, UDP port %d", d.Name, d.VNI, d.Port)
}

// findDevice looks for others who hold the device's name, its VNI or its port.
func findDevice(f Facts) []Finding {
	if f.Status == nil || f.Status.Lease == nil {
		return skipped("there is none before the lease")
	}
	d := f.Status.Device
	if d == nil {
		return nil
	}
	var out []Finding
	for _, s := range f.Sockets {
		out = append(out, fault([]string{fmt.Sprintf("stop %s (pid %d), or give flanneld another port: flanneld config set, Backend.Port", s.Process.Name, s.Process.PID)},
			"UDP port %d, the tunnel's, is held by %s (pid %d)", s.Port, s.Process.Name, s.Process.PID))
	}
	for _, l := range f.Links {
		if v := l.VXLAN; v != nil && l.Name != d.Name && v.VNI == d.VNI && v.Port == d.Port {
			out = append(out, fault([]string{"ip link del " + l.Name}, "%s is a vxlan device with the VNI %d and port %d that flanneld needs", l.Name, v.VNI, v.Port))
		}
	}
	if len(out) > 0 {
		return out
	}
	l, exists := f.link(d.Name)
	switch {
	case !exists:
		return []Finding{fault([]string{logCure}, "the device %s is not there, and flanneld has not made it", d.Name)}
	case l.Kind != "vxlan" || l.Alias != kernel.Alias:
		return []Finding{fault([]string{"ip link del " + d.Name + "   # flanneld makes its own"}, "%s is not flanneld's device, but somebody else's of kind %s", d.Name, l.Kind)}
	case !l.Up:
		return []Finding{fault([]string{"ip link set " + d.Name + " up"}, "%s is down", d.Name)}
	}
	return nil
}

func findEnv(f Facts) []Finding {
	if f.Status == nil || f.Status.Lease == nil {
		return skipped("not before the lease")
	}
	file, l := f.Status.Daemon.SubnetFile, f.Status.Lease
	cure := []string{"systemctl restart flanneld   # or supervisorctl restart: it writes the file"}
	switch {
	case errors.Is(f.EnvError, fs.ErrNotExist):
		return []Finding{fault(cure, "%s is not there: docker cannot learn this host's subnet", file)}
	case f.EnvError != nil:
		return []Finding{fault(cure, "%v", f.EnvError)}
	case f.Env.Subnet != l.Subnet:
		return []Finding{fault(cure, "%s says %v, and this host has %v: somebody has edited it", file, f.Env.Subnet, l.Subnet)}
	case f.Env.MTU != l.MTU:
		return []Finding{fault(cure, "%s says MTU %d, and packets may have %d bytes: somebody has edited it", file, f.Env.MTU, l.MTU)}
	}
	return nil
}

func goodDocker(f Facts) string {
	bridge, _, _ := f.bridge()
	return fmt.Sprintf("docker0 has %v/%d", f.Env.Subnet.Addr().Next(), f.Env.Subnet.Bits()) + mtuText(bridge.MTU)
}

func mtuText(mtu int) string { return fmt.Sprintf(", MTU %d", mtu) }

// findDocker compares what docker does with what subnet.env says.
func findDocker(f Facts) []Finding {
	if f.EnvError != nil || !f.Env.Subnet.IsValid() {
		return skipped("not before subnet.env")
	}
	bridge, ports, exists := f.bridge()
	if !exists && f.Docker == nil {
		return []Finding{note("there is no docker0, and dockerd does not run here")}
	}
	cure := []string{"mk-docker-opts.sh, and dockerd started with what it wrote (README, Give docker the subnet)", "systemctl restart docker"}
	late := ""
	if f.Docker != nil && f.Docker.Started.Before(f.EnvTime) {
		late = fmt.Sprintf("; dockerd (pid %d) was started %v before the file was written", f.Docker.PID, f.EnvTime.Sub(f.Docker.Started).Round(time.Second))
	}
	want := netip.PrefixFrom(f.Env.Subnet.Addr().Next(), f.Env.Subnet.Bits())
	if !exists {
		return []Finding{fault(cure, "there is no docker0 with the address %v%s", want, late)}
	}
	var out []Finding
	if !has(bridge.Link, want) {
		out = append(out, fault(cure, "docker0 has %s, and subnet.env says %v%s", addresses(bridge.Link), want, late))
	}
	for _, p := range append(ports, bridge) {
		// A bridge without ports shows 1500, whatever dockerd was told.
		if p.MTU > f.Env.MTU && (p.Name != dockerBridge || len(ports) > 0) {
			return append(out, fault(cure, "the MTU of %s is %d, and subnet.env says %d: larger packets do not get through the tunnel%s", p.Name, p.MTU, f.Env.MTU, late))
		}
	}
	return out
}

func has(l kernel.Link, p netip.Prefix) bool {
	for _, a := range l.Addrs {
		if a.Prefix == p {
			return true
		}
	}
	return false
}

func addresses(l kernel.Link) string {
	var out []string
	for _, a := range l.Addrs {
		out = append(out, a.Prefix.String())
	}
	if len(out) == 0 {
		return "no address"
	}
	return strings.Join(out, ", ")
}

// findForwarding looks at whether the kernel forwards at all.
func findForwarding(f Facts) []Finding {
	if f.Sysctl["net.ipv4.ip_forward"] == "0" {
		return []Finding{fault([]string{"sysctl -w net.ipv4.ip_forward=1", "echo net.ipv4.ip_forward=1 > /etc/sysctl.d/90-flanneld.conf   # for the next start"},
			"this host forwards no packets: net.ipv4.ip_forward is 0")}
	}
	var out []Finding
	for _, dev := range f.devices() {
		if key := "net.ipv4.conf." + dev + ".forwarding"; f.Sysctl[key] == "0" {
			out = append(out, fault([]string{"sysctl -w " + strings.Replace(key, dev, strings.ReplaceAll(dev, ".", "/"), 1) + "=1"}, "what arrives on %s is not forwarded: %s is 0", dev, key))
		}
	}
	return out
}

// devices are those that containers' packets pass.
func (f Facts) devices() (out []string) {
	out = append(out, dockerBridge)
	if f.Status != nil && f.Status.Host != nil {
		out = append(out, f.Status.Host.Interface)
	}
	if f.Status != nil && f.Status.Device != nil {
		out = append(out, f.Status.Device.Name)
	}
	return out
}

// strict reports whether a device drops what it would not answer through
// itself (rp_filter; Linux takes the higher of the two settings).
func (f Facts) strict(dev string) bool {
	all, _ := strconv.Atoi(f.Sysctl["net.ipv4.conf.all.rp_filter"])
	own, _ := strconv.Atoi(f.Sysctl["net.ipv4.conf."+dev+".rp_filter"])
	return max(all, own) == 1
}
