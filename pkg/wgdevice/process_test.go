package wgdevice_test

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"flanneld/internal/lab"
	"flanneld/pkg/wgdevice"
)

// processEnv makes the test's program serve calls instead: a host's daemon, with a /run of
// its own.
const processEnv = "FLANNELD_WGDEVICE_PROCESS"

// kernelEnv makes processes use the kernel's devices, where it has WireGuard. Tests of
// restarts and of TUN devices are not meant then.
const kernelEnv = "FLANNELD_WGDEVICE_KERNEL"

// call is what a process is to do.
type call struct {
	Op       string
	Name     string
	MTU      int
	Settings wgdevice.Settings
	Set      []wgdevice.Peer
	Remove   []wgdevice.Key
	Config   wgtypes.Config
	Text     string
	To       netip.AddrPort
}

type answer struct {
	Err      string
	NotThere bool
	Yes      bool
	Settings wgdevice.Settings
	Found    []wgdevice.FoundPeer
	Device   *wgtypes.Device
	Count    int
}

// process is a daemon on a host.
type process struct {
	t   testing.TB
	cmd *lab.Cmd
	out *gob.Encoder
	in  *gob.Decoder

	wait func() // until it has ended
}

func start(t testing.TB, h *lab.Host) *process {
	t.Helper()
	cmd := h.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), processEnv+"=1", "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	cmd.Stderr = os.Stderr
	to, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	from, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: cmd, out: gob.NewEncoder(to), in: gob.NewDecoder(from)}
	p.wait = sync.OnceFunc(func() {
		to.Close()
		if err := cmd.Wait(); err != nil && !p.killed() {
			t.Errorf("the process on %s: %v", h.Name, err)
		}
	})
	t.Cleanup(p.wait)
	return p
}

func (p *process) killed() bool {
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signal() == syscall.SIGKILL
}

// kill ends it without a word to the kernel.
func (p *process) kill() { _ = p.cmd.Process.Kill() }

func (p *process) try(c call) answer {
	p.t.Helper()
	if err := p.out.Encode(c); err != nil {
		p.t.Fatal(err)
	}
	var a answer
	if err := p.in.Decode(&a); err != nil {
		p.t.Fatalf("%s: %v", c.Op, err)
	}
	return a
}

func (p *process) do(c call) answer {
	p.t.Helper()
	a := p.try(c)
	if a.Err != "" {
		p.t.Fatalf("%s: %s", c.Op, a.Err)
	}
	return a
}

const dev = "flannel-wg"

func (p *process) read() (wgdevice.Settings, []wgdevice.FoundPeer) {
	p.t.Helper()
	a := p.do(call{Op: "read", Name: dev})
	return a.Settings, a.Found
}

func (p *process) set(peers ...wgdevice.Peer) {
	p.t.Helper()
	p.do(call{Op: "set", Name: dev, Set: peers})
}

// serveProcess does what it is told until its input ends.
func serveProcess() {
	if err := ownRun(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	in, out := gob.NewDecoder(os.Stdin), gob.NewEncoder(os.Stdout)
	s := server{control: wgdevice.New()}
	defer func() { s.control.Close() }()
	for {
		var c call
		if in.Decode(&c) != nil {
			return
		}
		a, err := s.serve(c)
		if err != nil {
			a.Err, a.NotThere = err.Error(), errors.Is(err, os.ErrNotExist)
		}
		if out.Encode(a) != nil {
			return
		}
	}
}

func ownRun() error {
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	return unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=0755")
}

type server struct {
	control *wgdevice.Control
	plain   *device.Device
	frames  int // of the card, from which sniffed reads
}

func (s *server) serve(c call) (a answer, err error) {
	switch c.Op {
	case "start":
		if os.Getenv(kernelEnv) != "" {
			return a, exec.Command("ip", "link", "add", "dev", c.Name, "mtu", fmt.Sprint(c.MTU), "type", "wireguard").Run()
		}
		err = s.control.StartUserspace(c.Name, c.MTU)
	case "configure":
		err = s.control.Configure(c.Name, c.Settings)
	case "set":
		err = s.control.SetPeers(c.Name, c.Set, c.Remove)
	case "read":
		a.Settings, a.Found, err = s.control.Read(c.Name)
	case "changed":
		a.Yes, err = s.control.Changed(c.Name)
	case "userspace":
		a.Yes = s.control.Userspace(c.Name)
	case "close":
		s.control.Close()
		s.control = wgdevice.New()
	case "wg": // as wg(8) does
		var client *wgctrl.Client
		if client, err = wgctrl.New(); err == nil {
			defer client.Close()
			err = client.ConfigureDevice(c.Name, c.Config)
		}
	case "wg show":
		var client *wgctrl.Client
		if client, err = wgctrl.New(); err == nil {
			defer client.Close()
			a.Device, err = client.Device(c.Name)
		}
	case "say":
		err = say(c.To, c.Text)
	case "sniff":
		s.frames, err = sniff("ens33")
	case "sniffed":
		a.Count, a.Yes, err = sniffed(s.frames, c.Text)
	case "plain":
		err = s.startPlain(c.Name, c.MTU)
	}
	return a, err
}

// startPlain is what the program wireguard-go does.
func (s *server) startPlain(name string, mtu int) (err error) {
	if s.plain, err = lab.WireGuardGo(name, mtu); err != nil {
		return err
	}
	return lab.ServeWireGuardGo(s.plain, name)
}

func say(to netip.AddrPort, text string) error {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte(text))
	return err
}

// sniff takes in all frames of a card from now on.
func sniff(card string) (int, error) {
	all := int(uint16(unix.ETH_P_ALL)<<8 | unix.ETH_P_ALL>>8)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	link, err := net.InterfaceByName(card)
	if err != nil {
		return 0, err
	}
	return fd, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(all), Ifindex: link.Index})
}

// sniffed counts the frames since the last call, and tells whether one has the text.
func sniffed(fd int, text string) (frames int, has bool, err error) {
	frame := make([]byte, 65536)
	for {
		n, err := unix.Read(fd, frame)
		if errors.Is(err, unix.EAGAIN) {
			return frames, has, nil
		}
		if err != nil {
			return frames, has, err
		}
		frames++
		has = has || bytes.Contains(frame[:n], []byte(text))
	}
}
