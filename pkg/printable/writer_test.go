package printable

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func TestDoors(t *testing.T) {
	var long = strings.Repeat("x", 100_000)
	for _, tt := range []struct {
		name, in, want string
		door           func(io.Writer) io.Writer
	}{
		{"people", "a\tb\nc\x1b[2J\u202e\xff\n", "a\tb\nc?[2J??\n", People},
		{"colours", Red + "a\x1b[5m" + Reset + Green + "b\x9b" + Reset, Red + "a?[5m" + Reset + Green + "b?" + Reset, People},
		{"a record", "I0101 a\nI0101 forged\r\x1b[2J\n", "I0101 a?I0101 forged??[2J\n", record},
		{"a record without an end", "a", "a\n", record},
		{"a long record", long + "\n", long[:longestRecord] + "…\n", record},
		{"a trace", "I0101 a\ngoroutine 1:\n\tf\x1b()\n", "I0101 a\ngoroutine 1:\n\tf?()\n", trace},
		{"JSON", `{"a":"` + "\u202e\u009b\x7f\U000e0001é" + `"}` + "\n", `{"a":"\u202e\u009b\u007f\udb40\udc01é"}` + "\n", JSONRecord},
	} {
		var b strings.Builder
		if n, err := io.WriteString(tt.door(&b), tt.in); err != nil || n != len(tt.in) {
			t.Errorf("%s: %d bytes, %v", tt.name, n, err)
		}
		if diff := cmp.Diff(tt.want, b.String()); diff != "" {
			t.Errorf("%s, -want +got:\n%s", tt.name, diff)
		}
	}
	if n, err := People(iotest.TruncateWriter(failing{}, 100)).Write([]byte("a")); err == nil || n != 0 {
		t.Errorf("a pipe without a reader: %d, %v", n, err)
	}
}

func record(w io.Writer) io.Writer { return Record(w, false) }
func trace(w io.Writer) io.Writer  { return Record(w, true) }

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

// FuzzDoors writes anything to each door: only what prints comes out.
func FuzzDoors(f *testing.F) {
	f.Add("a\x00\xff\u202e\n\x1b[31mred\x1b[0m\x1b[2J\u009b")
	f.Fuzz(func(t *testing.T, s string) {
		through := func(door func(io.Writer) io.Writer) string {
			var b strings.Builder
			_, _ = io.WriteString(door(&b), s)
			return b.String()
		}
		line, ended := strings.CutSuffix(through(record), "\n")
		if !ended || line != Line(line) {
			t.Errorf("%q becomes the record %q", s, line)
		}
		people := strings.NewReplacer(Red, "", Green, "", Reset, "").Replace(through(People))
		if people != Lines(people) {
			t.Errorf("%q becomes %q", s, people)
		}
		before, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		after := JSON(before)
		var same string
		if err := json.Unmarshal(after, &same); err != nil || string(after) != Line(string(after)) {
			t.Errorf("%q becomes %q, %v", before, after, err)
		}
		var want string
		if _ = json.Unmarshal(before, &want); same != want {
			t.Errorf("%q is read as %q, want %q", after, same, want)
		}
	})
}
