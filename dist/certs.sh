#!/bin/sh
# Makes the certificates of a lab: a CA, one client certificate, and one
# certificate for each etcd server. Keys of a real cluster's CA belong on a
# machine of their own.
set -eu
umask 077

dir=cert
days=3650

usage() {
	cat >&2 <<-'END'
		usage: certs.sh [-d dir] [-t days] [SERVER[,SERVER...]]...

		Each argument is one server with all the names and addresses it is called by;
		localhost and 127.0.0.1 are always added. What exists already is kept, so a
		server can be added later:
		  certs.sh -d cert 10.4.7.12 10.4.7.21,hdss7-21 10.4.7.22,hdss7-22
		makes in cert/
		  ca.pem, ca-key.pem          the CA; its key is needed only to make more
		  client.pem, client-key.pem  for flanneld and etcdctl
		  server-10.4.7.12.pem, server-10.4.7.12-key.pem, and so on, for etcd
		  -d DIR   where to (default cert)
		  -t DAYS  how long they are valid (default 3650)
	END
	exit 1
}

fail() {
	printf 'certs.sh: %s\n' "$*" >&2
	exit 1
}

while getopts d:t:h opt; do
	case $opt in
	d) dir=$OPTARG ;;
	t) days=$OPTARG ;;
	*) usage ;;
	esac
done
shift $((OPTIND - 1))
case $days in
'' | *[!0-9]*) fail "-t $days: not a number of days" ;;
esac
command -v openssl >/dev/null || fail "openssl is not installed"

# alt_names NAME,NAME... prints them as openssl's subjectAltName wants them.
alt_names() {
	printf 'DNS:localhost,IP:127.0.0.1'
	printf '%s\n' "$1" | tr , '\n' | while read -r name; do
		case $name in
		localhost | 127.0.0.1) ;;
		*:*) printf ',IP:%s' "$name" ;;
		*[!0-9.]*) printf ',DNS:%s' "$name" ;;
		*) printf ',IP:%s' "$name" ;;
		esac
	done
}

# exists NAME succeeds if the pair is there; half a pair is an error.
exists() {
	if [ -e "$dir/$1.pem" ] && [ -e "$dir/$1-key.pem" ]; then
		echo "$dir/$1.pem: kept"
		return 0
	fi
	for file in "$dir/$1.pem" "$dir/$1-key.pem"; do
		[ ! -e "$file" ] || fail "$file exists without the other half of $1.pem and $1-key.pem: add it, or move this one away"
	done
	return 1
}

run_openssl() { openssl "$@" 2>"$tmp/log" || fail "openssl $1: $(cat "$tmp/log")"; }

# make NAME EXTENSIONS [ISSUER] makes a pair; without an issuer it signs itself.
make() {
	cat >"$tmp/conf" <<-END
		[req]
		distinguished_name = dn
		prompt = no
		[dn]
		CN = $1
		[ext]
		subjectKeyIdentifier = hash
		$2
	END
	pair=$1
	if [ $# -eq 3 ]; then
		set -- -CA "$dir/$3.pem" -CAkey "$dir/$3-key.pem"
	else
		set -- -signkey "$tmp/key"
	fi
	run_openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 \
		-pkeyopt ec_param_enc:named_curve -out "$tmp/key"
	run_openssl req -new -sha256 -config "$tmp/conf" -key "$tmp/key" -out "$tmp/csr"
	run_openssl x509 -req -in "$tmp/csr" "$@" -set_serial "0x$(openssl rand -hex 16)" \
		-sha256 -days "$days" -extfile "$tmp/conf" -extensions ext -out "$tmp/cert"
	chmod 644 "$tmp/cert"
	# ln, unlike mv, never replaces a file.
	ln "$tmp/key" "$dir/$pair-key.pem"
	ln "$tmp/cert" "$dir/$pair.pem"
	rm "$tmp/key" "$tmp/cert"
	echo "$dir/$pair.pem: made"
}

for server; do
	case $server in
	'' | ,* | *, | *,,* | [-.]* | *[!A-Za-z0-9.,:-]*) fail "\"$server\": not a list of host names and addresses" ;;
	esac
done
mkdir -p "$dir"
tmp=$(mktemp -d "$dir/.new.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

exists ca || make ca "basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign"

leaf="basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
authorityKeyIdentifier = keyid"
exists client || make client "$leaf
extendedKeyUsage = clientAuth" ca

for server; do
	# etcd members are each other's clients, by the same certificate.
	name=server-${server%%,*}
	exists "$name" || make "$name" "$leaf
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = $(alt_names "$server")" ca
done
