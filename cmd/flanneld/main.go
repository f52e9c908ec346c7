// flanneld gives this host a subnet of the cluster's network and makes the
// other hosts' subnets reachable.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"k8s.io/klog/v2"

	"flanneld/internal/cli"
	"flanneld/pkg/daemon"
	"flanneld/pkg/printable"
)

// version is set at build time.
var version = "dev"

// gcPercent trades a tenth of the processor time of a start in a large cluster
// for a fifth of the peak of its memory (BENCHMARKS.md).
const gcPercent = 50

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	// After the first signal the default is in force again: a second one ends
	// the program at once.
	context.AfterFunc(ctx, stop)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	p := newProgram()
	os.Exit(p.end(p.run(ctx, os.Args[1:])))
}

func newProgram() *program {
	return &program{
		version: version, env: os.LookupEnv, environ: os.Environ, serve: serve,
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
	}
}

// serve is what flanneld does where no command is named.
func serve(ctx context.Context, o options) error {
	if err := setUpLog(o); err != nil {
		return err
	}
	o.logNoEffect()
	var err error
	if o.Etcd, err = o.etcd(); err != nil {
		return err
	}
	return daemon.Run(ctx, o.Options)
}

// exitUnanswered is the code of a command that could not find out what it was
// asked.
const exitUnanswered = 2

// end tells the user how the program ended, and returns the code for its
// supervisor.
func (p *program) end(err error) int {
	switch {
	case err == nil:
	case p.logFormat == formatJSON:
		klog.ErrorS(err, "Flanneld ends with an error")
	default:
		fmt.Fprintln(p.stderr, "flanneld:", printable.Bounded(err.Error(), printable.Longest))
	}
	return cli.Code(err)
}
