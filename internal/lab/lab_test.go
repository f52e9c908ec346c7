package lab

import (
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"flanneld/pkg/inet"
)

func TestTheLabIsAWorldOfItsOwn(t *testing.T) {
	if os.Getuid() != 0 {
		t.Errorf("user ID %d, want 0", os.Getuid())
	}
	if os.Getpid() == 1 {
		t.Error("the program is process 1, which would have to reap the others' children")
	}
	outer, err := OuterPID()
	if err != nil || outer < 1 {
		t.Errorf("OuterPID() = %d, %v", outer, err)
	}
	if entries, err := os.ReadDir("/sys/class/net"); err == nil && len(entries) == 0 {
		t.Error("no loopback")
	}
}

func TestHostsOfOneSegment(t *testing.T) {
	t.Parallel()
	l := New(t)
	start := time.Now()
	h12 := l.Host("hdss7-12", "10.4.7.12/24")
	h21 := l.Host("hdss7-21", "10.4.7.21/24")
	h22 := l.Host("hdss7-22", "10.4.7.22/24")
	took := time.Since(start)
	t.Logf("3 hosts took %v", took)
	if took > 2*time.Second {
		t.Errorf("3 hosts took %v", took)
	}
	h21.Ping(h22)
	h22.Ping(h12)
	const want = "default via 10.4.7.254 dev ens33 \n10.4.7.0/24 dev ens33 proto kernel scope link src 10.4.7.21 "
	if got := h21.Run("ip", "route"); got != want {
		t.Errorf("routes:\n%s\nwant:\n%s", got, want)
	}
	if got := h21.Shell("cat /proc/sys/net/ipv4/ip_forward"); got != "1" {
		t.Errorf("ip_forward is %q", got)
	}
	if out, err := h21.Try("sh", "-c", "echo no; exit 3"); out != "no" || err == nil {
		t.Errorf("Try = %q, %v", out, err)
	}
}

// eachStack runs a test on hosts with IPv4, with IPv6 and with both.
func eachStack(t *testing.T, test func(t *testing.T, s Stack)) {
	t.Parallel()
	for _, s := range Stacks {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			test(t, s)
		})
	}
}

func TestRouterJoinsSegments(t *testing.T) {
	eachStack(t, func(t *testing.T, s Stack) {
		l := New(t)
		a := l.Host("a", s.Addrs(7, 21))
		b := l.Host("b", s.Addrs(8, 21))
		for _, f := range s {
			if a.answered(b.In(f), 50*time.Millisecond, 50*time.Millisecond) {
				t.Fatal("segments are connected without a router")
			}
		}
		gw := l.Router("gw", s.Gateway(7), s.Gateway(8))
		for _, f := range s {
			a.Reach(b.In(f), waitTimeout) // the neighbour entry of the gateway may be a failed one
			b.Ping(a.In(f))
			b.Ping(gw.In(f))
		}
	})
}

// handRoutes is a lab whose host-gw routes were written by hand.
func handRoutes(t *testing.T, s Stack) (l *Lab, c1, c2 *Container) {
	l = New(t)
	h21 := l.Host("hdss7-21", s.Addrs(7, 21)).SubnetEnv(s.Bridges(21)...)
	h22 := l.Host("hdss7-22", s.Addrs(7, 22)).SubnetEnv(s.Bridges(22)...)
	for _, f := range s {
		h21.Run("ip", "route", "add", Subnet(f, 22), "via", h22.In(f).Address().String())
		h22.Run("ip", "route", "add", Subnet(f, 21), "via", h21.In(f).Address().String())
	}
	return l, h21.Container("c1"), h22.Container("c2")
}

func TestContainersSeeEachOthersAddresses(t *testing.T) {
	eachStack(t, func(t *testing.T, s Stack) {
		_, c1, c2 := handRoutes(t, s)
		c3 := c1.Host.Container("c3")
		server := c2.HTTPServer()
		for _, f := range s {
			first := strings.Replace(Stack{f}.Bridges(21)[0], "1/", "2/", 1)
			if got := c1.In(f).Address().String(); !strings.HasPrefix(first, got+"/") || c3.In(f).Address() != c1.In(f).Address().Next() {
				t.Errorf("the first container's address is %v, want %s; the second one's is %v", got, first, c3.In(f).Address())
			}
			c1.Ping(c2.In(f))
			c2.Ping(c1.In(f))
			own, host := c1.In(f).Address().String(), c1.Host.In(f).Address().String()
			url := URL(c2.In(f))
			if body := c1.Get(url); body != "hello, "+own+"\n" {
				t.Errorf("body %q", body)
			}
			c1.Host.Get(url)
			seen := server.Clients()
			if got, want := seen[len(seen)-2:], []string{own, host}; !slices.Equal(got, want) {
				t.Errorf("the server saw %v, want %v", got, want)
			}
			iptables := map[inet.Family]string{inet.IPv4: "iptables", inet.IPv6: "ip6tables"}[f]
			c1.Host.Run(iptables, "-t", "nat", "-A", "POSTROUTING", "-s", Subnet(f, 21), "!", "-o", "docker0", "-j", "MASQUERADE")
			if body := c1.Get(url); body != "hello, "+host+"\n" {
				t.Errorf("masqueraded body %q", body)
			}
			if _, err := c1.TryGet(strings.TrimSuffix(url, ":80/") + ":81/"); err == nil {
				t.Error("an answer from a port that nobody listens on")
			}
		}
	})
}

// TestDockerGetsAnotherFamily: IPv4 works on while containers get IPv6.
func TestDockerGetsAnotherFamily(t *testing.T) {
	t.Parallel()
	four, both := Stacks[0], Stacks[2]
	l := New(t)
	h := l.Host("hdss7-21", both.Addrs(7, 21)).SubnetEnv(four.Bridges(21)...)
	c1, c2 := h.Container("c1"), h.Container("c2")
	pings := c1.PingEvery(time.Millisecond, c2)
	h.UpdateDocker() // there is nothing new
	if len(c1.ips) != 1 {
		t.Errorf("the container has %v", c1.ips)
	}
	h.SubnetEnv(both.Bridges(21)...).UpdateDocker()
	c3 := h.Container("c3")
	for _, f := range both {
		c1.Ping(c2.In(f))
		c3.Ping(c2.In(f))
		h.Ping(c3.In(f))
	}
	if got := c3.In(inet.IPv6).Address().String(); got != "fc00:7:0:21::4" {
		t.Errorf("the third container has %s", got)
	}
	if s := pings.Stop(); s.Lost > 0 {
		t.Errorf("meanwhile %v", s)
	}
}

func TestDockerTakesTheMTUOfSubnetEnv(t *testing.T) {
	t.Parallel()
	h := New(t).Host("hdss7-21", "10.4.7.21/24").SubnetEnv("172.7.21.1/26")
	content, err := os.ReadFile(h.SubnetFile())
	if err != nil {
		t.Fatal(err)
	}
	vxlan := strings.Replace(string(content), "MTU=1500", "MTU=1450", 1)
	if err := os.WriteFile(h.SubnetFile(), []byte(vxlan), 0o644); err != nil {
		t.Fatal(err)
	}
	c := h.Container("c1")
	for _, link := range []string{h.Run("ip", "addr", "show", "docker0"), c.Run("ip", "addr", "show", "eth0")} {
		if !strings.Contains(link, "mtu 1450") || !strings.Contains(link, "/26") {
			t.Errorf("want mtu 1450 and a /26:\n%s", link)
		}
	}
}

func TestEtcdRunsOnAHost(t *testing.T) {
	eachStack(t, func(t *testing.T, s Stack) {
		l := New(t)
		h12 := l.Host("hdss7-12", s.Addrs(7, 12))
		h21 := l.Host("hdss7-21", s.Addrs(7, 21))
		l.Etcd().Set("/coreos.com/network/config", "{}")
		at := map[inet.Family]string{inet.IPv4: "http://10.4.7.12:2379", inet.IPv6: "http://[fd00:4::12]:2379"}[s[0]]
		url := at + "/v2/keys/coreos.com/network/config"
		if got := l.Etcd().Endpoints(); !slices.Equal(got, []string{at}) {
			t.Errorf("endpoints %v", got)
		}
		if body := h21.Get(url); !strings.Contains(body, `"value":"{}"`) {
			t.Errorf("from another host: %s", body)
		}
		h12.Cut()
		hasty := h21.Client()
		hasty.Timeout = 100 * time.Millisecond
		if reply, err := hasty.Get(url); err == nil {
			t.Errorf("through a cut cable: %s", reply.Status)
		}
	})
}

func TestPingerCountsWhatIsLost(t *testing.T) {
	eachStack(t, func(t *testing.T, s Stack) {
		for _, f := range s {
			_, c1, c2 := handRoutes(t, s)
			countsWhatIsLost(t, c1, c2, f)
		}
	})
}

func countsWhatIsLost(t *testing.T, c1, peer *Container, f inet.Family) {
	c2 := peer.In(f)
	c1.Reach(c2, waitTimeout)
	const pace = 10 * time.Millisecond
	quiet := c1.PingEvery(pace, c2)
	time.Sleep(20 * pace)
	if s := quiet.Stop(); s.Lost != 0 || s.Sent < 2 || s.Gap != 0 {
		t.Errorf("undisturbed: %v", s)
	}

	disturbed := c1.PingEvery(pace, c2)
	time.Sleep(10 * pace)
	peer.Host.Cut()
	time.Sleep(20 * pace)
	peer.Host.Heal()
	time.Sleep(10 * pace)
	s := disturbed.Stop()
	if s.Lost < 2 || s.Lost > s.Sent-2 || s.Gap < 15*pace || s.Gap > 20*pace+time.Second {
		t.Errorf("cut for %v: %v", 20*pace, s)
	}

	c1.Host.LinkDown() // not even sent
	unsent := c1.PingEvery(pace, c2)
	time.Sleep(5 * pace)
	if s := unsent.Stop(); s.Lost != s.Sent || s.Sent < 2 {
		t.Errorf("link down: %v", s)
	}
	c1.Host.LinkUp()
	if c1.answered(c2, 100*time.Millisecond, 100*time.Millisecond) {
		t.Error("the route has survived the link, which Linux does not do")
	}
	c1.Reach(c1.Host.In(f), waitTimeout) // by IPv6 the address is tried for a duplicate first
}

// A test that gets no CPU reads answers late. They came in time all the same.
func TestAnswersThatAreReadLateAreNotLost(t *testing.T) {
	eachStack(t, func(t *testing.T, s Stack) {
		_, c1, c2 := handRoutes(t, s)
		c1.Reach(c2, waitTimeout)
		p := c1.newPinger(c2)
		defer p.conn.Close()
		for range 10 {
			p.send()
		}
		time.Sleep(lostAfter + 100*time.Millisecond)
		p.waitUntil(past)
		p.receiving.Go(p.receive)
		if got := p.Stop(); got.Sent != 10 || got.Lost > 0 {
			t.Errorf("read after %v: %v", lostAfter, got)
		}
	})
}

func TestStatsFindTheLongestGap(t *testing.T) {
	t.Parallel()
	at := func(ms int) time.Time { return time.UnixMilli(int64(ms)) }
	for row, want := range map[string]Stats{
		"":          {},
		"+++":       {Sent: 3},
		"+-+":       {Sent: 3, Lost: 1, Rows: 1, Gap: 10 * time.Millisecond},
		"--+":       {Sent: 3, Lost: 2, Rows: 1, Gap: 20 * time.Millisecond},
		"+---":      {Sent: 4, Lost: 3, Rows: 1, Gap: 30 * time.Millisecond},
		"--+-+--++": {Sent: 9, Lost: 5, Rows: 3, Gap: 20 * time.Millisecond},
		"+-!+!":     {Sent: 5, Lost: 3, Rows: 2, Gap: 20 * time.Millisecond, Refused: syscall.ENETUNREACH},
	} {
		p := &Pinger{}
		for i, c := range row {
			sent := ping{sent: at(10 * i), answered: c == '+'}
			if c == '!' {
				sent.refused = syscall.ENETUNREACH
			}
			p.pings = append(p.pings, sent)
		}
		if lost := strings.IndexByte(row, '-'); lost >= 0 {
			want.First = at(10 * lost)
		}
		if got := p.stats(at(10 * len(row))); got != want {
			t.Errorf("%q: %v, want %v", row, got, want)
		}
	}
}

// TestNeighbourStats: of two tables, one has been looked into since the machine started.
func TestNeighbourStats(t *testing.T) {
	t.Parallel()
	var looked uint64
	all := neighbourStats()
	for _, s := range all {
		looked += s[lookups]
	}
	if len(all) < 2 || looked == 0 {
		t.Errorf("the kernel's numbers are %v", all)
	}
}

func TestStatsOfBoth(t *testing.T) {
	t.Parallel()
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	none := Stats{Sent: 3}
	early := Stats{Sent: 5, Lost: 2, Rows: 1, Gap: time.Second, First: at(10), Refused: syscall.EPERM, Dropped: Dropped{7, 1, 0}}
	late := Stats{Sent: 7, Lost: 1, Rows: 1, Gap: time.Minute, First: at(20), Refused: syscall.ENETUNREACH, Dropped: Dropped{3, 2, 1}}
	for _, tt := range []struct{ a, b, want Stats }{
		{none, none, Stats{Sent: 6}},
		{none, early, Stats{Sent: 8, Lost: 2, Rows: 1, Gap: time.Second, First: at(10), Refused: syscall.EPERM, Dropped: Dropped{7, 1, 0}}},
		{early, late, Stats{Sent: 12, Lost: 3, Rows: 2, Gap: time.Minute, First: at(10), Refused: syscall.EPERM, Dropped: Dropped{7, 2, 1}}},
	} {
		if got, back := tt.a.Plus(tt.b), tt.b.Plus(tt.a); got != tt.want || back != tt.want {
			t.Errorf("%v and %v: %v, and the other way round %v, want %v", tt.a, tt.b, got, back, tt.want)
		}
	}
}

func TestFaultsOfALink(t *testing.T) {
	eachStack(t, func(t *testing.T, s Stack) {
		l := New(t)
		a := l.Host("a", s.Addrs(7, 21))
		b := l.Host("b", s.Addrs(7, 22))
		for _, f := range s {
			faultsOfALink(t, l, a, b.In(f), f)
		}
	})
}

func faultsOfALink(t *testing.T, l *Lab, a *Host, b Target, f inet.Family) {
	carrier := func() string { return a.Run("ip", "-br", "link", "show", "ens33") }
	network, own, flag := "10.4.7.0/24", "10.4.7.21/24", "-4"
	if f == inet.IPv6 {
		network, own, flag = "fd00:4::/64", "fd00:4::21/64", "-6"
	}
	routes := func() string {
		return strings.Join(slices.DeleteFunc(strings.Split(a.Run("ip", flag, "route"), "\n"), func(r string) bool { return strings.HasPrefix(r, "fe80::") }), "\n")
	}
	before := routes()

	a.Cut()
	if !strings.Contains(carrier(), "LOWER_UP") || a.answered(b, 50*time.Millisecond, 50*time.Millisecond) {
		t.Errorf("cut: %s", carrier())
	}
	a.Heal()
	a.Reach(b, waitTimeout)

	l.Segment(network).Cut()
	if !strings.Contains(carrier(), "LOWER_UP") || a.answered(b, 50*time.Millisecond, 50*time.Millisecond) {
		t.Errorf("segment cut: %s", carrier())
	}
	l.Segment(network).Heal()
	a.Reach(b, waitTimeout)

	a.Unplug()
	Eventually(t, waitTimeout, "the carrier to go", func() error {
		if c := carrier(); !strings.Contains(c, "NO-CARRIER") {
			return errors.New(c)
		}
		return nil
	})
	a.Plug()
	a.Reach(b, waitTimeout)

	a.LinkDown()
	if kept := strings.Contains(a.Run("ip", "addr", "show", "ens33"), own); routes() != "" || kept != (f == inet.IPv4) {
		t.Errorf("down: %s\n%s", routes(), a.Run("ip", "addr"))
	}
	a.LinkUp()
	if got := routes(); got != before || strings.Count(got, "\n") != 1 {
		t.Errorf("up again: %s, was %s", got, before)
	}
	a.Reach(b, waitTimeout)
}
