// Package cli is what flanneld's command line has beyond cobra's and pflag's: long
// flags with one dash, topics in the help text, variables of the environment in
// place of flags, and errors that say what to do and show no password.
package cli

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Topic is a section of the help text.
type Topic struct {
	Title string
	Flags []Flag
}

// Flag is all that is known of a flag.
type Flag struct {
	Name    string
	Letter  string // stands for the name, as -o does; empty: none
	Arg     string // the value's name in the help text, or all values, as in "2|3"; empty: a bool
	Default string // as it would be written; empty: none
	Help    string // a line or two
	Set     func(string) error

	// Show is what an error shows of a wrong value; nil: all of it.
	Show func(string) string
	// Complete is how a shell completes the value; nil: by Arg.
	Complete cobra.CompletionFunc
	// Secret: neither the value nor what may be part of it is ever shown.
	Secret bool
	// Repeatable: each occurrence counts, and not the last one alone.
	Repeatable bool
}

// isSwitch tells a flag that is on where no value is given.
func (f Flag) isSwitch() bool { return f.Name != "" && f.Arg == "" }

// value makes a pflag.Value of a Flag.
type value struct {
	Flag
	text string // as pflag and cobra shall see it; of what is no bool always the default, as it may be a password

	given bool
	last  string // that was given
}

func (v *value) Set(s string) error {
	err := v.Flag.Set(s)
	if err == nil {
		v.given, v.last = true, s
	}
	if err == nil && v.Arg == "" {
		v.text = s
	}
	return err
}

// Given is what the command line says of a flag, or the environment where that was
// read. It may be a password.
func Given(flags *pflag.FlagSet, name string) (text string, given bool) {
	f := flags.Lookup(name)
	if f == nil {
		return "", false
	}
	v, _ := f.Value.(*value)
	if v == nil {
		return "", false
	}
	return v.last, v.given
}

func (v *value) String() string { return v.text }

// Type is what the help text shows behind the flag.
func (v *value) Type() string {
	if v.Arg == "" {
		return "bool"
	}
	return v.Arg
}

const (
	topicAnnotation = "topic"
	// Other is the topic of --help, and of other flags that have none.
	Other = "other"
)

// AddFlags registers flags with a command, --help too, and applies their defaults.
func AddFlags(cmd *cobra.Command, topics ...Topic) {
	cmd.Flags().SortFlags = false
	help := Flag{Name: "help", Letter: "h", Default: "false", Help: "print this and exit", Set: Ignore(Bool)}
	for _, t := range append(topics, Topic{Other, []Flag{help}}) {
		for _, f := range t.Flags {
			f.addTo(cmd).Annotations = map[string][]string{topicAnnotation: {t.Title}}
		}
	}
}

func (f Flag) addTo(cmd *cobra.Command) *pflag.Flag {
	if f.Default != "" {
		_ = f.Set(f.Default) // a test holds that every default is valid
	}
	help := f.Help
	if f.Default == "0" { // which pflag does not show
		help += " (default 0)"
	}
	added := cmd.Flags().VarPF(&value{Flag: f, text: f.Default}, f.Name, f.Letter, help)
	if f.Arg == "" {
		added.NoOptDefVal = "true"
	} else if complete := f.completion(); complete != nil {
		_ = cmd.RegisterFlagCompletionFunc(f.Name, complete) // fails for a flag that is not there
	}
	return added
}

func (f Flag) completion() cobra.CompletionFunc {
	switch {
	case f.Complete != nil:
		return f.Complete
	case f.Arg == "FILE" || f.Arg == "FOLDER":
		return nil // the shell's own
	case f.Arg == strings.ToLower(f.Arg): // the values themselves
		return cobra.FixedCompletions(strings.Split(f.Arg, "|"), cobra.ShellCompDirectiveNoFileComp)
	}
	return cobra.NoFileCompletions
}

// flagOf is what was registered under a name; without it: nothing is known of it.
func flagOf(f *pflag.Flag) Flag {
	if f == nil {
		return Flag{}
	}
	v, _ := f.Value.(*value)
	if v == nil {
		return Flag{}
	}
	return v.Flag
}
