package iptables

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"flanneld/pkg/firewall/firewalltest"
	"flanneld/pkg/inet"
)

// Short names for what most tests here are about.
const (
	ourMasq    = firewalltest.OurMasq
	ourForward = firewalltest.OurForward
)

var (
	everything  = firewalltest.Everything
	onlyForward = firewalltest.OnlyForward

	lines = firewalltest.Lines
)

// fake is an iptables in memory that fails on demand. A chain is a list of what
// follows "-A CHAIN ".
type fake struct {
	mu       sync.Mutex
	chains   map[chainID][]string
	policies map[chainID]string
	fail     error             // what save returns
	failPut  map[chainID]error // what a script for a chain meets
	refuses  []string          // what no line that adds may have
	spoils   string            // what is written as another value
	saves    int
	writes   int
	tries    int      // of the writes
	scripts  []string // as they were written
}

func newFake() *fake {
	f := &fake{chains: map[chainID][]string{}, policies: map[chainID]string{}, failPut: map[chainID]error{}}
	for _, h := range []chainID{natChain, forwardChain, rawChain} {
		f.builtin(h)
	}
	return f
}

var (
	natChain     = natPostrouting
	forwardChain = filterForward
	userChain    = chainID{"filter", "DOCKER-USER"}
	rawChain     = rawPrerouting

	everyAbility = abilities{comments: true, marks: true, randomFully: true, filter: true, raw: true}
)

func (f *fake) builtin(h chainID) { f.chains[h], f.policies[h] = nil, "ACCEPT" }

// load takes what iptables-save prints.
func (f *fake) load(saved string) {
	table := ""
	for line := range strings.Lines(saved) {
		w := strings.Fields(line)
		switch {
		case len(w) == 0:
		case strings.HasPrefix(line, "*"):
			table = strings.TrimSpace(line[1:])
		case strings.HasPrefix(line, ":"):
			h := chainID{table, w[0][1:]}
			f.chains[h] = nil
			if delete(f.policies, h); w[1] != "-" {
				f.policies[h] = w[1]
			}
		case w[0] == "-A":
			h := chainID{table, w[1]}
			_, spec, _ := strings.Cut(strings.TrimSpace(line[3:]), " ")
			f.chains[h] = append(f.chains[h], spec)
		}
	}
}

func (f *fake) save(context.Context) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.saves++
	return f.text(), f.fail
}

func (f *fake) text() string {
	var b strings.Builder
	homes := slices.SortedFunc(maps.Keys(f.chains), func(a, b chainID) int { return strings.Compare(a.String(), b.String()) })
	for _, table := range []string{"raw", "nat", "filter"} {
		fmt.Fprintf(&b, "*%s\n", table)
		for _, h := range homes {
			if policy := f.policies[h]; h.table == table {
				if policy == "" {
					policy = "-"
				}
				fmt.Fprintf(&b, ":%s %s [0:0]\n", h.chain, policy)
			}
		}
		for _, h := range homes {
			for _, spec := range f.chains[h] {
				if h.table == table {
					fmt.Fprintf(&b, "-A %s %s\n", h.chain, spec)
				}
			}
		}
		b.WriteString("COMMIT\n")
	}
	return b.String()
}

// restore is iptables-restore --noflush.
func (f *fake) restore(_ context.Context, script string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	lines := strings.Split(script, "\n")
	if len(lines) < 3 || lines[0][0] != '*' || lines[len(lines)-2] != "COMMIT" {
		return fmt.Errorf("not the script of one table: %q", script)
	}
	chains := map[chainID][]string{}
	for h, specs := range f.chains {
		chains[h] = slices.Clone(specs)
	}
	var written []string
	for _, line := range lines[1 : len(lines)-2] {
		adds := !strings.HasPrefix(line, "-D ")
		if adds && slices.ContainsFunc(f.refuses, func(s string) bool { return strings.Contains(lines[0]+" "+line, s) }) {
			return fmt.Errorf("line %q failed", line)
		}
		if f.spoils != "" && adds {
			line = strings.ReplaceAll(line, f.spoils, "0x1000/0x0")
		}
		written = append(written, line)
		if err := apply(chains, f.failPut, lines[0][1:], line); err != nil {
			return fmt.Errorf("line %q: %w", line, err)
		}
	}
	f.chains = chains
	f.writes++
	f.scripts = append(f.scripts, strings.Join(written, "\n"))
	if strings.Contains(script, tryChain) {
		f.tries++
	}
	return nil
}

func apply(chains map[chainID][]string, fail map[chainID]error, table, line string) error {
	command, rest, _ := strings.Cut(line, " ")
	chain, spec, _ := strings.Cut(rest, " ")
	h := chainID{table, chain}
	if strings.HasPrefix(command, ":") {
		if h := (chainID{table, command[1:]}); h.chain == tryChain {
			chains[h] = nil
		}
		return nil
	}
	specs, exists := chains[h]
	if !exists {
		return fmt.Errorf("no such chain")
	}
	if fail[h] != nil {
		return fail[h]
	}
	switch command {
	case "-A":
		chains[h] = append(specs, spec)
	case "-I":
		number, rule, _ := strings.Cut(spec, " ")
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || n > len(specs)+1 {
			return fmt.Errorf("no such place")
		}
		chains[h] = slices.Insert(specs, n-1, rule)
	case "-D":
		i := slices.Index(specs, spec)
		if i < 0 {
			return fmt.Errorf("no such rule")
		}
		chains[h] = slices.Delete(specs, i, i+1)
	case "-F":
		chains[h] = nil
	case "-X":
		if len(specs) > 0 {
			return fmt.Errorf("not empty")
		}
		for _, others := range chains {
			if slices.ContainsFunc(others, func(s string) bool { return strings.HasSuffix(s, "-j "+chain) }) {
				return fmt.Errorf("in use")
			}
		}
		delete(chains, h)
	default:
		return fmt.Errorf("unknown command")
	}
	return nil
}

func (f *fake) has(_ context.Context, h chainID, rule string) bool {
	return slices.Contains(f.rules(h), rule)
}

// newCommand finds iptables and asks what it is able to do.
func newCommand(ctx context.Context, f inet.Family, dirs ...string) (command, error) {
	c, err := locate(f, dirs...)
	if err != nil {
		return c, err
	}
	return c.ask(ctx)
}

// do changes the fake as another program would.
func (f *fake) do(change func(f *fake)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *fake) rules(h chainID) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.chains[h])
}
