package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// variants are those levels of an architecture that programs are built for.
var variants = map[string]string{"arm": "v6", "arm64": "v8"}

// writeImage writes a layout whose index has one entry: the index of all architectures.
// Programs that load one image choose theirs from such a one, and are at a loss with
// several entries.
func writeImage(w io.Writer, version string, when time.Time, dir string) error {
	folders, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	labels := map[string]string{
		"org.opencontainers.image.title":       "flanneld",
		"org.opencontainers.image.description": "One network for the containers of many hosts, without Kubernetes",
		"org.opencontainers.image.version":     version,
		"org.opencontainers.image.created":     when.Format(time.RFC3339),
		"org.opencontainers.image.licenses":    "Apache-2.0",
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	index = mutate.Annotations(index, labels).(v1.ImageIndex)
	for _, folder := range folders {
		arch := folder.Name()
		platform := v1.Platform{OS: "linux", Architecture: arch, Variant: variants[arch]}
		image, err := imageOf(filepath.Join(dir, arch), platform, when, labels)
		if err != nil {
			return fmt.Errorf("make the image for %s: %w", arch, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &platform}})
	}

	made, err := os.MkdirTemp("", "image")
	if err != nil {
		return err
	}
	defer os.RemoveAll(made)
	path, err := layout.Write(made, mutate.IndexMediaType(empty.Index, types.OCIImageIndex))
	if err != nil {
		return err
	}
	tag := strings.ReplaceAll(version, "+", "_") // which no tag may have
	err = path.AppendIndex(index, layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": tag,
		"io.containerd.image.name":          "localhost/flanneld:" + tag, // nothing that a registry could have too
	}))
	if err != nil {
		return err
	}
	return pack(w, made, when)
}

// imageOf is the image of one architecture: a folder's files, and nothing else.
func imageOf(dir string, platform v1.Platform, when time.Time, labels map[string]string) (v1.Image, error) {
	var files bytes.Buffer
	if err := pack(&files, dir, when); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(
		func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files.Bytes())), nil },
		tarball.WithCompressionLevel(gzip.BestCompression), tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err = mutate.Append(image, mutate.Addendum{Layer: layer, MediaType: types.OCILayer,
		History: v1.History{Created: v1.Time{Time: when}, CreatedBy: "dist/build.sh"}})
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.Created = v1.Time{Time: when}
	config.OS, config.Architecture, config.Variant = platform.OS, platform.Architecture, platform.Variant
	config.Config = v1.Config{
		Entrypoint: []string{"/flanneld"},
		// The program's own folder first; the others are for iptables of the host's.
		Env:     []string{"PATH=/:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		Volumes: map[string]struct{}{"/run/flannel": {}},
		Labels:  labels,
	}
	return mutate.ConfigFile(image, config)
}

// pack writes a folder as a tar archive, in the order of names and without what
// depends on the machine: owners are root, and of modes only that of programs counts.
func pack(w io.Writer, dir string, when time.Time) error {
	archive := tar.NewWriter(w)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		header := &tar.Header{Name: filepath.ToSlash(name), ModTime: when, Format: tar.FormatUSTAR}
		switch {
		case entry.IsDir():
			header.Typeflag, header.Name, header.Mode = tar.TypeDir, header.Name+"/", 0o755
			return archive.WriteHeader(header)
		case !info.Mode().IsRegular():
			return fmt.Errorf("%s is neither a file nor a folder", path)
		}
		header.Typeflag, header.Mode, header.Size = tar.TypeReg, 0o644, info.Size()
		if info.Mode()&0o100 != 0 {
			header.Mode = 0o755
		}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		_, err = archive.Write(content)
		return err
	})
	if err != nil {
		return err
	}
	return archive.Close()
}
