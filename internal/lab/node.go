package lab

import (
	"bytes"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"

	"flanneld/pkg/inet"
)

// Node is a network stack of its own: a host, a router or a container.
type Node struct {
	Name string
	IP   netip.Addr // its first address

	lab *Lab
	ips []netip.Addr // one of a family at the most, IP among them
	ns  *namespace
}

// Target is what can be pinged.
type Target interface {
	Address() netip.Addr
	String() string
}

// Address is the node's IP.
func (n *Node) Address() netip.Addr { return n.IP }

func (n *Node) String() string { return n.Name }

// In is the node's address of one family.
func (n *Node) In(f inet.Family) Target {
	n.lab.t.Helper()
	for _, ip := range n.ips {
		if inet.Of(ip) == f {
			return leg{n, ip}
		}
	}
	n.lab.t.Fatalf("lab: %s has no %v address, only %v", n.Name, f, n.ips)
	return nil
}

// leg is a node by one of its addresses.
type leg struct {
	*Node
	ip netip.Addr
}

func (l leg) Address() netip.Addr { return l.ip }

func (l leg) String() string { return fmt.Sprintf("%s by %v", l.Name, inet.Of(l.ip)) }

// Address stands for an address that is no Node's first one.
type Address string

// Address is the address itself.
func (a Address) Address() netip.Addr { return netip.MustParseAddr(string(a)) }

func (a Address) String() string { return string(a) }

// Netns is the name of the node's network namespace, for `ip netns exec`.
func (n *Node) Netns() string { return n.ns.name }

func (l *Lab) newNode(name string) *Node {
	l.t.Helper()
	ns, err := newNamespace(name)
	l.must("make "+name, err)
	l.onClose(func() { l.must("remove "+name, ns.delete()) })
	l.must("allow ping sockets on "+name, ns.sysctl("net/ipv4/ping_group_range", "0 0"))
	return &Node{Name: name, lab: l, ns: ns}
}

// Do runs f in the node's network namespace: sockets that f opens stay there.
func (n *Node) Do(f func() error) error { return n.ns.do(f) }

// Cmd is an [exec.Cmd] that starts on its node.
type Cmd struct {
	*exec.Cmd
	ns *namespace
}

// Command prepares a program that will run on the node.
func (n *Node) Command(name string, args ...string) *Cmd {
	return &Cmd{exec.Command(name, args...), n.ns}
}

// Start is exec.Cmd's, on the node: a process is born into the network namespace
// of the thread that starts it.
func (c *Cmd) Start() error { return c.ns.do(c.Cmd.Start) }

// Run is exec.Cmd's, on the node.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output is exec.Cmd's, on the node.
func (c *Cmd) Output() (out []byte, err error) {
	err = c.ns.do(func() (err error) { out, err = c.Cmd.Output(); return })
	return out, err
}

// CombinedOutput is exec.Cmd's, on the node.
func (c *Cmd) CombinedOutput() (out []byte, err error) {
	err = c.ns.do(func() (err error) { out, err = c.Cmd.CombinedOutput(); return })
	return out, err
}

// Run runs a program on the node and returns what it prints, without the last
// newline. It ends the test where the program fails.
func (n *Node) Run(name string, args ...string) string {
	n.lab.t.Helper()
	out, err := n.Try(name, args...)
	if err != nil {
		n.lab.t.Fatalf("%s# %s: %v\n%s", n.Name, strings.Join(append([]string{name}, args...), " "), err, out)
	}
	return out
}

// Try runs a program that may fail.
func (n *Node) Try(name string, args ...string) (string, error) {
	out, err := n.Command(name, args...).CombinedOutput()
	out = bytes.ReplaceAll(out, []byte(netnsGone), nil)
	return strings.TrimSuffix(string(out), "\n"), err
}

// netnsGone is what ip says, beside what it was asked, where a namespace of another lab ends
// while it looks up all of their names.
const netnsGone = "Error: Peer netns reference is invalid.\n"

// Shell runs a line of shell on the node, as Run does.
func (n *Node) Shell(line string) string {
	n.lab.t.Helper()
	return n.Run("sh", "-c", line)
}

// Sysctl writes a setting of the node's network: Sysctl("net/ipv4/ip_forward", "0").
func (n *Node) Sysctl(key, value string) {
	n.lab.t.Helper()
	n.lab.must("set "+key+" on "+n.Name, n.ns.sysctl(key, value))
}
