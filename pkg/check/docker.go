package check

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"flanneld/pkg/kernel"
)

func findEnv(f Facts) []Finding {
	if f.Status == nil || f.Status.Lease == nil {
		return skipped("not before the lease")
	}
	file, l := f.Status.Daemon.SubnetFile, f.Status.Lease
	cure := []string{restartCure}
	if reason, failed := f.problem("cannot write the subnet file " + file + ": "); failed {
		dir := filepath.Dir(file)
		return []Finding{fault([]string{fmt.Sprintf("ls -la %s; df -h %s   # is there room, and nothing in the way? flanneld tries again by itself", dir, dir)}, "flanneld cannot write %s: %s", file, reason)}
	}
	switch {
	case errors.Is(f.EnvError, fs.ErrNotExist):
		return []Finding{fault(cure, "%s is not there: docker cannot learn this host's subnet", file)}
	case f.EnvError != nil:
		return []Finding{fault(cure, "%v", f.EnvError)}
	case f.Env.Subnet != l.Subnet:
		return []Finding{fault([]string{"rm " + file + "; " + restartCure}, "%s says %v, and this host has %v: somebody has edited it", file, f.Env.Subnet, l.Subnet)}
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
	if f.EnvError != nil || !f.Env.Subnet.IsValid() || faulty(findEnv(f)) {
		return skipped("not before subnet.env")
	}
	bridge, ports, exists := f.bridge()
	if !exists && f.Docker == nil {
		return []Finding{note("there is no docker0, and dockerd does not run here")}
	}
	cure := []string{"mk-docker-opts.sh -f " + f.envFile() + "; systemctl restart docker", "dockerd must be started with what that wrote (README, Give docker the subnet)"}
	late := ""
	if f.Docker != nil && f.Docker.Started.Before(f.EnvTime) {
		cure = []string{"systemctl restart docker", cure[0] + "   # if that does not help", cure[1]}
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
