package docs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Blocks are those of a page of this repository, for a test that does what it says
// from its beginning to its end.
func Blocks(t testing.TB, page string) []Block {
	t.Helper()
	p, err := Read(repository(t), page)
	if err != nil {
		t.Fatal(err)
	}
	return p.Blocks
}

// Containing is the first block of a page that has the text in it.
func Containing(t testing.TB, page, text string) Block {
	t.Helper()
	for _, b := range Blocks(t, page) {
		if strings.Contains(b.Text, text) {
			return b
		}
	}
	t.Fatalf("%s has no block with %q", page, text)
	return Block{}
}

// repository is the folder that go.mod is in. Tests run in the folder of their package.
func repository(t testing.TB) string {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	t.Fatal("this is no checkout of the repository: there is no go.mod")
	return ""
}
