package printable

import "strings"

// plain are the characters that mean nothing to a shell in any argument of a
// command; a word of them alone needs no quotes (POSIX.1-2017, 2.2).
const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:,+@%="

// Word is s as one argument on a shell's command line, which the shell hands on as it
// is: whatever it holds, nothing in it is carried out. Only a NUL cannot be in one.
func Word(s string) string {
	switch {
	case s == "!": // as an argument of iptables
		return s
	case s != "" && strings.Trim(s, plain) == "":
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// Command is a program and its arguments as a shell's command line.
func Command(program string, args ...string) string {
	quoted := []string{Word(program)}
	for _, a := range args {
		quoted = append(quoted, Word(a))
	}
	return strings.Join(quoted, " ")
}
