#!/bin/sh
# Finds the programs that `make demo`, `make test`, `make lint`, `make bench` or
# `make bigendian` need on this machine. If one is missing, the script installs Debian's package when
# run by root, and otherwise prints the command. If none is missing it does nothing,
# quickly.
#
# usage: scripts/deps.sh demo|test|lint|bench|bigendian|all
set -eu
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin # not in everybody's PATH

programs='' packages=''

# missing PROGRAM PACKAGE... notes what to install.
missing() {
	programs="$programs $1"
	shift
	packages="$packages $*"
}

# need PROGRAM PACKAGE...
need() {
	command -v "$1" >/dev/null || missing "$@"
}

need_for_demo() {
	need ip iproute2
	need iptables iptables
}

need_for_test() {
	need_for_demo
	need iptables-nft iptables
	need iptables-legacy iptables
	need nft nftables # for tests alone: flanneld itself never runs it
	need dash dash
	need busybox busybox-static
	need openssl openssl
	need ethtool ethtool
	need supervisord supervisor
	need systemd-analyze systemd
	need nginx nginx
	need chromium-headless-shell chromium-headless-shell fonts-liberation # the page of the health port is looked at
	# What completes flanneld's command line.
	need zsh zsh
	need fish fish
	[ -e /usr/share/bash-completion/bash_completion ] || missing bash-completion bash-completion
	need rpm rpm # reads the release's; nfpm makes them
	need rpm2cpio rpm2cpio
	need cpio cpio
	# go test -race is linked by a C compiler.
	if ! echo '#include <stdlib.h>' | ${CC:-gcc} -E - >/dev/null 2>&1; then missing gcc gcc libc6-dev; fi
	# Without real root docker's tests are skipped. dockerd 29 takes Debian's
	# containerd and runc too.
	if [ "$(id -u)" = 0 ]; then
		need dockerd docker.io
		need containerd containerd
		need runc runc
	fi
	# So are those that install the packages, on a Debian that is made for them.
	if [ "$(id -u)" = 0 ]; then need mmdebstrap mmdebstrap debian-archive-keyring; fi
	# So is podman's, with the program that makes its networks.
	if [ "$(id -u)" = 0 ]; then need podman podman netavark; fi
}

need_for_lint() {
	need shellcheck shellcheck
}

need_for_bench() {
	need_for_test
	need iperf3 iperf3
}

# qemu-user alone registers nothing with the kernel: it runs what it is given.
need_for_bigendian() {
	need_for_demo
	need qemu-s390x qemu-user
}

need_for_all() {
	need_for_bench
	need_for_lint
	need_for_bigendian
}

# The services that the packages above bring along.
services='docker.service docker.socket containerd.service nginx.service supervisor.service
	podman.service podman.socket podman-restart.service podman-auto-update.service podman-auto-update.timer'

exists() {
	[ -e "/lib/systemd/system/$1" ] || [ -e "/etc/init.d/${1%.service}" ]
}

# install adds Debian packages, whose services must neither start nor touch the
# machine's network. So their scripts run in namespaces: without a network, without
# access to systemd, in runlevel 1, and processes that they start end with them.
install() {
	export DEBIAN_FRONTEND=noninteractive
	added=''
	for s in $services; do exists "$s" || added="$added $s"; done

	apt-get -qq update || echo "deps.sh: trying with the package lists of earlier" >&2
	apt-get -qq -y install --no-install-recommends --download-only "$@"
	if ! unshare --mount --net --pid true; then
		echo "deps.sh: no namespaces can be made here, and demo and test need them: is this a container? Give it --privileged" >&2
		return 1
	fi
	# shellcheck disable=SC2016 # $@ is for the inner shell
	unshare --mount --net --pid --fork --kill-child --mount-proc sh -ec '
		if [ -d /run/systemd ]; then mount -t tmpfs none /run/systemd; fi
		RUNLEVEL=1 apt-get -qq -y install --no-install-recommends --no-download "$@"
	' sh "$@"

	for s in $added; do
		if exists "$s"; then keep_off "$s"; fi
	done
	if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
}

# keep_off keeps a service from being started at the next boot either.
keep_off() {
	if command -v systemctl >/dev/null; then systemctl --quiet disable "$1"; fi
	if [ -e "/etc/init.d/${1%.service}" ]; then update-rc.d "${1%.service}" disable; fi
}

goal=${1:-all}
case $goal in
demo | test | lint | bench | bigendian | all) ;;
*)
	echo "usage: $0 demo|test|lint|bench|bigendian|all" >&2
	exit 2
	;;
esac
if ! command -v go >/dev/null; then
	echo "deps.sh: go is not in PATH: install Go from https://go.dev/dl, the version that go.mod names or later" >&2
	exit 1
fi
"need_for_$goal"
if [ -z "$programs" ]; then exit 0; fi

if ! command -v apt-get >/dev/null; then
	echo "deps.sh: missing:$programs. Install them by this system's package manager (Debian calls the packages$packages)" >&2
	exit 1
fi
if [ "$(id -u)" != 0 ]; then
	echo "deps.sh: missing:$programs. Type this, then run make again:" >&2
	echo "    sudo env PATH=\"\$PATH\" $0 $goal" >&2
	exit 1
fi
echo "deps.sh: missing:$programs; installing$packages" >&2
# shellcheck disable=SC2086 # a list of words
install $packages
programs=''
"need_for_$goal"
if [ -n "$programs" ]; then
	echo "deps.sh: still missing:$programs, although$packages are installed" >&2
	exit 1
fi
