package docs

import "testing"

func TestShows(t *testing.T) {
	const page = "a  b\n...\nuid … of 3\n...\n"
	for output, want := range map[string]bool{
		"a b\nuid 7 of 3":                    true,
		"a   b\nx\n\ny\n  uid 7 of 3\nend\n": true,
		"a b":                                false,
		"b\nuid 7 of 3":                      false,
		"a b\nuid 7\nof 3":                   false,
		"a b c\nuid  of 3":                   false,
	} {
		if got := Shows(page, output); got != want {
			t.Errorf("%q: %t", output, got)
		}
	}
}
