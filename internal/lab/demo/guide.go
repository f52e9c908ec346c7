package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync/atomic"

	"flanneld/internal/lab"
)

// guide prints the tour, and is the lab.TB of its lab.
type guide struct {
	failed   atomic.Bool
	cleanups []func()
	hosts    []*lab.Host
	points   []string // what was shown
	number   int
}

// do runs f such that Fatalf can end it.
func (g *guide) do(f func()) (over <-chan struct{}) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	return done
}

func (g *guide) Helper()          {}
func (g *guide) Failed() bool     { return g.failed.Load() }
func (g *guide) Cleanup(f func()) { g.cleanups = append(g.cleanups, f) }

func (g *guide) cleanUp() {
	for _, f := range g.cleanups {
		defer f() // the last one first, also where one of them fails
	}
}

func (g *guide) Logf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}

func (g *guide) Fatalf(format string, args ...any) {
	g.failed.Store(true)
	fmt.Fprintf(os.Stderr, "\nFAILED: "+format+"\n\n", args...)
	runtime.Goexit()
}

// TempDir is on the lab's own /run, so that it is gone whatever happens.
func (g *guide) TempDir() string {
	dir, err := os.MkdirTemp("/run", "demo")
	if err != nil {
		g.Fatalf("make a folder: %v", err)
	}
	return dir
}

// step begins a chapter of the tour; point is what it shows.
func (g *guide) step(title, point string) {
	g.number++
	g.heading(fmt.Sprintf("%d. %s", g.number, title))
	if point != "" {
		g.points = append(g.points, point)
	}
}

func (g *guide) heading(text string) { fmt.Printf("\n%s\n", text) }

// print prints text, indented.
func (g *guide) print(text string) {
	fmt.Println("   " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n   "))
}

// show prints a command on a node, and its output.
func (g *guide) show(node fmt.Stringer, command, output string) {
	g.print(fmt.Sprintf("%s# %s\n%s", node, command, output))
}

// expect ends the tour if got is not want.
func (g *guide) expect(what, got, want string) {
	if got != want {
		g.Fatalf("%s:\n%s\nwant:\n%s", what, got, want)
	}
}

func (g *guide) shown() string {
	last := len(g.points) - 1
	return strings.Join(g.points[:last], ", ") + " and " + g.points[last]
}
