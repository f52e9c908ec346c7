// flanneld gives this host a subnet of the cluster's network and makes the
// other hosts' subnets reachable.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"flanneld/pkg/daemon"
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
	os.Exit(code(run(ctx, os.Args[1:])))
}

// run is the whole program but for its exit code.
func run(ctx context.Context, args []string) error {
	v, args, err := findVerb(verbs(), args)
	switch {
	case err != nil:
		return err
	case v != nil:
		return runVerb(ctx, v, args)
	}
	o, err := parseFlags(args, os.LookupEnv, version)
	if err != nil {
		return err
	}
	if err := setUpLog(o); err != nil {
		return err
	}
	if o.Etcd, err = o.etcd(); err != nil {
		return err
	}
	o.Version = version
	return daemon.Run(ctx, o.Options)
}

// code says how the program ended, to its user and to its supervisor.
func code(err error) int {
	var end *exit
	switch {
	case err == nil:
		return exitAnswered
	case errors.As(err, &end) && end.code == exitAnswered:
		fmt.Println(end.text)
		return exitAnswered
	case errors.As(err, &end):
		fmt.Fprintln(os.Stderr, "flanneld:", end.text)
		return end.code
	}
	fmt.Fprintln(os.Stderr, "flanneld:", err)
	return exitFailed
}
