package printable

import "strings"

// plain are the characters that mean nothing to a shell wherever they stand in a
// word; a word of them alone needs no quotes (POSIX.1-2017, 2.2). A tilde and an
// equals sign do mean something, where they begin a word or follow a name.
const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:,+@%"

// Word is s as one word of a shell's command line, which the shell hands on as it
// is: whatever it holds, nothing in it is carried out. Only a NUL cannot be in one.
func Word(s string) string {
	switch {
	case s == "!": // alone it negates a condition, and in front of a command alone a shell sees to it
		return s
	case isOption(s), s != "" && strings.Trim(s, plain) == "":
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// isOption reports whether s is plain, with an equals sign behind an option's name.
func isOption(s string) bool {
	name, value, assigns := strings.Cut(s, "=")
	return assigns && strings.HasPrefix(name, "-") && strings.Trim(name+value, plain) == ""
}

// Command is words as a shell's command line.
func Command(words ...string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = Word(w)
	}
	return strings.Join(quoted, " ")
}
