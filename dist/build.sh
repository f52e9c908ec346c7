#!/bin/sh
# Makes the release: dist/flanneld-<version>-linux-<arch>.tar.gz for each
# architecture, and SHA256SUMS. The same source, Go, tar and gzip give the same
# bytes, wherever and whenever it runs.
#
# From the environment:
#   VERSION            default: git describe
#   SOURCE_DATE_EPOCH  time of all files, in seconds; default: of the last commit
#   ARCHES             default: amd64 arm64 arm
#   PACKAGE            the program's Go package; default: ./cmd/flanneld
#   OUT                the folder of what it makes; default: dist
set -eu
LC_ALL=C
export LC_ALL

cd "$(dirname "$0")/.."
VERSION=${VERSION:-$(git describe --tags --always --dirty)}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
ARCHES=${ARCHES:-amd64 arm64 arm}
PACKAGE=${PACKAGE:-./cmd/flanneld}
OUT=${OUT:-dist}

fail() {
	printf 'build.sh: %s\n' "$*" >&2
	exit 1
}
case $VERSION in
'' | [!A-Za-z0-9]* | *[!A-Za-z0-9._+-]*) fail "VERSION \"$VERSION\" does not fit a file name" ;;
esac

# Beside the binary, by name within the release.
documents="$(find . -maxdepth 1 -name '*.md' | sort) LICENSE $(find docs -name '*.md' -o -name '*.svg' | sort)"
scripts='mk-docker-opts.sh mk-cni-conf.sh flanneld.sh certs.sh'
settings='cni/10-flannel.conflist supervisor/flannel.ini
	systemd/flanneld.service systemd/flanneld.env systemd/docker.service.d/flannel.conf
	iproute2/flanneld.conf networkd/90-flanneld.conf networkd/05-flannel.network
	grafana-flanneld.json prometheus-flanneld.rules.yml'

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

# add MODE FROM NAME puts a file into the release. Modes are set here, as those
# of a checkout depend on the umask.
add() {
	mkdir -p "$(dirname "$tmp/release/$3")"
	cp "$2" "$tmp/release/$3"
	chmod "$1" "$tmp/release/$3"
}
for file in $documents; do add 644 "$file" "$file"; done
for file in $scripts; do add 755 "dist/$file" "$file"; done
for file in $settings; do add 644 "dist/$file" "$file"; done

# The lowest level of each architecture: a release runs on all of them.
export CGO_ENABLED=0 GOOS=linux GOAMD64=v1 GOARM64=v8.0 GOARM=6 GOEXPERIMENT='' GOFLAGS=''
build() { # ARCH OUTPUT
	GOARCH=$1 go build -tags grpcnotrace -trimpath -buildvcs=false -ldflags "-s -w -buildid= -X main.version=$VERSION" -o "$2" "$PACKAGE"
}

# What it prints of itself, by one that runs on this machine.
build "$(go env GOHOSTARCH)" "$tmp/own"
printed() { # FILE ARGUMENT...
	file=$1
	shift
	"$tmp/own" "$@" >"$tmp/printed"
	add 644 "$tmp/printed" "$file"
}
printed man/flanneld.8 man
printed completion/flanneld.bash completion bash
printed completion/_flanneld completion zsh
printed completion/flanneld.fish completion fish

rm -f "$OUT/flanneld-$VERSION-linux-"*.tar.gz "$OUT/SHA256SUMS"
for arch in $ARCHES; do
	echo "building for $arch" >&2
	# Without the request log of gRPC, which nobody sees: it takes 0.7 MB.
	GOARCH=$arch go build -tags grpcnotrace -trimpath -buildvcs=false \
		-ldflags "-s -w -buildid= -X main.version=$VERSION" -o "$tmp/flanneld" "$PACKAGE"
	add 755 "$tmp/flanneld" flanneld
	find "$tmp/release" -type d -exec chmod 755 {} +
	archive=flanneld-$VERSION-linux-$arch.tar.gz
	(cd "$tmp/release" && tar --sort=name --format=ustar --mtime="@$SOURCE_DATE_EPOCH" \
		--owner=0 --group=0 --numeric-owner -cf "$tmp/tar" -- *)
	gzip -9 -n -c "$tmp/tar" >"$tmp/gz"
	mv "$tmp/gz" "$OUT/$archive"
	chmod 644 "$OUT/$archive"
done
cd "$OUT"
sha256sum "flanneld-$VERSION-linux-"*.tar.gz | tee SHA256SUMS
