#!/bin/sh
# Puts a small Debian into a folder, with a systemd, a docker and an rpm of its own:
# tests boot it and install flanneld's packages there. It comes from the mirror that
# this machine has its Debian from, or else Debian's own, checked by Debian's keys.
#
# usage: scripts/debian.sh FOLDER
set -eu
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin # not in everybody's PATH

suite=trixie

fail() {
	echo "debian.sh: $*" >&2
	exit 1
}

[ $# = 1 ] || fail "usage: $0 FOLDER"
command -v mmdebstrap >/dev/null || fail "mmdebstrap is missing: make deps"
# shellcheck disable=SC2016 # apt's own variables
mirror=$(apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' 'Created-By: Packages' | sed -n 's/^Debian Debian //p' | head -n 1)

rm -rf "$1" "$1.new" # so that what was interrupted leaves nothing that looks complete
mmdebstrap --quiet --mode=root --variant=minbase --skip=output/dev \
	--include=systemd-sysv,dbus,kmod,iproute2,iptables,nftables,curl,docker.io,docker-cli,rpm \
	"$suite" "$1.new" ${mirror:+"$mirror"}
# The name server is this system's, and the timers reach for the network.
rm -f "$1.new/etc/resolv.conf" "$1.new/etc/systemd/system/timers.target.wants"/*
mv "$1.new" "$1"
