package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"flanneld/internal/docs"
	"flanneld/internal/lab"
)

// imaged is a host whose flanneld comes out of the release's image.
type imaged struct {
	*machine
	node *node
	etcd *lab.Etcd
}

// newImaged starts a cluster of two: hdss7-21 is for the image, hdss7-22 has the
// plain binary.
func newImaged(t *testing.T) (*cluster, *imaged) {
	l := lab.New(t)
	store := l.Host("hdss7-12", "10.4.7.12/24")
	c := &cluster{Lab: l, t: t, etcd: l.EtcdOn(lab.EtcdOptions{}, store), store: &node{Host: store}}
	c.etcd.Set(configKey, vxLAN)
	n := c.newNode("hdss7-21", 7, 21)
	c.hosts = append(c.hosts, n)
	other := c.join("hdss7-22", "--ip-masq")
	m := &imaged{newMachine(t, n.Host), n, c.etcd}
	m.write("/run/flannel/subnet.env", read(t, m.SubnetFile()), 0o644)
	other.box = other.Container("c1")
	return c, m
}

// cgroups lets programs without a daemon make some, which end with the machine.
func (m *imaged) cgroups() {
	m.sh("mount -t cgroup2 none /sys/fs/cgroup")
	m.t.Cleanup(func() {
		m.end()
		removeCgroup(m.t, m.cgroup())
	})
}

// started waits until flanneld has written its subnet file, and connects a container
// as the file says.
func (m *imaged) started(c *cluster) {
	m.t.Helper()
	var env string
	lab.Eventually(m.t, 2*soon, "the MTU of the backend in subnet.env", func() error {
		if env = m.read("/run/flannel/subnet.env"); !strings.Contains(env, "FLANNEL_MTU=1450") {
			return fmt.Errorf("it holds\n%s", env)
		}
		return nil
	})
	if err := os.WriteFile(m.SubnetFile(), []byte(env), 0o644); err != nil { // where the lab's docker looks
		m.t.Fatal(err)
	}
	m.node.box = m.node.Container("c1")
	c.connected(soon)
}

// layout is the image of this machine's architecture, as any program finds it.
func layout(t *testing.T, archive, rootfs string) (config struct {
	Config struct {
		Entrypoint, Env []string
		User            string
	}
}) {
	t.Helper()
	dir := t.TempDir()
	untar := func(flags, archive, dir string) {
		if out, err := exec.Command("tar", flags, archive, "-C", dir).CombinedOutput(); err != nil {
			t.Fatalf("unpack %s: %v\n%s", archive, err, out)
		}
	}
	blob := func(digest string) string {
		return filepath.Join(dir, "blobs", strings.Replace(digest, ":", "/", 1))
	}
	decode := func(file string, into any) {
		if err := json.Unmarshal([]byte(read(t, file)), into); err != nil {
			t.Fatalf("read %s: %v", file, err)
		}
	}
	untar("xf", archive, dir)
	type descriptor struct {
		Digest   string
		Platform struct{ OS, Architecture string }
	}
	var index struct{ Manifests []descriptor }
	decode(filepath.Join(dir, "index.json"), &index)
	if len(index.Manifests) != 1 {
		t.Fatalf("the layout has %d entries, want one", len(index.Manifests))
	}
	decode(blob(index.Manifests[0].Digest), &index)
	for _, d := range index.Manifests {
		if d.Platform.OS != "linux" || d.Platform.Architecture != runtime.GOARCH {
			continue
		}
		var manifest struct {
			Config descriptor
			Layers []descriptor
		}
		decode(blob(d.Digest), &manifest)
		decode(blob(manifest.Config.Digest), &config)
		for _, layer := range manifest.Layers {
			untar("xzf", blob(layer.Digest), rootfs)
		}
		return config
	}
	t.Fatalf("there is no image for %s in %+v", runtime.GOARCH, index)
	return config
}

// bundle lays the image out for runc, with the rights and folders that the page names.
func (m *imaged) bundle(archive string, hostFolders ...string) {
	m.t.Helper()
	m.cgroups()
	m.t.Cleanup(func() {
		if m.t.Failed() {
			m.t.Logf("%s# cat /var/log/flanneld.log\n%s", m, m.read("/var/log/flanneld.log"))
		}
	})
	m.sh("mkdir -p /bundle/rootfs && : >/run/xtables.lock")
	image := layout(m.t, archive, m.path("/bundle/rootfs"))
	if image.Config.User != "" {
		m.t.Errorf("the image's user is %q, want root", image.Config.User)
	}
	type object = map[string]any
	rights := []string{"CAP_NET_ADMIN", "CAP_NET_RAW"}
	mounts := []object{
		{"destination": "/proc", "type": "proc", "source": "proc"},
		{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": []string{"nosuid", "mode=755"}},
		{"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": []string{"nosuid", "noexec", "nodev", "ro"}},
		{"destination": "/run/flannel", "type": "bind", "source": "/run/flannel", "options": []string{"rbind", "rw"}},
		{"destination": "/run/xtables.lock", "type": "bind", "source": "/run/xtables.lock", "options": []string{"bind", "rw"}},
	}
	for _, folder := range hostFolders {
		mounts = append(mounts, object{"destination": folder, "type": "bind", "source": folder, "options": []string{"rbind", "ro"}})
	}
	var namespaces []object
	for _, kind := range []string{"pid", "ipc", "uts", "mount"} { // the network is the host's
		namespaces = append(namespaces, object{"type": kind})
	}
	config, err := json.Marshal(object{
		"ociVersion": "1.0.2",
		"process": object{
			"user": object{"uid": 0, "gid": 0}, "args": image.Config.Entrypoint, "cwd": "/", "noNewPrivileges": true,
			"env": append(image.Config.Env, "FLANNELD_IP_MASQ=true", "FLANNELD_IFACE=ens33",
				"FLANNELD_PUBLIC_IP=10.4.7.21", "FLANNELD_ETCD_ENDPOINTS="+strings.Join(m.etcd.Endpoints(), ",")),
			"capabilities": object{"bounding": rights, "effective": rights, "permitted": rights},
		},
		"root":     object{"path": "rootfs", "readonly": true},
		"hostname": "flanneld",
		"mounts":   mounts,
		"linux": object{"namespaces": namespaces, "cgroupsPath": m.cgroup() + "/flanneld",
			"readonlyPaths": []string{"/proc/sys"}, "maskedPaths": []string{"/proc/kcore"}},
	})
	if err != nil {
		m.t.Fatal(err)
	}
	m.write("/bundle/config.json", string(config), 0o644)
}

func (m *imaged) run() {
	m.t.Helper()
	m.sh("runc run --detach --bundle /bundle flanneld >>/var/log/flanneld.log 2>&1 </dev/null")
}

func (m *imaged) stop() {
	m.t.Helper()
	m.sh("runc kill flanneld TERM")
	lab.Eventually(m.t, soon, "the end of flanneld", func() error { _, err := m.try("runc delete flanneld"); return err })
}

// TestImage runs the image beside a host with the plain binary: as it is, and with the
// host's iptables, where these drop what is not let through.
func TestImage(t *testing.T) {
	t.Parallel()
	if !realRoot(t) {
		t.Skip("runc needs real root here: run this test with sudo")
	}
	archive := releasedImage(t)
	t.Run("alone", func(t *testing.T) {
		t.Parallel()
		c, m := newImaged(t)
		m.bundle(archive)
		m.run()
		m.started(c)
		m.worksOn(c, "table ip flanneld", "nft list ruleset")

		// What iptables drops it cannot let through, and says so.
		m.sh("iptables-nft -P FORWARD DROP")
		lab.Eventually(t, soon, "check to name the rule", func() error {
			out, err := m.try("runc exec flanneld flanneld check 172.7.22.2")
			if err == nil || !strings.Contains(out, "FORWARD") {
				return fmt.Errorf("%v\n%s", err, out)
			}
			return nil
		})
	})
	t.Run("with the host's iptables", func(t *testing.T) {
		t.Parallel()
		c, m := newImaged(t)
		m.iptablesIs("iptables-nft")
		m.sh("iptables -P FORWARD DROP")
		folders := []string{"/usr", "/lib", "/sbin", "/etc/alternatives"}
		if _, err := os.Stat("/lib64"); err == nil {
			folders = append(folders, "/lib64")
		}
		m.bundle(archive, folders...)
		m.run()
		m.started(c)
		m.worksOn(c, "--comment flanneld -j MASQUERADE", "iptables-save -t nat")
	})
}

// worksOn: commands in the container answer, masquerading is done by what shows it, and
// a restart loses nothing.
func (m *imaged) worksOn(c *cluster, masquerading, shown string) {
	t := m.t
	t.Helper()
	if out := m.sh(shown); !strings.Contains(out, masquerading) {
		t.Errorf("%s does not show %q:\n%s", shown, masquerading, out)
	}
	lab.Eventually(t, soon, "status to say ready", func() error {
		if out, err := m.try("runc exec flanneld flanneld status"); err != nil || !strings.Contains(out, "172.7.22.0/24  10.4.7.22") {
			return fmt.Errorf("%v\n%s", err, out)
		}
		return nil
	})
	lab.Eventually(t, soon, "check to find no fault", func() error {
		if out, err := m.try("runc exec flanneld flanneld check 172.7.22.2"); err != nil {
			return fmt.Errorf("%v\n%s", err, out)
		}
		return nil
	})
	routes := m.node.routes()
	c.losesNothing("a restart of the container", func() {
		m.stop()
		if left := m.node.routes(); left == "" || left != routes {
			t.Errorf("the container left these routes:\n%s\nand it had\n%s", left, routes)
		}
		m.run()
		lab.Eventually(t, 2*soon, "status", func() error { _, err := m.try("runc exec flanneld flanneld status"); return err })
	})
}

// TestImagePage verifies, loads and runs the image as the pages say.
func TestImagePage(t *testing.T) {
	t.Parallel()
	if !realRoot(t) {
		t.Skip("podman and docker need real root here: run this test with sudo")
	}
	keys := t.TempDir()
	for _, args := range []string{"genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072 -out release.key", "pkey -in release.key -pubout -out flanneld.pub"} {
		cmd := exec.Command("openssl", strings.Fields(args)...)
		cmd.Dir = keys
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	archive := releasedImage(t, "SIGNING_KEY="+filepath.Join(keys, "release.key"))
	for _, kind := range []string{"podman", "docker 20.10", "docker 29"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			program, version, _ := strings.Cut(kind, " ")
			c, m := newImaged(t)
			m.iptablesIs("iptables-nft")
			m.sh("mkdir -p /var/tmp && iptables -P FORWARD DROP")
			for _, name := range []string{"oci.tar", "linux-" + runtime.GOARCH + ".tar.gz"} {
				m.put(strings.Replace(archive, "oci.tar", name, 1), "/root/flanneld-0.3.0-"+name, 0o644)
			}
			for _, name := range []string{"SHA256SUMS", "SHA256SUMS.sig"} {
				m.put(filepath.Join(filepath.Dir(archive), name), "/root/"+name, 0o644)
			}
			m.put(filepath.Join(keys, "flanneld.pub"), "/root/flanneld.pub", 0o644)
			verify := docs.Containing(t, "docs/security.md", "openssl dgst")
			if out := m.sh("cd /root && set -e\n" + verify.Text); !strings.Contains(out, "Verified OK") {
				t.Errorf("of the signature it says %s", out)
			}
			by := func(b docs.Block) docs.Block {
				b.Text = strings.NewReplacer("podman ", program+" ", "http://10.4.7.12:2379", strings.Join(m.etcd.Endpoints(), ","),
					"linux-amd64", "linux-"+runtime.GOARCH).Replace(b.Text)
				return b
			}
			load := docs.Containing(t, "docs/install-container.md", "podman load")
			if program == "docker" {
				m.engineIs(engine{version, "iptables-nft"}, map[string]any{"bridge": "none"}) // docker0 is the lab's
				m.plainDocker()
				load = docs.Containing(t, "docs/install-container.md", "docker import")
			} else {
				m.cgroups()
				m.write("/usr/local/bin/podman", fmt.Sprintf(podman, m.cgroup()), 0o755)
			}
			t.Cleanup(func() {
				if t.Failed() {
					out, _ := m.try(program + " logs flanneld")
					t.Logf("%s# %s logs flanneld\n%s", m, program, out)
				}
			})
			m.types(by(docs.Containing(t, "docs/install-container.md", "FLANNELD_PUBLIC_IP=")))
			m.sh("cd /root && set -e\n" + by(load).Text)
			m.types(by(docs.Containing(t, "docs/install-container.md", "podman run")))
			m.started(c)
			m.shows(by(docs.Containing(t, "docs/install-container.md", "hdss7-21# podman exec flanneld flanneld status")))
			check := by(docs.Containing(t, "docs/install-container.md", "podman exec flanneld flanneld check"))
			lab.Eventually(t, soon, "check to find no fault", func() error {
				if out, err := m.try(check.Text); err != nil {
					return fmt.Errorf("%v\n%s", err, out)
				}
				return nil
			})
			if program == "podman" {
				m.types(docs.Containing(t, "docs/install-container.md", "podman generate systemd"))
				if unit := m.read("/etc/systemd/system/flanneld.service"); !strings.Contains(unit, "--net=host") || !strings.Contains(unit, "localhost/flanneld:0.3.0") {
					t.Errorf("the unit is\n%s", unit)
				}
			}
			c.losesNothing("a restart of the container", func() { m.sh(program + " restart flanneld") })
		})
	}
}

// releasedImage is the image of a release.
func releasedImage(t *testing.T, env ...string) string {
	t.Helper()
	return filepath.Join(release(t, "0.3.0", env...), "flanneld-0.3.0-oci.tar")
}
