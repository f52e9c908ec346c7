package check

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

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
		return &Process{PID: pid, Name: name, Started: started(proc)}
	}
	return nil
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
	if f.Status == nil || f.Status.Device == nil {
		return nil
	}
	port := f.Status.Device.Port
	inodes := map[string]bool{}
	for _, file := range []string{"/proc/self/net/udp", "/proc/self/net/udp6"} {
		found, err := udpInodes(file, port)
		if err != nil && !os.IsNotExist(err) {
			return err
		}
		for _, inode := range found {
			inodes["socket:["+inode+"]"] = true
		}
	}
	if len(inodes) == 0 {
		return nil
	}
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	seen := map[int]bool{}
	for _, fd := range fds {
		target, err := os.Readlink(fd)
		if err != nil || !inodes[target] {
			continue
		}
		proc := filepath.Dir(filepath.Dir(fd))
		pid, _ := strconv.Atoi(filepath.Base(proc))
		if comm, err := os.ReadFile(proc + "/comm"); err == nil && !seen[pid] {
			seen[pid] = true
			f.Sockets = append(f.Sockets, Socket{Port: port, Process: Process{PID: pid, Name: strings.TrimSpace(string(comm))}})
		}
	}
	return nil
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
