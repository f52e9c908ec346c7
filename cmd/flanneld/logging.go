package main

import (
	"flag"
	"fmt"
	"strconv"

	"k8s.io/klog/v2"
)

// setUpLog applies the logging flags to klog, which writes to standard error.
func setUpLog(o options) error {
	flags := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(flags)
	for name, text := range map[string]string{
		"v": strconv.Itoa(o.LogLevel), "vmodule": o.LogModules, "log_backtrace_at": o.LogBacktraceAt,
	} {
		if err := flags.Set(name, text); err != nil {
			return fmt.Errorf("set up logging by --%s=%q: %w", name, text, err)
		}
	}
	return nil
}
