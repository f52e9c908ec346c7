package bench

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/klog/v2"

	"flanneld/internal/bench/crowd"
	"flanneld/internal/lab"
	"flanneld/pkg/inet"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdauto"
)

// crowdEnv is the most hosts that BenchmarkCrowd has at one etcd: `make bench-lab CROWD=10000`.
const crowdEnv = "BENCH_CROWD"

const (
	patience   = 10 * time.Minute // for one row
	inTurn     = 100              // hosts
	wholeHosts = 24               // of a crowd
	mostByV2   = 3000             // beyond, each event is a request of each host, and etcd has two sockets for it
)

// BenchmarkCrowd: thousands of hosts at one etcd, all on this machine's processors. Package
// crowd says what is simulated.
func BenchmarkCrowd(b *testing.B) {
	b.ReportMetric(0, "ns/op")
	silence(b)
	defer debug.SetGCPercent(debug.SetGCPercent(300)) // which is a third of the hosts' CPU time otherwise
	most := 1000
	if text := os.Getenv(crowdEnv); text != "" {
		var err error
		if most, err = strconv.Atoi(text); err != nil {
			b.Fatalf("%s: %v", crowdEnv, err)
		}
	}
	t := newTable(b, "crowd", "Many hosts at one etcd, on the same processors", "hosts", "API", "what happens",
		"all know it after, s", "lists", "requests", "MB on the wire", "etcd's CPU, s", "etcd's peak memory, MiB", "the hosts' CPU, s")
	for _, n := range []int{1000, 3000, 10000} {
		if n > most {
			continue
		}
		for _, how := range []connection{{api: etcdauto.V3}, {api: etcdauto.V3, tls: true}, {api: etcdauto.V2}} {
			if how.api == etcdauto.V2 && n > mostByV2 {
				continue
			}
			b.Run(fmt.Sprintf("%v/%d", how, n), func(b *testing.B) {
				b.ReportMetric(0, "ns/op")
				if g := newGathering(b, t, how, n); g.startAtOnce() {
					g.measure()
				} else if g.end(); !b.Failed() {
					g = newGathering(b, t, how, n) // as what was left undone would be counted
					g.startInTurn()
					g.measure()
				}
			})
		}
	}
}

// silence keeps thousands of hosts from logging.
func silence(b *testing.B) {
	flags := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(flags)
	for name, value := range map[string]string{"logtostderr": "false", "stderrthreshold": "FATAL"} {
		if err := flags.Set(name, value); err != nil {
			b.Fatal(err)
		}
	}
	klog.SetOutput(io.Discard)
}

// connection is how hosts reach etcd.
type connection struct {
	api etcdauto.API
	tls bool
}

func (c connection) String() string {
	if c.tls {
		return c.api.String() + ", TLS"
	}
	return c.api.String()
}

// gathering is a crowd and its etcd.
type gathering struct {
	*testing.B
	*table
	how   connection
	hosts int
	etcd  *lab.Etcd
	crowd *crowd.Crowd
}

func newGathering(b *testing.B, t *table, how connection, n int) *gathering {
	g := &gathering{B: b, table: t, how: how, hosts: n}
	options := lab.EtcdOptions{API: int(how.api)}
	o := crowd.Options{API: how.api, Hosts: n, Whole: wholeHosts, RenewMargin: time.Hour}
	if how.tls {
		options.TLS = lab.NewCA(b, "ca")
		o.Etcd.CAFile = options.TLS.File
	}
	g.etcd = lab.StartEtcd(b, options)
	if how.tls {
		cert := g.etcd.ClientCert()
		o.Etcd.CertFile, o.Etcd.KeyFile = cert.CertFile, cert.KeyFile
	}
	o.Etcd.Endpoints, o.Etcd.Prefix = g.etcd.Endpoints(), prefix
	var err error
	if o.Config, err = subnet.ParseConfig(modes[0].config()); err != nil {
		b.Fatal(err)
	}
	g.etcd.Set(configKey, modes[0].config())
	g.crowd = crowd.New(o)
	b.Cleanup(g.crowd.Close)
	return g
}

// end ends the hosts and etcd.
func (g *gathering) end() {
	g.etcd.Kill()
	g.crowd.Close()
}

func (g *gathering) startAtOnce() bool {
	return g.cost("all start at once", patience, func(context.Context) (uint64, error) { return 0, g.crowd.Start() })
}

// startInTurn is for so many hosts that a common start does not come to its end.
func (g *gathering) startInTurn() bool {
	return g.cost(fmt.Sprintf("all start, %d at a time", inTurn), 3*patience,
		func(ctx context.Context) (uint64, error) { return 0, g.crowd.StartInTurn(ctx, inTurn) })
}

func (g *gathering) measure() {
	for _, step := range []struct {
		what string
		do   func(context.Context) (index uint64, err error)
	}{
		{"a newcomer", func(ctx context.Context) (uint64, error) { return g.newcomer(ctx, 1) }},
		{"100 hosts restart at once", func(context.Context) (uint64, error) { return 0, g.crowd.Restart(100) }},
		{"etcd is killed and comes back, and a newcomer", func(ctx context.Context) (uint64, error) {
			g.etcd.Kill()
			g.etcd.Start()
			return g.newcomer(ctx, 2)
		}},
		{"nothing, for ten seconds", func(context.Context) (uint64, error) { time.Sleep(10 * time.Second); return 0, nil }},
		{"a day's renewals", func(ctx context.Context) (uint64, error) {
			if err := g.crowd.Check(ctx); err != nil { // by v2 a renewal changes what nobody is told of
				g.Fatal(err)
			}
			return 0, g.crowd.Renew(ctx)
		}},
	} {
		if !g.cost(step.what, patience, step.do) {
			return
		}
	}
}

// newcomer writes the lease of a host that is not of the crowd, and returns its index.
func (g *gathering) newcomer(ctx context.Context, n int) (uint64, error) {
	p := nthPeer(inet.IPv4, 60000+n)
	return g.crowd.Join(ctx, p.subnet, netip.MustParseAddr(p.ip))
}

// cost does something, waits until all hosts have a lease and know of all others and of
// what came to be at the index that do returns, and prints a row. It reports whether that
// has come about in time.
func (g *gathering) cost(what string, patience time.Duration, do func(context.Context) (uint64, error)) bool {
	g.settle()
	g.etcd.PeakMemory() // from here on
	before, total := g.read(), g.crowd.Totals()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	began := time.Now()
	index, refused := do(ctx)
	err := refused
	if err == nil {
		err = g.crowd.Await(ctx, index)
	}
	took := figure(time.Since(began).Seconds())
	switch {
	case refused != nil && ctx.Err() == nil: // etcd cannot do it
		took = "failed: " + err.Error()
	case err != nil && ctx.Err() == nil:
		g.Fatal(err)
	case err != nil:
		took = fmt.Sprintf("not within %.0f min: %s have no lease", patience.Minutes(), thousands(g.crowd.Without()))
	}
	after := g.read()
	if after.served < before.served { // etcd has been started anew
		before.asked, before.served = 0, 0
	}
	g.row(thousands(g.hosts), g.how, what, took, thousands(int(g.crowd.Totals().Lists-total.Lists)),
		thousands(after.asked-before.asked), figure((after.carried-before.carried)/1e6),
		figure((after.served - before.served).Seconds()), thousands(g.etcd.PeakMemory()>>20),
		figure((after.used - before.used).Seconds()))
	return err == nil
}

// reading is of counters that only rise.
type reading struct {
	asked        int
	served, used time.Duration
	carried      float64 // bytes
}

func (g *gathering) read() reading {
	return reading{g.etcd.Requests(), g.etcd.CPUTime(), cpuTime(g.B), loopback(g.B)}
}

// settle gives what follows from a row time to end: grants that are revoked, lists that
// were under way.
func (g *gathering) settle() {
	for range 10 {
		before := g.etcd.Requests()
		time.Sleep(2 * time.Second)
		if g.etcd.Requests() == before {
			return
		}
	}
}

// cpuTime is what this process has used.
func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// loopback is how many bytes have passed over lo.
func loopback(b *testing.B) (bytes float64) {
	counters, err := os.ReadFile("/proc/net/dev")
	_, line, _ := strings.Cut(string(counters), "lo:")
	if err == nil {
		_, err = fmt.Sscan(line, &bytes)
	}
	if err != nil {
		b.Fatal(err)
	}
	return bytes
}
