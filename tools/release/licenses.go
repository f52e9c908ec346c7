package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// linked is a package, as `go list -deps -json` prints it.
type linked struct {
	ImportPath string
	Dir        string
	Standard   bool
	Module     *goModule
}

type goModule struct {
	Path, Version, Dir string
	Main               bool
	Replace            *goModule
}

// source is where a package's files come from.
type source struct{ name, dir string }

// from says whose a package is; own is one of this program's.
func (p linked) from() (s source, own bool) {
	m := p.Module
	switch {
	case p.Standard:
		// What is vendored there has another module's Root and Module, or none.
		return source{"Go's standard library", strings.TrimSuffix(p.Dir, "/src/"+p.ImportPath)}, false
	case m == nil || m.Main:
		return source{}, true
	case m.Replace == nil:
		return source{m.Path + " " + m.Version, m.Dir}, false
	case strings.HasPrefix(m.Replace.Path, "."):
		return source{}, true
	}
	return source{m.Replace.Path + " " + m.Replace.Version, m.Dir}, false
}

// What a license asks to be handed on lies in files of these names, beside the code or above it.
var (
	licenseFile = regexp.MustCompile(`(?i)^((un)?licen[cs]e|copying)([-.]|$)`)
	noticeFile  = regexp.MustCompile(`(?i)^(notice|patents|copyright)([-.]|$)`)
)

const licensesHead = `What is linked into flanneld beside its own code, and the licenses and notices of that.
flanneld's own license is in the file LICENSE.
`

// folders are those of the packages in what `go list -deps -json` says of a program, and those above
// them as far as they are of the same source.
func folders(list io.Reader) (map[source]map[string]bool, error) {
	dirs := map[source]map[string]bool{}
	for d := json.NewDecoder(list); ; {
		var p linked
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read the list of packages: %w", err)
		}
		s, own := p.from()
		if own {
			continue
		}
		if inside := strings.HasPrefix(p.Dir+"/", s.dir+"/"); !inside || s.dir == "" {
			return nil, fmt.Errorf("package %s of %s is in %q, and not below %q", p.ImportPath, s.name, p.Dir, s.dir)
		}
		if dirs[s] == nil {
			dirs[s] = map[string]bool{}
		}
		for dir := p.Dir; len(dir) >= len(s.dir); dir = filepath.Dir(dir) {
			dirs[s][dir] = true
		}
	}
	if len(dirs) == 0 {
		return nil, errors.New("the list of packages is empty: it comes from go list -deps -json")
	}
	return dirs, nil
}

// writeLicenses reads what `go list -deps -json` says of a program, and prints each text once,
// below all that it is of.
func writeLicenses(out io.Writer, list io.Reader) error {
	dirs, err := folders(list)
	if err != nil {
		return err
	}
	var texts []string // in the order of what they are of
	of := map[string][]string{}
	for _, s := range slices.SortedFunc(maps.Keys(dirs), func(a, b source) int { return strings.Compare(a.name, b.name) }) {
		found := false
		for _, dir := range slices.Sorted(maps.Keys(dirs[s])) {
			files, err := os.ReadDir(dir)
			if err != nil {
				return err
			}
			for _, f := range files {
				license := licenseFile.MatchString(f.Name())
				if f.IsDir() || filepath.Ext(f.Name()) == ".go" || !license && !noticeFile.MatchString(f.Name()) {
					continue
				}
				path := filepath.Join(dir, f.Name())
				content, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				text := string(bytes.TrimSpace(bytes.ReplaceAll(content, []byte("\r\n"), []byte("\n"))))
				if of[text] == nil {
					texts = append(texts, text)
				}
				of[text] = append(of[text], s.name+", "+strings.TrimPrefix(path, s.dir+"/"))
				found = found || license
			}
		}
		if !found {
			return fmt.Errorf("%s has no license in %s: it may not be linked into a release", s.name, s.dir)
		}
	}

	var b strings.Builder
	b.WriteString(licensesHead)
	for _, text := range texts {
		fmt.Fprintf(&b, "\n%s\n%s\n\n%s\n", strings.Repeat("=", 80), strings.Join(of[text], "\n"), text)
	}
	_, err = io.WriteString(out, b.String())
	return err
}
