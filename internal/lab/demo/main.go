// The demo is a guided tour of flanneld: the hosts of the tutorial in network
// namespaces, from an empty etcd to containers that reach each other. It checks
// what it shows and ends with exit code 1 where something is not as it should
// be. With KEEP=1 the hosts stay until Enter is pressed. With ETCD=3 etcd is the
// newest one.
package main

import (
	"bufio"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"flanneld/internal/lab"
)

func main() {
	if newest() {
		lab.NeedNewestEtcd()
	} else {
		lab.NeedEtcd()
	}
	lab.NeedFlanneld()
	if err := lab.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(run(time.Now(), os.Getenv("KEEP") != ""))
}

// newest reports whether the tour is to be on the newest etcd, by the v3 API.
func newest() bool { return os.Getenv("ETCD") == "3" }

// run gives the tour and returns the exit code. Ctrl-C ends it at any point: all
// of the lab's processes, files and namespaces go with this process.
func run(start time.Time, keep bool) int {
	interrupt := make(chan os.Signal, 1)
	signal.Notify(interrupt, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	g := &guide{}
	over := g.do(func() { tour(g) })
	select {
	case <-over:
	case <-interrupt:
		fmt.Println("\nInterrupted: the hosts and everything on them are gone.")
		return 130
	}
	took := time.Since(start)
	if keep && !g.Failed() {
		waitForEnter(g, interrupt)
	}
	<-g.do(g.cleanUp)
	if g.Failed() {
		fmt.Println("\nThe demo has failed; see above. The hosts are gone.")
		return 1
	}
	fmt.Printf("\nShown: %s. It took %.1f s, and nothing is left behind.\n", g.shown(), took.Seconds())
	return 0
}

func waitForEnter(g *guide, interrupt <-chan os.Signal) {
	g.heading("The hosts stay. A shell on each, from another terminal:")
	for _, h := range g.hosts {
		g.print(fmt.Sprintf("%-9s %s", h, h.ShellFromOutside()))
	}
	g.print("Each host's files are in /run/lab/<host> there.")
	fmt.Print("\nPress Enter to end the demo. ")
	enter := make(chan struct{})
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		close(enter)
	}()
	select {
	case <-enter:
	case <-interrupt:
		fmt.Println()
	}
}
