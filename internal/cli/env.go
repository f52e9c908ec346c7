package cli

import (
	"strings"

	"github.com/spf13/pflag"

	"flanneld/pkg/nearest"
)

// ReadEnv fills in the flags that were not given on the command line. An empty
// variable counts as none.
func ReadEnv(flags *pflag.FlagSet, env func(string) (string, bool)) error {
	var err error
	flags.VisitAll(func(f *pflag.Flag) {
		text, _ := env(EnvName(f.Name))
		if err != nil || f.Changed || text == "" || f.Name == "help" {
			return
		}
		if e := f.Value.Set(text); e != nil {
			err = wrongValue(EnvName(f.Name), f, text, e)
		}
	})
	return err
}

// Overruled are the variables that the command line overrules, with the flag that does;
// but for those that say the same.
func Overruled(flags *pflag.FlagSet, env func(string) (string, bool)) map[string]string {
	overruled := map[string]string{}
	flags.VisitAll(func(f *pflag.Flag) {
		text, _ := env(EnvName(f.Name))
		said, _ := Given(flags, f.Name)
		off, err := Bool(text)
		on, err2 := Bool(said)
		same := text == said || flagOf(f).isSwitch() && err == nil && err2 == nil && off == on
		if f.Changed && text != "" && !same {
			overruled[EnvName(f.Name)] = f.Name
		}
	})
	return overruled
}

// UnreadEnv are the variables of an environment ("NAME=value") that look like flags
// and are none's, with the one that may be meant; "" where none is like it. Values
// are not looked at.
func UnreadEnv(flags *pflag.FlagSet, environ []string) map[string]string {
	unread := map[string]string{}
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		flag, ours := strings.CutPrefix(name, envPrefix)
		if !ours || value == "" {
			continue
		}
		known, meant := false, nearest.Of(strings.ToLower(strings.ReplaceAll(flag, "_", "-")), names(flags))
		for flag := range names(flags) {
			known = known || EnvName(flag) == name
		}
		if !known && meant != "" {
			meant = EnvName(meant)
		}
		if !known {
			unread[name] = meant
		}
	}
	return unread
}

const envPrefix = "FLANNELD_"

// EnvName is the variable that stands for a flag.
func EnvName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// wrongValue words what a flag's set function said of the value: "must be …".
func wrongValue(source string, f *pflag.Flag, text string, err error) error {
	if show := flagOf(f).Show; show != nil {
		text = show(text)
	}
	return Exitf(Failed, "%s=%q %v", source, text, err)
}
