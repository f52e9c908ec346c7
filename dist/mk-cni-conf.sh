#!/bin/sh
# Turns flanneld's subnet.env into a network configuration for CNI: its plugins
# bridge and host-local, with the settings that flannel's own plugin would pass them.
# The subnet file is data: it is searched, checked and never executed.

LC_ALL=C
export LC_ALL

flannel_env=/run/flannel/subnet.env
conf=/etc/cni/net.d/10-flanneld.conflist
name=flannel
bridge=cni0

usage() {
	cat >&2 <<-END
		usage: mk-cni-conf.sh [-f flannel-env] [-d conflist] [-n NAME] [-b BRIDGE]

		Writes a configuration of CNI for the subnet that flanneld was given, for
		where flannel's own CNI plugin is not installed.
		  -f FILE    what flanneld wrote (default /run/flannel/subnet.env)
		  -d FILE    what to write (default /etc/cni/net.d/10-flanneld.conflist)
		  -n NAME    of the network (default flannel)
		  -b BRIDGE  that containers are connected to (default cni0)
		  -h         this text
	END
	exit 1
}

fail() {
	printf 'mk-cni-conf.sh: %s\n' "$(printf %.300s "$*" | tr -cd '\040-\176')" >&2
	exit 1
}

while getopts f:d:n:b:h opt; do
	case $opt in
	f) flannel_env=$OPTARG ;;
	d) conf=$OPTARG ;;
	n) name=$OPTARG ;;
	b) bridge=$OPTARG ;;
	*) usage ;;
	esac
done
[ $OPTIND -gt $# ] || usage
case $name in
'' | [!A-Za-z0-9]* | *[!A-Za-z0-9_.-]*) fail "-n $name: not a name of a network" ;;
esac
case $bridge in
'' | [!A-Za-z0-9]* | *[!A-Za-z0-9_.-]* | ????????????????*) fail "-b $bridge: not a name of an interface" ;;
esac

# Read once, so that all values belong together. The bytes that are removed come
# from editors on other systems: carriage returns, a byte order mark.
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
hex='[0-9A-Fa-f]{1,4}'
address6="($hex:){7}$hex|:(:$hex){1,7}|($hex:){1,7}:"
for groups in 1 2 3 4 5 6; do # in front of ::
	address6="$address6|($hex:){$groups}(:$hex){1,$((7 - groups))}"
done

subnet=$(value FLANNEL_SUBNET)
subnet6=$(value FLANNEL_IPV6_SUBNET)
[ -n "$subnet$subnet6" ] || fail "$flannel_env has no FLANNEL_SUBNET"
[ -z "$subnet" ] || matches "$subnet" "($byte\.){3}$byte/(30|[12]?[0-9])" ||
	fail "FLANNEL_SUBNET in $flannel_env is not an IPv4 subnet that holds a container: $subnet"
[ -z "$subnet6" ] || matches "$subnet6" "($address6)/(12[0-6]|1[01][0-9]|[1-9]?[0-9])" ||
	fail "FLANNEL_IPV6_SUBNET in $flannel_env is not an IPv6 subnet that holds a container: $subnet6"

mtu=$(value FLANNEL_MTU)
[ -z "$mtu" ] || matches "$mtu" '[1-9][0-9]{1,4}' ||
	fail "FLANNEL_MTU in $flannel_env is not a number of bytes: $mtu"

# One of the two masquerades, never both.
flannel_masq=$(value FLANNEL_IPMASQ)
case $flannel_masq in
true) masq=false ;;
false | '') masq=true ;;
*) fail "FLANNEL_IPMASQ in $flannel_env is neither true nor false: $flannel_masq" ;;
esac

# network ADDRESS/LENGTH prints the network's first address, with the length:
# host-local accepts no other, and gives the next one to the bridge, as in the file.
network() (
	left=${1#*/} address=${1%/*} width=8 format=%d point=.
	case $address in
	*:*) width=16 format=%x point=: ;;
	esac
	case $address in
	*::*) # stands for as many zeros as are missing
		groups=$(printf %s "$address" | tr : '\n' | grep -c .)
		zeros=
		while [ "$groups" -lt 8 ]; do
			groups=$((groups + 1)) zeros=$zeros:0
		done
		address=${address%%::*}$zeros:${address##*::}
		;;
	esac
	network=
	IFS=$point
	for number in $address; do
		[ -n "$number" ] || continue # before the first colon
		[ $width = 8 ] || number=0x$number
		bits=$((left < width ? left : width)) left=$((left < width ? 0 : left - width))
		# shellcheck disable=SC2059
		network=$network$point$(printf "$format" $((number >> (width - bits) << (width - bits))))
	done
	network=${network#"$point"}
	[ $width = 8 ] || network=$(printf '%s\n' "$network" | sed 's/\(:0\)\{2,\}$/::/')
	echo "$network/${1#*/}"
)

ranges='' routes=''
# add SUBNET DEFAULT-ROUTE adds a family if there is one.
add() {
	[ -n "$1" ] || return 0
	ranges="$ranges${ranges:+, }[{\"subnet\": \"$(network "$1")\"}]"
	routes="$routes${routes:+, }{\"dst\": \"$2\"}"
}
add "$subnet" 0.0.0.0/0
add "$subnet6" ::/0

mtu_line=
[ -z "$mtu" ] || mtu_line="
      \"mtu\": $mtu,"

# forceAddress: if this host ever gets another subnet, the plugin gives the bridge an
# address of it, and does not fail.
text="{
  \"cniVersion\": \"0.4.0\",
  \"name\": \"$name\",
  \"plugins\": [
    {
      \"type\": \"bridge\",
      \"bridge\": \"$bridge\",
      \"isGateway\": true,
      \"forceAddress\": true,
      \"hairpinMode\": true,
      \"ipMasq\": $masq,$mtu_line
      \"ipam\": {
        \"type\": \"host-local\",
        \"ranges\": [$ranges],
        \"routes\": [$routes]
      }
    },
    {
      \"type\": \"portmap\",
      \"capabilities\": {\"portMappings\": true}
    }
  ]
}"

# A link or a device, such as /dev/stdout, is written through. A file is
# replaced atomically, so that no runtime reads half of it; runtimes ignore the
# suffix of the temporary file.
if [ -L "$conf" ] || { [ -e "$conf" ] && [ ! -f "$conf" ]; }; then
	printf '%s\n' "$text" >"$conf" || fail "cannot write $conf"
	exit 0
fi
new=$(mktemp "$conf.XXXXXX") || fail "cannot write $conf"
trap 'rm -f "$new"' EXIT
trap 'exit 1' HUP INT TERM
{ printf '%s\n' "$text" >"$new" && chmod 644 "$new" && mv -f "$new" "$conf"; } ||
	fail "cannot write $conf"
