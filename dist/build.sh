#!/bin/sh
# Makes the release, in OUT:
#
#   flanneld-<version>-linux-<arch>.tar.gz   for each architecture
#   flanneld-<version>-linux-<arch>.cdx.json what is in its binary (CycloneDX)
#   flanneld-<version>-oci.tar               the image, for all architectures
#   flanneld_<version>_<arch>.deb            and flanneld-<version>-1.<arch>.rpm, likewise
#   SHA256SUMS                               of all of these
#   SHA256SUMS.sig                           the signature of that, by SIGNING_KEY
#
# The same source, Go, tar and gzip give the same bytes, wherever and whenever it runs.
#
# From the environment:
#   VERSION            default: git describe
#   SOURCE_DATE_EPOCH  time of all files, in seconds; default: of the last commit
#   ARCHES             default: amd64 arm64 arm riscv64 s390x ppc64le loong64
#   PACKAGE            the program's Go package; default: ./cmd/flanneld
#   TOOL               the program made of tools/release; default: build/release
#   SIGNING_KEY        a file with an RSA or EC private key, as openssl takes it;
#                      without one there is no signature
#   OUT                the folder of what it makes; default: dist
set -eu
LC_ALL=C
export LC_ALL

cd "$(dirname "$0")/.."
VERSION=${VERSION:-$(git describe --tags --always --dirty)}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
ARCHES=${ARCHES:-amd64 arm64 arm riscv64 s390x ppc64le loong64}
PACKAGE=${PACKAGE:-./cmd/flanneld}
TOOL=${TOOL:-build/release}
SIGNING_KEY=${SIGNING_KEY:-}
OUT=${OUT:-dist}

fail() {
	printf 'build.sh: %s\n' "$*" >&2
	exit 1
}
case $VERSION in
'' | [!A-Za-z0-9]* | *[!A-Za-z0-9._+-]*) fail "VERSION \"$VERSION\" does not fit a file name" ;;
esac
if ! [ -x "$TOOL" ]; then fail "there is no $TOOL: make $TOOL builds it"; fi
if [ -n "$SIGNING_KEY" ] && ! [ -r "$SIGNING_KEY" ]; then fail "cannot read SIGNING_KEY $SIGNING_KEY"; fi

# Beside the binary, by name within the release.
documents="$(find . -maxdepth 1 -name '*.md' | sort) LICENSE $(find docs -name '*.md' -o -name '*.svg' -o -name '*.webp' | sort)"
scripts='mk-docker-opts.sh mk-cni-conf.sh flanneld.sh certs.sh'
settings='cni/10-flannel.conflist supervisor/flannel.ini
	systemd/flanneld.service systemd/flanneld.env systemd/docker.service.d/flannel.conf
	systemd/flanneld.service.d/credentials.conf
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
export CGO_ENABLED=0 GOOS=linux GOAMD64=v1 GOARM64=v8.0 GOARM=6 GORISCV64=rva20u64 GOPPC64=power8 GOEXPERIMENT='' GOFLAGS=''
# Without the request log of gRPC, which nobody sees: it takes 0.7 MB.
tags=grpcnotrace
build() { # ARCH OUTPUT
	GOARCH=$1 go build -tags $tags -trimpath -buildvcs=false -ldflags "-s -w -buildid= -X main.version=$VERSION" -o "$2" "$PACKAGE"
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

# All files are made in an empty folder, so that what is summed is all that there is.
made=$tmp/made
mkdir "$made"
for arch in $ARCHES; do
	echo "building for $arch" >&2
	name=flanneld-$VERSION-linux-$arch
	build "$arch" "$tmp/flanneld"
	"$TOOL" sbom "$VERSION" "$tmp/flanneld" >"$made/$name.cdx.json"
	GOARCH=$arch go list -deps -tags $tags -json=ImportPath,Dir,Standard,Module "$PACKAGE" >"$tmp/linked"
	"$TOOL" licenses <"$tmp/linked" >"$tmp/licenses"
	add 755 "$tmp/flanneld" flanneld
	add 644 "$tmp/licenses" THIRD-PARTY-LICENSES
	add 644 "$made/$name.cdx.json" flanneld.cdx.json
	find "$tmp/release" -type d -exec chmod 755 {} +
	(cd "$tmp/release" && tar --sort=name --format=ustar --mtime="@$SOURCE_DATE_EPOCH" \
		--owner=0 --group=0 --numeric-owner -cf "$tmp/tar" -- *)
	gzip -9 -n -c "$tmp/tar" >"$made/$name.tar.gz"
	VERSION=$VERSION SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH OUT=$made sh dist/packages.sh "$arch" "$tmp/release"

	mkdir -p "$tmp/image/$arch"
	for file in flanneld flanneld.cdx.json LICENSE THIRD-PARTY-LICENSES; do cp -p "$tmp/release/$file" "$tmp/image/$arch/"; done
done
echo "making the image" >&2
"$TOOL" image "$VERSION" "$SOURCE_DATE_EPOCH" "$tmp/image" >"$made/flanneld-$VERSION-oci.tar"

(cd "$made" && sha256sum -- *) >"$tmp/SHA256SUMS"
mv "$tmp/SHA256SUMS" "$made/"
if [ -n "$SIGNING_KEY" ]; then
	openssl dgst -sha256 -sign "$SIGNING_KEY" -out "$made/SHA256SUMS.sig" "$made/SHA256SUMS" ||
		fail "cannot sign by SIGNING_KEY: it must be an RSA or EC private key (openssl genpkey -algorithm RSA)"
fi

# Only now does anything of an earlier release go.
chmod 644 "$made"/*
mkdir -p "$OUT"
rm -f "$OUT/flanneld-$VERSION-"* "$OUT"/flanneld_*.deb "$OUT"/flanneld-*.rpm "$OUT"/SHA256SUMS*
mv "$made"/* "$OUT/"
cat "$OUT/SHA256SUMS"
if [ -z "$SIGNING_KEY" ]; then echo "not signed: SIGNING_KEY names no key" >&2; fi
