package iptables

import (
	"slices"
	"strings"
	"testing"
)

func TestWords(t *testing.T) {
	for line, want := range map[string][]string{
		``:      nil,
		`   `:   nil,
		`  a  `: {"a"},
		`-A POSTROUTING -s 172.7.21.0/24 ! -d 172.7.0.0/16 -j MASQUERADE --random-fully`: {
			"-A", "POSTROUTING", "-s", "172.7.21.0/24", "!", "-d", "172.7.0.0/16", "-j", "MASQUERADE", "--random-fully"},
		`--comment "two words"`:            {"--comment", "two words"},
		`--comment ""`:                     {"--comment", ""},
		`--comment "she said \"no\" \\ x"`: {"--comment", `she said "no" \ x`},
		`one\ word`:                        {"one word"},
		`"half "quoted`:                    {"half quoted"},
		`never "closed again`:              {"never", "closed again"},
		`ends\`:                            {"ends"},
		`\`:                                {""},
		"not\ta\tblank":                    {"not\ta\tblank"},
	} {
		if got := splitArgs(line); !slices.Equal(got, want) {
			t.Errorf("%s reads as %q, want %q", line, got, want)
		}
	}
}

// FuzzWords writes any words in quotes, as iptables-save does, and reads them.
func FuzzWords(f *testing.F) {
	f.Add("flanneld", `a "quoted" \ one`)
	f.Add("", "\\")
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	f.Fuzz(func(t *testing.T, a, b string) {
		a, b = strings.ToValidUTF8(a, ""), strings.ToValidUTF8(b, "")
		line := `-m "` + quote.Replace(a) + `"  "` + quote.Replace(b) + `" `
		if got := splitArgs(line); !slices.Equal(got, []string{"-m", a, b}) {
			t.Errorf("%s reads as %q", line, got)
		}
	})
}
