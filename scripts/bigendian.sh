#!/bin/sh
# Runs tests as s390x does, whose processors have the high byte first: of what is bytes
# on one side and a number on the other. qemu runs them on this machine's kernel, and
# passes on few of the calls that are special: tests that need a TUN device, a vxlan
# device or nf_tables cannot run so. Those named here are all that can, of what has to
# do with the order of bytes.
set -eu
go=${GO:-go}
export CGO_ENABLED=0 GOARCH=s390x

# In namespaces, as the lab has them; it cannot start an s390x program again by itself.
export FLANNELD_LAB=1
lab='unshare --map-root-user --mount --net --pid --fork --kill-child --mount-proc qemu-s390x'

only() { # PACKAGE TEST...
	package=$1
	shift
	"$go" test -vet=off -exec "$lab" -run "^($(echo "$*" | tr ' ' '|'))\$" "./pkg/$package"
}

"$go" test -vet=off -exec qemu-s390x ./pkg/inet ./pkg/probe
only kernel TestListener TestInterruptedListIsReadAgain TestDirect TestOurs TestLinks TestPlainRoutes TestEditedRouteIsPutRight \
	TestMultipathRouteOfOurs TestNexthopOrphans TestReplacementHitsNoOther TestAddressesOfIPv6 FuzzMessages
only udptunnel TestChecksum TestStepKeepsTheChecksum TestValid TestTableFindsTheLongestPrefix TestCutPackets TestWhatIsNotSplit \
	TestMergingChangesNothing TestMergesAStream TestBatchesKeepOrderAndBounds TestFewMessages TestErrorQuotes TestWhatGetsNoError FuzzDatagram
only wgdevice TestHashOfDump TestAnswer TestRoamedOrEdited TestParseKey FuzzHashAttrs FuzzAnswer
only firewall/nftables TestNames FuzzExpressions
