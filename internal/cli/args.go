package cli

import (
	"errors"
	"iter"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"flanneld/pkg/nearest"
)

// Line is a command line that is being parsed.
type Line struct {
	// Of each argument that is neither a flag nor a flag's value: which flag was
	// the last one before it.
	behind []string
}

// Normalize gives each flag two dashes: "-etcd-prefix" is flannel's way to write
// it, and pflag would take it for a row of one-letter flags. What scripts and unit
// files leave of an unset variable is as nothing: an empty argument, a flag with an
// empty value. Of a flag that is given several times the last one counts, and no
// other is judged.
func (l *Line) Normalize(root *cobra.Command, args []string) (normal []string) {
	normal, l.behind = normalize(root, args)
	return normal
}

// word is a flag with its value, or another argument.
type word struct {
	flag  *pflag.Flag // nil: it stays, whatever follows
	args  []string
	empty bool // the flag's value
}

func normalize(root *cobra.Command, args []string) (out, behind []string) {
	var words []word
	completing := len(args) > 0 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd)
	last := ""
	for i := 0; i < len(args); i++ {
		name, isFlag := strings.CutPrefix(args[i], "-")
		typed := completing && i == len(args)-1 // it stays as it is, but for a flag whose value is being typed
		switch {
		case args[i] == "--":
			rest := slices.DeleteFunc(slices.Clone(args[i:]), isEmpty)
			behind = append(behind, slices.Repeat([]string{last}, len(rest))...)
			return append(judged(words), rest...), behind
		case typed:
			name, _, valued := strings.Cut(strings.TrimPrefix(name, "-"), "=")
			if f := lookup(root, name); isFlag && valued && f != nil && f.Name == name {
				return append(judged(words), "--"+strings.TrimLeft(args[i], "-")), behind
			}
			return append(judged(words), args[i]), behind
		case isEmpty(args[i]):
			continue
		case !isFlag || name == "":
			words, behind = append(words, word{args: args[i : i+1]}), append(behind, last)
			continue
		}
		name, value, hasValue := strings.Cut(strings.TrimPrefix(name, "-"), "=")
		w := word{flag: lookup(root, name)}
		if w.flag != nil {
			name = w.flag.Name
		}
		if w.args = []string{"--" + name}; hasValue {
			w.args[0] += "=" + value
		}
		if last = name; !hasValue && w.flag != nil && w.flag.NoOptDefVal == "" && i+1 < len(args) {
			i++
			value, hasValue = args[i], true
			w.args = append(w.args, value)
		}
		if w.empty = hasValue && isEmpty(value); completing {
			w.flag = nil // all stays as it is typed
		}
		words = append(words, w)
	}
	return judged(words), behind
}

func isEmpty(s string) bool { return s == "" }

// judged are the arguments that count.
func judged(words []word) (out []string) {
	later := map[string]bool{}
	for _, w := range slices.Backward(words) {
		if f := w.flag; f != nil {
			superseded := later[f.Name] && !flagOf(f).Repeatable
			later[f.Name] = true
			if superseded || w.empty {
				continue
			}
		}
		out = slices.Insert(out, 0, w.args...)
	}
	return out
}

// lookup looks at the flags of all commands: a name, or a letter that stands for it,
// means the same in each.
func lookup(cmd *cobra.Command, name string) *pflag.Flag {
	f := cmd.Flags().Lookup(name)
	if f == nil && len(name) == 1 {
		f = cmd.Flags().ShorthandLookup(name)
	}
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
		case flagOf(lookup(cmd.Root(), flag)).isSwitch() && isBool(arg):
			return Exitf(Usage, "unexpected argument %q after --%s: write --%[2]s=%[1]s", arg, flag)
		case cmd.HasParent():
			return Exitf(Usage, "unexpected argument %q; %s --help says what is expected", arg, cmd.CommandPath())
		case flagOf(lookup(cmd.Root(), flag)).isSwitch():
			return Exitf(Usage, "unexpected argument %q after --%s: remove it; a switch takes =true or =false alone",
				arg, flag)
		case flag != "":
			return Exitf(Usage, "unexpected argument %q after --%s: remove it, or quote a value with spaces, --%[2]s=\"...\"",
				arg, flag)
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

// names are those of all flags.
func names(flags *pflag.FlagSet) iter.Seq[string] {
	return func(yield func(string) bool) {
		more := true
		flags.VisitAll(func(f *pflag.Flag) { more = more && yield(f.Name) })
	}
}

func unknownFlag(cmd *cobra.Command, name string) error {
	meant := nearest.Of(name, names(cmd.Flags()))
	cmd.Root().Flags().VisitAll(func(f *pflag.Flag) {
		rest, glued := strings.CutPrefix(name, f.Name)
		if !glued || !flagOf(f).Secret {
			return
		}
		name = f.Name + "..." // the rest may be the password
		if !strings.HasPrefix(rest, "-") {
			meant = f.Name
		}
	})
	if meant == "" {
		return Exitf(Usage, "unknown flag %q: %s --help lists the flags", "--"+name, cmd.CommandPath())
	}
	return Exitf(Usage, "unknown flag %q: did you mean --%s?", "--"+name, meant)
}
