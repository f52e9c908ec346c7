#!/bin/sh
# Turns flanneld's subnet.env into options for dockerd.
# The subnet file is data: it is searched, checked and never executed.

LC_ALL=C
export LC_ALL

flannel_env=/run/flannel/subnet.env
docker_env=/run/docker_opts.env
key=DOCKER_OPTS
individual=false
combined=false
masq=true
direct=false

usage() {
	cat >&2 <<-END
		usage: mk-docker-opts.sh [-f flannel-env] [-d docker-env] [-i] [-c] [-m] [-r] [-k KEY]

		Writes dockerd's options for the subnet that flanneld was given.
		  -f FILE  what flanneld wrote (default /run/flannel/subnet.env)
		  -d FILE  what to write (default /run/docker_opts.env)
		  -i       one variable for each option, DOCKER_OPT_BIP and so on
		  -c       one variable with all options; with neither -i nor -c, both kinds
		  -k KEY   name of the variable with all options (default DOCKER_OPTS); its
		           value in the environment, if any, is kept in front
		  -m       leave --ip-masq out
		  -r       add --allow-direct-routing=true, for dockerd 28.2 and later:
		           without it, these drop what other hosts send to a container's address
		  -h       this text
	END
	exit 1
}

fail() {
	printf 'mk-docker-opts.sh: %s\n' "$(printf %.300s "$*" | tr -cd '\040-\176')" >&2
	exit 1
}

while getopts f:d:k:icmrh opt; do
	case $opt in
	f) flannel_env=$OPTARG ;;
	d) docker_env=$OPTARG ;;
	k) key=$OPTARG ;;
	i) individual=true ;;
	c) combined=true ;;
	m) masq=false ;;
	r) direct=true ;;
	*) usage ;;
	esac
done
[ $OPTIND -gt $# ] || usage
case $key in
'' | [!A-Za-z_]* | *[!A-Za-z0-9_]*) fail "-k $key: not the name of a variable" ;;
esac
if [ $individual = $combined ]; then
	individual=true
	combined=true
fi

# Read once, so that all values are of one age. The bytes that go are what
# editors on other systems add: carriage returns, a byte order mark.
if [ ! -e "$flannel_env" ]; then
	fail "there is no $flannel_env: start flanneld first, or name its file by -f"
fi
content=$(tr -d '\000\r\357\273\277' <"$flannel_env") || fail "cannot read $flannel_env"

# value NAME prints the last value given to NAME, without quotes around it.
value() {
	printf '%s\n' "$content" | sed -n "
		s/^[[:blank:]]*\(export[[:blank:]]\{1,\}\)\{0,1\}$1[[:blank:]]*=[[:blank:]]*//
		t found
		d
		: found
		s/[[:blank:]]*\$//
		s/^\"\(.*\)\"\$/\1/
		s/^'\(.*\)'\$/\1/
		p" | tail -n 1
}

# matches VALUE REGEX
matches() { printf '%s\n' "$1" | grep -Eqx "$2"; }

byte='(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])'
bip=$(value FLANNEL_SUBNET)
[ -n "$bip" ] || fail "$flannel_env says no FLANNEL_SUBNET"
matches "$bip" "($byte\.){3}$byte/(3[0-2]|[12]?[0-9])" ||
	fail "FLANNEL_SUBNET in $flannel_env is not an IPv4 subnet: $bip"

mtu=$(value FLANNEL_MTU)
[ -z "$mtu" ] || matches "$mtu" '[1-9][0-9]{1,4}' ||
	fail "FLANNEL_MTU in $flannel_env is not a number of bytes: $mtu"

docker_masq=
if [ $masq = true ]; then
	# One of the two masquerades, never both.
	flannel_masq=$(value FLANNEL_IPMASQ)
	case $flannel_masq in
	true) docker_masq=false ;;
	false) docker_masq=true ;;
	'') ;;
	*) fail "FLANNEL_IPMASQ in $flannel_env is neither true nor false: $flannel_masq" ;;
	esac
fi

lines=
options=
# add NAME OPTION
add() {
	lines="${lines}DOCKER_OPT_$1=\"$2\"
"
	options="$options $2"
}
add BIP "--bip=$bip"
[ -z "$docker_masq" ] || add IPMASQ "--ip-masq=$docker_masq"
[ -z "$mtu" ] || add MTU "--mtu=$mtu"
[ $direct = false ] || add ALLOW_DIRECT_ROUTING --allow-direct-routing=true

[ $individual = true ] || lines=
if [ $combined = true ]; then
	# Escaped as both systemd and a shell read it back within double quotes.
	present=$(awk 'BEGIN { print ENVIRON[ARGV[1]] }' "$key" | sed 's/[\\"$`]/\\&/g')
	lines="$lines$key=\"$present$options\"
"
fi

# A link or a device, such as /dev/stdout, is written through. A file is
# replaced in one step, so that dockerd never starts with half of it.
if [ -L "$docker_env" ] || { [ -e "$docker_env" ] && [ ! -f "$docker_env" ]; }; then
	printf '%s' "$lines" >"$docker_env" || fail "cannot write $docker_env"
	exit 0
fi
new=$(mktemp "$docker_env.XXXXXX") || fail "cannot write $docker_env"
trap 'rm -f "$new"' EXIT
trap 'exit 1' HUP INT TERM
{ printf '%s' "$lines" >"$new" && chmod 644 "$new" && mv -f "$new" "$docker_env"; } ||
	fail "cannot write $docker_env"
