package dist_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// checkout lays out a repository with a small program in place of flanneld.
func checkout(t *testing.T, mode os.FileMode) string {
	root := t.TempDir()
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasSuffix(path, ".tar.gz") || path == "SHA256SUMS" {
			return err
		}
		write(t, filepath.Join(root, "dist", path), read(t, path), mode)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"README.md", "CHANGELOG.md", "LICENSE", "docs/cni.md", "docs/img/flow.svg", "docs/zh/docker.md"} {
		write(t, filepath.Join(root, name), name+"\n", mode)
	}
	write(t, filepath.Join(root, "go.mod"), "module flanneld\n\ngo 1.26.0\n", mode)
	write(t, filepath.Join(root, "cmd/flanneld/main.go"),
		"package main\n\nimport (\n\t\"fmt\"\n\t\"os\"\n)\n\nvar version string\n\nfunc main() { fmt.Print(os.Args[1:]); println(version) }\n", mode)
	return root
}

// build runs build.sh under a umask.
func build(t *testing.T, root, umask string, env ...string) result {
	t.Helper()
	cache, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	return run(t, root, append([]string{"GOCACHE=" + strings.TrimSpace(string(cache)), "SOURCE_DATE_EPOCH=1700000000", "VERSION=v1.2.3", "ARCHES=amd64"}, env...),
		"sh", "-c", "umask "+umask+" && exec sh dist/build.sh")
}

// TestBuildIsReproducible builds in two folders, under another umask, time zone
// and locale, from files of another age and mode.
func TestBuildIsReproducible(t *testing.T) {
	t.Parallel()
	first, second := checkout(t, 0o644), checkout(t, 0o600)
	a := build(t, first, "022")
	if a.code != 0 {
		t.Fatal(a)
	}
	old := time.Unix(1e9, 0)
	if err := os.Chtimes(filepath.Join(second, "README.md"), old, old); err != nil {
		t.Fatal(err)
	}
	b := build(t, second, "077", "TZ=Asia/Tokyo", "LC_ALL=C.UTF-8", "GOFLAGS=-race")
	if b.code != 0 {
		t.Fatal(b)
	}
	if a.stdout != b.stdout || !strings.HasSuffix(a.stdout, "  flanneld-v1.2.3-linux-amd64.tar.gz\n") {
		t.Errorf("the sums differ:\n%s%s", a.stdout, b.stdout)
	}
	dist := filepath.Join(first, "dist")
	if got := read(t, filepath.Join(dist, "SHA256SUMS")); got != a.stdout {
		t.Errorf("SHA256SUMS holds %q", got)
	}
	succeed(t, dist, nil, "sha256sum", "--check", "--strict", "SHA256SUMS")
	checkRelease(t, filepath.Join(dist, "flanneld-v1.2.3-linux-amd64.tar.gz"))
}

// checkRelease unpacks as the tutorial does, and looks at every file.
func checkRelease(t *testing.T, archive string) {
	t.Helper()
	const listing = `-rw-r--r-- CHANGELOG.md
-rw-r--r-- LICENSE
-rw-r--r-- README.md
-rw-r--r-- cni/10-flannel.conflist
-rw-r--r-- completion/_flanneld
-rw-r--r-- completion/flanneld.bash
-rw-r--r-- completion/flanneld.fish
-rw-r--r-- docs/cni.md
-rw-r--r-- docs/img/flow.svg
-rw-r--r-- docs/zh/docker.md
-rw-r--r-- grafana-flanneld.json
-rw-r--r-- iproute2/flanneld.conf
-rw-r--r-- man/flanneld.8
-rw-r--r-- networkd/05-flannel.network
-rw-r--r-- networkd/90-flanneld.conf
-rw-r--r-- prometheus-flanneld.rules.yml
-rw-r--r-- supervisor/flannel.ini
-rw-r--r-- systemd/docker.service.d/flannel.conf
-rw-r--r-- systemd/flanneld.env
-rw-r--r-- systemd/flanneld.service
-rwxr-xr-x certs.sh
-rwxr-xr-x flanneld
-rwxr-xr-x flanneld.sh
-rwxr-xr-x mk-cni-conf.sh
-rwxr-xr-x mk-docker-opts.sh
drwxr-xr-x cni/
drwxr-xr-x completion/
drwxr-xr-x docs/
drwxr-xr-x docs/img/
drwxr-xr-x docs/zh/
drwxr-xr-x iproute2/
drwxr-xr-x man/
drwxr-xr-x networkd/
drwxr-xr-x supervisor/
drwxr-xr-x systemd/
drwxr-xr-x systemd/docker.service.d/
`
	got := succeed(t, ".", []string{"TZ=UTC", "LC_ALL=C"}, "sh", "-c",
		`tar tvf "$1" | awk '{ if ($2 != "0/0" || $4 != "2023-11-14" || $5 != "22:13") print "unexpected:", $0; print $1, $6 }' | sort`, "sh", archive)
	if diff := cmp.Diff(listing, got); diff != "" {
		t.Errorf("release (-want +got)\n%s", diff)
	}
	dir := t.TempDir()
	succeed(t, dir, nil, "tar", "xf", archive, "-C", dir)
	if r := run(t, dir, nil, "./flanneld"); r.stderr != "v1.2.3\n" {
		t.Errorf("flanneld says %+v", r)
	}
	for file, want := range map[string]string{
		"man/flanneld.8": "[man]", "completion/flanneld.bash": "[completion bash]",
		"completion/_flanneld": "[completion zsh]", "completion/flanneld.fish": "[completion fish]",
	} {
		if got := read(t, filepath.Join(dir, file)); got != want {
			t.Errorf("%s holds %q", file, got)
		}
	}
	if read(t, filepath.Join(dir, "mk-docker-opts.sh")) != read(t, "mk-docker-opts.sh") {
		t.Error("mk-docker-opts.sh is another one")
	}
}

// TestBuildRefuses: nothing is published under a name that is no file name, and
// nothing half done.
func TestBuildRefuses(t *testing.T) {
	t.Parallel()
	root := checkout(t, 0o644)
	for _, version := range []string{"../1", "a b", "-x", "v1;touch x"} {
		if r := build(t, root, "022", "VERSION="+version); r.code != 1 || !strings.Contains(r.stderr, "does not fit a file name") {
			t.Errorf("version %q: %+v", version, r)
		}
	}
	write(t, filepath.Join(root, "cmd/flanneld/main.go"), "package main\n\nfunc main() { broken }\n", 0o644)
	if r := build(t, root, "022"); r.code == 0 {
		t.Error("a program that does not compile was released")
	}
	if files := names(t, filepath.Join(root, "dist")); strings.Contains(files, ".tar.gz") || strings.Contains(files, "SHA256SUMS") {
		t.Errorf("left behind: %s", files)
	}
}
