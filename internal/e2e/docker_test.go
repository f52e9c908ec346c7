package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"flanneld/internal/lab"
	"flanneld/pkg/inet"
)

// startDocker starts dockerd with the options that mk-docker-opts.sh makes of
// subnet.env. All else that it has is the machine's. It may not load modules,
// which would be this system's.
func (m *machine) startDocker() {
	m.t.Helper()
	m.sh(`/usr/local/flannel/mk-docker-opts.sh -f /usr/local/flannel/subnet.env -d /run/docker_opts.env ` + m.optsFlags + `
		. /run/docker_opts.env
		PATH=` + m.engine.path() + `
		setpriv --bounding-set=-sys_module dockerd --containerd=/run/containerd/containerd.sock $DOCKER_OPTS --storage-driver=vfs --cgroup-parent=` + m.cgroup() + ` >>/var/log/dockerd.log 2>&1 &`)
	lab.Eventually(m.t, stall, "dockerd on "+m.Name, m.dockerAnswers)
}

// dockerAnswers asks dockerd whether it is there.
func (m *machine) dockerAnswers() error {
	_, err := m.docker("GET", "/_ping")
	return err
}

// docker asks dockerd what its client would, and costs no process.
func (m *machine) docker(method, path string) (string, error) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", m.path("/run/docker.sock"))
	}
	client := http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, Timeout: stall}
	request, err := http.NewRequest(method, "http://docker"+path, nil)
	if err != nil {
		return "", err
	}
	reply, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer reply.Body.Close()
	answer, err := io.ReadAll(reply.Body)
	if err == nil && reply.StatusCode >= 400 {
		err = fmt.Errorf("%s %s: %s %s", method, path, reply.Status, answer)
	}
	return string(answer), err
}

// bootDocker is startDocker for the first time.
func (m *machine) bootDocker() {
	m.t.Helper()
	m.sh(`mount -t cgroup2 none /sys/fs/cgroup
		containerd >>/var/log/containerd.log 2>&1 &`)
	m.t.Cleanup(func() {
		if m.t.Failed() {
			log := m.read("/var/log/dockerd.log")
			m.t.Logf("%s# tail /var/log/dockerd.log\n%s", m, log[max(0, len(log)-8000):])
		}
		m.end()
		removeCgroup(m.t, m.cgroup())
	})
	m.startDocker()
	m.write("/tmp/busybox.tar", busyboxImage(m.t), 0o644)
	m.sh("docker import /tmp/busybox.tar busybox")
}

func (m *machine) stopDocker() {
	m.t.Helper()
	m.sh("kill $(cat /run/docker.pid)")
	lab.Eventually(m.t, stall, "dockerd's end", func() error {
		if _, err := os.Stat(m.path("/run/docker.pid")); err == nil {
			return fmt.Errorf("it still runs")
		}
		return nil
	})
}

// container starts one that sleeps, and returns its address.
func (m *machine) container(name string) string {
	m.t.Helper()
	m.sh("docker run --detach --stop-signal KILL --name " + name + " busybox /bin/busybox sleep infinity")
	return m.address(name)
}

func (m *machine) address(container string) string { return m.addressIn(inet.IPv4, container) }

func (m *machine) addressIn(f inet.Family, container string) string {
	m.t.Helper()
	field := map[inet.Family]string{inet.IPv4: "IPAddress", inet.IPv6: "GlobalIPv6Address"}[f]
	return m.sh("docker inspect --format '{{.NetworkSettings." + field + "}}' " + container)
}

// inside is a command line that runs in a container.
func inside(container, command string) string {
	return "docker exec " + container + " /bin/busybox " + command
}

// nginx starts Debian's nginx on a container's network, with its usual access
// log.
func (m *machine) nginx(container string) {
	m.t.Helper()
	m.write("/etc/nginx/lab.conf", `user root;
events {}
http {
	access_log /var/log/nginx/access.log;
	server {
		listen 80;
		listen [::]:80;
		return 200 "hello\n";
	}
}
`, 0o644)
	m.sh(`mkdir -p /var/log/nginx /var/lib/nginx
		nsenter --net=/proc/$(docker inspect --format '{{.State.Pid}}' ` + container + `)/ns/net nginx -c /etc/nginx/lab.conf`)
}

// cgroup is that of the machine's containers. Cgroups are this system's, so its
// name is one that no other lab has.
func (m *machine) cgroup() string {
	pid, err := lab.OuterPID()
	if err != nil {
		m.t.Fatal(err)
	}
	return fmt.Sprintf("/flanneld-lab-%d-%s", pid, m.Netns())
}

// removeCgroup removes one with what is left in it by containers that were killed.
func removeCgroup(t *testing.T, name string) {
	t.Helper()
	top := t.TempDir()
	if err := unix.Mount("none", top, "cgroup2", 0, ""); err != nil {
		t.Fatalf("mount cgroup2: %v", err)
	}
	defer func() { _ = unix.Unmount(top, unix.MNT_DETACH) }()
	lab.Eventually(t, soon, "the end of all in cgroup "+name, func() error {
		inner, err := filepath.Glob(filepath.Join(top, name, "*", "cgroup.procs"))
		if err != nil {
			return err
		}
		for _, file := range append(inner, filepath.Join(top, name, "cgroup.procs")) {
			if err := os.Remove(filepath.Dir(file)); err != nil && !os.IsNotExist(err) {
				return err
			}
		}
		return nil
	})
}

// busyboxImage is a tar of a root file system with nothing but busybox and the
// libraries that it needs, if any.
func busyboxImage(t *testing.T) string {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	out, _ := exec.Command("ldd", busybox).CombinedOutput() // fails where it needs none
	var image bytes.Buffer
	w := tar.NewWriter(&image)
	add := func(name, from string) {
		content := read(t, from)
		if err := w.WriteHeader(&tar.Header{Name: strings.TrimPrefix(name, "/"), Mode: 0o755, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	add("bin/busybox", busybox)
	for _, library := range regexp.MustCompile(`/\S+`).FindAllString(string(out), -1) {
		if library != busybox && library != busybox+":" {
			add(library, library)
		}
	}
	for _, applet := range []string{"sh", "ping", "wget", "httpd", "sleep"} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + applet, Linkname: "busybox"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return image.String()
}
