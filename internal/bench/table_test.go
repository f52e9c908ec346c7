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
	b  *testing.B
	id string

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
// as it grows, and kept with the run: what was measured stays if b is ended before its time.
func newTable(b *testing.B, id, title string, columns ...string) *table {
	fmt.Fprintf(os.Stdout, "\n### %s\n\n%s%s", title, line(columns), line(slices.Repeat([]string{"---"}, len(columns))))
	return &table{b: b, id: id, Title: title, Columns: columns}
}

// row adds a row.
func (t *table) row(cells ...any) {
	var texts []string
	for _, c := range cells {
		texts = append(texts, fmt.Sprint(c))
	}
	t.Rows = append(t.Rows, texts)
	fmt.Fprint(os.Stdout, line(texts))
	t.keep()
}

// point adds a point to the plot.
func (t *table) point(line string, leases int, ms float64) {
	t.Points = append(t.Points, point{line, leases, ms})
	t.keep()
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

// keep puts the table in the place of the one of a former run, where there is a record.
func (t *table) keep() {
	if path := os.Getenv(recordEnv); path != "" {
		if err := t.write(path); err != nil {
			t.b.Errorf("keep the table: %v", err)
		}
	}
}

func (t *table) write(path string) error {
	if root, err := lab.ModuleRoot(); err == nil && !filepath.IsAbs(path) {
		path = filepath.Join(root, path)
	}
	all, err := readRun(path)
	if err != nil {
		return err
	}
	all[t.id] = t
	content, err := json.MarshalIndent(all, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(content, '\n'), 0o644)
}
