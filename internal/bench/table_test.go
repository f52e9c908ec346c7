package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"flanneld/internal/lab"
)

// table is what one benchmark found, as BENCHMARKS.md has it.
type table struct {
	Title   string
	Columns []string
	Rows    [][]string
	Points  []point `json:",omitempty"` // of the plot
}

// point is a median of the plot: a time over a number of leases.
type point struct {
	Line   string
	Leases int
	Ms     float64
}

// recordEnv names the file that keeps the tables of a run.
const recordEnv = "BENCH_RECORD"

// newTable begins a table under an id, by which the document asks for it. It is printed
// as it grows, and kept with the run when b ends.
func newTable(b *testing.B, id, title string, columns ...string) *table {
	t := &table{Title: title, Columns: columns}
	fmt.Fprintf(os.Stdout, "\n### %s\n\n%s%s", title, line(columns), line(slices.Repeat([]string{"---"}, len(columns))))
	b.Cleanup(func() {
		if path := os.Getenv(recordEnv); path != "" && !b.Failed() {
			if err := t.keep(path, id); err != nil {
				b.Errorf("keep the table: %v", err)
			}
		}
	})
	return t
}

// row adds a row.
func (t *table) row(cells ...any) {
	var texts []string
	for _, c := range cells {
		texts = append(texts, fmt.Sprint(c))
	}
	t.Rows = append(t.Rows, texts)
	fmt.Fprint(os.Stdout, line(texts))
}

// point adds a point to the plot.
func (t *table) point(line string, leases int, ms float64) {
	t.Points = append(t.Points, point{line, leases, ms})
}

func line(cells []string) string { return "| " + strings.Join(cells, " | ") + " |\n" }

// markdown is the whole table.
func (t *table) markdown() string {
	text := line(t.Columns) + line(slices.Repeat([]string{"---"}, len(t.Columns)))
	for _, r := range t.Rows {
		text += line(r)
	}
	return text
}

// run are the tables of a run, by id.
type run map[string]*table

func readRun(path string) (run, error) {
	r := run{}
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(content, &r)
	}
	return r, err
}

// keep puts the table in the place of the one of a former run.
func (t *table) keep(path, id string) error {
	if root, err := lab.ModuleRoot(); err == nil && !filepath.IsAbs(path) {
		path = filepath.Join(root, path)
	}
	all, err := readRun(path)
	if err != nil {
		return err
	}
	all[id] = t
	content, err := json.MarshalIndent(all, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(content, '\n'), 0o644)
}
