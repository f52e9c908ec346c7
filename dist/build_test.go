package dist_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"flanneld/internal/lab"
)

// checkout lays out a repository with a small program in place of flanneld.
func checkout(t *testing.T, mode os.FileMode) string {
	root := t.TempDir()
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		made := strings.HasPrefix(path, "flanneld-") || strings.HasPrefix(path, "flanneld_") || strings.HasPrefix(path, "SHA256SUMS")
		if err != nil || entry.IsDir() || made {
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

const (
	maintainer = "Somebody <somebody@example.org>"
	arches     = "amd64 s390x"
)

// build runs build.sh under a umask.
func build(t *testing.T, root, umask string, env ...string) result {
	t.Helper()
	cache, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	return run(t, root, append([]string{"GOCACHE=" + strings.TrimSpace(string(cache)), "SOURCE_DATE_EPOCH=1700000000", "VERSION=v1.2.3", "ARCHES=" + arches,
		"NFPM=" + source(t, "../build/nfpm"), "MAINTAINER=" + maintainer,
		"TOOL=" + lab.ReleaseTool(t)}, env...),
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
	dist := filepath.Join(first, "dist")
	sums := read(t, filepath.Join(dist, "SHA256SUMS"))
	if a.stdout != sums || b.stdout != sums || read(t, filepath.Join(second, "dist/SHA256SUMS")) != sums {
		t.Errorf("the sums differ:\n%s%s%s", a.stdout, b.stdout, sums)
	}
	var files []string
	for line := range strings.Lines(sums) {
		name := strings.Fields(line)[1]
		files = append(files, name)
		if read(t, filepath.Join(dist, name)) != read(t, filepath.Join(second, "dist", name)) {
			t.Errorf("%s differs", name)
		}
	}
	want := []string{"flanneld-1.2.3-1.s390x.rpm", "flanneld-1.2.3-1.x86_64.rpm", "flanneld-v1.2.3-linux-amd64.cdx.json", "flanneld-v1.2.3-linux-amd64.tar.gz",
		"flanneld-v1.2.3-linux-s390x.cdx.json", "flanneld-v1.2.3-linux-s390x.tar.gz", "flanneld-v1.2.3-oci.tar",
		"flanneld_1.2.3_amd64.deb", "flanneld_1.2.3_s390x.deb"}
	if diff := cmp.Diff(want, files); diff != "" {
		t.Errorf("files (-want +got)\n%s", diff)
	}
	if !strings.Contains(a.stderr, "not signed") {
		t.Errorf("of the missing signature it says %s", a.stderr)
	}
	succeed(t, dist, nil, "sha256sum", "--check", "--strict", "SHA256SUMS")
	checkRelease(t, filepath.Join(dist, "flanneld-v1.2.3-linux-amd64.tar.gz"))
	checkDeb(t, filepath.Join(dist, "flanneld_1.2.3_amd64.deb"))
	checkRPM(t, filepath.Join(dist, "flanneld-1.2.3-1.x86_64.rpm"))
	said := succeed(t, dist, nil, "sh", "-c", "tar xOf flanneld-v1.2.3-linux-s390x.tar.gz flanneld >s390x && od -An -tx1 -j4 -N2 s390x && od -An -tx1 -j18 -N2 s390x")
	if said != " 02 02\n 00 16\n" { // 64 bits, the high byte first, machine 22
		t.Errorf("the program for s390x begins with %s", said)
	}
}

// TestSignature verifies as users do, on what is whole and on what is not.
func TestSignature(t *testing.T) {
	t.Parallel()
	root := checkout(t, 0o644)
	dist := filepath.Join(root, "dist")
	for kind, options := range map[string][]string{
		"RSA": {"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"},
		"EC":  {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"},
	} {
		key, public := filepath.Join(root, kind+".key"), filepath.Join(dist, "flanneld.pub")
		succeed(t, root, nil, append([]string{"openssl", "genpkey", "-out", key}, options...)...)
		succeed(t, root, nil, "openssl", "pkey", "-in", key, "-pubout", "-out", public)
		r := build(t, root, "022", "ARCHES=amd64", "SIGNING_KEY="+key)
		if r.code != 0 || strings.Contains(r.stderr, "not signed") {
			t.Fatal(r)
		}
		const verify = `openssl dgst -sha256 -verify flanneld.pub -signature SHA256SUMS.sig SHA256SUMS && sha256sum --check SHA256SUMS`
		succeed(t, dist, nil, "sh", "-c", verify)
		for _, name := range []string{"SHA256SUMS", "SHA256SUMS.sig", "flanneld-v1.2.3-linux-amd64.tar.gz", "flanneld-v1.2.3-oci.tar"} {
			whole := read(t, filepath.Join(dist, name))
			bad := []byte(whole)
			bad[len(bad)/2] ^= 1
			write(t, filepath.Join(dist, name), string(bad), 0o644)
			if r := run(t, dist, nil, "sh", "-c", verify); r.code == 0 {
				t.Errorf("%s: nobody sees that a bit of %s is another one", kind, name)
			}
			write(t, filepath.Join(dist, name), whole, 0o644)
		}
		secret := strings.TrimSpace(strings.Split(read(t, key), "\n")[1])
		succeed(t, dist, nil, "sh", "-c", `! grep -rqaF -- "$1" .`, "sh", secret)
		if strings.Contains(r.stdout+r.stderr, secret) {
			t.Errorf("it shows the key:\n%s%s", r.stdout, r.stderr)
		}
	}
	// A release without a signature leaves none of an earlier one.
	if r := build(t, root, "022", "ARCHES=amd64"); r.code != 0 || strings.Contains(names(t, dist), "SHA256SUMS.sig") {
		t.Errorf("there are %s: %+v", names(t, dist), r)
	}
}

// TestSBOM compares the list of a real flanneld with what go says is in it, and has a license of each part.
func TestSBOM(t *testing.T) {
	t.Parallel()
	binary, dir := lab.Binary(t), t.TempDir()
	var bom struct {
		SpecVersion, SerialNumber string
		Metadata                  struct {
			Timestamp string
			Component struct {
				Name, Version string
				Hashes        []struct{ Alg, Content string }
			}
		}
		Components []struct{ Name, Version, PURL, Description string }
	}
	if err := json.Unmarshal([]byte(succeed(t, dir, nil, lab.ReleaseTool(t), "sbom", "1.2.3", binary)), &bom); err != nil {
		t.Fatal(err)
	}
	sum := strings.Fields(succeed(t, dir, nil, "sha256sum", binary))[0]
	if c := bom.Metadata.Component; c.Name != "flanneld" || c.Version != "1.2.3" || len(c.Hashes) != 1 || c.Hashes[0].Content != sum {
		t.Errorf("it describes %+v, and not the binary %s", c, sum)
	}
	var listed, linked []string
	for _, c := range bom.Components {
		if c.Name == "std" {
			continue
		}
		name, version := c.Name, c.Version
		if original, replaced := strings.CutPrefix(c.Description, "flanneld's own code in place of "); replaced {
			name, version, _ = strings.Cut(original, " ")
			if c.PURL != "" {
				t.Errorf("%s, which stands in for %s, has the URL %s", c.Name, original, c.PURL)
			}
		} else if want := "pkg:golang/" + c.Name + "@" + c.Version; c.PURL != want {
			t.Errorf("%s has the URL %s", c.Name, c.PURL)
		}
		listed = append(listed, name+" "+version)
	}
	for line := range strings.Lines(succeed(t, dir, nil, "go", "version", "-m", binary)) {
		if f := strings.Fields(line); len(f) > 2 && f[0] == "dep" {
			linked = append(linked, f[1]+" "+f[2])
		}
	}
	slices.Sort(listed)
	slices.Sort(linked)
	if diff := cmp.Diff(linked, listed); diff != "" || len(linked) < 20 {
		t.Errorf("what is in it and what is listed of %d:\n%s", len(linked), diff)
	}

	texts := succeed(t, ".", os.Environ(), "sh", "-c",
		`go list -deps -tags grpcnotrace -json=ImportPath,Dir,Standard,Module ../cmd/flanneld >"$1/list" && "$2" licenses <"$1/list"`, "sh", dir, lab.ReleaseTool(t))
	for _, c := range bom.Components {
		if c.Name != "std" && c.PURL != "" && !strings.Contains(texts, "\n"+c.Name+" "+c.Version+", ") {
			t.Errorf("there is no license of %s %s", c.Name, c.Version)
		}
	}
}

// checkRelease unpacks as the tutorial does, and looks at every file.
func checkRelease(t *testing.T, archive string) {
	t.Helper()
	const listing = `-rw-r--r-- CHANGELOG.md
-rw-r--r-- LICENSE
-rw-r--r-- README.md
-rw-r--r-- THIRD-PARTY-LICENSES
-rw-r--r-- cni/10-flannel.conflist
-rw-r--r-- completion/_flanneld
-rw-r--r-- completion/flanneld.bash
-rw-r--r-- completion/flanneld.fish
-rw-r--r-- docs/cni.md
-rw-r--r-- docs/img/flow.svg
-rw-r--r-- docs/zh/docker.md
-rw-r--r-- flanneld.cdx.json
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
-rw-r--r-- systemd/flanneld.service.d/credentials.conf
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
drwxr-xr-x systemd/flanneld.service.d/
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
	if got := read(t, filepath.Join(dir, "THIRD-PARTY-LICENSES")); !strings.Contains(got, "Copyright 2009 The Go Authors") {
		t.Errorf("of what is linked there is %q", got)
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
	write(t, filepath.Join(root, "cmd/flanneld/main.go"), "package main\n\nfunc main() {}\n", 0o644)
	write(t, filepath.Join(root, "not.key"), "no key\n", 0o644)
	for want, env := range map[string]string{
		"cannot read SIGNING_KEY": "SIGNING_KEY=" + filepath.Join(root, "absent.key"),
		"cannot sign":             "SIGNING_KEY=" + filepath.Join(root, "not.key"),
		"make build/none":         "TOOL=build/none",
	} {
		if r := build(t, root, "022", "ARCHES=amd64", env); r.code != 1 || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: %+v", env, r)
		}
	}
	if files := names(t, filepath.Join(root, "dist")); strings.Contains(files, "flanneld-") || strings.Contains(files, "SHA256SUMS") {
		t.Errorf("left behind: %s", files)
	}
}

// TestVersion: without a tag, the version is the newest one that the changelog has.
func TestVersion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "Makefile"), read(t, "../Makefile"), 0o644)
	write(t, filepath.Join(dir, "CHANGELOG.md"), "# Changelog\n\n## Unreleased\n\n## 1.10.0 - 2026-11-29\n\n### Added\n\n## 1.9.0 - 2026-11-01\n", 0o644)
	if out := succeed(t, dir, []string{"GIT_CEILING_DIRECTORIES=" + filepath.Dir(dir)}, "make", "help"); !strings.HasPrefix(out, "flanneld 1.10.0\n") {
		t.Errorf("make help says\n%s", out)
	}
}
