package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	stdlog "log"
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

// setUpLog applies the logging flags to klog, and has everything that is logged go to
// standard error.
func setUpLog(o options) error {
	flags, err := klogFlags(map[string]string{
		"v": strconv.Itoa(o.LogLevel), "vmodule": o.LogModules, "log_backtrace_at": o.LogBacktraceAt,
	})
	if err != nil {
		return err
	}
	// A trace has many lines.
	logTo(flags, "INFO", printable.Record(os.Stderr, o.LogBacktraceAt != ""))
	if o.LogFormat == formatJSON {
		// klog has chosen the lines by their level: what gets here is to be written.
		klog.SetSlogLogger(slog.New(slog.NewJSONHandler(printable.JSONRecord(os.Stderr), &slog.HandlerOptions{
			Level: slog.Level(math.MinInt), ReplaceAttr: attribute,
		})))
	}
	return nil
}

// logErrorsTo has nothing but errors written, which is for commands: what they have
// to say they print.
func logErrorsTo(w io.Writer) {
	if flags, err := klogFlags(nil); err == nil {
		logTo(flags, "ERROR", printable.Record(w, false))
	}
}

// klogFlags are klog's own, some of them set.
func klogFlags(values map[string]string) (*flag.FlagSet, error) {
	flags := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(flags)
	for name, text := range values {
		if err := flags.Set(name, text); err != nil {
			return nil, fmt.Errorf("set up logging by --%s=%q: %w", name, text, err)
		}
	}
	return flags, nil
}

// logTo leads what is logged of a severity, and of graver ones, through one door:
// klog's lines, the standard library's and gRPC's.
func logTo(flags *flag.FlagSet, severity string, door io.Writer) {
	_ = flags.Set("logtostderr", "false")
	_ = flags.Set("stderrthreshold", "FATAL") // beside the door
	klog.SetOutput(io.Discard)
	klog.SetOutputBySeverity(severity, door)
	klog.SetLogFilter(printableValues{})
	stdlog.SetFlags(0)
	stdlog.SetOutput(libraries{})
	if os.Getenv("GRPC_GO_LOG_SEVERITY_LEVEL") == "" { // otherwise somebody wants all that gRPC can tell
		grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, grpcErrors{}))
	}
}

// printableValues bounds values, and keeps them on one line: much of what is logged
// comes from etcd or from other programs. The door would do so too, but could not
// tell where a value ends.
type printableValues struct{}

// Filter is for what libraries log.
func (printableValues) Filter(args []any) []any {
	out := slices.Clone(args)
	for i, v := range out {
		out[i] = printableValue(v)
	}
	return out
}

// FilterF is for what libraries log, too.
func (printableValues) FilterF(format string, args []any) (string, []any) {
	return "%s", []any{printableValue(fmt.Sprintf(format, args...))}
}

// FilterS is for the structured lines, which are all that flanneld writes.
func (printableValues) FilterS(message string, pairs []any) (string, []any) {
	out := slices.Clone(pairs)
	for i, v := range out {
		out[i] = printableValue(v)
	}
	return printable.Bounded(message, printable.Longest), out
}

// printableValue is v, or its text where that is long or does not print.
func printableValue(v any) any {
	switch v := v.(type) {
	case string:
		return printable.Bounded(v, printable.Longest)
	case error:
		return printable.Bounded(v.Error(), printable.Longest)
	}
	text := fmt.Sprintf("%+v", v)
	if clean := printable.Bounded(text, printable.Longest); clean != text {
		return clean
	}
	return v
}

// libraries takes lines of the standard library's log.
type libraries struct{}

func (libraries) Write(line []byte) (int, error) {
	klog.Error(string(bytes.TrimSpace(line)))
	return len(line), nil
}

// grpcErrors takes lines of gRPC's log.
type grpcErrors struct{}

func (grpcErrors) Write(line []byte) (int, error) {
	klog.ErrorS(nil, "gRPC reports an error", "text", string(bytes.TrimSpace(line)))
	return len(line), nil
}

// attribute bounds a value, and makes it readable where JSON would show it as its
// parts or as a number: a level of klog is DEBUG, 1.5s is "1.5s".
func attribute(_ []string, a slog.Attr) slog.Attr {
	switch v := a.Value.Any().(type) {
	case slog.Level:
		if v < slog.LevelInfo {
			a.Value = slog.StringValue(slog.LevelDebug.String())
		}
	case string:
		a.Value = slog.StringValue(printable.Bounded(v, printable.Longest))
	case error:
		a.Value = slog.StringValue(printable.Bounded(v.Error(), printable.Longest))
	case slog.LogValuer:
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
