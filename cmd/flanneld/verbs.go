package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	"k8s.io/klog/v2"
)

// verb is what flanneld does in place of being the daemon, where its first
// arguments name one.
type verb struct {
	name     string // "status", "config set"
	args     string // how its arguments are written; "": there are none
	summary  string // one line
	text     string // more lines
	examples []example
	topics   func(*verbOptions) []topic
	most     int // arguments
	run      func(context.Context, *call) error
}

// example is a command line and what it is for.
type example struct{ command, purpose string }

// exitUnanswered is the code of a verb that could not find out what it was asked.
const exitUnanswered = 2

// verbOptions are what a verb's flags ask for.
type verbOptions struct {
	options        // those about etcd alone
	format  string // "", "json"
	yes     bool
	now     bool
}

// call is one use of a verb.
type call struct {
	verbOptions
	args           []string
	given          func(flag string) bool // on the command line
	stdin          io.Reader
	stdout, stderr io.Writer
}

// verbs are all there are, in the order in which people meet them.
func verbs() []verb {
	return slices.Concat([]verb{statusVerb(), checkVerb()}, configVerbs(), leaseVerbs(), []verb{migrateVerb(), completionVerb(), manVerb()})
}

// findVerb looks for a verb at the beginning of a command line. A first argument
// that is neither a verb nor a flag is left to the daemon's flags to refuse,
// unless it looks like a verb.
func findVerb(all []verb, args []string) (v *verb, rest []string, err error) {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return nil, args, nil
	}
	var second []string // what may follow the first word
	for i := range all {
		words := strings.Fields(all[i].name)
		if len(args) >= len(words) && slices.Equal(words, args[:len(words)]) {
			return &all[i], args[len(words):], nil
		}
		if words[0] == args[0] {
			second = append(second, words[1])
		}
	}
	if len(second) > 0 {
		return nil, nil, groupError(all, args, second)
	}
	for _, v := range all {
		word, _, _ := strings.Cut(v.name, " ")
		if levenshtein.Distance(args[0], word, nil) <= 2 {
			return nil, nil, exitf(exitUsage, "unknown verb %q: did you mean flanneld %s?", args[0], word)
		}
	}
	return nil, args, nil
}

// groupError answers "flanneld config", which needs a second word.
func groupError(all []verb, args, second []string) error {
	if len(args) > 1 && slices.Contains([]string{"--help", "-help", "-h"}, args[1]) {
		var b strings.Builder
		fmt.Fprintf(&b, "usage: flanneld %s %s\n", args[0], strings.Join(second, "|"))
		for _, v := range all {
			if strings.HasPrefix(v.name, args[0]+" ") {
				b.WriteString(v.synopsis())
			}
		}
		return &exit{exitAnswered, strings.TrimSuffix(b.String(), "\n")}
	}
	last := len(second) - 1
	choice := strings.Join(second[:last], ", ") + " or " + second[last]
	if len(args) == 1 {
		return exitf(exitUsage, "flanneld %s needs a second word: %s", args[0], choice)
	}
	return exitf(exitUsage, "flanneld %s %q is no verb: after %s comes %s", args[0], args[1], args[0], choice)
}

// runVerb parses what follows the verb, and does what it says.
func runVerb(ctx context.Context, v *verb, args []string) error {
	klog.LogToStderr(false) // but for errors: what a verb has to say it prints
	klog.SetOutput(io.Discard)
	c := &call{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	if err := v.parse(c, args, os.LookupEnv); err != nil {
		return err
	}
	return v.run(ctx, c)
}
