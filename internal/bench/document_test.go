package bench

import (
	"fmt"
	"os"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The recorded run, and what is made from it. `make bench-record` makes all anew.
const (
	recorded = "run.json"
	document = "../../BENCHMARKS.md"
	picture  = "../../docs/img/growth.svg"
)

// TestDocument: the tables of BENCHMARKS.md and its plot are those of the recorded run.
// UPDATE=1 writes them.
func TestDocument(t *testing.T) {
	all, err := readRun(recorded)
	if err != nil {
		t.Fatal(err)
	}
	page := read(t, document)
	for path, want := range map[string]string{document: all.fill(t, page), picture: all.growth()} {
		if os.Getenv("UPDATE") != "" {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(want, read(t, path)); diff != "" {
			t.Errorf("%s is not of the recorded run (UPDATE=1 go test -run TestDocument ./internal/bench):\n%s", path, diff)
		}
	}
}

// tables finds the places of tables in the document.
var tables = regexp.MustCompile(`(?s)<!-- table: (\w+) -->\n.*?<!-- end -->\n`)

// fill puts the run's tables in their places, of which each must have one.
func (r run) fill(t *testing.T, page string) string {
	shown := map[string]bool{}
	page = tables.ReplaceAllStringFunc(page, func(place string) string {
		id := tables.FindStringSubmatch(place)[1]
		shown[id] = true
		if r[id] == nil {
			t.Fatalf("there is no table %q in %s", id, recorded)
		}
		return fmt.Sprintf("<!-- table: %s -->\n%s<!-- end -->\n", id, r[id].markdown())
	})
	for id := range r {
		if !shown[id] {
			t.Errorf("%s has no place for the table %q", document, id)
		}
	}
	return page
}

func read(t *testing.T, path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
