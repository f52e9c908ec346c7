package page

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// browser is a real one without a window, told what to do by the DevTools protocol over two
// pipes: messages of JSON, each with a zero byte behind it.
type browser struct {
	t       *testing.T
	command *exec.Cmd
	to      *os.File
	session string // of the one tab

	mu      sync.Mutex
	last    int
	answers map[int]chan message
	events  []message
	news    chan struct{} // an event has come; one slot
}

type message struct {
	ID      int             `json:"id,omitempty"`
	Session string          `json:"sessionId,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  json.RawMessage `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

const patience = time.Minute // with a browser on a machine that does other things, too

// startBrowser starts one that resolves no name and calls nobody of its own accord.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	folder, err := os.MkdirTemp("", "browser")
	if err != nil {
		t.Fatal(err)
	}
	commands, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, answers, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{t: t, to: to, answers: map[int]chan message{}, news: make(chan struct{}, 1)}
	b.command = exec.Command("chromium-headless-shell", "--remote-debugging-pipe", "--user-data-dir="+folder, "--no-sandbox", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-gpu", "--hide-scrollbars", "--font-render-hinting=none",
		"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "about:blank")
	b.command.Env = append(os.Environ(), "HOME="+folder)
	b.command.ExtraFiles = []*os.File{commands, answers}
	b.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var said strings.Builder
	b.command.Stderr = &said
	if err := b.command.Start(); err != nil {
		t.Fatalf("start the browser: %v; install it with: make deps", err)
	}
	commands.Close()
	answers.Close()
	ended := make(chan struct{})
	go func() { defer close(ended); b.read(from) }()
	t.Cleanup(func() {
		_ = syscall.Kill(-b.command.Process.Pid, syscall.SIGKILL) // the group has its helpers, too
		_ = b.command.Wait()
		to.Close()
		from.Close()
		<-ended
		_ = os.RemoveAll(folder)
		if t.Failed() {
			t.Logf("the browser said: %s", said.String())
		}
	})
	var target struct{ TargetID string }
	b.do("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.do("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, of := range []string{"Page", "Network", "Log", "Runtime"} {
		b.do(of+".enable", nil, nil)
	}
	return b
}

func (b *browser) read(from *os.File) {
	r := bufio.NewReader(from)
	for {
		text, err := r.ReadBytes(0)
		if err != nil {
			return
		}
		var m message
		if err := json.Unmarshal(text[:len(text)-1], &m); err != nil {
			continue
		}
		b.mu.Lock()
		if answer, asked := b.answers[m.ID]; asked {
			answer <- m
			delete(b.answers, m.ID)
		} else {
			b.events = append(b.events, m)
		}
		b.mu.Unlock()
		select {
		case b.news <- struct{}{}:
		default:
		}
	}
}

// do carries out a command of the protocol, and reads its result.
func (b *browser) do(method string, params any, result any) {
	b.t.Helper()
	if params == nil {
		params = struct{}{}
	}
	text, err := json.Marshal(params)
	if err != nil {
		b.t.Fatal(err)
	}
	answer := make(chan message, 1)
	b.mu.Lock()
	b.last++
	m := message{ID: b.last, Session: b.session, Method: method, Params: text}
	b.answers[m.ID] = answer
	b.mu.Unlock()
	text, err = json.Marshal(m)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.to.Write(append(text, 0)); err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
	select {
	case m = <-answer:
	case <-time.After(patience):
		b.t.Fatalf("%s: no answer", method)
	}
	if m.Error != nil {
		b.t.Fatalf("%s: %s", method, m.Error.Message)
	}
	if result != nil {
		if err := json.Unmarshal(m.Result, result); err != nil {
			b.t.Fatalf("%s: %v", method, err)
		}
	}
}

// heard are the events of a method since the last visit began.
func (b *browser) heard(method string) (out []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.events {
		if e.Method == method {
			out = append(out, string(e.Params))
		}
	}
	return out
}

// await waits for an event that contains a text.
func (b *browser) await(method, text string) {
	b.t.Helper()
	deadline := time.After(patience)
	for {
		for _, e := range b.heard(method) {
			if strings.Contains(e, text) {
				return
			}
		}
		select {
		case <-b.news:
		case <-deadline:
			b.t.Fatalf("no %s with %q", method, text)
		}
	}
}

// view is how a page is looked at.
type view struct {
	width   int
	dark    bool
	scripts bool
}

func (v view) String() string {
	theme := "light"
	if v.dark {
		theme = "dark"
	}
	return fmt.Sprintf("%s-%d", theme, v.width)
}

// visit opens an address, and waits until all of it has come.
func (b *browser) visit(url string, v view) {
	b.t.Helper()
	scheme := "light"
	if v.dark {
		scheme = "dark"
	}
	b.do("Emulation.setDeviceMetricsOverride", map[string]any{"width": v.width, "height": 800, "deviceScaleFactor": 1, "mobile": v.width < 600}, nil)
	b.do("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
	b.do("Emulation.setScriptExecutionDisabled", map[string]any{"value": !v.scripts}, nil)
	b.mu.Lock()
	b.events = nil
	b.mu.Unlock()
	b.do("Page.navigate", map[string]any{"url": url}, nil)
	b.await("Page.loadEventFired", "")
}

// evaluate is what an expression of JavaScript is there.
func (b *browser) evaluate(expression string, value any) {
	b.t.Helper()
	var out struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails json.RawMessage
	}
	b.do("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &out)
	if out.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", expression, out.ExceptionDetails)
	}
	if err := json.Unmarshal(out.Result.Value, value); err != nil {
		b.t.Fatalf("%s: %s: %v", expression, out.Result.Value, err)
	}
}

// picture is what the page looks like, as WebP: so many rows of pixels, drawn at a scale.
func (b *browser) picture(height int, scale float64) []byte {
	b.t.Helper()
	var width int
	b.evaluate(`innerWidth`, &width)
	var out struct{ Data []byte }
	b.do("Page.captureScreenshot", map[string]any{
		"format": "webp", "quality": 50, "captureBeyondViewport": true,
		"clip": map[string]any{"x": 0, "y": 0, "width": width, "height": height, "scale": scale},
	}, &out)
	return out.Data
}
