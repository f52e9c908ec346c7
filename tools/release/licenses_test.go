package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestLicenses has the licenses of all that go says is in this test's own program.
func TestLicenses(t *testing.T) {
	list, err := exec.Command("go", "list", "-deps", "-test", "-json=ImportPath,Dir,Standard,Module", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := writeLicenses(&out, bytes.NewReader(list)); err != nil {
		t.Fatal(err)
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	modules := linkedInto(t, binary)
	for path, version := range modules {
		if of := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(path+" "+version) + `, (\S*/)?LICEN[SC]E`); !of.MatchString(out.String()) {
			t.Errorf("there is no license of %s %s", path, version)
		}
	}
	if len(modules) < 3 || !strings.Contains(out.String(), "\nGo's standard library, LICENSE\n") {
		t.Errorf("of %d modules and the standard library:\n%s", len(modules), out.String())
	}
}

func TestLicensesOf(t *testing.T) {
	root := t.TempDir()
	for name, content := range map[string]string{
		"own/LICENSE":        "own",
		"own/fork/LICENSE":   "own as well",
		"a@v1/LICENSE.txt":   "use it\r\nas you like\r\n",
		"a@v1/notice":        "made by a",
		"a@v1/licenses.go":   "package a",
		"a@v1/in/COPYING":    "inside",
		"a@v1/other/LICENSE": "not linked",
		"b@v2/Licence-MIT":   "use it\nas you like",
		"bare@v1/NOTICE":     "no license",
		"go/src/fmt/x.go":    "package fmt",
		"go/LICENSE":         "go's",
		"go/licenses/x":      "in a folder of that name",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	in := func(dir string) string { return filepath.Join(root, dir) }
	module := func(path, version, dir string) *goModule {
		return &goModule{Path: path, Version: version, Dir: in(dir)}
	}
	own := &goModule{Path: "own", Dir: in("own"), Main: true}
	fork, moved := module("forked", "v1", "own/fork"), module("c", "v1", "b@v2")
	fork.Replace, moved.Replace = &goModule{Path: "./fork"}, &goModule{Path: "b", Version: "v2"}
	a := module("a", "v1", "a@v1")
	std := linked{ImportPath: "fmt", Dir: in("go/src/fmt"), Standard: true}

	const line = "\n================================================================================\n"
	for _, tt := range []struct {
		name  string
		list  []linked
		want  string
		fault string
	}{
		{"nothing", nil, "", "the list of packages is empty"},
		{"own code alone", []linked{{ImportPath: "own", Dir: in("own"), Module: own}, {ImportPath: "forked", Dir: in("own/fork"), Module: fork}}, "", "is empty"},
		{"each text once", []linked{
			{ImportPath: "c", Dir: in("b@v2"), Module: moved}, {ImportPath: "a/in", Dir: in("a@v1/in"), Module: a},
			{ImportPath: "a", Dir: in("a@v1"), Module: a}, {ImportPath: "own", Dir: in("own"), Module: own}, std,
		}, line + "Go's standard library, LICENSE\n\ngo's\n" +
			line + "a v1, LICENSE.txt\nb v2, Licence-MIT\n\nuse it\nas you like\n" +
			line + "a v1, notice\n\nmade by a\n" + line + "a v1, in/COPYING\n\ninside\n", ""},
		{"a module without one", []linked{std, {ImportPath: "bare", Dir: in("bare@v1"), Module: module("bare", "v1", "bare@v1")}}, "",
			"bare v1 has no license in " + in("bare@v1")},
		{"a module that was not downloaded", []linked{{ImportPath: "d", Dir: in("b@v2"), Module: &goModule{Path: "d", Version: "v3"}}}, "",
			"package d of d v3 is in "},
		{"a folder beside it", []linked{{ImportPath: "a", Dir: in("a@v10"), Module: a}}, "", "and not below"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var list, out bytes.Buffer
			for _, p := range tt.list {
				if err := json.NewEncoder(&list).Encode(p); err != nil {
					t.Fatal(err)
				}
			}
			err := writeLicenses(&out, &list)
			if tt.fault != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fault) || out.Len() > 0 {
					t.Errorf("%v, want %q; printed %q", err, tt.fault, out.String())
				}
				return
			}
			if got := strings.TrimPrefix(out.String(), licensesHead); err != nil || got != tt.want {
				t.Errorf("%v, and got\n%s\nwant\n%s", err, got, tt.want)
			}
		})
	}
	if err := writeLicenses(new(bytes.Buffer), strings.NewReader("{")); err == nil {
		t.Error("half a list is taken")
	}
}
