#!/bin/sh
# Puts an nft into a folder that reads the tables of docker 29: the one of
# Debian 12, 1.0.6, crashes at every call once they exist. Where this machine's
# own is new enough, it is linked. Otherwise Debian 13's comes with the libraries
# that it needs, by apt and checked by its keys, into the folder alone: nothing
# is installed, and apt's own lists stay as they are.
#
# usage: scripts/nft.sh FOLDER
set -eu
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin # not in everybody's PATH

suite=trixie
keys=/usr/share/keyrings/debian-archive-keyring.gpg

fail() {
	echo "nft.sh: $*" >&2
	exit 1
}

[ $# = 1 ] || fail "usage: $0 FOLDER"
case $1 in
/*) to=$1 ;;
*) to=$PWD/$1 ;;
esac
new=$to.new # so that what was interrupted leaves nothing that looks complete
rm -rf "$to" "$new"
mkdir -p "$new"

# new_enough VERSION, as nft prints it: "nftables v1.1.3 (Commodore Bullmoose #4)"
new_enough() {
	v=${1#nftables v}
	major=${v%%.*} minor=${v#*.}
	[ "$major" -gt 1 ] || [ "${minor%%.*}" -ge 1 ]
}

if own=$(command -v nft) && new_enough "$("$own" --version)" 2>/dev/null; then
	ln -s "$own" "$new/nft"
	mv "$new" "$to"
	exit 0
fi

if ! command -v apt-get >/dev/null || [ ! -e "$keys" ]; then
	fail "this machine's nft is older than 1.1, and there is no apt with Debian's keys to get another by: install nftables 1.1 or later"
fi
# The mirror is the one that this machine has its Debian from.
# shellcheck disable=SC2016 # apt's own variables
mirror=$(apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' 'Created-By: Packages' | sed -n 's/^Debian Debian //p' | head -n 1)
[ -n "$mirror" ] || fail "no mirror of Debian is among apt's sources: install nftables 1.1 or later"

mkdir -p "$new/apt/sources" "$new/apt/state/lists/partial" "$new/apt/cache/archives/partial" "$new/root"
: >"$new/apt/status" # nothing is installed, so that all it needs comes
cat >"$new/apt/sources/$suite.sources" <<END
Types: deb
URIs: $mirror
Suites: $suite
Components: main
Targets: Packages
Signed-By: $keys
END
cat >"$new/apt/apt.conf" <<END
Dir::State "$new/apt/state";
Dir::State::status "$new/apt/status";
Dir::Cache "$new/apt/cache";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$new/apt/sources";
APT::Sandbox::User "$(id -un)";
Acquire::Retries "3";
END
export APT_CONFIG="$new/apt/apt.conf"
apt-get -qq update || fail "cannot read $mirror: $suite is where nft 1.1 comes from"
apt-get -qq -y --no-install-recommends --download-only install nftables >/dev/null || fail "cannot download nftables from $mirror"
for package in "$new"/apt/cache/archives/*.deb; do dpkg-deb --extract "$package" "$new/root"; done
rm -rf "$new/apt"

# Its C library is newer than this machine's too, and so it has its own loader.
cat >"$new/nft" <<'END'
#!/bin/sh
root=$(dirname "$(readlink -f "$0")")/root
exec "$root"/usr/lib/*-linux-gnu*/ld-linux*.so.* --library-path "$(echo "$root"/usr/lib/*-linux-gnu*)" "$root/usr/sbin/nft" "$@"
END
chmod 755 "$new/nft"
"$new/nft" --version >/dev/null || fail "Debian's nft of $suite does not run here"
mv "$new" "$to"
