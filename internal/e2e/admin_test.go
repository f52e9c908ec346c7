package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"flanneld/internal/docs"
	"flanneld/internal/lab"
)

// The commands that write, from a machine without flanneld, with a TLS cluster.
func TestConfigAndLeaseCommands(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	store := l.Host("hdss7-12", "10.4.7.12/24")
	ca := lab.NewCA(t, "ca")
	etcd := l.EtcdOn(lab.EtcdOptions{TLS: ca}, store)
	desk := l.Host("hdss7-5", "10.4.7.5/24")
	flags := []string{"--etcd-endpoints=" + strings.Join(etcd.Endpoints(), ","), "--etcd-cafile=" + ca.File,
		"--etcd-certfile=" + etcd.ClientCert().CertFile, "--etcd-keyfile=" + etcd.ClientCert().KeyFile}
	run := func(what string, code int, stdin string, args []string, parts ...string) {
		t.Helper()
		out, got := input(t, desk, stdin, append(args, flags...)...)
		expect(t, what, out, got, code, parts...)
	}
	args := func(words ...string) []string { return words }

	run("no config", 1, "", args("config", "get"), "there is no config key yet")
	run("a wrong one", 1, "", args("config", "set", `{"Network":"172.7.0.0/16","Backend":{"Type":"vxlan","VNI":-1}}`), `Backend.VNI "-1" is not a VXLAN network identifier`)
	login := newMachine(t, desk)
	login.installCommand("FLANNELD_ETCD_ENDPOINTS="+strings.Join(etcd.Endpoints(), ","), "FLANNELD_ETCD_CAFILE=/ca.pem",
		"FLANNELD_ETCD_CERTFILE=/client.pem", "FLANNELD_ETCD_KEYFILE=/client-key.pem")
	for to, from := range map[string]string{"/ca.pem": ca.File, "/client.pem": etcd.ClientCert().CertFile, "/client-key.pem": etcd.ClientCert().KeyFile} {
		login.put(from, to, 0o600)
	}
	if said := login.types(docs.Containing(t, "docs/configuration.md", "flanneld config get")); !strings.Contains(said, "written: "+hostGW) {
		t.Errorf("the first config: %s", said)
	}
	login.shows(docs.Containing(t, "docs/configuration.md", "hdss7-21# flanneld config get"))
	login.types(docs.Containing(t, "docs/configuration.md", "\"DirectRouting\": true"))
	if said, page := login.types(docs.Containing(t, "docs/configuration.md", "\"SubnetMax\": \"172.7.239.192\"")),
		docs.Containing(t, "docs/configuration.md", "from 172.7.16.0 to 172.7.239.192").Text; said != strings.TrimSpace(page) {
		t.Errorf("the page has\n%s\nand the command prints\n%s", page, said)
	}
	login.shows(docs.Containing(t, "docs/configuration.md", "\"VNI\": -1"))
	login.shows(docs.Containing(t, "docs/configuration.md", "\"Directroutng\": true"))
	run("reserved", 0, "", args("lease", "reserve", "172.7.22.0/24", "10.4.7.22"), "172.7.22.0/24 is reserved for 10.4.7.22")

	// A host that comes takes what is reserved for it, and keeps it so.
	h21 := &node{Host: l.Host("hdss7-21", "10.4.7.21/24").SubnetEnv("172.7.21.1/24")}
	h22 := &node{Host: l.Host("hdss7-22", "10.4.7.22/24").SubnetEnv("172.7.99.1/24")}
	for _, n := range []*node{h21, h22} {
		n.daemon = n.Flanneld()
		n.daemon.WaitReady()
	}
	if node := etcd.Get(leases + "172.7.22.0-24"); node == nil || node.TTL != 0 || !strings.Contains(node.Value, "10.4.7.22") {
		t.Errorf("reservation: %+v", node)
	}
	if log := h22.daemon.Log(); strings.Contains(log, "0001") ||
		strings.Count(log, `expires="never, it is a reservation"`) != 2 { // held, ready
		t.Errorf("the log of a reservation:\n%s", log)
	}
	run("listed", 0, "", args("lease", "list"), "SUBNET         PUBLIC IP  BACKEND  LEASE\n172.7.21.0/24  10.4.7.21  host-gw  lease until ", "\n172.7.22.0/24  10.4.7.22  host-gw  reserved, without expiry\n")
	out, _ := input(t, desk, "", append(args("lease", "list", "-o", "json"), flags...)...)
	var list []struct {
		Subnet   netip.Prefix `json:"subnet"`
		PublicIP netip.Addr   `json:"public_ip"`
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 2 || list[1].PublicIP.String() != "10.4.7.22" {
		t.Errorf("%v: %s", err, out)
	}
	etcd.Set(leases+"172.7.33.0-24", `{"PublicIP":"127.0.0.1"}`)
	wrong := `the key "` + leases + `172.7.33.0-24" is no lease: it has PublicIP "127.0.0.1", which lies in 127.0.0.0/8, where no host can be reached`
	run("one that is none", 0, "", args("lease", "list"), "flanneld: "+wrong+"\n")
	h21.daemon.WaitLog(`"Ignoring the key \"` + leases + `172.7.33.0-24\""`)
	run("the same, removed", 0, "y\n", args("lease", "release", "--now", "172.7.33.0/24"), strings.ReplaceAll(wrong, `"`+leases+`172.7.33.0-24"`, leases+"172.7.33.0-24")+".\nRemove it?", "the key "+leases+"172.7.33.0-24 is removed")
	run("released", 0, "", args("lease", "release", "172.7.22.0/24"), "is no longer reserved")
	run("released twice", 1, "", args("lease", "release", "172.7.22.0/24"), "is not reserved")
	run("reserved again", 0, "", args("lease", "reserve", "172.7.22.0/24", "10.4.7.22"), "is reserved")

	// What moves hosts is asked about.
	const narrow = `{"Network":"172.7.0.0/16","SubnetMax":"172.7.21.0","Backend":{"Type":"host-gw"}}`
	run("no answer", 1, "", args("config", "set", narrow), "1 host must leave their subnets once", "172.7.22.0/24 of 10.4.7.22", "Write it? [y/N]", "nothing was written; --yes answers beforehand")
	run("no", 1, "n\n", args("config", "set", narrow), "nothing was written")
	if got := etcd.Get(configKey).Value; got != hostGW {
		t.Errorf("the config is %s", got)
	}
	run("yes, from a file", 0, narrow, args("config", "set", "--yes", "-"), "written: ")
	time.Sleep(5 * time.Second) // a running host stays
	if env := read(t, h22.SubnetFile()); !strings.Contains(env, "172.7.22.1") {
		t.Errorf("the edit has moved the host:\n%s", env)
	}
	h22.daemon.Restart()
	lab.Eventually(t, soon, "the host to move at its start", func() error {
		if env := read(t, h22.SubnetFile()); strings.Contains(env, "172.7.22.1") {
			return fmt.Errorf("%s", env)
		}
		return nil
	})
	run("what is left behind", 0, "", args("config", "check"), "the lease of 172.7.22.0/24 by 10.4.7.22 does not fit it")
	run("removed, after a question", 0, "y\n", args("lease", "release", "--now", "172.7.22.0/24"), "Remove the lease? [y/N]", "is removed")
	run("a directory", 1, "", args("config", "get", "--etcd-prefix=/elsewhere"), "there is no config key yet: /elsewhere/config is in neither of etcd's stores, v2 and v3; a config key lies at "+configKey+" in etcd's v2 store: ")
	etcd.Stop()
	run("no etcd", 1, "", args("config", "get"), "connection refused")
}
