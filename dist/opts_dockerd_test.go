package dist_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// What dockerds of some versions are asked, and how they answer.
const (
	dockerd2010 = "#!/bin/sh\n[ \"$*\" = --help ] && cat <<END\n      --bip string      Specify network bridge IP\n      --config-file string      Daemon configuration file\n"
	dockerd28   = dockerd2010 + "      --allow-direct-routing      Allow remote access to published ports on\n"
	dockerd29   = dockerd28 + "      --bridge-accept-fwmark string      In bridge networks, accept\n      --firewall-backend string      Firewall backend to use,\n"
	hangs       = "#!/bin/sh\nsleep 60\n"
	fails       = "#!/bin/sh\necho cannot >&2\nexit 1\n"
)

const (
	daemonJSON = "etc/docker/daemon.json"
	nftables   = `{"firewall-backend": "nftables"}`
	plain      = " --bip=172.7.21.1/24 --ip-masq=true --mtu=1500"
	direct     = " --allow-direct-routing=true"
	mark       = " --bridge-accept-fwmark=0x1000/0x1000"
)

// TestOptsOfDockerds: each dockerd gets what it needs, and none gets what would
// keep it from starting.
func TestOptsOfDockerds(t *testing.T) {
	at := func(file, content string) map[string]string { return map[string]string{file: content} }
	unit := "[Service]\nEnvironmentFile=-/etc/default/docker\nExecStart=/usr/sbin/dockerd -H fd:// --firewall-backend=nftables $DOCKER_OPTS\n"
	inJSON := func(option, setting string) string {
		return option + " is left out, as /etc/docker/daemon.json has \"" + setting + "\""
	}
	for name, tc := range map[string]struct {
		dockerd string // "": none
		files   map[string]string
		present string // in DOCKER_OPTS
		flags   string
		want    string
		said    string
	}{
		"20.10":                {dockerd: dockerd2010, want: plain},
		"29 with iptables":     {dockerd: dockerd29, want: plain},
		"29 with -r":           {dockerd: dockerd29, flags: "-r", want: plain + direct},
		"20.10 with -r":        {dockerd: dockerd2010, flags: "-r", want: plain, said: "--allow-direct-routing=true is left out, as this dockerd does not know it\n"},
		"none with -r":         {flags: "-r", want: plain + direct},
		"one that hangs":       {dockerd: hangs, want: plain},
		"it hangs, with -r":    {dockerd: hangs, flags: "-r", want: plain, said: "`dockerd --help` does not list its options\n--allow-direct-routing=true is left out, as this dockerd may not know it\n"},
		"it fails, with -r":    {dockerd: fails, flags: "-r", want: plain, said: "`dockerd --help` does not list its options\n--allow-direct-routing=true is left out, as this dockerd may not know it\n"},
		"29 by daemon.json":    {dockerd: dockerd29, files: at(daemonJSON, nftables), want: plain + direct + mark},
		"and -r":               {dockerd: dockerd29, files: at(daemonJSON, nftables), flags: "-r", want: plain + direct + mark},
		"over many lines":      {dockerd: dockerd29, files: at(daemonJSON, "{\r\n\t\"firewall-backend\"\r\n:\r\n\"nftables\"\r\n}"), want: plain + direct + mark},
		"set to iptables":      {dockerd: dockerd29, files: at(daemonJSON, `{"firewall-backend": "iptables"}`), want: plain},
		"broken, all the same": {dockerd: dockerd29, files: at(daemonJSON, `{"firewall-backend": "nftables",,`), want: plain + direct + mark},
		"broken":               {dockerd: dockerd29, files: at(daemonJSON, "\x00\xff{{\"firewall-backend"), want: plain},
		"it fails, nftables":   {dockerd: fails, files: at(daemonJSON, nftables), want: plain + direct + mark, said: "`dockerd --help` does not list its options\n"},
		"none, nftables":       {files: at(daemonJSON, nftables), want: plain + direct + mark},
		"20.10, nftables": {dockerd: dockerd2010, files: at(daemonJSON, nftables), want: plain,
			said: "--allow-direct-routing=true is left out, as this dockerd does not know it\n--bridge-accept-fwmark=0x1000/0x1000 is left out, as this dockerd does not know it\n"},
		"by the variable":           {dockerd: dockerd29, present: "-D --firewall-backend=nftables", want: "-D --firewall-backend=nftables" + plain + direct + mark},
		"in two words":              {dockerd: dockerd29, present: "--firewall-backend nftables -D", want: "--firewall-backend nftables -D" + plain + direct + mark},
		"by /etc/default":           {dockerd: dockerd29, files: at("etc/default/docker", "DOCKER_OPTS=\"--firewall-backend=nftables\"\n"), want: plain + direct + mark},
		"commented out":             {dockerd: dockerd29, files: at("etc/default/docker", " #DOCKER_OPTS=\"--firewall-backend=nftables\"\n"), want: plain},
		"by /etc/sysconfig":         {dockerd: dockerd29, files: at("etc/sysconfig/docker", "OPTIONS=--firewall-backend=nftables\n"), want: plain + direct + mark},
		"by the unit":               {dockerd: dockerd29, files: at("units/docker.service", unit), want: plain + direct + mark},
		"by /etc's unit":            {dockerd: dockerd29, files: at("etc/systemd/system/docker.service", unit), want: plain + direct + mark},
		"by a drop-in":              {dockerd: dockerd29, files: at("etc/systemd/system/docker.service.d/a.conf", unit), want: plain + direct + mark},
		"another config file":       {dockerd: dockerd29, present: "--config-file=/etc/d.json", files: at("etc/d.json", nftables), want: "--config-file=/etc/d.json" + plain + direct + mark},
		"a mark of somebody else":   {dockerd: dockerd29, present: "--bridge-accept-fwmark=1", files: at(daemonJSON, nftables), want: "--bridge-accept-fwmark=1" + plain + direct, said: "--bridge-accept-fwmark=0x1000/0x1000 is left out, as dockerd is given another --bridge-accept-fwmark: set it to 0x1000/0x1000 there\n"},
		"given already":             {dockerd: dockerd29, present: "--allow-direct-routing", files: at(daemonJSON, nftables), want: "--allow-direct-routing" + plain + mark},
		"given, and a variable":     {dockerd: dockerd29, files: at("units/docker.service", "[Service]\nExecStart=/usr/bin/dockerd --firewall-backend=nftables --allow-direct-routing $DOCKER_OPTS\n"), want: plain + mark},
		"both in daemon.json":       {dockerd: dockerd29, files: at(daemonJSON, `{"firewall-backend":"nftables","allow-direct-routing":true,"bridge-accept-fwmark":"1/1"}`), want: plain, said: inJSON(direct[1:], "allow-direct-routing") + "\n" + inJSON(mark[1:], "bridge-accept-fwmark") + ": set it to 0x1000/0x1000 there\n"},
		"-r and daemon.json":        {dockerd: dockerd29, flags: "-r", files: at(daemonJSON, `{"allow-direct-routing":false}`), want: plain, said: inJSON(direct[1:], "allow-direct-routing") + ": set it to true there\n"},
		"mtu in daemon.json":        {dockerd: dockerd2010, files: at(daemonJSON, `{"mtu": 1400, "ip-masq":false}`), want: " --bip=172.7.21.1/24", said: inJSON("--ip-masq=true", "ip-masq") + ": remove it there\n" + inJSON("--mtu=1500", "mtu") + ": remove it there\n"},
		"bip in daemon.json":        {dockerd: dockerd2010, files: at(daemonJSON, `{"bip" : "172.7.21.1/24"}`), want: plain[len(" --bip=172.7.21.1/24"):], said: inJSON("--bip=172.7.21.1/24", "bip") + ": remove it there\n"},
		"another bip there":         {dockerd: dockerd2010, files: at(daemonJSON, `{"bip":"172.7.99.1/24"}`), want: plain, said: "dockerd will not start: remove \"bip\" from /etc/docker/daemon.json, as it is not 172.7.21.1/24\n"},
		"in a value, not a setting": {dockerd: dockerd2010, files: at(daemonJSON, `{"labels":["\"mtu\":1"]}`), want: plain},
	} {
		t.Run(name, func(t *testing.T) {
			eachShell(t, func(t *testing.T, shell []string) {
				o := newOpts(t, shell, subnetEnv("false"))
				o.said = tc.said
				dockerd := filepath.Join(o.host, "bin", "dockerd")
				if tc.dockerd == "" {
					if err := os.Remove(dockerd); err != nil {
						t.Fatal(err)
					}
				} else {
					write(t, dockerd, tc.dockerd, 0o755)
				}
				for file, content := range tc.files {
					write(t, filepath.Join(o.host, file), content, 0o644)
				}
				args := []string{"-c"}
				if tc.flags != "" {
					args = append(args, tc.flags)
				}
				began := time.Now()
				o.writes("DOCKER_OPTS=\""+tc.want+"\"\n", []string{"DOCKER_OPTS=" + tc.present}, args...)
				if took := time.Since(began); took > 20*time.Second {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}
