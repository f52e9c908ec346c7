package iptables

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/klog/v2"

	"flanneld/pkg/firewall/rules"
)

// hindered is an iptables that fails where parts are tried.
type hindered struct {
	*fake
	put   error // what the script of a trial meets
	shown error // what reading meets after that
	swept bool  // another daemon deletes the chain in between
	tried bool
}

func (h *hindered) restore(ctx context.Context, script string) error {
	if !strings.Contains(script, "-A "+tryChain) {
		return h.fake.restore(ctx, script)
	}
	h.tried = true
	if h.put != nil {
		return h.put
	}
	return h.fake.restore(ctx, script)
}

func (h *hindered) save(ctx context.Context) (string, error) {
	if h.tried && h.swept {
		for id := range h.chains {
			if id.chain == tryChain {
				delete(h.chains, id)
			}
		}
	}
	text, err := h.fake.save(ctx)
	if h.tried && h.shown != nil {
		err = h.shown
	}
	h.tried = false
	return text, err
}

// TestAChainInDoubtIsNotWritten: where it cannot be found out whether a part is written as
// another, rules that work stay.
func TestAChainInDoubtIsNotWritten(t *testing.T) {
	for name, by := range map[string]hindered{
		"another daemon sweeps":   {swept: true},
		"the lock":                {put: errLocked},
		"no answer":               {put: rules.NoAnswer{Program: "iptables-restore"}},
		"no permission":           {put: fs.ErrPermission},
		"no table takes a rule":   {put: errors.New("exit status 4")},
		"the trial is not shown":  {shown: errors.New("exit status 1")},
		"reading has no answer":   {shown: rules.NoAnswer{Program: "iptables-save"}},
		"the lock, while reading": {shown: errLocked},
	} {
		for _, restarted := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", after a restart"}[restarted], func(t *testing.T) {
				f := newFake()
				f.load(docker28(t, "docker-28-plain.txt"))
				f.spoils = "0x1000/0x1000"
				want := everything
				want.Marked = true
				w := &Writer{program: f, randomFully: true}
				for range 2 {
					drift(t, w, want)
				}
				if restarted {
					w = &Writer{program: f, randomFully: true}
				}
				for p, a := range w.answers {
					a.when = time.Now().Add(-2 * answerTime)
					w.answers[p] = a
				}
				h := by
				h.fake = f
				w.program = &h
				for range 3 {
					if _, err := once(w, want); err == nil || !strings.Contains(err.Error(), "cannot ") {
						t.Errorf("error %v", err)
					}
					if diff := cmp.Diff(lines(peersIn, peersOut), f.rules(userChain)); diff != "" {
						t.Fatalf("-want +got:\n%s", diff)
					}
				}
				w.program = f // the trouble is over
				drift(t, w, want)
				for c := range drift(t, w, want) {
					if c == userChain && len(f.rules(c)) != 2 {
						t.Errorf("%v", f.rules(c))
					}
				}
				for _, script := range f.scripts {
					if strings.Contains(script, "0x1000/0x0") && !strings.Contains(script, tryChain) {
						t.Errorf("packets met\n%s", script)
					}
				}
			})
		}
	}
}

// logged is what has been logged since.
func logged(t *testing.T) *strings.Builder {
	var log strings.Builder
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	klog.SetOutputBySeverity("INFO", &log) // which gets the graver lines too
	t.Cleanup(func() { klog.SetOutput(io.Discard); klog.LogToStderr(true) })
	return &log
}

// TestPartsAreLoggedOnce: when it is found out that a part is refused, and when that is over.
func TestPartsAreLoggedOnce(t *testing.T) {
	log := logged(t)
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.load(docker28(t, "docker-28-plain.txt"))
		want := everything
		want.Marked = true
		w := &Writer{program: f, randomFully: true}
		for _, again := range []bool{false, true} { // it may be lacking once more
			f.refuses = []string{"--comment flanneld", "--mark 0x1000", "--random-fully"}
			log.Reset()
			f.chains[natChain], f.chains[forwardChain], f.chains[userChain], f.chains[rawChain] = nil, nil, nil, nil
			for range 5 {
				time.Sleep(answerTime + time.Second)
				drift(t, w, want)
			}
			for p := range w.answers {
				if n := strings.Count(log.String(), `refuses a part of rules" table="`+p.table+`" part="`+p.text+`"`); w.answers[p].refused != (n == 1) || n > 1 {
					t.Errorf("again %v: %+v is refused: %v, lines: %d", again, p, w.answers[p].refused, n)
				}
			}
			refused := strings.Count(log.String(), "\n")
			f.refuses = nil
			log.Reset()
			for range 5 {
				time.Sleep(answerTime + time.Second)
				drift(t, w, want)
			}
			if n := strings.Count(log.String(), "takes a part of rules that it refused"); n != refused || n == 0 || strings.Count(log.String(), "\n") != n {
				t.Errorf("again %v: %d parts were refused, and then:\n%s", again, refused, log)
			}
		}
	})
}

// TestOutputAfterTheEnd: on a busy host the end of a program may be seen long before all of
// its output is. Here another process delays the end of the output.
func TestOutputAfterTheEnd(t *testing.T) {
	var a activity
	out, err := a.run(context.Background(), rulesTime, exec.Command("/bin/sh", "-c", "(sleep 0.5; echo COMMIT) & echo '*nat'"))
	if want := "*nat\nCOMMIT\n"; out != want || err != nil {
		t.Errorf("output %q, want %q, error %v", out, want, err)
	}
}

// TestAProgramThatWasKilled has not refused what it was given.
func TestAProgramThatWasKilled(t *testing.T) {
	for name, restore := range map[string]string{
		"killed, as for want of memory": "kill -9 $$",
		"crashed":                       "kill -SEGV $$",
		"not started":                   "",
	} {
		t.Run(name, func(t *testing.T) {
			w := programs(t, version+"exit 1", nothing, restore)
			if err := w.ask(context.Background()); err != nil {
				t.Fatal(err)
			}
			if restore == "" {
				c := w.program.(command)
				c.restorePath += "-which-is-gone"
				w.program = c
			}
			if takes, err := w.takes(context.Background(), part{"filter", markPart}); err == nil {
				t.Errorf("it takes it: %v", takes)
			}
		})
	}
}
