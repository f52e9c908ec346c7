package main

import (
	"errors"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/spf13/pflag"
)

// parseFlags reads the command line and, for each flag that it does not give,
// the environment. All its errors are *exit; help and version are among them.
// It touches nothing but its arguments.
func parseFlags(args []string, env func(name string) (string, bool), version string) (options, error) {
	var o options
	topics := flagTable(&o)
	flags := flagSet(topics)
	for _, read := range []func() error{
		func() error { return readArgs(flags, args) },
		func() error { return readEnv(flags, env) },
	} {
		if err := read(); err != nil {
			return options{}, err
		}
		switch {
		case o.help:
			return options{}, &exit{exitAnswered, help(topics, verbs())}
		case o.version:
			return options{}, &exit{exitAnswered, version}
		}
	}
	if err := o.check(); err != nil {
		return options{}, err
	}
	return o, nil
}

// value makes a flag's value of the function that takes it.
type value struct{ entry }

func (v value) Set(s string) error { return v.set(s) }
func (v value) String() string     { return v.initial }
func (v value) Type() string       { return v.arg }

// flagSet registers the table and applies its defaults.
func flagSet(topics []topic) *pflag.FlagSet {
	flags := pflag.NewFlagSet("flanneld", pflag.ContinueOnError)
	for _, t := range topics {
		for _, e := range t.entries {
			if e.initial != "" {
				_ = e.set(e.initial) // a test holds that every default is valid
			}
			f := flags.VarPF(value{e}, e.name, "", e.help)
			if e.isBool() {
				f.NoOptDefVal = "true"
			}
		}
	}
	return flags
}

func readArgs(flags *pflag.FlagSet, args []string) error {
	args, err := twoDashes(flags, args)
	if err != nil {
		return err
	}
	var invalid *pflag.InvalidValueError
	var bare *pflag.ValueRequiredError
	switch err := flags.Parse(args); {
	case errors.As(err, &invalid):
		f := invalid.GetFlag()
		return wrongValue("--"+f.Name, f, invalid.GetValue(), invalid.Unwrap())
	case errors.As(err, &bare):
		f := bare.GetFlag()
		return exitf(exitUsage, "--%s needs a value: --%s=%s", f.Name, f.Name, f.Value.Type())
	case err != nil:
		return exitf(exitUsage, "%v; flanneld --help lists the flags", err)
	}
	return nil
}

// twoDashes rewrites "-etcd-prefix" to "--etcd-prefix", which pflag would take
// for a row of one-letter flags. What is no flag of ours is an error.
func twoDashes(flags *pflag.FlagSet, args []string) ([]string, error) {
	var out []string
	before := ""
	for i := 0; i < len(args); i++ {
		name, isFlag := strings.CutPrefix(args[i], "-")
		if name == "-" && i == len(args)-1 {
			break
		}
		name = strings.TrimPrefix(name, "-")
		if !isFlag || name == "" {
			return nil, unexpected(args[i], before)
		}
		if name == "h" {
			name = "help"
		}
		out = append(out, "--"+name)
		name, _, hasValue := strings.Cut(name, "=")
		f := flags.Lookup(name)
		if f == nil {
			return nil, unknown(flags, name)
		}
		if before = name; !hasValue && f.NoOptDefVal == "" && i+1 < len(args) {
			i++
			out = append(out, args[i])
		}
	}
	return out, nil
}

func unexpected(arg, before string) error {
	switch before {
	case "":
		return exitf(exitUsage, "unexpected argument %q: flanneld takes flags only, and flanneld --help lists them", arg)
	case passwordFlag: // the rest of a password in which a space was not quoted
		return exitf(exitUsage, "unexpected argument after --%s: quote the value", before)
	}
	return exitf(exitUsage, "unexpected argument %q after --%s: a flag's value is written --%s=VALUE", arg, before, before)
}

func unknown(flags *pflag.FlagSet, name string) error {
	nearest, distance := "", max(len(name), 4)
	flags.VisitAll(func(f *pflag.Flag) {
		if d := levenshtein.Distance(name, f.Name, nil); d < distance && 2*d < max(len(name), len(f.Name)) {
			nearest, distance = f.Name, d
		}
	})
	if rest, glued := strings.CutPrefix(name, passwordFlag); glued { // it may be the password
		name = passwordFlag + "..."
		if !strings.HasPrefix(rest, "-") {
			nearest = passwordFlag
		}
	}
	if nearest == "" {
		return exitf(exitUsage, "unknown flag %q: flanneld --help lists the flags", "--"+name)
	}
	return exitf(exitUsage, "unknown flag %q: did you mean --%s?", "--"+name, nearest)
}

// readEnv fills in the flags that were not given on the command line. An empty
// variable counts as none.
func readEnv(flags *pflag.FlagSet, env func(string) (string, bool)) error {
	var err error
	flags.VisitAll(func(f *pflag.Flag) {
		text, _ := env(envName(f.Name))
		if err != nil || f.Changed || text == "" || f.Name == "help" {
			return
		}
		if e := f.Value.Set(text); e != nil {
			err = wrongValue(envName(f.Name), f, text, e)
		}
	})
	return err
}

func envName(flag string) string {
	return "FLANNELD_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// wrongValue words what a flag's set function said of the value: "must be …".
func wrongValue(source string, f *pflag.Flag, text string, err error) error {
	if f.Name == endpointsFlag {
		text = withoutUser(text)
	}
	return exitf(exitFailed, "%s=%q %v", source, text, err)
}
