package main

import (
	"fmt"
	"strings"
)

// help is the text of "flanneld VERB --help".
func (v *verb) help(topics []topic) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\nusage: %s\n", upperFirst(v.summary), v.usageLine())
	if v.text != "" {
		fmt.Fprintf(&b, "\n%s\n", v.text)
	}
	b.WriteString("\nexamples\n")
	for _, e := range v.examples {
		fmt.Fprintf(&b, "  %s\n      %s\n", e.command, e.purpose)
	}
	writeTopics(&b, topics)
	return strings.TrimSuffix(b.String(), "\n")
}

func (v *verb) usageLine() string {
	return strings.TrimSpace("flanneld " + v.name + " [flags] " + v.args)
}

// synopsis is the verb in a list of verbs.
func (v *verb) synopsis() string {
	return fmt.Sprintf("  %s\n      %s\n", strings.TrimSpace(v.name+" "+v.args), v.summary)
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
