package main

import (
	"fmt"
	"os"
	"strings"

	"flanneld/pkg/daemon"
)

// options are what the command line and the environment ask for, checked.
type options struct {
	daemon.Options
	// Where the password is the first line of a file; given instead of it.
	EtcdPasswordFile string

	LogLevel       int
	LogModules     string // "file=level,…" in klog's notation; empty: none
	LogBacktraceAt string // "file.go:line"; empty: nowhere

	help, version bool
}

// exit ends the program at once: with code 0 its text is what was asked for,
// with any other it is one line that says what is wrong.
type exit struct {
	code int
	text string
}

// Codes by which flanneld ends. The second is that of Go programs, as before.
const (
	exitAnswered = 0
	exitFailed   = 1
	exitUsage    = 2 // the command line cannot be parsed
)

func (e *exit) Error() string { return e.text }

func exitf(code int, format string, args ...any) *exit {
	return &exit{code, fmt.Sprintf(format, args...)}
}

// check looks at what no flag can know alone.
func (o options) check() error {
	switch {
	case o.Etcd.KeyFile != "" && o.Etcd.CertFile == "":
		return exitf(exitFailed, "--etcd-keyfile=%q needs --etcd-certfile beside it: the certificate that belongs to the key", o.Etcd.KeyFile)
	case o.Etcd.CertFile != "" && o.Etcd.KeyFile == "":
		return exitf(exitFailed, "--etcd-certfile=%q needs --etcd-keyfile beside it: the key that belongs to the certificate", o.Etcd.CertFile)
	case o.EtcdPasswordFile != "" && o.Etcd.Password != "":
		return exitf(exitFailed, "--%s=%q cannot be given together with --%s or %s: remove one of them",
			passwordFileFlag, o.EtcdPasswordFile, passwordFlag, envName(passwordFlag))
	}
	return nil
}

// password is that of the flag, or the first line of the file.
func (o options) password() (daemon.Secret, error) {
	if o.EtcdPasswordFile == "" {
		return o.Etcd.Password, nil
	}
	content, err := os.ReadFile(o.EtcdPasswordFile)
	if err != nil {
		return "", fmt.Errorf("read the password for etcd, --%s: %w", passwordFileFlag, err)
	}
	line, _, _ := strings.Cut(string(content), "\n")
	if line = strings.TrimSuffix(line, "\r"); line == "" {
		return "", fmt.Errorf("the first line of --%s=%s is empty: write the password for etcd into it", passwordFileFlag, o.EtcdPasswordFile)
	}
	return daemon.Secret(line), nil
}
