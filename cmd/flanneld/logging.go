package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"slices"
	"strconv"

	"github.com/spf13/pflag"
	"google.golang.org/grpc/grpclog"
	"k8s.io/klog/v2"

	"flanneld/internal/cli"
	"flanneld/pkg/printable"
)

// What --log-format takes.
const (
	formatText = "text"
	formatJSON = "json"
)

// setUpLog applies the logging flags to klog, which writes to standard error, and
// has the standard library's logger and gRPC's write through it.
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
	klog.SetLogFilter(printableValues{})
	klog.CopyStandardLogTo("ERROR")
	if os.Getenv("GRPC_GO_LOG_SEVERITY_LEVEL") == "" { // otherwise somebody wants all that gRPC can tell
		grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, grpcErrors{}))
	}
	if o.LogFormat == formatJSON {
		// klog has chosen the lines by their level: what gets here is to be written.
		klog.SetSlogLogger(slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{
			Level: slog.Level(math.MinInt), ReplaceAttr: attribute,
		})))
	}
	return nil
}

// printableValues keeps values on one line. klog writes a text of several lines as
// it is, whatever terminal sequences it holds, and much of what is logged comes
// from etcd or from other programs.
type printableValues struct{}

const longestValue = 4000 // bytes

func (printableValues) Filter(args []any) []any { return args }

func (printableValues) FilterF(format string, args []any) (string, []any) { return format, args }

// FilterS is for the structured lines, which are all that flanneld writes.
func (printableValues) FilterS(message string, pairs []any) (string, []any) {
	out := slices.Clone(pairs)
	for i, v := range out {
		switch v := v.(type) {
		case string:
			out[i] = printable.Bounded(v, longestValue)
		case error:
			out[i] = printable.Bounded(v.Error(), longestValue)
		}
	}
	return printable.Bounded(message, longestValue), out
}

// grpcErrors takes lines of gRPC's log.
type grpcErrors struct{}

func (grpcErrors) Write(line []byte) (int, error) {
	klog.ErrorS(nil, "gRPC reports an error", "text", string(bytes.TrimSpace(line)))
	return len(line), nil
}

// attribute makes a value readable that JSON would show as its parts or as a
// number: a level of klog is DEBUG, 1.5s is "1.5s".
func attribute(_ []string, a slog.Attr) slog.Attr {
	switch v := a.Value.Any().(type) {
	case slog.Level:
		if v < slog.LevelInfo {
			a.Value = slog.StringValue(slog.LevelDebug.String())
		}
	case error, slog.LogValuer:
	case fmt.Stringer:
		if a.Value.Kind() != slog.KindTime {
			a.Value = slog.StringValue(v.String())
		}
	}
	return a
}

// wantsJSON looks for --log-format alone: the error that is to be printed may be
// about another flag.
func (p *program) wantsJSON(args []string) bool {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.ParseErrorsAllowlist.UnknownFlags = true
	format, _ := p.env(cli.EnvName(logFormatFlag))
	flags.StringVar(&format, logFormatFlag, format, "")
	return flags.Parse(args) == nil && format == formatJSON
}
