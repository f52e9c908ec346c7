package lab

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/client/v2"
)

// report prints, after a failure, the state of each host.
func (l *Lab) report() {
	l.t.Helper()
	for _, h := range l.hosts {
		var out strings.Builder
		for _, d := range h.daemons {
			fmt.Fprintf(&out, "%s# tail %s\n%s\n", h, d.log, tail(d.wholeLog(), 40))
		}
		for _, line := range []string{
			"cat " + h.SubnetFile(),
			"ip -brief addr",
			"ip route",
			"ip -6 route | grep -v ^fe80:: || true",
			"ip -d link show type vxlan",
			"ip neigh",
			"nstat -as | grep -E 'NoRoute|Discard|Unreach|Error|Drop|Expire' || true", // where packets were lost
			"bridge fdb show | grep ' dst ' || true",
			"iptables-save",
			"ip6tables-save",
		} {
			if text, err := h.Try("sh", "-c", line); strings.TrimSpace(text) != "" || err != nil {
				fmt.Fprintf(&out, "%s# %s\n%s\n", h, line, tail(text, 40))
			}
		}
		l.t.Logf("%s:\n%s", h, indent(out.String()))
	}
	if l.etcd != nil {
		l.t.Logf("etcd:\n%s", indent(l.etcd.summary()))
	}
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if cut := len(all) - lines; cut > 0 {
		return fmt.Sprintf("(%d lines left out)\n%s", cut, strings.Join(all[cut:], "\n"))
	}
	return strings.Join(all, "\n")
}

func indent(text string) string {
	return "\t" + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n\t")
}

// summary is every key with its value and TTL, or why they cannot be read: a
// failure may have ended etcd.
func (e *Etcd) summary() string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	reply, err := client.NewKeysAPI(e.client).Get(ctx, "/", &client.GetOptions{Recursive: true, Sort: true})
	if err != nil {
		return err.Error()
	}
	var out strings.Builder
	var walk func(*client.Node)
	walk = func(n *client.Node) {
		if !n.Dir {
			fmt.Fprintf(&out, "%s = %s (TTL %d)\n", n.Key, n.Value, n.TTL)
		}
		for _, child := range n.Nodes {
			walk(child)
		}
	}
	walk(reply.Node)
	return out.String()
}
