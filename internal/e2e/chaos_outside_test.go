package e2e

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/etcd/client/v2"

	"flanneld/internal/lab"
	"flanneld/pkg/inet"
)

// outsideFaults are what comes from outside of the daemon and is not as it should
// be, without an end or a limit of its own.
var outsideFaults = []fault{
	{"etcd member hung", ofEtcd, func(c *cluster, _ *node, random *rand.Rand) { c.memberHangs(random.IntN(3)) }},
	{"etcd member talks nonsense", ofEtcd, func(c *cluster, _ *node, random *rand.Rand) {
		c.memberTalksNonsense(random.IntN(3), time.Duration(2+random.IntN(4))*time.Second)
	}},
	{configStorm, ofEtcd, func(c *cluster, _ *node, _ *rand.Rand) { c.configStorm() }},
	{"config of the hosts' own network", ofEtcd, func(c *cluster, _ *node, random *rand.Rand) {
		c.underlayConfig(time.Duration(1+random.IntN(4)) * time.Second)
	}},
	{"iptables hangs", ofDaemon, func(_ *cluster, n *node, random *rand.Rand) {
		n.iptablesHangs(time.Duration(2+random.IntN(4)) * time.Second)
	}},
	{"health port flooded", ofDaemon, func(c *cluster, n *node, random *rand.Rand) {
		n.flood(c, time.Duration(1+random.IntN(3))*time.Second)
	}},
}

// newcomer is the key of a lease that comes and goes; nobody is there.
func (c *cluster) newcomer() string { return leases + c.families().LeaseKey(249) }

// newcomerWG is the public key of a newcomer.
const newcomerWG = "bmV3Y29tZXIgbmV3Y29tZXIgbmV3Y29tZXIgbmV3Y28="

// newcomerLease is one that all hosts take, whatever the mode.
func (c *cluster) newcomerLease() string {
	switch m := c.mode(); m.name {
	case byHostGW.name:
		return leaseOf(c.families(), "host-gw", 12)
	case byUDP.name:
		return `{"PublicIP":"10.4.7.12"}`
	case byWireGuard.name:
		data := `{"PublicKey":"` + newcomerWG + `","Port":51820}`
		lease := strings.TrimSuffix(leaseOf(c.families(), "wireguard", 12), "}")
		return lease + `,"BackendData":` + data + `,"BackendV6Data":` + data + "}"
	}
	return leaseOf(c.families(), "vxlan", 12)
}

// knows tells whether a subnet has a route, or where one leads to all of them, whether the daemon
// says that it is reached.
func (n *node) knows(subnet string) bool {
	routes := n.routes()
	if strings.Contains(routes, subnet+" ") || !strings.Contains(routes, wholeOf[n.families()[0]]) {
		return strings.Contains(routes, subnet+" ")
	}
	out, _ := n.Try(n.daemon.Program(), "status", "-o", "json")
	return strings.Contains(out, subnet)
}

// memberHangs stops a member, which hosts may be following, and has them hear of
// a lease that comes in that time.
func (c *cluster) memberHangs(which int) {
	c.t.Helper()
	lease := c.newcomerLease()
	m, other := c.etcd.Members[which], (which+1)%3
	m.Signal(syscall.SIGSTOP)
	// What is sent to the stopped member, or by way of it, it may do as soon as it
	// goes on. So another one is asked, and only once there is a leader.
	transport := &http.Transport{DialContext: c.stores[other].Dial}
	defer transport.CloseIdleConnections()
	at, err := client.New(client.Config{
		Endpoints: []string{c.etcd.Members[other].Endpoint}, Transport: transport,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	keys := client.NewKeysAPI(at)
	lab.Eventually(c.t, 2*soon, "the other members to have a leader", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := keys.Get(ctx, configKey, &client.GetOptions{Quorum: true})
		return err
	})
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	if _, err := keys.Set(ctx, c.newcomer(), lease, nil); err != nil {
		c.t.Fatal(err)
	}
	for _, n := range c.hosts {
		lab.Eventually(c.t, 4*soon, n.Name+" to hear of a lease while "+m.Endpoint+" hangs", func() error {
			for _, f := range n.families() {
				if !n.knows(lab.Subnet(f, 249)) {
					return fmt.Errorf("it has the routes\n%s", n.routes())
				}
			}
			return nil
		})
	}
	m.Signal(syscall.SIGCONT)
	c.etcd.Delete(c.newcomer())
}

// memberTalksNonsense puts somebody else in a member's place.
func (c *cluster) memberTalksNonsense(which int, d time.Duration) {
	c.t.Helper()
	m := c.etcd.Members[which]
	m.Kill()
	listener := c.stores[which].Listen("tcp", ":2379")
	var requests atomic.Uint32
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		replies := []struct {
			code int
			text string
		}{
			{200, "<html>It works!</html>"}, {200, "{}"}, {200, `{"action":"get","node":{"key":"/","dir":true}}`}, {404, "not found"}, {502, ""},
		}
		reply := replies[int(requests.Add(1))%len(replies)]
		w.WriteHeader(reply.code)
		_, _ = io.WriteString(w, reply.text)
	})}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener)
	}()
	time.Sleep(d)
	server.Close()
	<-ended
	m.Start()
}

// configStorm changes the VNI ten times a second.
func (c *cluster) configStorm() {
	c.t.Helper()
	before := c.etcd.Get(configKey).Value
	for i := range 30 {
		c.etcd.Set(configKey, c.families().Config(fmt.Sprintf(`{"Type":"vxlan","VNI":%d}`, 100+i)))
		time.Sleep(100 * time.Millisecond)
	}
	c.etcd.Set(configKey, before)
}

// underlayConfig gives the containers the hosts' own addresses.
func (c *cluster) underlayConfig(d time.Duration) {
	c.t.Helper()
	before := c.etcd.Get(configKey).Value
	c.etcd.Set(configKey, strings.NewReplacer("172.7.0.0/16", "10.4.7.0/24", "fc00:7::/48", "fd00:4::/48").Replace(c.families().Config(`{"Type":"vxlan"}`)))
	time.Sleep(d)
	c.etcd.Set(configKey, before)
}

// hangingIPTables is a folder for somebody's PATH with an iptables that does not
// return while there is a file "hang" beside it.
func hangingIPTables(c *cluster, h *lab.Host) string {
	c.t.Helper()
	dir := filepath.Join(h.Dir(), "sbin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		c.t.Fatal(err)
	}
	for _, program := range []string{"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"} {
		path, err := exec.LookPath(program)
		if err != nil {
			c.t.Fatal(err)
		}
		script := fmt.Sprintf("#!/bin/sh\n[ -e %s/hang ] && exec sleep 600\nexec %s \"$@\"\n", dir, path)
		if err := os.WriteFile(filepath.Join(dir, program), []byte(script), 0o755); err != nil {
			c.t.Fatal(err)
		}
	}
	return dir
}

// iptablesHangs begins as a rule is to be repaired.
func (n *node) iptablesHangs(d time.Duration) {
	hang := filepath.Join(n.Dir(), "sbin", "hang")
	_ = os.WriteFile(hang, nil, 0o644)
	for _, f := range n.families() {
		_, _ = n.Try(map[inet.Family]string{inet.IPv4: "iptables", inet.IPv6: "ip6tables"}[f], "-F", "FORWARD")
	}
	time.Sleep(d)
	_ = os.Remove(hang)
}

// flood holds many idle connections to the health port.
func (n *node) flood(c *cluster, d time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	var open []net.Conn
	for range 1200 {
		if conn, err := n.Dial(ctx, "tcp", "127.0.0.1:2401"); err == nil { // the daemon may have been restarted
			open = append(open, conn)
		}
	}
	defer func() {
		for _, conn := range open {
			conn.Close()
		}
	}()
	_, _ = n.Try("ip", "route", "flush", "table", "main", "172.7.249.0/24")
	time.Sleep(d)
}
