package e2e

import (
	"strings"

	"flanneld/internal/lab"
)

// The tutorial's files, for hdss7-21 and, with its numbers, for any other host.
const (
	startScript = `#!/bin/sh
./flanneld \
  --public-ip=10.4.7.21 \
  --etcd-endpoints=https://10.4.7.12:2379,https://10.4.7.21:2379,https://10.4.7.22:2379 \
  --etcd-keyfile=./cert/client-key.pem \
  --etcd-certfile=./cert/client.pem \
  --etcd-cafile=./cert/ca.pem \
  --iface=ens33 \
  --subnet-file=./subnet.env \
  --healthz-port=2401
`
	subnetEnv = `FLANNEL_NETWORK=172.7.0.0/16
FLANNEL_SUBNET=172.7.21.1/24
FLANNEL_MTU=1500
FLANNEL_IPMASQ=false
`
	supervisorINI = `[program:flanneld-7-21]
command=/usr/local/flannel/flanneld.sh
numprocs=1
directory=/usr/local/flannel
autostart=true
autorestart=true
startsecs=30
startretries=3
exitcodes=0,2
stopsignal=QUIT
stopwaitsecs=10
user=root
redirect_stderr=true
stdout_logfile=/data/logs/flanneld/flanneld.stdout.log
stdout_logfile_maxbytes=64MB
stdout_logfile_backups=4
stdout_capture_maxbytes=1MB
stdout_events_enabled=false
`
	flanneldLog = "/data/logs/flanneld/flanneld.stdout.log"

	// supervisorConf is what CentOS's package brings along.
	supervisorConf = `[unix_http_server]
file=/run/supervisor.sock
[supervisord]
logfile=/var/log/supervisord.log
pidfile=/run/supervisord.pid
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix:///run/supervisor.sock
[include]
files = supervisord.d/*.ini
`
)

// centOSFirewall is what its iptables.service begins with.
const centOSFirewall = `
	iptables -A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT
	iptables -A INPUT -p icmp -j ACCEPT
	iptables -A INPUT -i lo -j ACCEPT
	iptables -A INPUT -p tcp -m state --state NEW -m tcp --dport 22 -j ACCEPT
	iptables -A INPUT -j REJECT --reject-with icmp-host-prohibited
	iptables -A FORWARD -j REJECT --reject-with icmp-host-prohibited`

// rulesByHand are those of step 6.
const rulesByHand = `set -e
	iptables -t nat -D POSTROUTING -s 172.7.21.0/24 ! -o docker0 -j MASQUERADE
	iptables -t nat -I POSTROUTING -s 172.7.21.0/24 ! -d 172.7.0.0/16 ! -o docker0 -j MASQUERADE
	iptables -t filter -D INPUT -j REJECT --reject-with icmp-host-prohibited
	iptables -t filter -D FORWARD -j REJECT --reject-with icmp-host-prohibited
	iptables -t filter -I FORWARD -d 172.7.21.0/24 -j ACCEPT`

// number is 21 of hdss7-21.
func (m *machine) number() string { return m.Name[len("hdss7-"):] }

// own is one of the tutorial's texts with this host's numbers. The endpoints
// are the same on all of them.
func (m *machine) own(text string) string {
	n := m.number()
	return strings.NewReplacer("https://10.4.7.21", "https://10.4.7.21", "10.4.7.21", "10.4.7."+n,
		"172.7.21.", "172.7."+n+".", "fd00:4::21", "fd00:4::"+n, "fc00:7:0:21:", "fc00:7:0:"+n+":", "flanneld-7-21", "flanneld-7-"+n).Replace(text)
}

// install lays out the release and writes the two files by hand, as step 1 does.
func (m *machine) install(script string) {
	m.t.Helper()
	const folder = "/usr/local/flannel-0.12"
	m.put(lab.Binary(m.t), folder+"/flanneld", 0o755)
	m.put("../../dist/mk-docker-opts.sh", folder+"/mk-docker-opts.sh", 0o755)
	m.sh("ln -s flannel-0.12 /usr/local/flannel")
	m.write("/usr/local/flannel/subnet.env", m.own(subnetEnv), 0o644)
	m.write("/usr/local/flannel/flanneld.sh", m.own(script), 0o755)
}
