package main

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// TestSBOM compares the list of this test's own program with what go itself says is in it.
func TestSBOM(t *testing.T) {
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	encoded := func(version string) []byte {
		bom, err := describe(binary, version)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := encode(&out, bom); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	first := encoded("1.2.3")
	if !bytes.Equal(first, encoded("1.2.3")) {
		t.Error("the same program is described in two ways")
	}
	decode := func(content []byte) (bom cdx.BOM) {
		if err := cdx.NewBOMDecoder(bytes.NewReader(content), cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
			t.Fatal(err)
		}
		return bom
	}
	bom := decode(first)
	if other := decode(encoded("1.2.4")); other.SerialNumber == bom.SerialNumber || !strings.HasPrefix(bom.SerialNumber, "urn:uuid:") {
		t.Errorf("two documents have the numbers %q and %q", bom.SerialNumber, other.SerialNumber)
	}
	if c := bom.Metadata.Component; c.Name != "flanneld" || c.Version != "1.2.3" || bom.Metadata.Timestamp != "" {
		t.Errorf("it describes %s %s, at %q", c.Name, c.Version, bom.Metadata.Timestamp)
	}
	found := map[string]string{}
	for _, c := range *bom.Components {
		if c.PackageURL != "pkg:golang/"+c.Name+"@"+c.Version {
			t.Errorf("the package URL of %s %s is %s", c.Name, c.Version, c.PackageURL)
		}
		found[c.Name] = c.Version
	}
	modules := 1 // the standard library
	for path, version := range linkedInto(t, binary) {
		modules++
		if found[path] != version {
			t.Errorf("%s %s is listed as %q", path, version, found[path])
		}
	}
	if refs := *(*bom.Dependencies)[0].Dependencies; modules < 4 || len(found) != modules || len(refs) != modules {
		t.Errorf("of %d modules %d are listed, and %d as parts", modules, len(found), len(refs))
	}
}

// linkedInto are the versions of the modules that go says are in a program, by path.
func linkedInto(t *testing.T, binary string) map[string]string {
	t.Helper()
	said, err := exec.Command("go", "version", "-m", binary).Output()
	if err != nil {
		t.Fatal(err)
	}
	modules := map[string]string{}
	for line := range strings.Lines(string(said)) {
		if f := strings.Fields(line); len(f) > 2 && f[0] == "dep" {
			modules[f[1]] = f[2]
		}
	}
	return modules
}

// TestImage reads the archive by the library again, which checks every digest.
func TestImage(t *testing.T) {
	when := time.Unix(1700000000, 0).UTC()
	made := func(mode os.FileMode) []byte {
		dir := t.TempDir()
		for _, arch := range []string{"arm", "s390x"} {
			for name, mode := range map[string]os.FileMode{"flanneld": mode | 0o100, "LICENSE": mode} {
				path := filepath.Join(dir, arch, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(arch+" "+name), mode); err != nil {
					t.Fatal(err)
				}
			}
		}
		var out bytes.Buffer
		if err := writeImage(&out, "1.2.3+x", when, dir); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	first := made(0o600)
	if !bytes.Equal(first, made(0o644)) {
		t.Error("the same files give two images")
	}

	dir := t.TempDir()
	for archive := tar.NewReader(bytes.NewReader(first)); ; {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, h.Name)
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o755)
		} else {
			var content []byte
			if content, err = io.ReadAll(archive); err == nil {
				err = os.WriteFile(path, content, 0o644)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(root); err != nil {
		t.Error(err)
	}
	outer, err := root.IndexManifest()
	if err != nil || len(outer.Manifests) != 1 {
		t.Fatalf("the layout has %+v, %v", outer, err)
	}
	if name := outer.Manifests[0].Annotations["io.containerd.image.name"]; name != "localhost/flanneld:1.2.3_x" {
		t.Errorf("the image is called %q", name)
	}
	index, err := root.ImageIndex(outer.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	inner, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var platforms []string
	for _, d := range inner.Manifests {
		platforms = append(platforms, d.Platform.String())
		image, err := index.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		checkImage(t, image, d.Platform.Architecture, when)
	}
	if got := strings.Join(platforms, " "); got != "linux/arm/v6 linux/s390x" {
		t.Errorf("there are images for %s", got)
	}
}

func checkImage(t *testing.T, image v1.Image, arch string, when time.Time) {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Architecture != arch || !config.Created.Equal(when) || config.Config.User != "" ||
		config.Config.Labels["org.opencontainers.image.version"] != "1.2.3+x" {
		t.Errorf("the config for %s is %+v", arch, config)
	}
	layers, err := image.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	var files []string
	for archive := tar.NewReader(content); ; {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || !h.ModTime.Equal(when) {
			t.Errorf("%s is of %d:%d, %v", h.Name, h.Uid, h.Gid, h.ModTime)
		}
		files = append(files, h.FileInfo().Mode().String()+" "+h.Name)
	}
	if got := strings.Join(files, ", "); got != "-rw-r--r-- LICENSE, -rwxr-xr-x flanneld" {
		t.Errorf("it holds %s", got)
	}
}
