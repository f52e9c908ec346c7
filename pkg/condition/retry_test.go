package condition_test

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"k8s.io/klog/v2"

	"flanneld/pkg/condition"
)

func TestMain(m *testing.M) {
	flags := flag.NewFlagSet("klog", flag.PanicOnError)
	klog.InitFlags(flags)
	_ = flags.Set("logtostderr", "false")
	_ = flags.Set("stderrthreshold", "FATAL")
	klog.SetOutput(io.Discard)
	goleak.VerifyTestMain(m)
}

// line is a line of the log: when it was written, its level and its text.
type line struct {
	at    time.Duration
	level string
	text  string
}

// record returns what has been logged since its call.
func record(t *testing.T) func() []line {
	var log bytes.Buffer
	klog.SetOutputBySeverity("INFO", &log) // which gets the graver lines too
	t.Cleanup(func() { klog.SetOutput(io.Discard) })
	start := time.Now()
	return func() (all []line) {
		klog.Flush()
		for text := range strings.Lines(log.String()) { // E0101 00:00:10.000000 7 outage.go:48] text
			head, text, ok := strings.Cut(text, "] ")
			at, err := time.ParseInLocation("20060102 15:04:05.000000", start.Format("2006")+head[1:21], start.Location())
			if !ok || err != nil {
				t.Fatalf("unexpected line %q: %v", head, err)
			}
			all = append(all, line{at.Sub(start.Truncate(time.Microsecond)), head[:1], strings.TrimSpace(text)})
		}
		return all
	}
}

func TestFailureIsLoggedAtGrowingIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const longest = 30 * time.Second
		log := record(t)
		start := time.Now()
		var set condition.Set
		r := condition.NewRetry(&set, condition.EtcdUnreadable, "read from etcd", longest)
		refused := errors.New("connection refused")
		tries := 0
		for time.Since(start) < time.Hour {
			tries++
			time.Sleep(r.Failed(refused))
			if c, there := set.Find(condition.EtcdUnreadable, ""); !there || c.Text() != "cannot read from etcd: connection refused" || c.Since != start || !r.Failing() {
				t.Fatalf("condition %+v", c)
			}
		}
		lasted := time.Since(start)
		if ended := r.Succeeded(); ended != lasted {
			t.Errorf("ended after %v, not %v", ended, lasted)
		}
		if all := set.List(); len(all) > 0 || r.Failing() {
			t.Errorf("conditions %+v after the end", all)
		}
		if tries < 120 || tries > 500 { // 20 s on average
			t.Errorf("%d tries in an hour", tries)
		}

		lines := log()
		if len(lines) != 12 {
			t.Fatalf("lines: %+v", lines)
		}
		first, last := lines[0], lines[len(lines)-1]
		if first.at != 0 || first.level != "E" || first.text != `"Cannot read from etcd: trying again until it works" err="connection refused" condition="EtcdUnreadable"` {
			t.Errorf("first line: %+v", first)
		}
		if want := `"Can read from etcd again" condition="EtcdUnreadable" lasted="` + lasted.Round(100*time.Millisecond).String() + `"`; last.at != lasted.Truncate(time.Microsecond) || last.level != "I" || last.text != want {
			t.Errorf("last line: %+v, want %q", last, want)
		}
		silence := 10 * time.Second
		for i, line := range lines[1 : len(lines)-1] {
			gap := line.at - lines[i].at
			if gap < silence-time.Microsecond || gap > silence+longest {
				t.Errorf("line %d comes %v after the one before, not about %v", i+2, gap, silence)
			}
			if want := `"Still cannot read from etcd" err="connection refused" condition="EtcdUnreadable" lasted="` + line.at.Round(time.Second).String() + `"`; line.text != want || line.level != "E" {
				t.Errorf("line %d: %+v, want %q", i+2, line, want)
			}
			silence = min(2*silence, 10*time.Minute)
		}
	})
}

func TestRetriesGrowUpToTheLongest(t *testing.T) {
	for _, longest := range []time.Duration{time.Second, time.Minute} {
		r := condition.NewRetry(&condition.Set{}, condition.Starting, "do it", longest)
		for range 2 { // a success begins anew
			centre := 100 * time.Millisecond
			for i := range 50 {
				d := r.Failed(errors.New("no"))
				if d < centre/2 || d > centre*3/2+1 || d > longest {
					t.Errorf("longest %v: try %d comes after %v", longest, i+1, d)
				}
				centre = min(2*centre, longest*2/3)
			}
			r.Succeeded()
		}
	}
}

func TestSuccessAfterSuccessIsNotLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := record(t)
		r := condition.NewRetry(&condition.Set{}, condition.Starting, "do it", time.Minute)
		for range 3 {
			if ended := r.Succeeded(); ended != 0 {
				t.Errorf("an outage of %v ended", ended)
			}
		}
		if lines := log(); len(lines) > 0 {
			t.Errorf("lines: %+v", lines)
		}
		// An outage after another starts with a line of its own.
		for range 2 {
			r.Failed(errors.New("no"))
			time.Sleep(time.Second)
			r.Succeeded()
		}
		const down = `"Cannot do it: trying again until it works" err="no" condition="Starting"` + "\n"
		const up = `"Can do it again" condition="Starting" lasted="1s"` + "\n"
		var texts strings.Builder
		for _, line := range log() {
			texts.WriteString(line.text + "\n")
		}
		if texts.String() != down+up+down+up {
			t.Errorf("lines:\n%s", texts.String())
		}
	})
}
