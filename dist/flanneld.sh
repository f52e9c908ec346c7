#!/bin/sh
# Starts flanneld, for supervisord or by hand. Further flags may follow on the
# command line. The values are the tutorial's, for host hdss7-21.

public_ip=10.4.7.21 # how other hosts reach this one
iface=ens33         # the interface with that address
endpoints=https://10.4.7.12:2379,https://10.4.7.21:2379,https://10.4.7.22:2379
cert=./cert/client.pem # these three are empty where the endpoints are http
key=./cert/client-key.pem
ca=./cert/ca.pem
subnet_file=./subnet.env # written by flanneld; one written by hand before it starts names the subnet to ask for
healthz_port=2401        # 0: no health check
ip_masq=false            # true: also set docker's --ip-masq=false (mk-docker-opts.sh does)

cd "$(dirname "$0")" || exit 1

# exec: no shell stays between supervisord and flanneld, so signals arrive.
exec ./flanneld \
	--public-ip="$public_ip" \
	--iface="$iface" \
	--etcd-endpoints="$endpoints" \
	--etcd-certfile="$cert" \
	--etcd-keyfile="$key" \
	--etcd-cafile="$ca" \
	--subnet-file="$subnet_file" \
	--healthz-port="$healthz_port" \
	--ip-masq="$ip_masq" \
	"$@"
