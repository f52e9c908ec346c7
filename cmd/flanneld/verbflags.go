package main

import (
	"errors"
	"strings"

	"github.com/spf13/pflag"
)

// parse reads what follows the verb's name on the command line, and of the
// environment what is about etcd.
func (v *verb) parse(c *call, args []string, env func(string) (string, bool)) error {
	topics := v.withHelp(&c.verbOptions)
	flags := flagSet(topics)
	args, positional := split(flags, args)
	if err := readArgs(flags, args); err != nil {
		return v.usage(err)
	}
	if c.help {
		return &exit{exitAnswered, v.help(topics)}
	}
	if len(positional) > v.most {
		return exitf(exitUsage, "unexpected argument %q; flanneld %s --help says what is expected", positional[v.most], v.name)
	}
	if err := readEnv(flags, onlyEtcd(env)); err != nil {
		return err
	}
	c.args = positional
	c.given = func(name string) bool { f := flags.Lookup(name); return f != nil && f.Changed }
	return c.check()
}

// withHelp are the verb's flags, and one more.
func (v *verb) withHelp(o *verbOptions) []topic {
	return append(v.topics(o), topic{"other", []entry{{"help", "", "", "print this and exit", into(&o.help, boolean)}}})
}

// topicsWithHelp are the same, for showing them.
func (v *verb) topicsWithHelp() []topic { return v.withHelp(new(verbOptions)) }

// usage sends those who mistyped to the verb's own help.
func (v *verb) usage(err error) error {
	var e *exit
	if errors.As(err, &e) {
		return &exit{e.code, strings.ReplaceAll(e.text, "flanneld --help lists", "flanneld "+v.name+" --help lists")}
	}
	return err
}

// split takes the arguments that are no flags, and no flag's value, out of a
// command line. What follows "--" is none.
func split(flags *pflag.FlagSet, args []string) (rest, positional []string) {
	for i := 0; i < len(args); i++ {
		name, isFlag := strings.CutPrefix(args[i], "-")
		switch {
		case args[i] == "--":
			return rest, append(positional, args[i+1:]...)
		case !isFlag || name == "":
			positional = append(positional, args[i])
			continue
		}
		rest = append(rest, args[i])
		f := flags.Lookup(strings.TrimPrefix(name, "-"))
		if f != nil && f.NoOptDefVal == "" && i+1 < len(args) {
			i++
			rest = append(rest, args[i])
		}
	}
	return rest, positional
}

// onlyEtcd hides the rest of the daemon's environment from a verb.
func onlyEtcd(env func(string) (string, bool)) func(string) (string, bool) {
	return func(name string) (string, bool) {
		if !strings.HasPrefix(name, envName("etcd-")) {
			return "", false
		}
		return env(name)
	}
}

// etcdTopic is the daemon's flags about etcd, which verbs have too.
func etcdTopic(o *options) topic { return flagTable(o)[0] }

const outputName = "o"

// outputFlag chooses between people and scripts.
func outputFlag(o *verbOptions) entry {
	return entry{outputName, "json", "", "print JSON, for scripts", into(&o.format, func(s string) (string, error) {
		if s != "json" && s != "" {
			return "", errors.New("must be json")
		}
		return s, nil
	})}
}
