package cli

import (
	"errors"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Line is a command line that is being parsed.
type Line struct {
	// Of each argument that is neither a flag nor a flag's value: which flag was
	// the last one before it.
	behind []string
}

// Normalize gives each flag two dashes: "-etcd-prefix" is flannel's way to write
// it, and pflag would take it for a row of one-letter flags.
func (l *Line) Normalize(root *cobra.Command, args []string) (normal []string) {
	normal, l.behind = normalize(root, args)
	return normal
}

func normalize(root *cobra.Command, args []string) (out, behind []string) {
	last := ""
	for i := 0; i < len(args); i++ {
		name, isFlag := strings.CutPrefix(args[i], "-")
		switch {
		case args[i] == "--":
			return append(out, args[i:]...), append(behind, slices.Repeat([]string{last}, len(args)-i)...)
		case !isFlag || name == "":
			out, behind = append(out, args[i]), append(behind, last)
			continue
		case i == len(args)-1 && len(out) > 0 && strings.HasPrefix(out[0], cobra.ShellCompRequestCmd): // being typed
			return append(out, args[i]), behind
		}
		name = strings.TrimPrefix(name, "-")
		if name == "h" {
			name = "help"
		}
		out = append(out, "--"+name)
		name, _, hasValue := strings.Cut(name, "=")
		f := lookup(root, name)
		if last = name; !hasValue && f != nil && f.NoOptDefVal == "" && i+1 < len(args) {
			i++
			out = append(out, args[i])
		}
	}
	return out, behind
}

// lookup looks at the flags of all commands: a name means the same in each.
func lookup(cmd *cobra.Command, name string) *pflag.Flag {
	f := cmd.Flags().Lookup(name)
	for _, c := range cmd.Commands() {
		if f == nil {
			f = lookup(c, name)
		}
	}
	return f
}

// AtMost refuses further arguments.
func (l *Line) AtMost(most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) <= most {
			return nil
		}
		arg, flag := args[most], ""
		if i := len(strings.Fields(cmd.CommandPath())) - 1 + most; i < len(l.behind) {
			flag = l.behind[i]
		}
		if !cmd.HasParent() && cmd.ArgsLenAtDash() == 0 {
			arg = "--"
		}
		switch {
		case flagOf(lookup(cmd.Root(), flag)).Secret: // the rest of a password in which a space was not quoted
			return Exitf(Usage, "unexpected argument after --%s: quote the value", flag)
		case cmd.HasParent():
			return Exitf(Usage, "unexpected argument %q; %s --help says what is expected", arg, cmd.CommandPath())
		case flag != "":
			return Exitf(Usage, "unexpected argument %q after --%s: a flag's value is written --%s=VALUE", arg, flag, flag)
		}
		if near := cmd.SuggestionsFor(arg); arg != "" && len(near) > 0 {
			return Exitf(Usage, "unknown command %q: did you mean %s %s?", arg, cmd.Name(), near[0])
		}
		return Exitf(Usage, "unexpected argument %q: %s takes flags only, and %[2]s --help lists them", arg, cmd.Name())
	}
}

// FlagError words what pflag has found; for [cobra.Command.SetFlagErrorFunc]. No
// text shows a secret.
func FlagError(cmd *cobra.Command, err error) error {
	var invalid *pflag.InvalidValueError
	var bare *pflag.ValueRequiredError
	var unknown *pflag.NotExistError
	var syntax *pflag.InvalidSyntaxError
	switch {
	case errors.As(err, &invalid):
		f := invalid.GetFlag()
		return wrongValue("--"+f.Name, f, invalid.GetValue(), invalid.Unwrap())
	case errors.As(err, &bare):
		f := bare.GetFlag()
		return Exitf(Usage, "--%s needs a value: --%s=%s", f.Name, f.Name, f.Value.Type())
	case errors.As(err, &unknown):
		return unknownFlag(cmd, unknown.GetSpecifiedName())
	case errors.As(err, &syntax):
		name, _, _ := strings.Cut(strings.TrimPrefix(syntax.GetSpecifiedFlag(), "--"), "=")
		return unknownFlag(cmd, name)
	}
	return Exitf(Usage, "%v; %s --help lists the flags", err, cmd.CommandPath())
}

func unknownFlag(cmd *cobra.Command, name string) error {
	nearest, distance := "", max(len(name), 4)
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if d := levenshtein.Distance(name, f.Name, nil); d < distance && 2*d < max(len(name), len(f.Name)) {
			nearest, distance = f.Name, d
		}
	})
	cmd.Root().Flags().VisitAll(func(f *pflag.Flag) {
		rest, glued := strings.CutPrefix(name, f.Name)
		if !glued || !flagOf(f).Secret {
			return
		}
		name = f.Name + "..." // the rest may be the password
		if !strings.HasPrefix(rest, "-") {
			nearest = f.Name
		}
	})
	if nearest == "" {
		return Exitf(Usage, "unknown flag %q: %s --help lists the flags", "--"+name, cmd.CommandPath())
	}
	return Exitf(Usage, "unknown flag %q: did you mean --%s?", "--"+name, nearest)
}
