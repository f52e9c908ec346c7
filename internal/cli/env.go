package cli

import (
	"strings"

	"github.com/spf13/pflag"
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

// EnvName is the variable that stands for a flag.
func EnvName(flag string) string {
	return "FLANNELD_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// wrongValue words what a flag's set function said of the value: "must be …".
func wrongValue(source string, f *pflag.Flag, text string, err error) error {
	if show := flagOf(f).Show; show != nil {
		text = show(text)
	}
	return Exitf(Failed, "%s=%q %v", source, text, err)
}
