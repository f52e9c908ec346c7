package dist_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// packaged are the files of both packages, as `ls` and `rpm` list them.
const packaged = `-rw-r--r-- /etc/flanneld.env
-rw-r--r-- /etc/iproute2/rt_protos.d/flanneld.conf
-rw-r--r-- /usr/lib/systemd/network/05-flannel.network
-rw-r--r-- /usr/lib/systemd/networkd.conf.d/90-flanneld.conf
-rw-r--r-- /usr/lib/systemd/system/flanneld.service
-rw-r--r-- /usr/share/bash-completion/completions/flanneld
-rw-r--r-- /usr/share/doc/flanneld/CHANGELOG.md
-rw-r--r-- /usr/share/doc/flanneld/README.md
-rw-r--r-- /usr/share/doc/flanneld/docs/cni.md
-rw-r--r-- /usr/share/doc/flanneld/docs/img/flow.svg
-rw-r--r-- /usr/share/doc/flanneld/docs/zh/docker.md
-rw-r--r-- /usr/share/fish/vendor_completions.d/flanneld.fish
-rw-r--r-- /usr/share/flanneld/cni/10-flannel.conflist
-rw-r--r-- /usr/share/flanneld/docker.service.d/flannel.conf
-rw-r--r-- /usr/share/flanneld/flanneld.service.d/credentials.conf
-rw-r--r-- /usr/share/flanneld/grafana-flanneld.json
-rw-r--r-- /usr/share/flanneld/prometheus-flanneld.rules.yml
-rw-r--r-- /usr/share/man/man8/flanneld.8.gz
-rwxr-xr-x /usr/libexec/flanneld/certs.sh
-rwxr-xr-x /usr/libexec/flanneld/mk-cni-conf.sh
-rwxr-xr-x /usr/libexec/flanneld/mk-docker-opts.sh
-rwxr-xr-x /usr/sbin/flanneld
`

// own are the folders that go with the package. The others are the system's: an rpm that
// lists these is refused where they have another mode.
const own = `drwxr-xr-x /etc/flanneld
drwxr-xr-x /usr/libexec/flanneld
drwxr-xr-x /usr/share/doc/flanneld
drwxr-xr-x /usr/share/doc/flanneld/docs
drwxr-xr-x /usr/share/doc/flanneld/docs/img
drwxr-xr-x /usr/share/doc/flanneld/docs/zh
drwxr-xr-x /usr/share/flanneld
drwxr-xr-x /usr/share/flanneld/cni
drwxr-xr-x /usr/share/flanneld/docker.service.d
drwxr-xr-x /usr/share/flanneld/flanneld.service.d
`

func sorted(lines ...string) string {
	all := strings.SplitAfter(strings.Join(lines, ""), "\n")
	slices.Sort(all)
	return strings.Join(all, "")
}

// checkDeb looks at every file of a deb, and at what dpkg is told of it.
func checkDeb(t *testing.T, deb string) {
	t.Helper()
	want := sorted(packaged, `-rw-r--r-- /usr/share/doc/flanneld/THIRD-PARTY-LICENSES
-rw-r--r-- /usr/share/doc/flanneld/changelog.gz
-rw-r--r-- /usr/share/doc/flanneld/copyright
-rw-r--r-- /usr/share/zsh/vendor-completions/_flanneld
`)
	got := succeed(t, ".", []string{"TZ=UTC"}, "sh", "-c", `dpkg-deb --contents "$1" | awk '
		{ if ($2 != "root/root" || $4 " " $5 != "2023-11-14 22:13") print "unexpected:", $0 }
		/^d/ { if ($1 != "drwxr-xr-x") print "unexpected:", $0; next }
		{ print $1, substr($6, 2) }'`, "sh", deb)
	if diff := cmp.Diff(want, sorted(got)); diff != "" {
		t.Errorf("deb (-want +got)\n%s", diff)
	}
	for field, want := range map[string]string{
		"Package": "flanneld", "Version": "1.2.3", "Architecture": "amd64", "Maintainer": maintainer,
		"Depends": "", "Recommends": "iptables", "Section": "net",
	} {
		if got := strings.TrimSpace(succeed(t, ".", nil, "dpkg-deb", "--field", deb, field)); got != want {
			t.Errorf("%s is %q, want %q", field, got, want)
		}
	}
	dir := t.TempDir()
	succeed(t, dir, nil, "dpkg-deb", "--raw-extract", deb, dir+"/x")
	if got := read(t, dir+"/x/DEBIAN/conffiles"); got != "/etc/flanneld.env\n/etc/iproute2/rt_protos.d/flanneld.conf\n" {
		t.Errorf("conffiles holds %q", got)
	}
	for script, from := range map[string]string{"postinst": "postinstall", "prerm": "preremove", "postrm": "postremove"} {
		if read(t, dir+"/x/DEBIAN/"+script) != read(t, "package/"+from+".sh") {
			t.Errorf("%s is another script", script)
		}
	}
	checkFiles(t, dir+"/x")
	if got := succeed(t, dir, nil, "gzip", "-dc", dir+"/x/usr/share/doc/flanneld/changelog.gz"); !strings.HasPrefix(got, "flanneld (1.2.3) ") ||
		!strings.Contains(got, "\n -- "+maintainer+"  Tue, 14 Nov 2023 22:13:20 +0000\n") {
		t.Errorf("the changelog is %s", got)
	}
}

// checkRPM is checkDeb for an rpm.
func checkRPM(t *testing.T, file string) {
	t.Helper()
	dir := t.TempDir() // where rpm has its database
	rpm := func(args ...string) string {
		return succeed(t, dir, []string{"TZ=UTC"}, append(append([]string{"rpm", "--query", "--package"}, args...), file)...)
	}
	want := sorted(packaged, own, `-rw-r--r-- /usr/share/licenses/flanneld/LICENSE
-rw-r--r-- /usr/share/licenses/flanneld/THIRD-PARTY-LICENSES
-rw-r--r-- /usr/share/zsh/site-functions/_flanneld
`)
	got := rpm("--queryformat", `[%{FILEMODES:perms} %{FILENAMES}\n]`)
	if diff := cmp.Diff(want, sorted(got)); diff != "" {
		t.Errorf("rpm (-want +got)\n%s", diff)
	}
	owners := sorted(rpm("--queryformat", `[%{FILEUSERNAME}:%{FILEGROUPNAME} %{FILEMTIMES}\n]`))
	if kinds := slices.Compact(strings.Fields(strings.ReplaceAll(owners, "root:root", ""))); len(kinds) != 1 || kinds[0] != "1700000000" {
		t.Errorf("owners and times are\n%s", owners)
	}
	const head = `%{NAME} %{VERSION} %{RELEASE} %{ARCH} %{LICENSE} %{BUILDHOST} %{BUILDTIME} %{PACKAGER}`
	if got := rpm("--queryformat", head); got != "flanneld 1.2.3 1 x86_64 Apache-2.0 localhost 1700000000 "+maintainer {
		t.Errorf("it is %s", got)
	}
	if got := rpm("--configfiles"); got != "/etc/flanneld.env\n/etc/iproute2/rt_protos.d/flanneld.conf\n" {
		t.Errorf("its settings are %s", got)
	}
	// 17: a setting whose edited file stays.
	if got := rpm("--queryformat", `[%{FILEFLAGS} %{FILENAMES}\n]`); !strings.Contains(got, "17 /etc/flanneld.env\n") {
		t.Errorf("flags of files are %s", got)
	}
	if got := rpm("--recommends") + rpm("--conflicts"); got != "iptables\nflannel\n" {
		t.Errorf("it recommends and conflicts with %q", got)
	}
	scripts := rpm("--scripts")
	for _, from := range []string{"postinstall", "preremove", "postremove"} {
		if !strings.Contains(scripts, read(t, "package/"+from+".sh")) {
			t.Errorf("%s is no script of\n%s", from, scripts)
		}
	}
	// rpm2cpio fails in the end, as nfpm counts the archive's size in another way, and the
	// archive's names are absolute.
	succeed(t, dir, nil, "sh", "-c", `rpm2cpio "$1" >x.cpio || true; mkdir x && cd x && cpio -id --quiet --no-absolute-filenames <../x.cpio`, "sh", file)
	checkFiles(t, dir+"/x")
}

// checkFiles looks into a package's files: the unit, settings and docker's file are those of
// the release but for their paths, each of which is there.
func checkFiles(t *testing.T, root string) {
	t.Helper()
	if r := run(t, root, nil, root+"/usr/sbin/flanneld"); r.stderr != "v1.2.3\n" {
		t.Errorf("flanneld says %+v", r)
	}
	unit := read(t, root+"/usr/lib/systemd/system/flanneld.service")
	lines := func(text, without string) (n []string) {
		for line := range strings.Lines(text) {
			if !strings.Contains(line, without) {
				n = append(n, line)
			}
		}
		return n
	}
	if diff := cmp.Diff(lines(read(t, "systemd/flanneld.service"), "/usr/local"), slices.DeleteFunc(lines(unit, "/usr/sbin/flanneld"),
		func(line string) bool { return strings.Contains(line, "/usr/libexec/") })); diff != "" {
		t.Errorf("the unit (-release +package)\n%s", diff)
	}
	for _, want := range []string{"\nExecStart=/usr/sbin/flanneld\n", "\nExecStartPost=/usr/libexec/flanneld/mk-docker-opts.sh -f "} {
		if !strings.Contains(unit, want) {
			t.Errorf("the unit has no %q:\n%s", want, unit)
		}
	}
	if read(t, root+"/usr/share/flanneld/docker.service.d/flannel.conf") != read(t, "systemd/docker.service.d/flannel.conf") {
		t.Error("docker's file is another one")
	}

	// Once all # are taken away, the settings are the release's.
	env := read(t, root+"/etc/flanneld.env")
	var set []string
	for line := range strings.Lines(env) {
		if name, _, is := strings.Cut(line, "="); is && !strings.HasPrefix(line, "#") {
			set = append(set, name)
		}
	}
	if diff := cmp.Diff([]string{"FLANNELD_HEALTHZ_PORT", "FLANNELD_SUBNET_FILE", "FLANNELD_IP_MASQ"}, set); diff != "" {
		t.Errorf("settings that are on (-want +got)\n%s", diff)
	}
	full := strings.NewReplacer("\n#FLANNELD_", "\nFLANNELD_", "/etc/flanneld/", "/usr/local/flannel/cert/").Replace(env)
	if diff := cmp.Diff(read(t, "systemd/flanneld.env"), full); diff != "" {
		t.Errorf("the settings (-release +package)\n%s", diff)
	}
}

// fakeRelease is an unpacked release of small files.
func fakeRelease(t *testing.T) string {
	dir := t.TempDir()
	for _, name := range strings.Fields(`flanneld certs.sh mk-cni-conf.sh mk-docker-opts.sh LICENSE THIRD-PARTY-LICENSES README.md docs/cni.md man/flanneld.8
		completion/_flanneld completion/flanneld.bash completion/flanneld.fish grafana-flanneld.json prometheus-flanneld.rules.yml
		cni/10-flannel.conflist iproute2/flanneld.conf networkd/05-flannel.network networkd/90-flanneld.conf`) {
		write(t, filepath.Join(dir, name), "#!/bin/sh\n", 0o755)
	}
	for _, name := range []string{"flanneld.service", "flanneld.env", "docker.service.d/flannel.conf", "flanneld.service.d/credentials.conf"} {
		write(t, filepath.Join(dir, "systemd", name), read(t, "systemd/"+name), 0o644)
	}
	return dir
}

// packages makes a deb and an rpm, and returns them.
func packages(t *testing.T, release, version, arch string) (deb, rpm string) {
	t.Helper()
	out := t.TempDir()
	env := []string{"SOURCE_DATE_EPOCH=1700000000", "VERSION=" + version, "OUT=" + out, "MAINTAINER=" + maintainer}
	succeed(t, ".", env, "sh", "packages.sh", arch, release)
	files := strings.Fields(names(t, out))
	if len(files) != 2 {
		t.Fatalf("it made %q", files)
	}
	return filepath.Join(out, files[1]), filepath.Join(out, files[0])
}

// TestPackageVersions: what was made later is newer to dpkg and to rpm.
func TestPackageVersions(t *testing.T) {
	t.Parallel()
	release, home := fakeRelease(t), t.TempDir() // where rpm has its database
	var debs, rpms []string
	for _, v := range []struct{ version, as string }{
		{"5d0d1dc", "0~g5d0d1dc"}, // no version at all
		{"v0.2.0-alpha", "0.2.0~alpha"},
		{"v0.2.0-rc1", "0.2.0~rc1"},
		{"0.2.0-rc1-3-g1a2b3c4", "0.2.0~rc1+3.g1a2b3c4"},
		{"0.2.0-rc.2", "0.2.0~rc.2"},
		{"0.2.0-rc.10", "0.2.0~rc.10"},
		{"v0.2.0", "0.2.0"},
		{"v0.2.0-5-g9a2b3c4", "0.2.0+5.g9a2b3c4"},
		{"v0.2.0-5-g9a2b3c4-dirty", "0.2.0+5.g9a2b3c4.dirty"},
		{"v0.2.0-12-g1a2b3c4", "0.2.0+12.g1a2b3c4"},
		{"0.2.1-rc1", "0.2.1~rc1"},
		{"0.2.1", "0.2.1"},
		{"0.2.1-dirty", "0.2.1+dirty"},
		{"0.10.0", "0.10.0"},
	} {
		deb, rpm := packages(t, release, v.version, "amd64")
		if got := filepath.Base(deb) + " " + filepath.Base(rpm); got != fmt.Sprintf("flanneld_%s_amd64.deb flanneld-%[1]s-1.x86_64.rpm", v.as) {
			t.Errorf("%s makes %s", v.version, got)
		}
		debs = append(debs, strings.TrimSpace(succeed(t, ".", nil, "dpkg-deb", "--field", deb, "Version")))
		rpms = append(rpms, succeed(t, home, nil, "rpm", "-qp", "--queryformat", "%{VERSION}", rpm))
	}
	for i := 1; i < len(debs); i++ {
		if r := run(t, ".", nil, "dpkg", "--compare-versions", debs[i-1], "lt", debs[i]); r.code != 0 {
			t.Errorf("to dpkg, %s is not older than %s", debs[i-1], debs[i])
		}
		if got := succeed(t, home, nil, "rpm", "--eval", fmt.Sprintf(`%%{lua: print(rpm.vercmp("%s", "%s"))}`, rpms[i-1], rpms[i])); got != "-1\n" {
			t.Errorf("to rpm, %s against %s is %s", rpms[i-1], rpms[i], got)
		}
	}
}

// TestPackageArchitectures: each of Go's has its name in each kind of package.
func TestPackageArchitectures(t *testing.T) {
	t.Parallel()
	release, home := fakeRelease(t), t.TempDir()
	for arch, want := range map[string][2]string{
		"amd64": {"amd64", "x86_64"}, "arm64": {"arm64", "aarch64"}, "arm": {"armhf", "armv6hl"}, "riscv64": {"riscv64", "riscv64"},
		"s390x": {"s390x", "s390x"}, "ppc64le": {"ppc64el", "ppc64le"}, "loong64": {"loong64", "loongarch64"},
	} {
		deb, rpm := packages(t, release, "0.2.0", arch)
		got := [2]string{
			strings.TrimSpace(succeed(t, ".", nil, "dpkg-deb", "--field", deb, "Architecture")),
			succeed(t, home, nil, "rpm", "-qp", "--queryformat", "%{ARCH}", rpm),
		}
		if got != want {
			t.Errorf("%s is %q, want %q", arch, got, want)
		}
	}
}

// TestPackagesRefuse: nothing is made that would be wrong.
func TestPackagesRefuse(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ version, arch, unit, says string }{
		"arch":    {"0.2.0", "mips", "", "no package is made for mips"},
		"version": {"one.two", "amd64", "", "does not begin with a number"},
		"path":    {"0.2.0", "amd64", "\nReadOnlyPaths=/usr/local/other\n", "nothing in /usr/local"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			release, out := fakeRelease(t), t.TempDir()
			write(t, release+"/systemd/flanneld.service", read(t, "systemd/flanneld.service")+c.unit, 0o644)
			env := []string{"SOURCE_DATE_EPOCH=1700000000", "VERSION=" + c.version, "OUT=" + out, "MAINTAINER=" + maintainer}
			if r := run(t, ".", env, "sh", "packages.sh", c.arch, release); r.code != 1 || !strings.Contains(r.stderr, c.says) {
				t.Errorf("%+v", r)
			}
			if got := names(t, out); got != "" {
				t.Errorf("it made %s", got)
			}
		})
	}
}

// TestPackageScripts runs the packages' scripts where no systemd runs, as in a chroot or a
// container, with what dpkg and rpm call them with.
func TestPackageScripts(t *testing.T) {
	eachShell(t, func(t *testing.T, shell []string) {
		dir := t.TempDir()
		// Somebody who asks systemd, which is not there, would hang or fail.
		write(t, dir+"/bin/systemctl", "#!/bin/sh\necho \"$@\" >>"+dir+"/asked\ncase $* in *is-enabled*) exit 1 ;; esac\n", 0o755)
		for _, c := range []struct{ script, args, says, asks string }{
			{"postinstall", "configure", "not started", "--quiet is-enabled flanneld.service\n"},
			{"postinstall", "configure 0.1.0", "not started", "--quiet is-enabled flanneld.service\n"},
			{"postinstall", "1", "not started", "--quiet is-enabled flanneld.service\n"},
			{"postinstall", "triggered x", "", ""},
			{"preremove", "upgrade 0.3.0", "", ""},
			{"preremove", "1", "", ""},
			{"preremove", "remove", "", "--quiet disable flanneld.service\n"},
			{"preremove", "0", "", "--quiet disable flanneld.service\n"},
			{"postremove", "upgrade 0.3.0", "", ""},
			{"postremove", "1", "", ""},
			{"postremove", "remove", "ip route flush proto 77", ""},
			{"postremove", "remove", "settings stay too, in /etc/flanneld.env and", ""},
			{"postremove", "0", "ip route flush proto 77", ""},
			{"postremove", "0", "settings stay too, in /etc/flanneld.env.rpmsave and", ""},
			{"postremove", "purge", "", ""},
		} {
			for range 2 { // the second time there is nothing left to do
				_ = os.Remove(dir + "/asked")
				args := append(append(slices.Clone(shell), source(t, "package/"+c.script+".sh")), strings.Fields(c.args)...)
				r := run(t, dir, nil, append([]string{"unshare", "--mount", "sh", "-ec", `
					mount -t tmpfs none /run; mount -t tmpfs none /var/lib; mount -t tmpfs none /etc
					export PATH="$0/bin:$PATH"; "$@"`, dir}, args...)...)
				asked, _ := os.ReadFile(dir + "/asked")
				if r.code != 0 || r.stderr != "" || (r.stdout == "") != (c.says == "") || !strings.Contains(r.stdout, c.says) || string(asked) != c.asks {
					t.Errorf("%s %s: %+v, and asks %q", c.script, c.args, r, asked)
				}
			}
		}
	})
}

// TestPackageScriptsGoOn: no state of a host keeps dpkg from installing, removing or purging the package.
func TestPackageScriptsGoOn(t *testing.T) {
	eachShell(t, func(t *testing.T, shell []string) {
		dir := t.TempDir()
		write(t, dir+"/bin/systemctl", "#!/bin/sh\nexit 1\n", 0o755)
		for name, c := range map[string]struct{ before, script, args, says, gone string }{
			"masked":                  {"ln -s /dev/null /etc/systemd/system/flanneld.service", "postinstall", "configure", "systemctl unmask flanneld", ""},
			"a unit of the host's":    {"touch /etc/systemd/system/flanneld.service", "postinstall", "configure", "in place of the package's unit", ""},
			"a volume for the subnet": {"mount -t tmpfs none /var/lib/flannel; touch /var/lib/flannel/subnet.env", "postremove", "purge", "", "/var/lib/flannel/subnet.env /run/flannel"},
			"a volume in /run":        {"mount -t tmpfs none /run/flannel; touch /run/flannel/subnet.env", "postremove", "purge", "", "/var/lib/flannel /run/flannel/subnet.env"},
			"a link":                  {"rmdir /var/lib/flannel; ln -s /etc/flanneld /var/lib/flannel", "postremove", "purge", "", "/var/lib/flannel"},
			"a full disk, installed":  {"exec >/dev/full", "postinstall", "configure", "", ""},
			"a full disk, removed":    {"exec >/dev/full; touch /etc/systemd/system/docker.service.d/flannel.conf", "postremove", "remove", "", ""},
		} {
			args := append(append(slices.Clone(shell), source(t, "package/"+c.script+".sh")), strings.Fields(c.args)...)
			r := run(t, dir, []string{"GONE=" + c.gone}, append([]string{"unshare", "--mount", "sh", "-ec", `
				mount -t tmpfs none /run; mount -t tmpfs none /var/lib; mount -t tmpfs none /etc
				mkdir -p /etc/flanneld /etc/systemd/system/docker.service.d /run/systemd/system /var/lib/flannel /run/flannel
				export PATH="$0/bin:$PATH"; ` + c.before + `; "$@"
				test -d /etc/flanneld; for x in $GONE; do ! test -e $x && ! test -L $x; done`, dir}, args...)...)
			if r.code != 0 || !strings.Contains(r.stdout, c.says) {
				t.Errorf("%s: %+v", name, r)
			}
		}
	})
}
