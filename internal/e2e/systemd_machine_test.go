package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"flanneld/internal/lab"
)

// bootable is a machine whose process 1 is a real systemd. /etc, /usr/local and
// /var outlive a reboot; /run, /dev and all processes do not.
type bootable struct {
	*machine
	files string // the script by which it gets files beside those on its disk
	top   string // its cgroup, of which the machine's systemd sees nothing but what is below it
}

// units are those of this system that the machine has. Others would reach for
// what is this system's alone: its disks, clock, audit and settings.
const units = `basic.target local-fs.target local-fs-pre.target multi-user.target network-online.target network-pre.target
	network.target paths.target remote-fs.target slices.target sockets.target swap.target sysinit.target time-set.target
	timers.target shutdown.target umount.target final.target reboot.target systemd-reboot.service halt.target poweroff.target
	systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket
	docker.service docker.socket containerd.service systemd-networkd.service systemd-networkd.socket`

// layOut makes the folders that outlive a reboot. Of this system's units none
// is enabled, and there is nothing from which generators could make some.
const layOut = `set -eu
mkdir "$1"
cd "$1"
mkdir -p dev etc local proc root run sys tmp usr var/lib var/log var/tmp
ln -s ../run var/run
cp -r --preserve=mode,links /etc .
rm -rf etc/systemd etc/init.d etc/rc?.d etc/fstab etc/docker etc/default/docker etc/flanneld.env
mkdir -p etc/systemd/system
` + name

// layOutDebian has /tmp stay as it is during the boot: the lab uses it.
const layOutDebian = `set -eu
cd "$1"
touch etc/.updated var/.updated # or it would be the first boot after an update
mkdir -p etc/docker etc/tmpfiles.d
echo '{"storage-driver": "vfs"}' >etc/docker/daemon.json
ln -s /dev/null etc/tmpfiles.d/tmp.conf
ln -s /dev/null etc/systemd/system/tmp.mount
` + name

const name = `
echo "$2" >etc/hostname
echo 0123456789abcdef0123456789abcdef >etc/machine-id # without one it would be the first boot, which enables all units
`

// shared mounts this system's programs, and of its units those that a machine has.
const shared = `
for dir in bin lib lib32 lib64 libx32 sbin; do
	if [ -L /$dir ]; then [ -L $dir ] || cp -P /$dir .; elif [ -d /$dir ]; then mkdir -p $dir; mount --rbind /$dir $dir; fi
done
mount --rbind /usr usr
mount -o remount,bind,ro usr
mount --bind local usr/local
mount -t tmpfs none lib/systemd/system-generators
mount -t tmpfs none lib/systemd/system
for unit in $(echo '` + units + `'); do cp -P /lib/systemd/system/$unit lib/systemd/system/; done
mkdir lib/systemd/system/sysinit.target.wants
ln -s ../systemd-journald.service lib/systemd/system/sysinit.target.wants
`

// boot mounts what a container manager does for a systemd, and becomes it. As
// with these, what is this system's can be seen and not written to: settings of
// the kernel but the network's, and everything in /sys but the own cgroups. Of
// /dev there are single nodes that hold nothing.
const boot = `set -eu
mount --bind "$1" "$1"
cd "$1"
eval "$2"
mount -t tmpfs -o mode=755 none run
mount -t tmpfs -o mode=755 none dev
mkdir dev/pts dev/shm
for node in null:3 zero:5 full:7 random:8 urandom:9; do mknod -m 666 dev/${node%:*} c 1 ${node#*:}; done
mknod -m 666 dev/tty c 5 0
mkdir dev/net
mknod -m 666 dev/net/tun c 10 200
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t devpts -o newinstance,ptmxmode=666,mode=620 none dev/pts
mount -t tmpfs -o mode=1777 none dev/shm
mount -t proc none proc
mount --bind proc/sys proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,ro proc/sys
if [ -e proc/sysrq-trigger ]; then mount --bind /dev/null proc/sysrq-trigger; fi
mount -t sysfs -o ro none sys
mount -t cgroup2 none sys/fs/cgroup
pivot_root . .
umount -l .
cd /
mount --make-rshared / # as container managers do: else systemd's credentials reach no service
exec setpriv --bounding-set=-sys_module,-sys_time,-sys_rawio,-syslog,-audit_control,-audit_read,-mac_admin,-wake_alarm \
	/lib/systemd/systemd --unit=multi-user.target
`

// newBootable makes a machine that has not been booted yet.
func newBootable(t *testing.T, h *lab.Host) *bootable {
	t.Helper()
	return bootableOf(t, h, layOut, shared)
}

// newDebian makes a machine with all files of build/debian, which has not been booted yet.
func newDebian(t *testing.T, h *lab.Host) *bootable {
	t.Helper()
	debian, err := filepath.Abs("../../build/debian")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(debian); err != nil {
		t.Fatalf("%v: make build/debian", err)
	}
	layers := t.TempDir()
	must := func(err error) {
		if err != nil {
			t.Fatalf("a disk for %s: %v", h, err)
		}
	}
	mount := func(kind, to, options string) {
		must(unix.Mount("none", to, kind, 0, options))
		t.Cleanup(func() { _ = unix.Unmount(to, unix.MNT_DETACH) })
	}
	mount("tmpfs", layers, "mode=755") // a folder of this system may be an overlay itself
	for _, dir := range []string{"upper", "work"} {
		must(os.Mkdir(filepath.Join(layers, dir), 0o755))
	}
	disk := filepath.Join(h.Dir(), "disk")
	must(os.Mkdir(disk, 0o755))
	mount("overlay", disk, fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%[2]s/work", debian, layers))
	return bootableOf(t, h, layOutDebian, "")
}

// bootableOf makes a machine by two scripts: one lays out its disk, the other mounts
// there what is not on it.
func bootableOf(t *testing.T, h *lab.Host, layOut, files string) *bootable {
	t.Helper()
	b := &bootable{machine: &machine{Host: h, t: t}, files: files}
	b.machine.init = h.Command("true")
	if out, err := h.Try("sh", "-c", layOut, "sh", b.disk(), h.Name); err != nil {
		t.Fatalf("lay out %s: %v\n%s", h, err, out)
	}
	b.top = filepath.Join(cgroups(t), b.cgroup())
	t.Cleanup(func() {
		if t.Failed() {
			b.report()
		}
		b.powerOff()
	})
	return b
}

// disk is where files of the machine are, booted or not.
func (b *bootable) disk() string { return filepath.Join(b.Dir(), "disk") }

// cgroups is where this system's are, as far as the lab sees them.
func cgroups(t *testing.T) string {
	t.Helper()
	top := t.TempDir()
	if err := unix.Mount("none", top, "cgroup2", 0, ""); err != nil {
		t.Fatalf("mount cgroup2: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(top, unix.MNT_DETACH) })
	return top
}

// boot starts process 1, in namespaces of its own and in its cgroup, which
// thereby becomes the topmost one that the machine knows of. It returns when
// systemd answers: not when the boot is over.
func (b *bootable) boot() {
	b.t.Helper()
	if err := os.Mkdir(b.top, 0o755); err != nil {
		b.t.Fatal(err)
	}
	cgroup, err := os.Open(b.top)
	if err != nil {
		b.t.Fatal(err)
	}
	defer cgroup.Close()
	console, err := os.Create(filepath.Join(b.Dir(), "console"))
	if err != nil {
		b.t.Fatal(err)
	}
	defer console.Close()
	b.init = b.Command("unshare", "--cgroup", "sh", "-c", boot, "sh", b.disk(), b.files)
	b.init.Env = []string{"PATH=" + machinePath, "container=flanneld-lab"}
	b.init.Stdout, b.init.Stderr = console, console
	b.init.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		UseCgroupFD: true, CgroupFD: int(cgroup.Fd()),
	}
	if err := b.init.Start(); err != nil {
		b.t.Fatal(err)
	}
	lab.Eventually(b.t, stall, "systemd on "+b.Name, func() error {
		if _, err := os.Stat(b.path("/run/systemd/private")); err != nil {
			return fmt.Errorf("%w, and it says: %s", err, read(b.t, console.Name()))
		}
		return nil
	})
}

// powerOff cuts the current: with process 1 the kernel ends all others.
func (b *bootable) powerOff() {
	b.t.Helper()
	if b.init.Process != nil {
		b.end()
	}
	b.removeCgroups()
}

// removeCgroups removes the machine's cgroup and all below it, the lowest first.
func (b *bootable) removeCgroups() {
	b.t.Helper()
	lab.Eventually(b.t, soon, "the end of all in cgroup "+b.top, func() error {
		if _, err := os.Stat(b.top); os.IsNotExist(err) {
			return nil
		}
		var all []string
		err := filepath.WalkDir(b.top, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				all = append(all, path)
			}
			return err
		})
		for _, dir := range slices.Backward(all) {
			if gone := os.Remove(dir); gone != nil && !os.IsNotExist(gone) {
				err = errors.Join(err, gone)
			}
		}
		return err
	})
}

// report tells what helps to find out why a test failed.
func (b *bootable) report() {
	for _, script := range []string{"systemctl list-units --all --no-pager --no-legend '*.service' '*.socket'", "systemctl list-jobs --no-pager",
		"journalctl --no-pager -o short-monotonic -u flanneld -u docker | tail -n 100"} {
		out, err := b.try(script)
		b.t.Logf("%s# %s (%v)\n%s", b, script, err, out)
	}
}

// state is what systemd calls a unit's.
func (b *bootable) state(unit string) string {
	out, _ := b.try("systemctl is-active " + unit) // fails where it is not active
	return out
}

// property is one of a unit, as `systemctl show` has it.
func (b *bootable) property(unit, name string) string {
	b.t.Helper()
	return b.sh("systemctl show --value -p " + name + " " + unit)
}

// log is what a unit has logged since it was started last.
func (b *bootable) log(unit string) string {
	b.t.Helper()
	return b.sh("journalctl --no-pager -o cat _SYSTEMD_INVOCATION_ID=$(systemctl show --value -p InvocationID " + unit + ")")
}

// awaitAnother waits until flanneld is another process, in a state.
func (b *bootable) awaitAnother(t *testing.T, before, state string) {
	t.Helper()
	lab.Eventually(t, stall, "another flanneld on "+b.Name, func() error {
		if now := b.property("flanneld", "MainPID"); now == before || now == "0" || b.state("flanneld") != state {
			return fmt.Errorf("flanneld, once process %s, is %s and %s", before, now, b.state("flanneld"))
		}
		return nil
	})
}
