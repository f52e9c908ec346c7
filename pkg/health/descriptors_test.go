package health

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// manager is the store of a service manager: it answers as systemd does.
type manager struct {
	t     *testing.T
	conn  *net.UnixConn
	names []string
	files []*os.File
}

func newManager(t *testing.T) *manager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return &manager{t: t, conn: conn}
}

// hear takes one message.
func (m *manager) hear() string {
	m.t.Helper()
	text, rights := make([]byte, 200), make([]byte, 200)
	_ = m.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, r, _, _, err := m.conn.ReadMsgUnix(text, rights)
	if err != nil {
		m.t.Fatal(err)
	}
	said := string(text[:n])
	_, name, _ := strings.Cut(said, "FDNAME=")
	if messages, err := unix.ParseSocketControlMessage(rights[:r]); err == nil && len(messages) == 1 {
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil || len(fds) != 1 {
			m.t.Fatal(fds, err)
		}
		f := os.NewFile(uintptr(fds[0]), name)
		m.names, m.files = append(m.names, name), append(m.files, f)
		m.t.Cleanup(func() { _ = f.Close() }) // itself: closed by the number, it would close whoever has that later
	}
	return said
}

// descriptorsEnv makes this program a service: it reads what was kept under the name.
const descriptorsEnv = "HEALTH_DESCRIPTORS"

// serve is that service.
func serve(name string) string {
	d := Inherited()
	if f := d.Take(name); f != nil {
		_ = f.Close() // and it is taken again, as where a tunnel is opened anew
	}
	f := d.Take(name)
	if f == nil || os.Getenv("LISTEN_FDS") != "" {
		return "nothing is kept, or it is handed on"
	}
	if err := f.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err.Error() // it would block
	}
	content := make([]byte, 20)
	n, err := f.Read(content)
	if err != nil {
		return err.Error()
	}
	if err := d.ForgetRest(); err != nil {
		return err.Error()
	}
	return string(content[:n])
}

// TestDescriptorsOutliveTheDaemon: what the first one keeps the next one reads.
func TestDescriptorsOutliveTheDaemon(t *testing.T) {
	if name := os.Getenv(descriptorsEnv); name != "" {
		os.Stdout.WriteString("<" + serve(name) + ">")
		return
	}
	m := newManager(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	d := Inherited()
	for _, name := range []string{"first", "tun-flannel0"} {
		if err := d.Keep(name, r); err != nil {
			t.Fatal(err)
		}
		if got, want := m.hear(), "FDSTORE=1\nFDPOLL=0\nFDNAME="+name; got != want {
			t.Fatalf("%q, want %q", got, want)
		}
	}
	if err := r.SetReadDeadline(time.Now().Add(time.Hour)); err != nil {
		t.Errorf("a file that was kept cannot wait any more: %v", err)
	}
	_ = r.Close()
	if f := d.Take("first"); f == nil {
		t.Error("what was kept cannot be taken by the process that kept it")
	} else if err := f.Close(); err != nil {
		t.Error(err)
	}
	if _, err := w.WriteString("waited"); err != nil {
		t.Fatal(err)
	}
	// The shell's process becomes the daemon's, whose ID LISTEN_PID must be.
	next := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" -test.run='^TestDescriptorsOutliveTheDaemon$'`, os.Args[0])
	next.Env = append(os.Environ(), descriptorsEnv+"=tun-flannel0", "LISTEN_FDNAMES="+strings.Join(m.names, ":"),
		"LISTEN_FDS="+strconv.Itoa(len(m.files)))
	next.ExtraFiles = m.files
	if out, err := next.CombinedOutput(); err != nil || !strings.Contains(string(out), "<waited>") {
		t.Errorf("the next daemon: %v\n%s", err, out)
	}
	if got := m.hear(); got != "FDSTOREREMOVE=1\nFDNAME=first" {
		t.Errorf("what nobody takes: %q", got)
	}
}

func TestForget(t *testing.T) {
	m := newManager(t)
	d := Inherited()
	if err := d.Keep("udp-flannel0", os.Stdin); err != nil {
		t.Fatal(err)
	}
	m.hear()
	if err := d.ForgetRest(); err != nil {
		t.Fatal(err)
	}
	if err := d.Forget("udp-flannel0"); err != nil {
		t.Fatal(err)
	}
	if got := m.hear(); got != "FDSTOREREMOVE=1\nFDNAME=udp-flannel0" {
		t.Error(got)
	}
	if d.Take("udp-flannel0") != nil {
		t.Error("it is still kept")
	}
}

func TestDescriptorsWithoutManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	d := Inherited()
	if d.Take("tun-flannel0") != nil || d.Keep("tun-flannel0", os.Stdin) != nil || d.Forget("tun-flannel0") != nil {
		t.Error("where there is no manager something is kept, or fails")
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "gone"))
	if err := d.Keep("tun-flannel0", os.Stdin); err == nil || !strings.Contains(err.Error(), "tun-flannel0") {
		t.Errorf("where the manager is gone: %v", err)
	}
}
