package docs

import (
	"regexp"
	"strings"
)

// Step is a command that a console block shows, and what it prints.
type Step struct{ Host, Command, Output string }

var prompt = regexp.MustCompile(`^(hdss[78]-\d+)# (.*)\n?$`)

// Transcript is what a console block shows, command by command.
func (b Block) Transcript() (steps []Step) {
	for line := range strings.Lines(b.Text) {
		if p := prompt.FindStringSubmatch(line); p != nil {
			steps = append(steps, Step{Host: p[1], Command: p[2]})
		} else if len(steps) > 0 {
			steps[len(steps)-1].Output += line
		}
	}
	return steps
}

// Shows reports whether a page shows an output truly: "..." alone on a line stands for
// any lines, "…" for a part of one. Spaces between words may differ, as columns do.
func Shows(page, output string) bool {
	var b strings.Builder
	b.WriteString(`^`)
	for line := range strings.Lines(squeezed(page)) {
		if line == "...\n" {
			b.WriteString(`(?:.*\n)*?`)
		} else {
			b.WriteString(strings.ReplaceAll(regexp.QuoteMeta(line), "…", ".*?"))
		}
	}
	b.WriteString(`$`)
	return regexp.MustCompile(b.String()).MatchString(squeezed(output))
}

// squeezed has one space between the words of each line, and none around it.
func squeezed(s string) string {
	var lines []string
	for line := range strings.Lines(s) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return strings.Trim(strings.Join(lines, "\n"), "\n") + "\n"
}
