package docs

import (
	"strings"
	"testing"

	"flanneld/internal/lab"
)

// Blocks are those of a page of this repository, for a test that does what it says
// from its beginning to its end.
func Blocks(t testing.TB, page string) []Block {
	t.Helper()
	root, err := lab.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Read(root, page)
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
