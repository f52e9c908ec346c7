package cli

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// HelpColumns is how wide help texts are at most.
const HelpColumns = 80

// UsageText writes the part of --help after the description, with the flags by
// topic; for [cobra.Command.SetUsageFunc].
func UsageText(cmd *cobra.Command) error {
	w := cmd.OutOrStdout()
	fmt.Fprintf(w, "usage: %s\n", cmd.UseLine())
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(w, "       %s COMMAND --help\n\ncommands\n", cmd.CommandPath())
	}
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			fmt.Fprintf(w, "  %-*s  %s\n", cmd.NamePadding(), c.Name(), c.Short)
		}
	}
	if cmd.HasExample() {
		fmt.Fprintf(w, "\nexamples\n%s\n", cmd.Example)
	}
	for _, t := range byTopic(cmd.Flags()) {
		fmt.Fprintf(w, "\n%s\n%s", t.Name(), t.FlagUsagesWrapped(HelpColumns))
	}
	return nil
}

// byTopic is a set for each topic, named after it.
func byTopic(flags *pflag.FlagSet) (sets []*pflag.FlagSet) {
	named := map[string]*pflag.FlagSet{}
	flags.VisitAll(func(f *pflag.Flag) {
		title := Other // of cobra's own
		if t := f.Annotations[topicAnnotation]; len(t) > 0 {
			title = t[0]
		}
		if named[title] == nil {
			named[title] = pflag.NewFlagSet(title, pflag.ContinueOnError)
			named[title].SortFlags = false
			sets = append(sets, named[title])
		}
		named[title].AddFlag(f)
	})
	return sets
}
