package printable

import (
	"os/exec"
	"strings"
	"testing"
)

func TestWord(t *testing.T) {
	for in, want := range map[string]string{
		"":                           "''",
		"ens33":                      "ens33",
		"10.4.7.0/24":                "10.4.7.0/24",
		"!":                          "!",
		"--etcd-prefix=/net":         "--etcd-prefix=/net",
		"net.ipv4.ip_forward=1":      "net.ipv4.ip_forward=1",
		"--x=~/y":                    "'--x=~/y'",
		"~root":                      "'~root'",
		"a b":                        "'a b'",
		"$(reboot)":                  "'$(reboot)'",
		"`reboot`":                   "'`reboot`'",
		"it's":                       `'it'\''s'`,
		"a;reboot":                   "'a;reboot'",
		"#":                          "'#'",
		"*":                          "'*'",
		"two\nlines":                 "'two\nlines'",
		`{"Network":"172.7.0.0/16"}`: `'{"Network":"172.7.0.0/16"}'`,
	} {
		if got := Word(in); got != want {
			t.Errorf("%q becomes %s, want %s", in, got, want)
		}
	}
	if got := Command("iptables", "-D", "FORWARD", "!", "-i", "a b"); got != "iptables -D FORWARD ! -i 'a b'" {
		t.Error(got)
	}
}

// FuzzWord has a shell read what is to be pasted.
func FuzzWord(f *testing.F) {
	for _, s := range []string{"", "ens33", "$(echo x)", "'", "''\\''", "\n", "\\", "!", "-n", "a=~b", "\xff", "{a,b}", "\x1b[2J", "&", "<(x)", "é"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		s = strings.ReplaceAll(s, "\x00", "0") // which no argument of a program can hold
		out, err := exec.Command("sh", "-c", "printf '%s|' A "+Word(s)+" B").CombinedOutput()
		if err != nil || string(out) != "A|"+s+"|B|" {
			t.Errorf("%q is printed as %s, and read as %q: %v", s, Word(s), out, err)
		}
	})
}
