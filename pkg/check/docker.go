package check

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"flanneld/pkg/condition"
	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/printable"
)

func findEnv(f Facts) []Finding {
	if f.Status == nil || f.Status.Lease == nil {
		return skipped("not before the lease")
	}
	file, mtu := f.Status.Daemon.SubnetFile, f.Status.MTU()
	fix := []string{restartFix}
	if c, failed := f.condition(condition.SubnetFileUnwritten); failed {
		dir := filepath.Dir(file)
		return []Finding{
			fault(
				[]string{
					fmt.Sprintf(
						"%s; %s   # is there room, and nothing in the way? flanneld tries again by itself",
						printable.Command("ls", "-la", dir),
						printable.Command("df", "-h", dir),
					),
				},
				"flanneld cannot write %s: %s",
				file,
				c.Cause,
			),
		}
	}
	switch {
	case errors.Is(f.EnvError, fs.ErrNotExist):
		return []Finding{fault(fix, "%s is not there: docker cannot learn this host's subnet", file)}
	case f.EnvError != nil:
		return []Finding{fault(fix, "%v", f.EnvError)}
	case f.Env.Subnets() != f.leased():
		return []Finding{
			fault(
				[]string{printable.Command("rm", file) + "; " + restartFix},
				"%s says %v, and this host has %v: somebody has edited it",
				file,
				f.Env.Subnets(),
				f.leased(),
			),
		}
	case f.Env.MTU != mtu:
		return []Finding{
			fault(fix, "%s says MTU %d, and packets may have %d bytes: somebody has edited it", file, f.Env.MTU, mtu),
		}
	}
	if c, contested := f.condition(condition.SubnetFileContested); contested { // right just now
		return []Finding{fault([]string{logFix}, "%s", c.Text())}
	}
	return nil
}

func goodDocker(f Facts) string {
	bridge := f.bridges()[0]
	return fmt.Sprintf("%s has %s", bridge.Name, addresses(bridge)) + mtuText(bridge.MTU)
}

func mtuText(mtu int) string { return fmt.Sprintf(", MTU %d", mtu) }

// findDocker compares the bridge that containers are behind with what subnet.env
// says. It is docker's as a rule, hence the name.
func findDocker(f Facts) []Finding {
	if f.EnvError != nil || !f.Env.Subnet.IsValid() {
		return skipped("not before subnet.env")
	}
	all, want := f.bridges(), netip.PrefixFrom(gateway(f.Env.Subnet), f.Env.Subnet.Bits())
	switch len(all) {
	case 0:
		return f.noBridge(want)
	case 1:
	default:
		return []Finding{f.tooMany(all)}
	}
	bridge, ports := all[0], f.ports(all[0].Name)
	fix, late := f.remake(bridge.Name)
	var out []Finding
	if !bridge.Up {
		up := printable.Command("ip", "link", "set", bridge.Name, "up")
		out = append(out, fault([]string{up}, "%s is down: no container behind it is reached", bridge.Name))
	}
	if !has(bridge, want) {
		out = append(out, fault(fix, "%s has %s, and subnet.env says %v%s", bridge.Name, addresses(bridge), want, late))
	}
	for _, p := range append(ports, bridge) {
		if why, raise := f.unfit(p); why != "" {
			return append(out, fault(append(raise, fix...), "%s", why))
		}
	}
	for _, p := range append(ports, bridge) {
		// A bridge without ports shows 1500, whatever dockerd was told.
		if p.MTU > f.Env.MTU && (p.Name != bridge.Name || len(ports) > 0) {
			return append(
				out,
				fault(
					fix,
					"the MTU of %s is %d, and subnet.env says %d: larger packets do not get through the tunnel%s",
					p.Name,
					p.MTU,
					f.Env.MTU,
					late,
				),
			)
		}
	}
	return out
}

// noBridge says why there is no bridge for the subnet: docker was not told of it,
// or a bridge has an earlier one. CNI and Podman make theirs with the first
// container, so before that there is nothing wrong.
func (f Facts) noBridge(want netip.Prefix) []Finding {
	for _, l := range f.bridgesIn(f.Env.Network) {
		of := func(a kernel.Addr) bool { return a.Bits() == want.Bits() } // a subnet, and no network of its own
		if l.Name != dockerBridge && slices.ContainsFunc(l.Addrs, of) {
			fix, _ := f.remake(l.Name)
			return []Finding{
				fault(fix, "%s has %s, and subnet.env says %v: it was made for another subnet", l.Name, addresses(l), want),
			}
		}
	}
	if f.bridge != "" && f.bridge != dockerBridge { // it has the subnet of the other family
		l, _ := f.link(f.bridge)
		fix, _ := f.remake(f.bridge)
		return []Finding{fault(fix, "%s has %s, and subnet.env says %v", l.Name, addresses(l), want)}
	}
	fix, late := f.remake(dockerBridge)
	fix = append(fix, "nothing, if the subnet is not docker's: CNI and Podman make their bridge with the first container")
	if docker0, exists := f.link(dockerBridge); exists {
		return []Finding{fault(fix, "docker0 has %s, and subnet.env says %v%s", addresses(docker0), want, late)}
	}
	if f.Docker != nil {
		return []Finding{fault(fix, "there is no docker0 with the address %v%s", want, late)}
	}
	return []Finding{
		note(
			"no bridge has the address %v yet: there is no docker0, and dockerd does not run here; CNI and Podman make "+
				"theirs with the first container",
			want,
		),
	}
}

// tooMany is about bridges that share the subnet. The kernel sends what is for a
// container to one of them alone.
func (f Facts) tooMany(all []kernel.Link) Finding {
	var names []string
	for _, l := range all {
		names = append(names, l.Name)
	}
	extra := names[len(names)-1]
	if extra == dockerBridge { // dockerd would miss it
		extra = names[0]
	}
	return fault([]string{
		"end the containers behind " + printable.Word(extra) + ", then: " + printable.Command("ip", "link", "delete", extra),
		"let only one of docker, CNI and Podman use " + printable.Word(f.envFile()) + " (docs/cni.md)",
	}, "%s have addresses in %v, and what is for their containers reaches one of them alone",
		strings.Join(names, " and "), f.own())
}

// tellDocker is the command that gives dockerd the options that it should have.
func (f Facts) tellDocker() string {
	if f.OptsByUnit {
		return "systemctl restart flanneld docker"
	}
	script := f.OptsScript
	if script == "" {
		script = "mk-docker-opts.sh"
	}
	return printable.Command(script, "-f", f.envFile()) + "; systemctl restart docker"
}

// remake says how a bridge comes to be what subnet.env says, and what may have
// been done too late.
func (f Facts) remake(bridge string) (fix []string, late string) {
	switch bridge {
	case dockerBridge:
		fix = []string{f.tellDocker(), "dockerd must be started with what that wrote (docs/docker.md)"}
		if f.Docker != nil && f.Docker.Started.Before(f.EnvTime) {
			fix = []string{"systemctl restart docker", fix[0] + "   # if that does not help", fix[1]}
			late = fmt.Sprintf(
				"; dockerd (pid %d) was started %v before the file was written",
				f.Docker.PID,
				f.EnvTime.Sub(f.Docker.Started).Round(time.Second),
			)
		} else if f.family == inet.IPv6 && f.Docker != nil && !f.Docker.IPv6 {
			late = fmt.Sprintf("; the command line of dockerd (pid %d) has no --ipv6", f.Docker.PID)
		}
		return fix, late
	case "cni0":
		return []string{
			printable.Command("mk-cni-conf.sh", "-f", f.envFile()) + "   # unless flannel's own CNI plugin reads that file",
			"end the containers behind cni0, then: ip link delete cni0   # the next container makes it anew"}, ""
	}
	return []string{
		"end the containers behind " + printable.Word(bridge) + ", remove their network (docker network rm, " +
			"podman network rm), and create it anew as " + printable.Word(f.envFile()) + " says (docs/cni.md)",
	}, ""
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
		if a.Addr().Is4() || !a.LinkLocal { // that the kernel gives to each
			out = append(out, a.Prefix.String())
		}
	}
	if len(out) == 0 {
		return "no address"
	}
	return strings.Join(out, ", ")
}
