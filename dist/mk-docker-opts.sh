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

		Writes dockerd's options for the subnet that flanneld was given. What is neither
		in its file nor in the environment is left out. Variables DOCKER_OPT_... from
		either are passed on.
		  -f FILE  what flanneld wrote (default /run/flannel/subnet.env)
		  -d FILE  what to write (default /run/docker_opts.env)
		  -i       one variable for each option, DOCKER_OPT_BIP and so on
		  -c       one variable with all options; with neither -i nor -c, both kinds
		  -k KEY   name of the variable with all options (default DOCKER_OPTS); its
		           value in the environment, if any, is kept in front
		  -m       leave --ip-masq out
		  -r       add --allow-direct-routing=true, which dockerd knows from 28.2 on. Beside
		           flanneld there is no need to
		  -h       this text

		With an IPv6 subnet, these are --ipv6 and --fixed-cidr-v6 too, and for a dockerd
		before 27 --experimental and --ip6tables. Where that subnet is the only one, docker
		keeps IPv4 addresses of its own.

		A dockerd whose firewall is nftables also gets options that let flanneld's peers in:
		--allow-direct-routing=true --bridge-accept-fwmark=0x1000/0x1000. What this
		dockerd does not know, or its daemon.json has, is left out, as it would not start.
	END
	exit 1
}

warn() { printf 'mk-docker-opts.sh: %s\n' "$(printf %.300s "$*" | tr -cd '\040-\176')" >&2; }

fail() {
	warn "$*"
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

# Read once, so that all values belong together. The bytes that are removed come
# from editors on other systems: carriage returns, a byte order mark.
content=
source="the environment"
missing="there is no $flannel_env"
if [ -e "$flannel_env" ]; then
	content=$(tr -d '\000\r\357\273\277' 2>/dev/null <"$flannel_env") || fail "cannot read $flannel_env"
	source=$flannel_env
	missing="$flannel_env has no FLANNEL_SUBNET"
fi

# environment NAME prints a variable's value in one line.
environment() { awk 'BEGIN { v = ENVIRON[ARGV[1]]; gsub(/[\r\n]/, " ", v); print v }' "$1"; }

# value NAME prints the last value that the file gives to NAME, without quotes around
# it and comments behind it; else the one in the environment.
value() {
	in_file=$(printf '%s\n' "$content" | sed -n "
		s/^[[:blank:]]*\(export[[:blank:]]\{1,\}\)\{0,1\}$1[[:blank:]]*=[[:blank:]]*//
		t found
		d
		: found
		s/^#.*//
		s/^\(\"[^\"]*\"\)[[:blank:]]\{1,\}#.*\$/\1/
		s/^\('[^']*'\)[[:blank:]]\{1,\}#.*\$/\1/
		/^[\"']/!s/[[:blank:]]\{1,\}#.*\$//
		s/[[:blank:]]*\$//
		s/^'\(.*\)'\$/\1/
		/^\".*\"\$/{
			s/^\"\(.*\)\"\$/\1/
			s/\\\\\([\\\\\"\$\`]\)/\1/g
		}
		p" | tail -n 1)
	if [ -n "$in_file" ]; then
		printf '%s\n' "$in_file"
	else
		environment "$1"
	fi
}

# matches VALUE REGEX
matches() { printf '%s\n' "$1" | grep -Eqx "$2"; }

byte='(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])'
hex='[0-9A-Fa-f]{1,4}'
address6="($hex:){7}$hex|:(:$hex){1,7}|($hex:){1,7}:"
for groups in 1 2 3 4 5 6; do # in front of ::
	address6="$address6|($hex:){$groups}(:$hex){1,$((7 - groups))}"
done

bip=$(value FLANNEL_SUBNET)
bip=${bip%%,*} # of several the first, as flanneld does
cidr6=$(value FLANNEL_IPV6_SUBNET)
cidr6=${cidr6%%,*}
if [ -z "$bip$cidr6" ]; then
	warn "$missing: dockerd gets no --bip, and its containers no addresses of the cluster. Start flanneld first," \
		"or name its file by -f"
fi
[ -z "$bip" ] || matches "$bip" "($byte\.){3}$byte/(3[0-2]|[12]?[0-9])" ||
	fail "FLANNEL_SUBNET in $source is not an IPv4 subnet: $bip"
[ -z "$cidr6" ] || matches "$cidr6" "($address6)/(12[0-8]|1[01][0-9]|[1-9]?[0-9])" ||
	fail "FLANNEL_IPV6_SUBNET in $source is not an IPv6 subnet: $cidr6"

mtu=$(value FLANNEL_MTU)
[ -z "$mtu" ] || matches "$mtu" '[1-9][0-9]{1,4}' ||
	fail "FLANNEL_MTU in $source is not a number of bytes: $mtu"

docker_masq=
if [ $masq = true ]; then
	# One of the two masquerades, never both.
	flannel_masq=$(value FLANNEL_IPMASQ)
	case $flannel_masq in
	true) docker_masq=false ;;
	false) docker_masq=true ;;
	'') ;;
	*) fail "FLANNEL_IPMASQ in $source is neither true nor false: $flannel_masq" ;;
	esac
fi

# Options that are passed on: DOCKER_OPT_ and a name, of the file and the environment.
passed_on=$({
	awk 'BEGIN { for (n in ENVIRON) print n }'
	printf '%s\n' "$content" | sed -n 's/^[[:blank:]]*\(export[[:blank:]]\{1,\}\)\{0,1\}\(DOCKER_OPT_[A-Za-z0-9_]*\)[[:blank:]]*=.*/\2/p'
} | grep -Ex 'DOCKER_OPT_[A-Za-z0-9_]+' | sort -u)

# Options that dockerd gets from elsewhere: from those, from files that start it, files that those
# read, and the present value of the variable.
elsewhere() {
	awk 'BEGIN { print ENVIRON[ARGV[1]] }' "$key"
	for name in $passed_on; do
		value "$name"
	done
	for file in /etc/default/docker /etc/sysconfig/docker /etc/sysconfig/docker-network /etc/conf.d/docker; do
		[ ! -f "$file" ] || cat "$file"
	done
	for dir in /etc /run /usr/lib /lib; do
		for file in "$dir"/systemd/system/docker.service "$dir"/systemd/system/docker.service.d/*.conf; do
			[ ! -f "$file" ] || cat "$file"
		done
	done
}
# One word a line, without comments and quotes.
elsewhere=$(elsewhere 2>/dev/null | tr -d '\000\r' | grep -v '^[[:blank:]]*[#;]' | tr -s "[:blank:]\"'" '\n')

# given NAME prints the value of an option that is given elsewhere, "true" where
# there is none.
given() {
	printf '%s\n--\n' "$elsewhere" | sed -n "
		s/^\([A-Za-z_][A-Za-z0-9_]*=\)\{0,1\}--$1=//p
		/^\([A-Za-z_][A-Za-z0-9_]*=\)\{0,1\}--$1\$/{
			n
			s/^[-$].*/true/
			p
		}" | tail -n 1
}

config_file=$(given config-file)
config_file=${config_file:-/etc/docker/daemon.json}
config=$([ ! -f "$config_file" ] || tr -d '\000' <"$config_file" 2>/dev/null | tr '\r\n\t' '   ')

# configured NAME prints the value of a setting in dockerd's config file, which
# may be broken, and fails where it is not there.
configured() {
	printf '%s\n' "$config" | grep -q "\"$1\" *:" || return 1
	printf '%s\n' "$config" | sed -n "s/.*\"$1\" *: *\"\{0,1\}\([^\" ,}]*\).*/\1/p"
}

# ask_dockerd has dockerd list its options, once and for five seconds at most. The
# result is "listed", "silent" if that fails, or "absent" if there is no dockerd.
dockerd=
ask_dockerd() {
	PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
	dockerd=silent
	command -v dockerd >/dev/null || dockerd=absent
	# A file, as children of a killed dockerd would keep a pipe open.
	if [ $dockerd = silent ] && help_file=$(mktemp); then
		{ timeout -s KILL 5 dockerd --help </dev/null >"$help_file"; } 2>/dev/null
		help=$(cat "$help_file")
		rm -f "$help_file"
		case $help in
		*--config-file*) dockerd=listed ;;
		*) warn "\`dockerd --help\` does not list its options" ;;
		esac
	fi
}

# escaped prints text as both systemd and a shell read it back within double quotes.
escaped() { printf '%s\n' "$1" | sed 's/[\\"$`]/\\&/g'; }

lines=
options=
written= # the names
# add NAME OPTION
add() {
	option=$(escaped "$2")
	lines="${lines}DOCKER_OPT_$1=\"$option\"
"
	options="$options $option"
	written="$written DOCKER_OPT_$1"
}

# add_if_free NAME OPTION adds an option that every dockerd knows. If its config
# file had it too, dockerd would not start.
add_if_free() {
	setting=${2#--} setting=${setting%%=*}
	wanted=${2#*=}
	if present=$(configured "$setting"); then
		case $setting in
		bip | fixed-cidr-v6) ;;
		*) wanted=$present ;;
		esac
		if [ "$present" != "$wanted" ]; then
			# A dockerd on another host's subnet would be worse than none.
			warn "dockerd will not start: remove \"$setting\" from $config_file, as it is not $wanted"
		else
			warn "$2 is left out, as $config_file has \"$setting\": remove it there"
			return
		fi
	fi
	add "$1" "$2"
}

# add_if_known NAME OPTION UNASKED adds one of the newer options. UNASKED is whether
# to add it also if dockerd does not list its options.
add_if_known() {
	setting=${2#--} setting=${setting%%=*}
	wanted=${2#*=}
	if present=$(configured "$setting"); then
		warn "$2 is left out, as $config_file has \"$setting\"$([ "$present" = "$wanted" ] || echo ": set it to $wanted there")"
		return
	fi
	present=$(given "$setting")
	if [ -n "$present" ]; then
		[ "$present" = "$wanted" ] || warn "$2 is left out, as dockerd is given another --$setting: set it to $wanted there"
		return
	fi
	[ -n "$dockerd" ] || ask_dockerd
	case $dockerd in
	listed)
		printf '%s\n' "$help" | grep -Eq "^ *--$setting( |\$)" || {
			warn "$2 is left out, as this dockerd does not know it"
			return
		}
		;;
	silent)
		[ "$3" = true ] || {
			warn "$2 is left out, as this dockerd may not know it"
			return
		}
		;;
	esac
	add "$1" "$2"
}

# described NAME prints what dockerd says of an option, which may be several lines.
described() { printf '%s\n' "$help" | awk -v "option=--$1" '/^ *-/ { in_it = $1 == option } in_it'; }

# From 27 on, dockerd masquerades IPv6 and forwards ports to it as it does for IPv4.
# Those before call that an experiment, and have to be asked for both.
add_ip6tables() {
	if configured ip6tables >/dev/null || [ -n "$(given ip6tables)" ]; then return; fi
	[ -n "$dockerd" ] || ask_dockerd
	[ $dockerd = listed ] || return
	case $(described ip6tables) in
	'' | *"default true"*) return ;;
	esac
	present=$(configured experimental) || present=$(given experimental)
	case $present in
	true) ;;
	'') add EXPERIMENTAL --experimental=true ;;
	*)
		warn "--ip6tables=true is left out, as dockerd's \"experimental\" is $present: set it to true"
		return
		;;
	esac
	add IP6TABLES --ip6tables=true
}

shared=false # with flanneld, whose own file it is
if [ -n "$content" ] && [ "$(readlink -f "$docker_env")" = "$(readlink -f "$flannel_env")" ]; then
	shared=true
fi
decided= # here, whatever the file says
[ -z "$bip" ] || add_if_free BIP "--bip=$bip"
[ -z "$bip$cidr6" ] || decided="$decided BIP"
[ -z "$docker_masq" ] || { add_if_free IPMASQ "--ip-masq=$docker_masq"; decided="$decided IPMASQ"; }
[ $masq = true ] || decided="$decided IPMASQ"
[ -z "$mtu" ] || { add_if_free MTU "--mtu=$mtu"; decided="$decided MTU"; }
if [ -n "$cidr6" ]; then
	add_if_free IPV6 --ipv6=true
	add_if_free FIXED_CIDR_V6 "--fixed-cidr-v6=$cidr6"
	add_ip6tables
	decided="$decided IPV6 FIXED_CIDR_V6"
elif [ $shared = true ] && [ -n "$(value DOCKER_OPT_FIXED_CIDR_V6)" ]; then
	# Ours, of a subnet that this host has not any more.
	decided="$decided IPV6 FIXED_CIDR_V6 EXPERIMENTAL IP6TABLES"
fi

# docker's own nft tables drop what comes from other hosts, and nothing outside of
# them can overrule that. A dockerd that can be set to nftables knows both options.
backend=$(configured firewall-backend) || backend=$(given firewall-backend)
if [ "$backend" = nftables ]; then
	add_if_known ALLOW_DIRECT_ROUTING --allow-direct-routing=true true
	add_if_known BRIDGE_ACCEPT_FWMARK --bridge-accept-fwmark=0x1000/0x1000 true
elif [ $direct = true ]; then
	add_if_known ALLOW_DIRECT_ROUTING --allow-direct-routing=true false
fi

for name in $passed_on; do
	case " $decided " in
	*" ${name#DOCKER_OPT_} "*) continue ;;
	esac
	present=$(value "$name")
	[ -z "$present" ] || add "${name#DOCKER_OPT_}" "$present"
done

[ $individual = true ] || lines='' written=''
if [ $combined = true ]; then
	present=$(escaped "$(awk 'BEGIN { print ENVIRON[ARGV[1]] }' "$key")")
	lines="$lines$key=\"$present$options\"
"
	written="$written $key"
fi

# In flanneld's own file only these lines are ours; flanneld leaves them alone likewise.
if [ $shared = true ]; then
	for name in $decided; do
		written="$written DOCKER_OPT_$name"
	done
	names=$(printf '%s' "${written# }" | tr ' ' '|')
	others=$(printf '%s\n' "$content" | grep -Ev "^[[:blank:]]*(export[[:blank:]]+)?($names)[[:blank:]]*=")
	lines="$others
$lines"
fi

# A link or a device, such as /dev/stdout, is written through. A file is
# replaced atomically, so that dockerd never starts with half of it.
if [ -L "$docker_env" ] || { [ -e "$docker_env" ] && [ ! -f "$docker_env" ]; }; then
	printf '%s' "$lines" >"$docker_env" || fail "cannot write $docker_env"
	exit 0
fi
new=$(mktemp "$docker_env.XXXXXX") || fail "cannot write $docker_env"
trap 'rm -f "$new"' EXIT
trap 'exit 1' HUP INT TERM
{ printf '%s' "$lines" >"$new" && chmod 644 "$new" && mv -f "$new" "$docker_env"; } ||
	fail "cannot write $docker_env"
