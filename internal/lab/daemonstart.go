package lab

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Start starts any program in place of flanneld, with these options only.
func (h *Host) Start(o FlanneldOptions) *Daemon {
	h.lab.t.Helper()
	name := "flanneld"
	if n := len(h.daemons); n > 0 {
		name = fmt.Sprintf("flanneld-%d", n+1)
	}
	d := &Daemon{Host: h, lab: h.lab, options: o, log: filepath.Join(h.dir, name+".log")}
	h.daemons = append(h.daemons, d)
	h.lab.onClose(d.finish)
	d.start()
	return d
}

// CommandLine is how one would start the daemon in its folder.
func (d *Daemon) CommandLine() string {
	line := "flanneld " + strings.Join(d.options.Args, " ")
	return strings.ReplaceAll(line, d.Host.dir+"/", "./")
}

// Program is the path of the daemon's program.
func (d *Daemon) Program() string { return d.options.Binary }

func (d *Daemon) start() {
	d.lab.t.Helper()
	_ = d.kill() // what the last run has left behind
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	d.lab.must("open a log", err)
	defer log.Close()
	d.logFrom, err = log.Seek(0, io.SeekEnd)
	d.lab.must("open a log", err)
	d.ready, d.exited = &readiness{notified: make(chan struct{})}, make(chan struct{})
	socket := d.listen()

	cmd := d.Host.Command(d.options.Binary, d.options.Args...)
	cmd.Dir = d.options.Dir
	cmd.Env = append(hostEnv(), "NOTIFY_SOCKET="+socket.LocalAddr().String(),
		"WIREGUARD_KEY_FILE="+d.Host.KeyFile()) // hosts share a /run
	cmd.Env = append(cmd.Env, d.options.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	// A group of its own: Ctrl-C is the demo's, and Kill reaches its children.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	d.Started = time.Now()
	if err := d.Host.StartAsDaemon(cmd); err != nil {
		d.PID = 0
		socket.Close()
		d.lab.t.Fatalf("lab: start %s on %s: %v", d.options.Binary, d.Host.Name, err)
	}
	d.PID = cmd.Process.Pid
	exited := d.exited
	go func() {
		_ = cmd.Wait() // d.state has the result
		d.state = cmd.ProcessState
		close(exited)
		socket.Close()
	}()
}

// hostEnv is the environment of a host's daemons: without the developer's settings for
// the lab or for flanneld, and without the race detector's wait of a second at exit.
func hostEnv() []string {
	env := []string{"GORACE=atexit_sleep_ms=0"}
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "FLANNELD_") && !strings.HasPrefix(e, "GORACE=") {
			env = append(env, e)
		}
	}
	return env
}

// readiness is of one start.
type readiness struct {
	notified chan struct{} // closed when the daemon has notified READY=1
	at       time.Time     // known then
}

// listen opens the socket that the daemon notifies as it would systemd.
func (d *Daemon) listen() *net.UnixConn {
	d.lab.t.Helper()
	path := d.log + ".notify"
	_ = os.Remove(path)
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	d.lab.must("listen for the daemon's readiness", err)
	ready := d.ready
	go func() {
		message := make([]byte, 4096)
		for isReady := false; ; {
			n, err := socket.Read(message)
			if err != nil {
				return
			}
			if !isReady && bytes.Contains(message[:n], []byte("READY=1")) {
				isReady = true
				ready.at = time.Now()
				close(ready.notified)
			}
		}
	}()
	return socket
}
