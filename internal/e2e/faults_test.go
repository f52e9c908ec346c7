package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"flanneld/internal/lab"
)

func TestStartBeforeEtcd(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	etcd := l.EtcdOn(lab.EtcdOptions{}, l.Host("hdss7-12", "10.4.7.12/24"))
	etcd.Set(configKey, hostGW)
	etcd.Stop()
	h := l.Host("hdss7-21", "10.4.7.21/24").SubnetEnv("172.7.21.1/24")
	d := h.Flanneld()
	d.WaitLog("Cannot read from etcd")
	time.Sleep(3 * time.Second)
	if n := strings.Count(d.Log(), "Cannot read from etcd"); n != 1 {
		t.Errorf("an unreachable etcd is reported %d times within seconds:\n%s", n, d.Log())
	}
	if strings.Contains(d.Log(), "10.4.7.12") == false {
		t.Errorf("the log does not name the endpoint:\n%s", d.Log())
	}
	etcd.Start()
	d.WaitReady()
}

// A stopped etcd harms nobody, and a newcomer is routed once it is back.
func TestEtcdOutage(t *testing.T) {
	c := start(t, hostGW, "hdss7-21", "hdss7-22")
	c.losesNothing("etcd is away for a minute", func() {
		c.etcd.Stop()
		newcomer := c.join("hdss7-23")
		before, start := c.hosts[0].daemon.CPUTime(), time.Now()
		time.Sleep(time.Minute)
		if cpu := c.hosts[0].daemon.CPUTime() - before; cpu > time.Since(start)/50 { // measured: far below; the race detector costs most of it
			t.Errorf("%v of CPU time in a minute", cpu)
		}
		c.etcd.Start()
		back := time.Now()
		newcomer.daemon.WaitReady()
		eventually(t, "the newcomer's route", func() string {
			if strings.Contains(c.hosts[0].routes(), "172.7.23.0/24 via 10.4.7.23") {
				return "there"
			}
			return "missing"
		}, "there")
		t.Logf("newcomer routed %v after etcd's return", time.Since(back).Round(time.Millisecond))
	})
}

func TestConfigKey(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	etcd := l.EtcdOn(lab.EtcdOptions{}, l.Host("hdss7-12", "10.4.7.12/24"))
	d := l.Host("hdss7-21", "10.4.7.21/24").Flanneld()
	d.WaitLog("no config key yet")
	for _, tt := range []struct{ config, says string }{
		{`{`, "Config key is wrong: is not JSON"},
		{`[]`, "must be a JSON object"},
		{`{"Backend":{"Type":"host-gw"}}`, "Network is missing"},
		{`{"Network":"172.7.0.0"}`, `Network "172.7.0.0" is not an IPv4 network`},
		{`{"Network":"172.7.0.0/29"}`, `Network "172.7.0.0/29" is too small`},
		{`{"Network":"172.7.0.0/16","SubnetMin":"10.0.0.0"}`, `SubnetMin "10.0.0.0" is outside of Network`},
		{`{"Network":"172.7.0.0/16","Backend":{"Type":"ipip"}}`, `Backend.Type "ipip" is not supported: the types are `},
		{`{"Network":"172.7.0.0/16","Backend":{"Type":"ipsec"}}`, `is not supported: the types are alloc, host-gw, udp, vxlan, wireguard; wireguard encrypts as ipsec does`},
		{`{"Network":"172.7.0.0/16","Backend":{"Type":"vxlan","VNI":16777216}}`, `Backend.VNI "16777216" is not`},
		{`{"Network":"172.7.0.0/16","Backend":{"Type":"vxlan","Port":"x"}}`, `Backend.Port must be a JSON whole number`},
	} {
		etcd.Set(configKey, tt.config)
		d.WaitLog(strings.ReplaceAll(tt.says, `"`, `\"`))
	}
	etcd.Set(configKey, hostGW)
	d.WaitReady()
}

// What others write into the store becomes neither a crash nor a route.
func TestHostileLeases(t *testing.T) {
	c := start(t, hostGW, "hdss7-21", "hdss7-22")
	before := c.hosts[0].routes()
	hostile := map[string]string{
		"172.7.31.0-24":   `garbage`,
		"172.7.32.0-24":   `{"PublicIP":"$(reboot)"}`,
		"172.7.33.0-24":   `{"PublicIP":"0.0.0.0"}`,
		"172.7.34.0-24":   `{"PublicIP":"127.0.0.1","BackendType":"host-gw"}`,
		"172.7.35.0-24":   `{"PublicIP":"224.0.0.9","BackendType":"host-gw"}`,
		"172.7.36.0-24":   `{"PublicIP":"10.4.7.21","BackendType":"host-gw"}`, // this host's own address
		"172.7.37.0-24":   `{"PublicIP":"172.7.37.5","BackendType":"host-gw"}`,
		"0.0.0.0-0":       `{"PublicIP":"10.4.7.99","BackendType":"host-gw"}`,
		"10.4.7.0-24":     `{"PublicIP":"10.4.7.99","BackendType":"host-gw"}`,
		"172.7.0.0-16":    `{"PublicIP":"10.4.7.99","BackendType":"host-gw"}`,
		"172.7.21.128-25": `{"PublicIP":"10.4.7.99","BackendType":"host-gw"}`,
		"nonsense\n\x1b[": `{"PublicIP":"10.4.7.99","BackendType":"host-gw"}`,
		"172.7.38.0-33":   `{"PublicIP":"10.4.7.99","BackendType":"host-gw"}`,
	}
	for key, value := range hostile {
		c.etcd.Set(leases+key, value)
	}
	c.etcd.Set(leases+"172.7.24.0-24", `{"PublicIP":"10.4.7.24","BackendType":"host-gw"}`)
	eventually(t, "the one good route", c.hosts[0].routes, before+"\n172.7.24.0/24 via 10.4.7.24 dev ens33 proto 77")
	for _, key := range []string{"172.7.31.0-24", "172.7.32.0-24", "172.7.33.0-24", "10.4.7.0-24", "172.7.21.128-25"} {
		c.hosts[0].daemon.WaitLog(key)
		if n := strings.Count(c.hosts[0].daemon.Log(), `network/subnets/`+key); n != 1 {
			t.Errorf("%s is reported %d times:\n%s", key, n, c.hosts[0].daemon.Log())
		}
	}
	c.hosts[0].daemon.WaitLog("172.7.36.0-24") // a reservation of this host's: by what else is there, it is ignored or awaits a restart
	if log := c.hosts[0].daemon.Log(); strings.Contains(log, "\x1b") {
		t.Error("a key reached the log unescaped")
	}
	c.connected(soon)
}

func TestSubnetFile(t *testing.T) {
	c := start(t, hostGW)
	h := &node{Host: c.Host("hdss7-21", "10.4.7.21/24")}
	if err := os.WriteFile(h.SubnetFile(), []byte("FLANNEL_SUBNET=what?\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	h.daemon = h.Flanneld()
	h.daemon.WaitLog("FLANNEL_SUBNET has the value")
	h.daemon.WaitReady()
	h.daemon.Stop()

	// One that cannot be written: a file stands where its folder should be.
	folder := filepath.Join(h.Dir(), "run")
	if err := os.WriteFile(folder, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	d := h.Flanneld("--subnet-file=" + folder + "/subnet.env")
	d.WaitLog("Cannot write the subnet file " + folder)
	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}
	d.WaitReady()
	read(t, folder+"/subnet.env")
}

func TestTwoWantTheSameSubnet(t *testing.T) {
	c := start(t, hostGW, "hdss7-21", "hdss7-22")
	clone := c.Host("clone", "10.4.7.66/24").SubnetEnv("172.7.21.1/24")
	d := clone.Flanneld()
	d.WaitReady()
	d.WaitLog(`leased to another host: taking another one" subnet="172.7.21.0/24" publicIP="10.4.7.66" holder="10.4.7.21"`)
	d.WaitLog(`holderKey="/coreos.com/network/subnets/172.7.21.0-24" advice="if that host is gone for good" run="flanneld lease release --now 172.7.21.0/24 `)
	if env := read(t, clone.SubnetFile()); strings.Contains(env, "172.7.21.1") {
		t.Errorf("the clone has\n%s", env)
	}
	if v := c.etcd.Get(leases + "172.7.21.0-24").Value; v != `{"PublicIP":"10.4.7.21","BackendType":"host-gw"}` {
		t.Errorf("the lease became %s", v)
	}
	c.connected(soon)
}

func TestSecondDaemon(t *testing.T) {
	c := start(t, hostGW, "hdss7-21", "hdss7-22")
	c.losesNothing("a second daemon", func() {
		second := c.hosts[0].Flanneld()
		if code := second.Wait(soon); code != 1 {
			t.Errorf("exit code %d", code)
		}
		if want := fmt.Sprintf("another flanneld (pid %d)", c.hosts[0].daemon.PID); !strings.Contains(second.Log(), want) {
			t.Errorf("it says not %q:\n%s", want, second.Log())
		}
	})
	if !c.hosts[0].daemon.Running() {
		t.Error("the first one ended")
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	c := start(t, hostGW)
	h := c.join("hdss7-21")
	h.daemon.WaitReady()
	start := time.Now()
	h.daemon.Stop()
	if took := time.Since(start); took > 10*time.Second { // a second without the race detector and a busy machine
		t.Errorf("the end took %v", took)
	}
}
