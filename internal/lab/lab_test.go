package lab

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
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

func TestRouterJoinsSegments(t *testing.T) {
	t.Parallel()
	l := New(t)
	a := l.Host("a", "10.4.7.21/24")
	b := l.Host("b", "10.4.8.21/24")
	if a.answered(b, 50*time.Millisecond, 50*time.Millisecond) {
		t.Fatal("segments are connected without a router")
	}
	l.Router("gw", "10.4.7.254/24", "10.4.8.254/24")
	a.Reach(b, waitTimeout) // the neighbour entry of the gateway may be a failed one
	b.Ping(a)
	a.Ping(Address("10.4.8.254"))
}

// handRoutes is a lab whose host-gw routes were written by hand.
func handRoutes(t *testing.T) (l *Lab, c1, c2 *Container) {
	l = New(t)
	h21 := l.Host("hdss7-21", "10.4.7.21/24").SubnetEnv("172.7.21.1/24")
	h22 := l.Host("hdss7-22", "10.4.7.22/24").SubnetEnv("172.7.22.1/24")
	h21.Run("ip", "route", "add", "172.7.22.0/24", "via", "10.4.7.22")
	h22.Run("ip", "route", "add", "172.7.21.0/24", "via", "10.4.7.21")
	return l, h21.Container("c1"), h22.Container("c2")
}

func TestContainersSeeEachOthersAddresses(t *testing.T) {
	t.Parallel()
	_, c1, c2 := handRoutes(t)
	if c1.IP != netip.MustParseAddr("172.7.21.2") || c1.Host.Container("c3").IP != netip.MustParseAddr("172.7.21.3") {
		t.Errorf("the first container's address is %v", c1.IP)
	}
	c1.Ping(c2)
	c2.Ping(c1)
	server := c2.HTTPServer()
	if body := c1.Get(server.URL); body != "hello, 172.7.21.2\n" {
		t.Errorf("body %q", body)
	}
	c1.Host.Get(server.URL)
	if got, want := server.Clients(), []string{"172.7.21.2", "10.4.7.21"}; !slices.Equal(got, want) {
		t.Errorf("the server saw %v, want %v", got, want)
	}
	c1.Host.Run("iptables", "-t", "nat", "-A", "POSTROUTING", "-s", "172.7.21.0/24", "!", "-o", "docker0", "-j", "MASQUERADE")
	if body := c1.Get(server.URL); body != "hello, 10.4.7.21\n" {
		t.Errorf("masqueraded body %q", body)
	}
	if _, err := c1.TryGet("http://172.7.22.2:81/"); err == nil {
		t.Error("an answer from a port that nobody listens on")
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
	t.Parallel()
	l := New(t)
	h12 := l.Host("hdss7-12", "10.4.7.12/24")
	h21 := l.Host("hdss7-21", "10.4.7.21/24")
	l.Etcd().Set("/coreos.com/network/config", "{}")
	const url = "http://10.4.7.12:2379/v2/keys/coreos.com/network/config"
	if body := h21.Get(url); !strings.Contains(body, `"value":"{}"`) {
		t.Errorf("from another host: %s", body)
	}
	h12.Cut()
	hasty := h21.Client()
	hasty.Timeout = 100 * time.Millisecond
	if reply, err := hasty.Get(url); err == nil {
		t.Errorf("through a cut cable: %s", reply.Status)
	}
}

func TestPingerCountsWhatIsLost(t *testing.T) {
	t.Parallel()
	_, c1, c2 := handRoutes(t)
	c1.Ping(c2)
	const pace = 10 * time.Millisecond
	quiet := c1.PingEvery(pace, c2)
	time.Sleep(20 * pace)
	if s := quiet.Stop(); s.Lost != 0 || s.Sent < 2 || s.Gap != 0 {
		t.Errorf("undisturbed: %v", s)
	}

	disturbed := c1.PingEvery(pace, c2)
	time.Sleep(10 * pace)
	c2.Host.Cut()
	time.Sleep(20 * pace)
	c2.Host.Heal()
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
	c1.Ping(c1.Host)
}

func TestStatsFindTheLongestGap(t *testing.T) {
	t.Parallel()
	at := func(ms int) time.Time { return time.UnixMilli(int64(ms)) }
	for row, want := range map[string]Stats{
		"":          {},
		"+++":       {Sent: 3},
		"+-+":       {Sent: 3, Lost: 1, Gap: 10 * time.Millisecond},
		"--+":       {Sent: 3, Lost: 2, Gap: 20 * time.Millisecond},
		"+---":      {Sent: 4, Lost: 3, Gap: 30 * time.Millisecond},
		"--+-+--++": {Sent: 9, Lost: 5, Gap: 20 * time.Millisecond},
	} {
		p := &Pinger{}
		for i, c := range row {
			p.pings = append(p.pings, ping{sent: at(10 * i), answered: c == '+'})
		}
		if got := p.stats(at(10 * len(row))); got != want {
			t.Errorf("%q: %v, want %v", row, got, want)
		}
	}
}

func TestFaultsOfALink(t *testing.T) {
	t.Parallel()
	l := New(t)
	a := l.Host("a", "10.4.7.21/24")
	b := l.Host("b", "10.4.7.22/24")
	carrier := func() string { return a.Run("ip", "-br", "link", "show", "ens33") }
	routes := func() int { return len(strings.Split(a.Run("ip", "route"), "\n")) }

	a.Cut()
	if !strings.Contains(carrier(), "LOWER_UP") || a.answered(b, 50*time.Millisecond, 50*time.Millisecond) {
		t.Errorf("cut: %s", carrier())
	}
	a.Heal()
	a.Reach(b, waitTimeout)

	l.Segment("10.4.7.0/24").Cut()
	if !strings.Contains(carrier(), "LOWER_UP") || a.answered(b, 50*time.Millisecond, 50*time.Millisecond) {
		t.Errorf("segment cut: %s", carrier())
	}
	l.Segment("10.4.7.0/24").Heal()
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
	if a.Run("ip", "route") != "" || !strings.Contains(a.Run("ip", "addr", "show", "ens33"), "10.4.7.21/24") {
		t.Errorf("down: %s\n%s", a.Run("ip", "route"), a.Run("ip", "addr"))
	}
	a.LinkUp()
	if routes() != 2 {
		t.Errorf("up again: %s", a.Run("ip", "route"))
	}
	a.Reach(b, waitTimeout)
}
