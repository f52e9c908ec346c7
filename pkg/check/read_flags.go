package check

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"

	"flanneld/pkg/status"
)

// told are the flags of the daemon that fixes speak of. A password is none of them.
var told = append([]string{"etcd-username", "iface", "public-ip"}, needed...)

// needed are flags that name files without which the daemon does not start.
var needed = []string{"etcd-certfile", "etcd-keyfile", "etcd-cafile", "etcd-password-file"}

// pidOf is the process that holds a daemon's socket, as this PID namespace has it; 0:
// there is none, or it is in another one.
func pidOf(s status.Socket) int {
	conn, err := net.Dial("unix", string(s))
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
func (f *Facts) readFlags() {
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", f.PID))
	if err != nil {
		return
	}
	environ, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", f.PID))
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

// readUnit reads what systemd would start, where no daemon runs: a file that it cannot
// use is why it has ended, also where no endpoint of etcd needs it.
func (f *Facts) readUnit(ctx context.Context) {
	systemctl, err := exec.LookPath("systemctl")
	if err != nil {
		return
	}
	text, err := run(ctx, systemctl, "show", "flanneld", "--property=ExecStart,Environment")
	if err != nil {
		return
	}
	f.Flags = unitFlags(text)
	files := f.certificates(f.Flags["etcd-certfile"], f.Flags["etcd-keyfile"], f.Flags["etcd-cafile"])
	if file := f.Flags["etcd-password-file"]; file != "" {
		_, err := readRegular(file)
		files = append(files, Certificate{File: file, Err: err})
	}
	for _, flag := range needed {
		for _, c := range files {
			if c.Err != nil && c.File == f.Flags[flag] {
				f.Missing = append(f.Missing, NeededFile{flag, c.File, c.Err})
				break
			}
		}
	}
}

// unitFlags reads what systemctl shows of a unit:
//
//	ExecStart={ path=/usr/bin/flanneld ; argv[]=/usr/bin/flanneld --iface=ens33 ; … }
//	Environment=FLANNELD_ETCD_PREFIX=/net A=b
func unitFlags(text string) map[string]string {
	var args, environ []string
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch name {
		case "ExecStart":
			_, argv, _ := strings.Cut(value, "argv[]=")
			argv, _, _ = strings.Cut(argv, " ; ")
			args = strings.Fields(argv)
		case "Environment":
			environ = strings.Fields(value)
		}
	}
	return flags(args, environ)
}
