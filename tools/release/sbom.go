package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/uuid"
)

// describe is the list of what a Go program was made of, by what its linker wrote into it.
func describe(binary, version string) (*cdx.BOM, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, fmt.Errorf("read what %s was built from: %w", binary, err)
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(content)
	program := cdx.Component{
		BOMRef: "flanneld", Type: cdx.ComponentTypeApplication, Name: "flanneld", Version: version,
		Hashes:   hashes(sum[:]),
		Licenses: &cdx.Licenses{{License: &cdx.License{ID: "Apache-2.0"}}},
	}
	properties := []cdx.Property{}
	for _, s := range info.Settings {
		properties = append(properties, cdx.Property{Name: "go:build:" + s.Key, Value: s.Value})
	}
	program.Properties = &properties

	goVersion := strings.TrimPrefix(strings.Fields(info.GoVersion)[0], "go")
	components := []cdx.Component{module("std", goVersion, "")}
	for _, dep := range info.Deps {
		components = append(components, component(dep))
	}
	refs := []string{}
	for _, c := range components {
		refs = append(refs, c.BOMRef)
	}
	slices.Sort(refs)

	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Component: &program}
	bom.Components = &components
	bom.Dependencies = &[]cdx.Dependency{{Ref: program.BOMRef, Dependencies: &refs}}
	// That a part is used by another one is not in a binary.
	bom.Compositions = &[]cdx.Composition{{
		Aggregate: cdx.CompositionAggregateComplete, Dependencies: &[]cdx.BOMReference{cdx.BOMReference(program.BOMRef)},
	}}

	// The number is that of the content, so that the same content has the same number.
	var numbered bytes.Buffer
	if err := encode(&numbered, bom); err != nil {
		return nil, err
	}
	bom.SerialNumber = uuid.NewSHA1(uuid.NameSpaceURL, numbered.Bytes()).URN()
	return bom, nil
}

// component is one module. What a folder of the program's own source stands in for has
// no package URL: the faults that are known of the original are not the folder's.
func component(dep *debug.Module) cdx.Component {
	r := dep.Replace
	switch {
	case r == nil:
		return module(dep.Path, dep.Version, dep.Sum)
	case strings.HasPrefix(r.Path, "."):
		return cdx.Component{
			BOMRef: "flanneld/" + strings.TrimPrefix(r.Path, "./"), Type: cdx.ComponentTypeLibrary,
			Name:        "flanneld/" + strings.TrimPrefix(r.Path, "./"),
			Description: "flanneld's own code in place of " + dep.Path + " " + dep.Version,
		}
	}
	return module(r.Path, r.Version, r.Sum)
}

// module is one by its path, version, and checksum as go.sum has it.
func module(path, version, sum string) cdx.Component {
	url := "pkg:golang/" + path + "@" + version
	c := cdx.Component{BOMRef: url, Type: cdx.ComponentTypeLibrary, Name: path, Version: version, PackageURL: url}
	if hash, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(sum, "h1:")); err == nil && len(hash) == sha256.Size {
		c.Hashes = hashes(hash)
	}
	return c
}

func hashes(sum []byte) *[]cdx.Hash {
	return &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum)}}
}

func encode(w io.Writer, bom *cdx.BOM) error {
	return cdx.NewBOMEncoder(w, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6)
}
