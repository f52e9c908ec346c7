package kernel

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/klog/v2"
)

const (
	opsToLog    = 10
	errorsToSay = 3
)

// logOps says what was done: each write where there are few, else their number.
func logOps(ops []Op) {
	if len(ops) <= opsToLog || klog.V(3).Enabled() {
		for _, o := range ops {
			o.log()
		}
		return
	}
	counts := map[string]int{}
	for _, o := range ops {
		counts[fmt.Sprintf("%s %s", o.Action, o.Kind())]++
	}
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s: %d", what, counts[what]))
	}
	klog.InfoS("Wrote to the kernel", "writes", len(ops), "of", strings.Join(parts, ", "))
}

func (o Op) log() {
	message := "Wrote to the kernel"
	if o.Repair {
		message = "Repaired what another program changed in the kernel"
	}
	if o.Why == "" {
		klog.InfoS(message, "command", o.String())
	} else {
		klog.InfoS(message, "command", o.String(), "reason", o.Why)
	}
}

// failures collects the errors of a pass: all are counted, the first are kept.
type failures struct {
	kept []any
	more int
}

func (f *failures) add(o Op, err error) {
	if len(f.kept) == errorsToSay {
		f.more++
		return
	}
	f.kept = append(f.kept, fmt.Errorf("%v: %w", o, err))
}

// err joins them in one line, which errors.Join would not; nil if there are
// none.
func (f *failures) err() error {
	if len(f.kept) == 0 {
		return nil
	}
	if f.more > 0 {
		f.kept = append(f.kept, fmt.Errorf("and %d more", f.more))
	}
	return fmt.Errorf(strings.Repeat("; %w", len(f.kept))[2:], f.kept...)
}
