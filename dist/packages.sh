#!/bin/sh
# Makes a deb and an rpm of an unpacked release. build.sh runs it for each architecture.
# The same release, nfpm and gzip give the same bytes.
#
# usage: dist/packages.sh ARCH FOLDER
#   ARCH    as Go calls it
#   FOLDER  of the unpacked release
# From the environment:
#   VERSION            of the release, as `git describe` names it
#   SOURCE_DATE_EPOCH  time of all files, in seconds
#   OUT                the folder of what it makes
#   NFPM               default: build/nfpm
#   MAINTAINER         name <address>; default: of the last commit
set -eu
umask 022
LC_ALL=C
export LC_ALL

fail() {
	printf 'packages.sh: %s\n' "$*" >&2
	exit 1
}
[ $# = 2 ] || fail "usage: $0 ARCH FOLDER"
: "${VERSION:?}" "${OUT:?}" "${SOURCE_DATE_EPOCH:?}"
release=$2
dist=$(cd "$(dirname "$0")" && pwd)
NFPM=${NFPM:-$dist/../build/nfpm}
MAINTAINER=${MAINTAINER:-$(git -C "$dist" log -1 --format='%an <%ae>')}
case $NFPM in
/*) ;;
*) NFPM=$PWD/$NFPM ;;
esac
[ -x "$NFPM" ] || fail "there is no $NFPM: type make build/nfpm"

# What each calls the architecture. arm is built for ARMv6 with floating point: Raspbian's
# armhf is just that, and Debian's, which is ARMv7, runs it too.
case $1 in
amd64) deb=amd64 rpm=x86_64 ;;
arm64) deb=arm64 rpm=aarch64 ;;
arm) deb=armhf rpm=armv6hl ;;
riscv64) deb=riscv64 rpm=riscv64 ;;
s390x) deb=s390x rpm=s390x ;;
ppc64le) deb=ppc64el rpm=ppc64le ;;
loong64) deb=loong64 rpm=loongarch64 ;;
*) fail "no package is made for $1" ;;
esac

# By the order of both, "~" sorts before the end, and "+" after it. So what came before a
# release (1.2.0-rc1) is older, and what came after one (1.2.0-5-g1a2b3c4) is newer.
version=$(printf '%s\n' "${VERSION#v}" | sed '
	s/-dirty$/+dirty/
	s/-\([0-9]\{1,\}\)-\(g[0-9a-f]\{4,\}\)/+\1.\2/
	s/^\([^.]*\)$/0~g\1/
	s/\(+.*\)+dirty$/\1.dirty/
	s/-/~/
	s/[-_]/./g')
case $version in
[0-9]*) ;;
*) fail "VERSION \"$VERSION\" does not begin with a number" ;;
esac

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
trap 'exit 1' HUP INT TERM

# Within the folder nfpm finds all by the names in nfpm.yaml.
put() { # MODE FROM TO
	mkdir -p "$stage/$(dirname "$3")"
	cp "$2" "$stage/$3"
	chmod "$1" "$stage/$3"
}
put 755 "$release/flanneld" flanneld
for script in mk-docker-opts.sh mk-cni-conf.sh certs.sh; do put 755 "$release/$script" "libexec/$script"; done
for script in postinstall preremove postremove; do put 755 "$dist/package/$script.sh" "$script"; done
for file in grafana-flanneld.json prometheus-flanneld.rules.yml cni/10-flannel.conflist; do
	put 644 "$release/$file" "share/$file"
done
for file in networkd/90-flanneld.conf networkd/05-flannel.network iproute2/flanneld.conf LICENSE THIRD-PARTY-LICENSES \
	completion/flanneld.bash completion/_flanneld completion/flanneld.fish; do
	put 644 "$release/$file" "$file"
done
for file in "$release"/*.md; do put 644 "$file" "doc/${file##*/}"; done
cp -R "$release/docs" "$stage/doc/docs"
gzip -9 -n <"$release/man/flanneld.8" >"$stage/flanneld.8.gz"

# The files for systemd are the release's, with a package's paths.
for file in flanneld.service flanneld.env docker.service.d/flannel.conf flanneld.service.d/credentials.conf; do
	put 644 "$release/systemd/$file" "systemd/$file"
	sed -e 's,/usr/local/flannel/flanneld,/usr/sbin/flanneld,g' \
		-e 's,/usr/local/flannel/\([a-z-]*\.sh\),/usr/libexec/flanneld/\1,g' \
		-e 's,/usr/local/flannel/cert/,/etc/flanneld/,g' \
		-e '/^WorkingDirectory=/d' "$release/systemd/$file" >"$stage/systemd/$file"
done
put 644 "$stage/systemd/docker.service.d/flannel.conf" share/docker.service.d/flannel.conf
put 644 "$stage/systemd/flanneld.service.d/credentials.conf" share/flanneld.service.d/credentials.conf
# What is another one on each host is left to the operator. Without it the defaults hold.
sed 's/^FLANNELD_\(PUBLIC_IP\|IFACE\|ETCD_[A-Z]*\)=/#&/' "$stage/systemd/flanneld.env" >"$stage/flanneld.env"
if grep -rn /usr/local "$stage/systemd" "$stage/flanneld.env"; then fail "a package has nothing in /usr/local"; fi

# What Debian wants in each package.
mkdir "$stage/debian"
gzip -9 -n >"$stage/debian/changelog.gz" <<END
flanneld ($version) unstable; urgency=medium

  * The changes are in CHANGELOG.md.

 -- $MAINTAINER  $(date -u -R -d "@$SOURCE_DATE_EPOCH")
END
cat >"$stage/debian/copyright" <<END
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: flanneld
Comment: The licenses of what is linked into the program are in THIRD-PARTY-LICENSES,
 beside this file.

Files: *
Copyright: $(date -u -d "@$SOURCE_DATE_EPOCH" +%Y) flanneld's authors
License: Apache-2.0

License: Apache-2.0
 The text of the license is in /usr/share/common-licenses/Apache-2.0.
END
find "$stage" -type d -exec chmod 755 {} +
find "$stage/doc" -type f -exec chmod 644 {} +

make() { # KIND ARCH FILE
	(cd "$stage" && ARCH=$2 VERSION=$version MAINTAINER=$MAINTAINER SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH \
		"$NFPM" package -f "$dist/nfpm.yaml" -p "$1" -t "$stage/made") >/dev/null
	chmod 644 "$stage/made"
	mv "$stage/made" "$OUT/$3"
}
make deb "$deb" "flanneld_${version}_$deb.deb"
make rpm "$rpm" "flanneld-$version-1.$rpm.rpm"
