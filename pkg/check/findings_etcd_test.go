package check

import (
	"errors"
	"io/fs"
	"testing"
	"time"

	"flanneld/pkg/condition"
	"flanneld/pkg/status"
)

// member has etcd unreadable, with this trouble.
func member(t Trouble) func(*Facts) {
	return func(f *Facts) {
		is(f, condition.EtcdUnreadable, "timeout")
		m := &f.Members[0]
		m.Trouble, m.Host, m.Port, m.From, m.Issuer = t, "10.4.7.12", "2379", here, "CN=office"
		m.Names = []string{"127.0.0.1", "localhost", "etcd.example", "10.9.9.9"}
	}
}

// TestEtcdFindings has etcd out of reach, each time with a fix of its own.
func TestEtcdFindings(t *testing.T) {
	for _, tt := range []finding{
		{"etcd away", func(f *Facts) { is(f, condition.EtcdUnreadable, "timeout"); f.Members[0].Err = errors.New("strange") }, "etcd", Fault, "etcd cannot be read: timeout; https://10.4.7.12:2379: strange", logFix},
		{"etcd refuses", member(Refused), "etcd", Fault, "etcd cannot be read: timeout; https://10.4.7.12:2379: nobody listens on its port", "systemctl start etcd   # on 10.4.7.12, where then ss -tln must show port 2379"},
		{"etcd on its usual port", func(f *Facts) {
			f.Status.Etcd.Endpoints = []string{"https://10.4.7.12:4001", "https://10.4.7.13:4001"}
			member(Refused)(f)
			f.Members[0].UsualPort, f.Members[0].URL = true, "https://10.4.7.12:4001"
		}, "etcd", Fault, "nobody listens on its port", "restart flanneld with --etcd-endpoints=https://10.4.7.12:2379,https://10.4.7.13:4001   # somebody listens there\nsystemctl start etcd"},
		{"etcd's port for its peers", func(f *Facts) {
			member("")(f)
			f.Members[0].UsualPort, f.Members[0].URL, f.Status.Etcd.Endpoints = true, "https://10.4.7.12:2380", []string{"https://10.4.7.12:2380"}
		}, "etcd", Fault, "not as etcd answers its clients", "restart flanneld with --etcd-endpoints=https://10.4.7.12:2379   # somebody"},
		{"endpoints without a port", func(f *Facts) {
			f.Status.Etcd.Endpoints = []string{"http://10.4.7.12", "http://10.4.7.13:2380", "http://[fd00::1]", "https://etcd.example/v"}
			member(Refused)(f)
			f.Members[0].URL, f.Members[0].Port, f.Members[0].UsualPort = "http://10.4.7.12", "80", true
		}, "etcd", Fault, "http://10.4.7.12: nobody listens on its port",
			"restart flanneld with '--etcd-endpoints=http://10.4.7.12:2379,http://10.4.7.13:2380,http://[fd00::1]:2379,https://etcd.example:2379/v'   # etcd's own port"},
		{"endpoints without a port at a host that is down", func(f *Facts) {
			f.Status.Etcd.Endpoints = []string{"http://10.4.7.12"}
			member(Dead)(f)
			f.Members[0].URL, f.Members[0].Port, f.Firewall = "http://10.4.7.12", "80", saved("filter", ":OUTPUT DROP [0:0]")
		}, "etcd", Fault, "does not answer pings either", "restart flanneld with --etcd-endpoints=http://10.4.7.12:2379   # etcd's own port\niptables -I OUTPUT -p tcp --dport 2379 -d 10.4.7.12 -j ACCEPT   # this host's own policy drops it\nping 10.4.7.12"},
		{"a web server at an endpoint without a port", func(f *Facts) {
			f.Status.Etcd.Endpoints = []string{"http://10.4.7.12"}
			member("")(f)
			f.Members[0].URL, f.Members[0].Port = "http://10.4.7.12", "80"
		}, "etcd", Fault, "http://10.4.7.12: it names no port, so 80 was tried", "restart flanneld with --etcd-endpoints=http://10.4.7.12:2379   # etcd's own port"},
		{"a firewall in front of etcd", member(Filtered), "etcd", Fault, "a firewall drops or rejects that", "iptables -I INPUT -p tcp --dport 2379 -s 10.4.7.21 -j ACCEPT   # on 10.4.7.12"},
		{"a firewall of this host's in front of etcd", func(f *Facts) {
			member(Filtered)(f)
			f.Firewall = saved("filter", "OUTPUT -p tcp -m tcp --dport 2379 -j DROP")
		}, "etcd", Fault, "a firewall drops or rejects that", "iptables -I OUTPUT -p tcp --dport 2379 -d 10.4.7.12 -j ACCEPT   # in front of this host's own: -A OUTPUT -p tcp"},
		{"a policy of this host's in front of etcd", func(f *Facts) { member(Dead)(f); f.Firewall = saved("filter", ":OUTPUT DROP [0:0]") }, "etcd", Fault, "does not answer pings either", "iptables -I OUTPUT -p tcp --dport 2379 -d 10.4.7.12 -j ACCEPT   # this host's own policy drops it\nping 10.4.7.12"},
		{"a table of this host's in front of etcd", func(f *Facts) {
			member(Filtered)(f)
			f.Firewall = append(f.Firewall, foreign("inet", "office", "OUTPUT -p tcp -j DROP"))
		}, "etcd", Fault, "a firewall", "nft insert rule inet office OUTPUT ip daddr 10.4.7.12 tcp dport 2379 accept"},
		{"etcd's host is down", member(Dead), "etcd", Fault, "its host does not answer pings either", "ping 10.4.7.12"},
		{"no route to etcd", member(NoRoute), "etcd", Fault, "this host has no route to it", "ip route get 10.4.7.12"},
		{"a name without an address", member(NoAddress), "etcd", Fault, "its name has no address", "getent hosts 10.4.7.12"},
		{"etcd speaks https", func(f *Facts) {
			f.Status.Etcd.Endpoints, f.Status.Etcd.CAFile = []string{"http://10.4.7.12:2379"}, ""
			member(SpeaksTLS)(f)
			f.Members[0].URL = "http://10.4.7.12:2379"
		}, "etcd", Fault, "http://10.4.7.12:2379: it speaks https", "restart flanneld with --etcd-endpoints=https://10.4.7.12:2379\nwith --etcd-cafile=FILE"},
		{"etcd speaks http", member(SpeaksPlain), "etcd", Fault, "it speaks http without TLS", "restart flanneld with --etcd-endpoints=http://10.4.7.12:2379"},
		{"an unknown authority", member(UnknownSigner), "etcd", Fault, "has signed its certificate", `restart flanneld with --etcd-cafile=FILE   # FILE: the authority "CN=office", in PEM`},
		{"another authority", func(f *Facts) { member(UnknownSigner)(f); f.Status.Etcd.CAFile = "/cert/ca.pem" }, "etcd", Fault, "has signed its certificate", "put the authority CN=office into /cert/ca.pem; flanneld uses it without a restart\nopenssl x509 -noout -subject -in /cert/ca.pem"},
		{"another name", member(OtherName), "etcd", Fault, "its certificate is not for that name or address, but for 127.0.0.1, localhost, etcd.example, 10.9.9.9",
			"restart flanneld with --etcd-endpoints=https://etcd.example:2379\nor give that etcd a certificate for 10.4.7.12, as its --cert-file"},
		{"no client certificate", member(RefusesClient), "etcd", Fault, "it wants a client certificate", "restart flanneld with --etcd-certfile=FILE --etcd-keyfile=FILE"},
		{"another client certificate", func(f *Facts) {
			member(RefusesClient)(f)
			f.Status.Etcd.CertFile, f.Status.Etcd.KeyFile = "/cert/client.pem", "/cert/client key.pem"
		}, "etcd", Fault, "it wants a client certificate", "put a certificate into /cert/client.pem (its key: '/cert/client key.pem') of an authority in etcd's --trusted-ca-file; flanneld uses it without a restart\nopenssl x509 -noout -issuer -dates -in /cert/client.pem"},
		{"a certificate is missing, and flanneld does not start", func(f *Facts) {
			f.Status, f.Daemon = nil, status.ErrNoDaemon
			f.Missing = []NeededFile{{"etcd-certfile", "/cert/client.pem", &fs.PathError{Op: "open", Path: "/cert/client.pem", Err: fs.ErrNotExist}}}
		}, "daemon", Fault, "it does not start without the file of --etcd-certfile: open /cert/client.pem: file does not exist", "put the right file in the place of /cert/client.pem\nsystemctl start flanneld"},
		{"certificates without https", func(f *Facts) {
			f.Status.Etcd.Endpoints, f.Certificates[0].NotAfter = []string{"http://10.4.7.12:2379"}, now.Add(-time.Hour)
		}, "certificates", Note, "flanneld's certificates have no effect, as no endpoint of etcd is https", ""},
		{"a certificate is missing, without https", func(f *Facts) {
			f.Status.Etcd.Endpoints = []string{"http://10.4.7.12:2379"}
			f.Certificates[0].Err = &fs.PathError{Op: "open", Path: "/cert/client.pem", Err: fs.ErrNotExist}
		}, "certificates", Fault, "flanneld does not start again without a file that it was given: open /cert/client.pem: file does not exist", "put the right file in the place of /cert/client.pem"},
		{"a certificate is missing", func(f *Facts) {
			f.Certificates[0].Err = &fs.PathError{Op: "open", Path: "/cert/client.pem", Err: fs.ErrNotExist}
			is(f, condition.EtcdUnreadable, "open /cert/client.pem")
		}, "certificates", Fault, "open /cert/client.pem: file does not exist", "put the right file in the place of /cert/client.pem   # flanneld uses it without a restart"},
		{"a credential of systemd's that expires", func(f *Facts) {
			f.Certificates[0].File, f.Certificates[0].NotAfter = "/run/credentials/flanneld.service/etcd-cert", now.Add(time.Hour)
		}, "certificates", Note, "/run/credentials/flanneld.service/etcd-cert expires on", "put a new certificate in its place; this is a copy of what LoadCredential=etcd-cert names (systemctl cat flanneld.service): change that, then systemctl restart flanneld.service"},
		{"a certificate that flanneld's user cannot read", func(f *Facts) {
			f.user = user{limited: true, uid: 977}
			f.Certificates[0].Err = &fs.PathError{Op: "open", Path: "/cert/client.pem", Err: fs.ErrPermission}
			denied(f, condition.EtcdUnreadable, "open /cert/client.pem")
		}, "certificates", Fault, "open /cert/client.pem: permission denied", "chown 977 /cert/client.pem"},
	} {
		tt.check(t, healthy())
	}
}
