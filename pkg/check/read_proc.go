package check

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"flanneld/pkg/inet"
	"flanneld/pkg/status"
)

// ticks is USER_HZ, which Linux shows to programs as 100 on all architectures
// that there is a flanneld for.
const ticks = 100

// findProcess finds a program in this network namespace.
func findProcess(name string) *Process {
	here, err := os.Stat("/proc/self/ns/net")
	if err != nil {
		return nil
	}
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, proc := range all {
		comm, err := os.ReadFile(proc + "/comm")
		if err != nil || strings.TrimSpace(string(comm)) != name {
			continue
		}
		if there, err := os.Stat(proc + "/ns/net"); err != nil || !os.SameFile(here, there) {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(proc))
		return &Process{PID: pid, Name: name, Started: started(proc), IPv6: hasFlag(proc, "--ipv6")}
	}
	return nil
}

// hasFlag reports whether a process was started with a flag that is true.
func hasFlag(proc, flag string) bool {
	content, _ := os.ReadFile(proc + "/cmdline")
	for word := range strings.SplitSeq(string(content), "\x00") {
		if name, value, given := strings.Cut(word, "="); name == flag && (!given || value == "true") {
			return true
		}
	}
	return false
}

// readLeasing finds the interfaces with IPv6 addresses that are theirs for a time only, as
// those by router advertisements are.
func readLeasing() map[string]bool {
	content, _ := os.ReadFile("/proc/self/net/if_inet6") // none: the kernel has no IPv6
	return leasing(string(content))
}

// leasing reads proc_pid_net(5): address, index, length, scope, flags and name.
func leasing(text string) map[string]bool {
	const permanent = 0x80 // IFA_F_PERMANENT (linux/if_addr.h)
	all := map[string]bool{}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 6 || fields[3] != "00" { // not of global scope
			continue
		}
		if flags, err := strconv.ParseUint(fields[4], 16, 32); err == nil && flags&permanent == 0 {
			all[fields[5]] = true
		}
	}
	return all
}

// frozen is the process ID of a daemon that is stopped; 0: it is not.
func frozen(s status.Socket) int {
	pid := pidOf(s)
	if fields := stat(fmt.Sprintf("/proc/%d", pid)); pid != 0 && len(fields) > 0 && fields[0] == "T" {
		return pid
	}
	return 0
}

// stat is what follows a process's name in proc_pid_stat(5): its state, and so on.
func stat(proc string) []string {
	content, err := os.ReadFile(proc + "/stat")
	if err != nil {
		return nil
	}
	text := string(content)
	return strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
}

// started is when a process began (starttime in proc_pid_stat(5)).
func started(proc string) time.Time {
	fields := stat(proc)
	if len(fields) < 20 {
		return time.Time{}
	}
	since, err := strconv.ParseInt(fields[19], 10, 64)
	boot, ok := bootTime()
	if err != nil || !ok {
		return time.Time{}
	}
	return boot.Add(time.Duration(since) * time.Second / ticks)
}

// bootTime is in /proc/stat in whole seconds.
func bootTime() (time.Time, bool) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return time.Time{}, false
	}
	_, rest, found := strings.Cut(string(stat), "\nbtime ")
	seconds, _, _ := strings.Cut(rest, "\n")
	at, err := strconv.ParseInt(seconds, 10, 64)
	return time.Unix(at, 0), found && err == nil
}

// readSockets finds programs that hold the tunnel's port. The tunnel's own
// socket belongs to the kernel, and to no process.
func (f *Facts) readSockets() error {
	type bound struct {
		port   int
		family inet.Family
	}
	inodes := map[string]bound{}
	for _, port := range f.tunnelPorts() {
		for family, file := range map[inet.Family]string{inet.IPv4: "/proc/self/net/udp", inet.IPv6: "/proc/self/net/udp6"} {
			found, err := udpInodes(file, port)
			if err != nil && !os.IsNotExist(err) {
				return err
			}
			for _, inode := range found {
				inodes["socket:["+inode+"]"] = bound{port, family}
			}
		}
	}
	if len(inodes) == 0 {
		return nil
	}
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		target, err := os.Readlink(fd)
		at, is := inodes[target]
		if err != nil || !is {
			continue
		}
		proc := filepath.Dir(filepath.Dir(fd))
		pid, _ := strconv.Atoi(filepath.Base(proc))
		if comm, err := os.ReadFile(proc + "/comm"); err == nil {
			s := Socket{at.port, Process{PID: pid, Name: strings.TrimSpace(string(comm))}, at.family}
			if pid != f.PID && !slices.Contains(f.Sockets, s) {
				f.Sockets = append(f.Sockets, s)
			}
		}
	}
	return nil
}

// tunnelPorts are those of devices, of which another program may hold one. Where the daemon holds
// them itself, and which process that is is not known, nothing can be told.
func (f *Facts) tunnelPorts() (all []int) {
	if f.Status == nil {
		return nil
	}
	for _, h := range f.Status.Halves() {
		if d := h.Device; d != nil && d.Port != 0 && !slices.Contains(all, d.Port) && (f.PID != 0 || !d.UserSpace) {
			all = append(all, d.Port)
		}
	}
	return all
}

// udpInodes reads the sockets bound to a port (proc_pid_net(5)).
func udpInodes(file string, port int) (out []string, err error) {
	content, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer content.Close()
	lines := bufio.NewScanner(content)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 {
			continue
		}
		_, hex, _ := strings.Cut(fields[1], ":")
		if n, err := strconv.ParseUint(hex, 16, 16); err == nil && int(n) == port {
			out = append(out, fields[9])
		}
	}
	return out, lines.Err()
}
