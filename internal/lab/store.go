package lab

import (
	"strings"
)

// Etcd is the lab's store. The first call starts one member, on the first host.
func (l *Lab) Etcd() *Etcd {
	l.t.Helper()
	if l.etcd == nil {
		if len(l.hosts) == 0 {
			l.t.Fatalf("lab: etcd needs a host: add one before the first call of Etcd")
		}
		l.EtcdOn(EtcdOptions{}, l.hosts[0])
	}
	return l.etcd
}

// EtcdOn starts the lab's store with a member on each of the hosts; they replace
// o.Members. Etcd returns it from then on.
func (l *Lab) EtcdOn(o EtcdOptions, hosts ...*Host) *Etcd {
	l.t.Helper()
	if l.etcd != nil {
		l.t.Fatalf("lab: there is an etcd already: call EtcdOn before Etcd and Flanneld")
	}
	o.Members = nil
	for _, h := range hosts {
		o.Members = append(o.Members, EtcdMember{Netns: h.Netns(), IP: h.IP.String()})
	}
	l.etcd = StartEtcd(subTB{l.t, l}, o)
	return l.etcd
}

// clientFlags are flanneld's flags for its connection to the store.
func (e *Etcd) clientFlags() []string {
	flags := []string{"--etcd-endpoints=" + strings.Join(e.Endpoints(), ",")}
	if e.tls != nil {
		flags = append(flags,
			"--etcd-keyfile="+e.cert.KeyFile, "--etcd-certfile="+e.cert.CertFile, "--etcd-cafile="+e.tls.File)
	}
	return flags
}
