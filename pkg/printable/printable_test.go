package printable

import (
	"testing"
	"unicode/utf8"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		"":                     "",
		"subnet 172.7.21.0/24": "subnet 172.7.21.0/24",
		"größer als 1 µs":      "größer als 1 µs",
		"\x1b[31mred\x1b[0m":   "?[31mred?[0m",
		"two\nlines\tand\x00":  "two?lines?and?",
		"no UTF-8: \xff\xfe":   "no UTF-8: ??",
		"right to left \u202e": "right to left ?",
	} {
		if got := Line(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func TestBounded(t *testing.T) {
	for in, want := range map[string]string{"abc": "abc", "abcd": "abcd", "abcdefgh": "abcd…", "abcé": "abc…", "\x9b\x9b\x9b\x9b\x9b": "…", "a\nbcd": "a?bc…"} {
		if got := Bounded(in, 4); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{"abc": `"abc"`, "a\n\"\u009b…": `"a\n\""…`} {
		if got := Quoted(in, 4); got != want {
			t.Errorf("%q becomes %s, want %s", in, got, want)
		}
	}
}

func FuzzLine(f *testing.F) {
	f.Add("a\x00\xff\u202e")
	f.Fuzz(func(t *testing.T, s string) {
		got := Line(s)
		if !utf8.ValidString(got) || Line(got) != got || utf8.RuneCountInString(got) != utf8.RuneCountInString(s) {
			t.Errorf("%q becomes %q", s, got)
		}
	})
}

func TestSome(t *testing.T) {
	for _, tt := range []struct {
		texts []string
		want  string
	}{
		{nil, ""},
		{[]string{"a"}, "a"},
		{[]string{"a", "b"}, "a, b"},
		{[]string{"a", "b", "c"}, "a, b and 1 more"},
		{[]string{"a", "b", "c", "d"}, "a, b and 2 more"},
	} {
		if got := Some(tt.texts, 2, ", ", " and"); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.texts, got, tt.want)
		}
	}
}
