package check

import (
	"fmt"
	"net"
	"os"
	"strings"

	"flanneld/pkg/status"
)

// told are the flags of the daemon that fixes speak of. A password is none of them.
var told = []string{"etcd-username", "etcd-password-file", "iface", "public-ip"}

// daemonPID is the process that holds the daemon's socket, as this PID namespace has
// it; 0: there is none, or it is in another one.
func daemonPID() int {
	conn, err := net.Dial("unix", status.Socket)
	if err != nil {
		return 0
	}
	defer conn.Close()
	daemon, err := status.Credentials(conn.(*net.UnixConn))
	if err != nil {
		return 0
	}
	return int(daemon.Pid)
}

// readFlags reads what the running daemon was told, by its command line or its
// environment.
func (f *Facts) readFlags(pid int) {
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return
	}
	environ, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	f.Flags = flags(strings.Split(string(args), "\x00"), strings.Split(string(environ), "\x00"))
}

func flags(args, environ []string) map[string]string {
	out := map[string]string{}
	for _, name := range told {
		variable := "FLANNELD_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_")) + "="
		for _, e := range environ {
			if value, is := strings.CutPrefix(e, variable); is {
				out[name] = value
			}
		}
		for i, arg := range args {
			flag, value, whole := strings.Cut(strings.TrimLeft(arg, "-"), "=")
			if flag != name || !strings.HasPrefix(arg, "-") {
				continue
			}
			if !whole && i+1 < len(args) {
				value = args[i+1]
			}
			out[name] = value
		}
	}
	return out
}
